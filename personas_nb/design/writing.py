"""What a model is writing just now, told from the pieces of its answer as they arrive."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable
from typing import Any

# Fields of the answer, in the words of people. A field that is not here is not worth a line.
_WORDS = {
    "name": "the name",
    "summary": "the summary",
    "identity": "who it is",
    "instructions": "the instructions",
    "toolGuidance": "how to use the tools",
    "tool_guidance": "how to use the tools",
    "examples": "the examples",
    "errorHandling": "what to do when something fails",
    "error_handling": "what to do when something fails",
    "customSections": "sections of its own",
    "custom_sections": "sections of its own",
    "suggested_tools": "the tools",
    "suggested_triggers": "the triggers",
    "suggested_connectors": "the connectors",
    "suggested_event_subscriptions": "the events",
    "flow": "the flow",
    "question": "a question",
}
# A key is a text before a colon; one inside a text has its quotes escaped.
_KEY = re.compile(r'(?<!\\)"(\w+)"\s*:')
_TAIL_CHARS = 60


class Writing:
    """Hears the pieces of a streamed answer and says which part of the design has begun."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._said: set[str] = set()
        self._tail = ""

    async def __call__(self, _context: Any, events: AsyncIterable[Any]) -> None:
        """As pydantic-ai's handler of a stream."""
        self._said.clear()
        async for event in events:
            if event.event_kind == "part_start":
                self._tail = ""
                self.hear(_text_of(event.part))
            elif event.event_kind == "part_delta":
                self.hear(_text_of(event.delta))

    def hear(self, piece: str) -> None:
        """One more piece of the answer."""
        text = self._tail + piece
        for key in _KEY.findall(text):
            words = _WORDS.get(key)
            if words is not None and words not in self._said:
                self._said.add(words)
                self._say("writing", words)
        self._tail = text[-_TAIL_CHARS:]


def _text_of(part: Any) -> str:
    for name in ("args", "args_delta", "content", "content_delta"):
        value = getattr(part, name, None)
        if isinstance(value, str):
            return value
    return ""
