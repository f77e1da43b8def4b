"""Reads along what the Anthropic Messages API answers: usage, how it ended, what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from personas_nb.engine.model_errors import name_of, status_to_model_error
from personas_nb.engine.token_counts import count_of
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import ModelError

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024  # of one event, or of an answer that is not streamed
BYTES_PER_TOKEN = 3  # of text that arrived before its answer was cut, and nobody counted
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The API's types of error as HTTP statuses."""


class AnswerReader:
    """Is fed the bytes of one answer, as server-sent events or as one JSON object, and says what is in them.

    Where the bytes are cut makes no difference. Nothing is raised: what cannot be read becomes the ``problem``.
    """

    def __init__(self, *, is_stream: bool) -> None:
        self.stop_reason: str | None = None
        self.is_begun = self.is_complete = False
        self.has_content = False
        """Whether it says or asks for anything: words, or a tool call."""
        self._is_stream = is_stream
        self._rest = bytearray()
        self._is_garbled = self._is_over_limit = False
        self._error: tuple[str, str] | None = None
        self._usage: dict[str, int] = {}
        self._model: str | None = None
        self._is_counted = False
        self._text_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read on."""
        if self._is_over_limit:
            return
        begin = len(self._rest)
        self._rest += data
        if self._is_stream and (end := self._rest.rfind(b"\n", begin)) >= 0:
            lines = self._rest[:end].split(b"\n")
            del self._rest[: end + 1]
            for line in lines:
                self._take_line(bytes(line))
        if len(self._rest) > ANSWER_LIMIT_BYTES:
            self._is_garbled = self._is_over_limit = True
            self._rest.clear()

    def finish(self) -> None:
        """The answer has ended; of one that was cut off, what came counts."""
        rest = bytes(self._rest)
        self._rest.clear()
        if self._is_over_limit or not rest:
            return
        if not self._is_stream:
            self._take_whole(rest)
        elif _object(rest.removeprefix(b"data:")):  # a last event without its line end; else it is cut
            self._take_line(rest)

    @property
    def has_failed(self) -> bool:
        """Whether something is wrong already."""
        return self._error is not None or self._is_garbled

    @property
    def usage(self) -> UsageReported:
        """What the answer used. Of one that was cut off, the output is estimated from the text that arrived."""
        output = self._usage.get("output_tokens", 0)
        if not self._is_counted:
            output = max(output, -(-self._text_bytes // BYTES_PER_TOKEN))
        return UsageReported(
            input_tokens=self._usage.get("input_tokens", 0),
            output_tokens=output,
            cache_read_tokens=self._usage.get("cache_read_input_tokens", 0),
            cache_write_tokens=self._usage.get("cache_creation_input_tokens", 0),
            num_turns=1,
            model=self._model,
        )

    @property
    def cache_write_1h_tokens(self) -> int:
        """How many of the tokens written to the cache are kept for an hour, which costs more."""
        return self._usage.get("ephemeral_1h_input_tokens", 0)

    def problem(self, provider: str, redact: Callable[[str], str] = str) -> ModelError | None:
        """What is wrong with the answer, once it is finished; None for one that is whole.

        ``redact`` takes secrets out of what the server said.
        """
        if self._error is not None:
            kind, message = self._error
            status = STATUSES.get(kind, 500)
            return status_to_model_error(status, provider=provider, message=redact(message))
        if self.is_complete and not self._is_garbled:
            return None
        if self._is_garbled or not self.is_begun:
            return ModelError(
                f"{name_of(provider)} answered with something that cannot be used.",
                kind="bad_answer",
                hint="Run again; if it stays, check base_url, or choose another model.",
            )
        return ModelError(
            f"{name_of(provider)} stopped before the end of its answer.",
            kind="connection",
            hint="What arrived is kept; run again.",
            retryable=True,
        )

    def _take_line(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return  # the event's name is in its data too; comments keep connections open
        text = line[5:].strip()
        if not text or text == b"[DONE]":
            return
        event = _object(text)
        if event is None:
            self._is_garbled = True
            return
        self._take_event(event)

    def _take_event(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._take_message(_dict(event.get("message")))
            case "content_block_start":
                self._look_at_block(_dict(event.get("content_block")))
            case "content_block_delta":
                self._look_at_block(_dict(event.get("delta")))
                self._text_bytes += sum(
                    len(value.encode("utf-8", "replace"))
                    for name, value in _dict(event.get("delta")).items()
                    if isinstance(value, str) and name in ("text", "thinking", "partial_json")
                )
            case "message_delta":
                self._count(event.get("usage"))
                self._is_counted = self._is_counted or bool(self._usage.get("output_tokens"))
                if reason := _dict(event.get("delta")).get("stop_reason"):
                    self.stop_reason, self.is_complete = str(reason), True
            case "message_stop":
                self.is_complete = True
            case "error":
                self._take_error(event)

    def _take_whole(self, text: bytes) -> None:
        message = _object(text)
        if message is None:
            self._is_garbled = True
        elif message.get("type") == "error":
            self._take_error(message)
        elif "content" in message:
            self._take_message(message)
            for block in message["content"] if isinstance(message["content"], list) else ():
                self._look_at_block(_dict(block))
            self._is_counted = self.is_complete = True

    def _take_message(self, message: dict[str, Any]) -> None:
        self.is_begun = True
        self._count(message.get("usage"))
        model, reason = message.get("model"), message.get("stop_reason")
        self._model = model if isinstance(model, str) and model else None
        self.stop_reason = str(reason) if reason else None

    def _look_at_block(self, block: dict[str, Any]) -> None:
        if str(block.get("type")).endswith("tool_use") or str(block.get("text") or "").strip():
            self.has_content = True

    def _take_error(self, event: dict[str, Any]) -> None:
        error = _dict(event.get("error"))
        self._error = (str(error.get("type") or ""), str(error.get("message") or ""))

    def _count(self, usage: Any) -> None:
        """Counts are of the whole answer so far; a server that repeats one as 0 or null has not taken it back."""
        counts = _dict(usage)
        for name, value in (counts | _dict(counts.get("cache_creation"))).items():
            if count := count_of(value):
                self._usage[name] = count


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
