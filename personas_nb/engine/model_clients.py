"""pydantic-ai's models of real providers, and the connections to their servers.

All of a worker share one HTTP client. Of a request's headers it sends what is needed, and the key that was chosen.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.token_counts import anthropic_usage, openai_counts, openai_usage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model
    from pydantic_ai.models.openai import OpenAIChatModelSettings

_NEEDED_HEADERS = frozenset({
    b"host", b"accept", b"accept-encoding", b"content-type", b"content-length", b"transfer-encoding", b"connection",
    b"user-agent", b"anthropic-version", b"anthropic-beta",
})  # fmt: skip
TOOL_SETS_KEPT = 16
_OUR_KEY = b"x-personas-key-in-"  # marks the header that holds the key which `resolve` chose


class ModelClients:
    """Builds pydantic-ai models; one HTTP connection pool for all of them. Belongs to one event loop."""

    def __init__(self) -> None:
        self._http: Any = None
        self._models: dict[ResolvedModel, Model] = {}

    def build(self, resolved: ResolvedModel) -> Model:
        """The pydantic-ai model for a real provider; clients retry nothing by themselves."""
        if resolved not in self._models:
            model = self._anthropic(resolved) if resolved.provider == "anthropic" else self._openai(resolved)
            _customize_once(model)
            self._models[resolved] = model
        return self._models[resolved]

    @property
    def http(self) -> Any:
        """The HTTP client of all models; of a request's headers it sends the needed ones and ``key_headers``."""
        return self._client()

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
        self._http = None
        self._models.clear()

    def _client(self) -> Any:
        if self._http is None:
            import httpx2

            self._http = httpx2.AsyncClient(
                event_hooks={"request": [_only_ours]},
                timeout=httpx2.Timeout(600, connect=10),
                limits=httpx2.Limits(max_connections=200, max_keepalive_connections=100),
                transport=_transport(),
            )
        return self._http

    def _anthropic(self, resolved: ResolvedModel) -> Model:
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        key = resolved.secret or "unset"
        client = AsyncAnthropic(
            api_key=key,
            base_url=resolved.base_url,
            max_retries=0,
            default_headers=key_headers({"x-api-key": key}),
            http_client=self._client(),
        )
        _measure(client)
        return AnthropicModel(resolved.model, provider=AnthropicProvider(anthropic_client=client))

    def _openai(self, resolved: ResolvedModel) -> Model:
        from openai import AsyncOpenAI
        from pydantic_ai.models.ollama import OllamaModel
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.litellm import LiteLLMProvider
        from pydantic_ai.providers.ollama import OllamaProvider
        from pydantic_ai.providers.openai import OpenAIProvider

        key = resolved.secret or "unset"
        client = AsyncOpenAI(
            api_key=key,
            base_url=resolved.base_url,
            max_retries=0,
            default_headers=key_headers({"authorization": f"Bearer {key}"}),
            http_client=self._client(),
        )
        _send_as_it_is(client)
        _read_quickly(client)
        # some servers repeat with each piece what was used so far; otherwise pydantic-ai would add it up
        settings: OpenAIChatModelSettings = {"openai_continuous_usage_stats": True}
        if resolved.provider == "ollama":  # a model on one's own machine has no price, whatever it is called
            return OllamaModel(
                resolved.model, provider=OllamaProvider(openai_client=client), settings=settings
            )
        if resolved.provider == "litellm":  # the model's own name says whose price it is
            return OpenAIChatModel(
                resolved.model, provider=LiteLLMProvider(openai_client=client), settings=settings
            )
        return OpenAIChatModel(
            resolved.model, provider=OpenAIProvider(openai_client=client), settings=settings
        )


def key_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that hold the key of a request, marked so that ``ModelClients.http`` sends them."""
    return {f"{_OUR_KEY.decode()}{name}": value for name, value in headers.items()}


async def _only_ours(request: Any) -> None:
    """Leaves what a request needs, with the key that we chose.

    The clients add to it what the environment says: organisation ids, and custom headers with, perhaps, a key.
    These would go to any host.
    """
    kept = []
    for name, value in request.headers.raw:
        lower = name.lower()
        if lower.startswith(_OUR_KEY):
            kept.append((name[len(_OUR_KEY) :], value))
        elif lower in _NEEDED_HEADERS:
            kept.append((name, value))
    request.headers = type(request.headers)(kept)


def _transport() -> Any:
    """What sends the requests; None, the client's own, where there is a proxy: only that knows it."""
    from urllib.request import getproxies

    if getproxies():
        return None
    from personas_nb.engine.lanes import Lanes

    return Lanes()


def _send_as_it_is(client: AsyncOpenAI) -> None:
    """Let a client put messages and tools into its requests without looking for what could be translated in them.

    pydantic-ai gives them as they are sent, and the client would walk through each by its type for every request.
    """
    create: Any = client.chat.completions.create

    async def created(*, messages: Any, tools: Any = None, extra_body: Any = None, **parameters: Any) -> Any:
        body = {"messages": list(messages)}
        if isinstance(tools, list):
            body["tools"] = tools
        if isinstance(
            options := parameters.get("stream_options"), dict
        ):  # it is for us; a server may refuse it
            asked = {name: value for name, value in options.items() if name != "continuous_usage_stats"}
            parameters["stream_options"] = asked
        return await create(messages=[], extra_body={**body, **(extra_body or {})}, **parameters)

    client.chat.completions.create = created  # type: ignore[method-assign]


def _read_quickly(client: AsyncOpenAI) -> None:
    """Let a client read the pieces of a stream by pydantic's compiled validation: a tenth of the time.

    It would go through the types of each piece in Python, so as to take what does not fit too; it does that with
    what does not. Usage that cannot be right is left out.
    """
    from openai.types.chat import ChatCompletionChunk
    from pydantic import ValidationError

    read: Any = client._process_response_data

    def read_quickly(*, data: object, cast_to: Any, response: Any) -> Any:
        if isinstance(data, dict) and data.get("usage") is not None:
            # what earlier pieces said is kept with the answer
            kept = {} if response is None else response.extensions
            counts = kept["personas_usage"] = openai_counts(data["usage"], kept.get("personas_usage", {}))
            data = {**data, "usage": openai_usage(counts)}
        if cast_to is ChatCompletionChunk:
            with suppress(ValidationError):
                return ChatCompletionChunk.model_validate(data)
            _fill_deltas(data)
        return read(data=data, cast_to=cast_to, response=response)

    client._process_response_data = read_quickly  # type: ignore[method-assign]


def _fill_deltas(data: object) -> None:
    """Azure's content filter sends its finish_reason with a null for the delta, which pydantic-ai passes over."""
    choices = data.get("choices") if isinstance(data, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and "delta" in choice and choice["delta"] is None:
            choice["delta"] = {}


def _measure(client: AsyncAnthropic) -> None:
    """Let a client leave out what a server cannot have used; pydantic-ai would trip over it."""
    read: Any = client._process_response_data

    def read_measured(*, data: object, cast_to: Any, response: Any) -> Any:
        if isinstance(data, dict):
            kind, message = data.get("type"), data.get("message")
            if kind in ("message", "message_delta"):
                data = {**data, "usage": anthropic_usage(data.get("usage"), is_first=kind == "message")}
            elif kind == "message_start" and isinstance(message, dict):
                usage = anthropic_usage(message.get("usage"), is_first=True)
                data = {**data, "message": {**message, "usage": usage}}
        return read(data=data, cast_to=cast_to, response=response)

    client._process_response_data = read_measured  # type: ignore[method-assign]


def _customize_once(model: Model) -> None:
    """Let a model fit the schemas of the same tools to its provider once, and not for every request.

    It is the same for all runs with these tools, and walks through every schema.
    """
    from dataclasses import replace

    customize = model.customize_request_parameters
    kept: deque[tuple[Any, Any]] = deque(maxlen=TOOL_SETS_KEPT)

    def customized(parameters: Any) -> Any:
        if parameters.output_object is not None:
            return customize(parameters)
        asked = (parameters.function_tools, parameters.output_tools)
        found = next((made for given, made in kept if given == asked), None)
        if found is None:
            made = customize(parameters)
            found = (made.function_tools, made.output_tools)
            kept.appendleft((asked, found))
        return replace(parameters, function_tools=found[0], output_tools=found[1])

    model.customize_request_parameters = customized  # type: ignore[method-assign, assignment]


@cache
def say_unknown_prices_once() -> None:
    """Where a price or usage is missing, the execution says so; pydantic-ai would print it from our thread."""
    from pydantic_ai import CostNotFoundWarning, UsageExtractionFailedWarning
    from pydantic_ai.exceptions import UsageLimitUnavailableWarning

    for category in (CostNotFoundWarning, UsageExtractionFailedWarning, UsageLimitUnavailableWarning):
        warnings.filterwarnings("ignore", category=category)


def is_priced(model: Model) -> bool:
    """Whether genai-prices knows what the model costs."""
    return _has_price(model.model_name, model.system)


@cache
def _has_price(model_name: str, provider_name: str) -> bool:
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.usage import RequestUsage

    usage = RequestUsage(input_tokens=1, output_tokens=1)
    response = ModelResponse(parts=[], usage=usage, model_name=model_name, provider_name=provider_name)
    try:
        response.cost()
    except (LookupError, AssertionError, ValueError):
        return False
    return True
