"""The real clients of pydantic-ai, pointed at a model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from support.model_server import ModelServer

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.models import Model
    from pydantic_ai.run import AgentRunResult

Api: TypeAlias = Literal["anthropic", "openai"]
APIS: tuple[Api, ...] = ("anthropic", "openai")
KEY = "sk-test-0123456789abcdef"


def model_at(url: str, api: Api, *, model: str = "", key: str = KEY, timeout_seconds: float = 30.0) -> Model:
    """A model of pydantic-ai that retries nothing; its HTTP client lives as long as the model."""
    import httpx2

    http = httpx2.AsyncClient(timeout=timeout_seconds, trust_env=False)
    if api == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        messages = AsyncAnthropic(api_key=key, base_url=url, max_retries=0, http_client=http)
        return AnthropicModel(
            model or "claude-sonnet-5-5", provider=AnthropicProvider(anthropic_client=messages)
        )
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    chat = AsyncOpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, http_client=http)
    return OpenAIChatModel(model or "gpt-4o", provider=OpenAIProvider(openai_client=chat))


async def ask(
    server: ModelServer,
    api: Api,
    prompt: str = "Hello",
    *,
    model: str = "",
    key: str = KEY,
    timeout_seconds: float = 30.0,
    run: dict[str, Any] | None = None,
    **agent: Any,
) -> tuple[AgentRunResult[Any], list[Any]]:
    """One run against the server: its result and its events. ``agent`` goes to Agent, ``run`` to the run."""
    from pydantic_ai import Agent

    made: Agent[None, Any] = Agent(
        model_at(server.url, api, model=model, key=key, timeout_seconds=timeout_seconds), **agent
    )
    async with made.run_stream_events(prompt, **(run or {})) as stream:
        events = [event async for event in stream]
    assert stream.result is not None
    return stream.result, events
