"""A pydantic-ai model that asks the run's allowance before each request. Import it lazily: it loads pydantic-ai."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from personas_nb.engine.agents.mending import mend
from personas_nb.engine.spending import Admission, Allowance
from personas_nb.entities.run_event import UsageReported

KEPT_SIZES = 1000


class LimitedModel(WrapperModel):
    """``wrapped`` within ``allowance``: a request over it is refused before it is sent, answers are kept short.

    Belongs to one run. Raises ``ModelError`` for what may not be sent.
    """

    def __init__(self, wrapped: Model, allowance: Allowance, *, max_output_tokens: int) -> None:
        super().__init__(wrapped)
        self._allowance, self._max_output_tokens = allowance, max_output_tokens

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask for a whole answer."""
        admission, settings = self._admitted(messages, model_settings, model_request_parameters)
        try:
            response = await super().request(messages, settings, model_request_parameters)
            admission.settle(_counted(response.usage, response.model_name))
        except Exception:  # of whatever kind: there was no answer
            admission.release()
            raise
        finally:
            admission.abandon()
        return mend(response)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Ask for an answer that arrives in pieces."""
        admission, settings = self._admitted(messages, model_settings, model_request_parameters)
        stream: StreamedResponse | None = None
        try:
            async with self.wrapped.request_stream(
                messages, settings, model_request_parameters, run_context
            ) as stream:
                _mend_answer(stream)
                yield stream
        except Exception:  # of whatever kind: without a stream, there was no answer
            if stream is None:
                admission.release()
            raise
        finally:
            if stream is not None:
                admission.settle(_counted(stream.usage, stream.model_name))
            admission.abandon()

    def _admitted(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> tuple[Admission, ModelSettings]:
        wanted = (settings or {}).get("max_tokens") or self._max_output_tokens
        # no cache is asked for, and a provider that caches by itself charges nothing for it
        admission = self._allowance.admit(_size_bytes(messages, parameters), wanted, is_cached=False)
        return admission, ModelSettings(**{**(settings or {}), "max_tokens": admission.max_output_tokens})


def _mend_answer(stream: StreamedResponse) -> None:
    """Let the answer be mended whenever pydantic-ai takes it from the stream."""
    get = stream.get
    stream.get = lambda: mend(get())  # type: ignore[method-assign]


# By the identity of their schemas, which runs share; pydantic-ai makes the definitions anew for each request.
_tool_bytes: dict[int, tuple[dict[str, Any], int]] = {}


def _size_bytes(messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
    """How long a request is, about; what pydantic-ai keeps beside the messages is counted too."""
    tools = parameters.function_tools + parameters.output_tools
    return len(ModelMessagesTypeAdapter.dump_json(messages)) + sum(map(_bytes_of, tools))


def _bytes_of(tool: ToolDefinition) -> int:
    schema = tool.parameters_json_schema
    found, size = _tool_bytes.get(id(schema), (None, 0))
    if found is not schema:
        size = len(json.dumps(schema, ensure_ascii=False).encode())
        if len(_tool_bytes) > KEPT_SIZES:
            _tool_bytes.clear()
        _tool_bytes[id(schema)] = schema, size
    return len(tool.name) + len((tool.description or "").encode()) + size


def _counted(usage: RequestUsage, model_name: str | None) -> UsageReported:
    """pydantic-ai counts cached tokens as input too; here each token is counted once."""
    return UsageReported(
        input_tokens=max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        model=model_name,
    )
