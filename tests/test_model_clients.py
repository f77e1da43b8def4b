"""pydantic-ai's models as we build them: the same as its own, with less work for each request."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn

from personas_nb.engine.model_clients import TOOL_SETS_KEPT, ModelClients
from personas_nb.engine.models import ResolvedModel
from personas_nb.entities.model_profile import Provider


def parameters_with(*schemas: dict[str, Any]) -> Any:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    tools = [ToolDefinition(name=f"t{n}", parameters_json_schema=schema) for n, schema in enumerate(schemas)]
    return ModelRequestParameters(function_tools=tools)


@pytest.mark.parametrize("provider", ["anthropic", "custom", "ollama"])
def test_schemas_are_fitted_as_the_model_itself_would_and_once(provider: Provider):
    schema = {"type": "object", "title": "T", "properties": {"a": {"type": "string", "title": "A"}}}
    resolved = ResolvedModel(provider=provider, model="m", base_url="http://127.0.0.1:9", secret="k" * 9)
    model = ModelClients().build(resolved)
    first, again = (model.customize_request_parameters(parameters_with(schema)) for _ in range(2))
    assert first == type(model).customize_request_parameters(model, parameters_with(schema))
    assert again == first
    assert again.function_tools[0] is first.function_tools[0]


def test_other_schemas_are_fitted_anew():
    model = ModelClients().build(
        ResolvedModel(provider="custom", model="m", base_url="http://127.0.0.1:9", secret="k" * 9)
    )
    for number in range(2 * TOOL_SETS_KEPT):
        schema = {"type": "object", "properties": {f"a{number}": {"type": "string"}}}
        (tool,) = model.customize_request_parameters(parameters_with(schema)).function_tools
        assert list(tool.parameters_json_schema["properties"]) == [f"a{number}"]


# --- what goes out, and what comes in --------------------------------------------------------------------

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(40)


def bare_model(url: str) -> Any:
    """As pydantic-ai itself makes it."""
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(api_key="k" * 9, base_url=f"{url}/v1", max_retries=0)
    return OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))


def talk(make: Any, url: str) -> Any:
    """A run with a picture, a tool and a setting: all that its agent said."""
    from pydantic_ai import Agent, BinaryContent

    async def run() -> Any:
        agent: Any = Agent(make(url), instructions="Be brief.", model_settings={"extra_body": {"seed": 7}})

        @agent.tool_plain
        def look(where: str) -> str:
            return f"nothing in {where} „ä😀“"

        picture = BinaryContent(PICTURE, media_type="image/png")
        async with agent.run_stream_events(["See.", picture]) as stream:
            return [event async for event in stream]

    return asyncio.run(run())


def test_the_requests_are_those_of_the_client_itself():
    turns = [Turn.tools(("look", {"where": "a"}), ("look", {"where": "b"})), Turn.text("Done.")]
    with ModelServer([*turns, *turns]) as server:
        talk(bare_model, server.url)
        talk(lambda url: ModelClients().build(resolved_at(url)), server.url)
        bodies = [ids_out(request.body) for request in server.requests]
    assert len(bodies) == 4
    assert bodies[2:] == bodies[:2]
    assert [list(body) for body in bodies[2:]] == [list(body) for body in bodies[:2]]
    assert bodies[0]["seed"] == 7


def ids_out(body: dict[str, Any]) -> dict[str, Any]:
    """Without the ids of calls, which are new each time."""
    text = json.dumps(body)
    for number, found in enumerate(dict.fromkeys(re.findall(r'"(call_[^"]+)"', text))):
        text = text.replace(found, f"call-{number}")
    read: dict[str, Any] = json.loads(text)
    return read


def resolved_at(url: str) -> ResolvedModel:
    return ResolvedModel(provider="custom", model="m", base_url=f"{url}/v1", secret="k" * 9)


PIECES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.text(max_size=5), st.none(), st.integers()),
        "object": st.sampled_from(["chat.completion.chunk", "other", None, 3]),
        "created": st.one_of(st.integers(), st.floats(allow_nan=False), st.none(), st.just("soon")),
        "model": st.text(max_size=5),
        "usage": st.one_of(
            st.none(),
            # what cannot be right is left out, which has tests of its own
            st.builds(
                lambda given, written, more: {
                    "prompt_tokens": given,
                    "completion_tokens": written,
                    "total_tokens": given + written,
                    **more,
                },
                st.integers(2, 10**6),
                st.integers(0, 10**6),
                st.fixed_dictionaries({}, optional={"prompt_tokens_details": st.just({"cached_tokens": 2})}),
            ),
        ),
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.one_of(st.integers(), st.none()),
                    "finish_reason": st.sampled_from(["stop", "tool_calls", "strange", None]),
                    "delta": st.one_of(
                        st.none(),
                        st.fixed_dictionaries(
                            {},
                            optional={
                                "role": st.sampled_from(["assistant", "somebody", None]),
                                "content": st.one_of(st.text(), st.none(), st.just([{"text": "x"}])),
                                "reasoning_content": st.text(max_size=5),
                                "tool_calls": st.one_of(
                                    st.none(),
                                    st.just(
                                        [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]
                                    ),
                                    st.just([{"index": None, "function": None}]),
                                ),
                            },
                        ),
                    ),
                },
            ),
            max_size=2,
        ),
        "of_their_own": st.just({"a": [1]}),
    },
)


@given(PIECES)
def test_a_piece_is_read_as_the_client_itself_would(piece: dict[str, Any]):
    from openai.types.chat import ChatCompletionChunk

    def read(model: Any) -> Any:
        return model.client._process_response_data(data=piece, cast_to=ChatCompletionChunk, response=None)

    ours, theirs = read(OURS), read(THEIRS)
    assert type(ours) is type(theirs)
    assert ours.model_dump(warnings=False) == theirs.model_dump(warnings=False)


OURS = ModelClients().build(resolved_at("http://127.0.0.1:9"))
THEIRS = bare_model("http://127.0.0.1:9")
