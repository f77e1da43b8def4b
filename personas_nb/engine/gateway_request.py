"""A request of the Anthropic Messages API on its way from the CLI to the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from personas_nb.vault.redaction import Redactor

DEFAULT_OUTPUT_TOKENS = 8192  # where the request does not say; the API asks for it
IMAGE_BYTES = 10_000  # what an image weighs as text: it is scaled down, and has at most about 5 000 tokens
LEAST_THINKING_TOKENS = 1024  # what the API takes as a budget for thinking


class Unusable(Exception):
    """A request that cannot be forwarded; ``status`` is the HTTP status of the answer."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class MessageRequest:
    """The request as it may go on: for the run's own model, and without its secrets.

    The CLI asks smaller models for side jobs; here they go to ``model``, so that nothing is spent on a model that
    nobody chose. A tool may have printed a secret; ``redactor`` takes it out. Raises ``Unusable`` for a body that
    is no JSON object.
    """

    def __init__(self, body: bytes, *, model: str, redactor: Redactor) -> None:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Unusable("The request is no JSON object.")
        self._document: dict[str, Any] = {**redactor.redact_value(document), "model": model}
        images = list(_images(self._document.get("messages")))
        self.size_bytes = len(body) - sum(images) + len(images) * IMAGE_BYTES
        """How long it is as text, for an estimate of its tokens."""

    @property
    def max_output_tokens(self) -> int:
        """How long an answer it asks for, in tokens."""
        wanted = self._document.get("max_tokens")
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            return DEFAULT_OUTPUT_TOKENS
        return wanted

    def encoded(self, max_output_tokens: int | None = None) -> bytes:
        """The bytes to send, asking for an answer of at most ``max_output_tokens`` (None: as it was)."""
        document = self._document
        if max_output_tokens is not None and max_output_tokens != document.get("max_tokens"):
            document = _shortened(document, max_output_tokens)
        try:
            return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can say
            return json.dumps(document, separators=(",", ":")).encode()


def _shortened(document: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """The document with this ``max_tokens``; thinking is a part of the answer, and must leave room for the rest."""
    shorter = {**document, "max_tokens": max_tokens}
    thinking = document.get("thinking")
    if not isinstance(thinking, dict):
        return shorter
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < max_tokens:
        return shorter
    if max_tokens > LEAST_THINKING_TOKENS:
        lowered = max(LEAST_THINKING_TOKENS, max_tokens // 2)
        return {**shorter, "thinking": {**thinking, "budget_tokens": lowered}}
    del shorter["thinking"]
    return _without_thinking_edits(shorter)


def _without_thinking_edits(document: dict[str, Any]) -> dict[str, Any]:
    """Context edits that clear thinking are refused where there is none."""
    management = document.get("context_management")
    if not isinstance(management, dict) or not isinstance(management.get("edits"), list):
        return document
    edits = [
        edit
        for edit in management["edits"]
        if not (isinstance(edit, dict) and str(edit.get("type", "")).startswith("clear_thinking"))
    ]
    if edits:
        return {**document, "context_management": {**management, "edits": edits}}
    return {name: value for name, value in document.items() if name != "context_management"}


def _images(blocks: Any) -> Iterator[int]:
    """The lengths of the images in messages, their blocks, and the tool results among these."""
    waiting = [blocks]
    while waiting:
        current = waiting.pop()
        for block in current if isinstance(current, list) else ():
            if not isinstance(block, dict):
                continue
            source = block.get("source")
            data = source.get("data") if isinstance(source, dict) else None
            if block.get("type") == "image" and isinstance(data, str):
                yield len(data)
            waiting.append(block.get("content"))
