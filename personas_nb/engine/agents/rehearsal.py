"""Rehearsal: a model of our own that costs nothing and leaves nothing behind.

It reads the assembled prompt, calls each assigned tool once with arguments made from the input, emits the
protocol messages that the instructions ask for, and ends with an outcome_assessment. It invents no facts: what
it says is what it found in the input and in the tools' results. The same prompt and tools give the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from personas_nb.engine.agents.job import Job
from personas_nb.engine.protocol import PROTOCOL_KINDS
from personas_nb.entities.run_event import UsageReported
from personas_nb.entities.tool import ToolDefinition
from personas_nb.tools.frames import is_frame_handle

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

CHARS_PER_TOKEN = 4  # a common estimate for English text; views say “estimated”
PIECE_CHARS = 48

# Which words of the instructions ask for which message. A negation shortly before takes it back.
_ASKS = {
    "execution_flow": r"execution_flow|show (?:the |your )?flow",
    "user_message": r"user_message|\b(?:tell|notify|message|inform|alert) (?:me|us|the user)\b"
    r"|\bpost\b|\bsend (?:me|us)\b|\breport to\b",
    "agent_memory": r"agent_memory|\bremember\b|\bmemori[sz]e\b|\blearn(?:ed|t)?\b",
    "manual_review": r"manual_review|\bask (?:me|us|for (?:a )?(?:review|approval))\b"
    r"|\bapprov(?:e|al)\b|\bhuman review\b",
    "emit_event": r"emit_event|\bemit\b|\bpublish an? event\b",
    "persona_action": r"persona_action|\b(?:start|trigger|run) (?:the )?persona\b",
}
_NEGATION = re.compile(r"\b(?:never|not|don't|don’t|without|no)\b[^.;\n]{0,24}$", re.IGNORECASE)
_URL = re.compile(r"https?://[^\s<>\"'`“”‘’«»)\]]+")
_PATH = re.compile(r"(?<![\w/.:-])(?:[\w-]+/)*[\w-]+\.[A-Za-z]{2,5}\b")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_FILE = re.compile(r"^- (inputs/\S.*?)(?: \([\d,.]+ \w+\))?$", re.MULTILINE)


class Rehearsal:
    """The stand-in for a model in one run."""

    def __init__(self, job: Job) -> None:
        self.name = job.persona.name
        self.gateway = job.gateway
        self.tools = job.gateway.definitions
        self.input = job.input or ""
        self.instructions = _instructions(job.prompt)
        self.files = _FILE.findall(job.prompt.partition("## Input Data")[2])
        self._read_chars = 0
        self._written_chars = 0

    def model(self) -> FunctionModel:
        """The pydantic-ai model that answers for this run."""
        from pydantic_ai.models.function import FunctionModel

        return FunctionModel(stream_function=self._stream, model_name="rehearsal")

    def usage(self, num_turns: int) -> UsageReported:
        """Estimated tokens (characters / 4); a rehearsal costs nothing."""
        return UsageReported(
            input_tokens=self._read_chars // CHARS_PER_TOKEN,
            output_tokens=self._written_chars // CHARS_PER_TOKEN,
            cost_usd=0.0,
            num_turns=num_turns,
            model="rehearsal",
        )

    async def _stream(
        self, messages: list[ModelMessage], _info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        from pydantic_ai.models.function import DeltaToolCall

        turn = sum(message.kind == "response" for message in messages)
        results = {self.gateway.shown_name(name): text for name, text in _results(messages).items()}
        self._read_chars += sum(len(str(part)) for message in messages for part in _contents(message))
        batches = self._batches()
        if turn < len(batches):
            text, tools = self._opening(turn, batches), batches[turn]
        else:
            text, tools = self._closing(results), []
        for piece in _pieces(text):
            self._written_chars += len(piece)
            yield piece
        for index, tool in enumerate(tools):
            arguments = json.dumps(self._arguments(tool, results), ensure_ascii=False)
            self._written_chars += len(arguments)
            yield {
                index + 1: DeltaToolCall(
                    name=self.gateway.model_names[tool.name],
                    json_args=arguments,
                    tool_call_id=f"rehearsal-{turn}-{index}",
                )
            }

    def _batches(self) -> list[list[ToolDefinition]]:
        """The tools in the order of their effect: first what only looks, then what writes, then the world.

        What takes a frame comes after what may return one.
        """
        ordered = [
            [tool for tool in self.tools if tool.effect == effect and _takes_frame(tool) == takes_frame]
            for effect in ("none", "local", "outside")
            for takes_frame in (False, True)
        ]
        return [batch for batch in ordered if batch]

    def _opening(self, turn: int, batches: list[list[ToolDefinition]]) -> str:
        names = ", ".join(tool.name for tool in batches[turn])
        if turn == 0:
            return (
                f"Rehearsal of {self.name}: no model is asked and nothing is sent. First I look: {names}.\n"
            )
        return f"Next: {names}.\n"

    def _arguments(self, tool: ToolDefinition, results: dict[str, str]) -> dict[str, Any]:
        properties = tool.input_schema.get("properties", {})
        required = set(tool.input_schema.get("required", ()))
        return {
            name: self._value(tool, name, schema, results)
            for name, schema in properties.items()
            if name in required
        }

    def _value(self, tool: ToolDefinition, name: str, schema: dict[str, Any], results: dict[str, str]) -> Any:
        if str(schema.get("$ref", "")).startswith("#/$defs/"):
            known = tool.input_schema.get("$defs", {}).get(schema["$ref"].removeprefix("#/$defs/"), {})
            schema = {key: value for key, value in known.items() if key != "$ref"}
        if "const" in schema or schema.get("enum"):
            return schema.get("const", (schema.get("enum") or [None])[0])
        if isinstance(schema.get("anyOf"), list) and schema["anyOf"] and "type" not in schema:
            return self._value(tool, name, {**schema["anyOf"][0], "anyOf": None}, results)
        kind = schema.get("type", "string")
        if kind in ("integer", "number"):
            return schema.get("minimum", 1)
        if kind == "boolean":
            return False
        if kind == "array":
            return []
        if kind == "object":
            inner, required = schema.get("properties", {}), schema.get("required", ())
            return {key: self._value(tool, key, inner[key], results) for key in required if key in inner}
        if is_frame_handle(schema):
            return _first(r"\bdf:[\w-]+", "\n".join(reversed(results.values())), "df:none-1")
        return self._words(tool.name, name, results)

    def _words(self, tool: str, name: str, results: dict[str, str]) -> str:
        known = f"{self.input}\n{self.instructions}"
        if name in ("path", "file", "filename"):
            return self._path(is_new=tool != "file_read")
        if name in ("url", "uri"):
            return _first(_URL, known, "https://example.com/")
        if name in ("to", "recipient", "email"):
            return _first(_MAIL, known, "someone@example.com")
        if name in ("content", "body", "text"):
            return f"# Rehearsal of {self.name}\n\n{self._findings(results)}\n"
        return _shortened(self.input or self.instructions or self.name, 80)

    def _path(self, *, is_new: bool) -> str:
        if is_new:
            named = [
                path for path in _PATH.findall(_URL.sub("", self.instructions)) if path not in self.files
            ]
            written = [path for path in named if not path.startswith("inputs/")]
            return written[0] if written else "rehearsal.md"
        if not self.files:
            return _first(_PATH, _URL.sub("", self.input), ".")
        known = f"{self.input}\n{self.instructions}"
        mentioned = [path for path in self.files if path.removeprefix("inputs/") in known]
        path: str = (mentioned or self.files)[0]
        return path

    def _findings(self, results: dict[str, str]) -> str:
        lines = [f"- {name}: {_digest(text)}" for name, text in results.items()]
        if self.input.strip():
            lines.insert(0, f"- input: {_digest(self.input)}")
        return "\n".join(lines) or "- There was no input and no tool to look with."

    def _closing(self, results: dict[str, str]) -> str:
        parts = [f"What I found:\n{self._findings(results)}\n"]
        parts += [json.dumps({kind: body}, ensure_ascii=False) for kind, body in self._messages(results)]
        summary = f"Rehearsed with {len(results)} of {len(self.tools)} tools; nothing was sent or changed."
        parts.append(
            json.dumps({"outcome_assessment": {"accomplished": True, "summary": summary}}, ensure_ascii=False)
        )
        return "\n".join(parts) + "\n"

    def _messages(self, results: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The messages that the instructions ask for, each named by the line that asks for it."""
        findings = self._findings(results)
        for kind, pattern in _ASKS.items():
            lines = _asking_lines(pattern, self.instructions)
            if lines:
                # the instruction that names the message says best what it is about
                line = next((line for line in lines if kind in line), min(lines, key=len))
                yield kind, self._body(kind, _title(line), findings, list(results))

    def _body(self, kind: str, title: str, findings: str, tools: list[str]) -> dict[str, Any]:
        text = self.instructions
        bodies: dict[str, dict[str, Any]] = {
            "execution_flow": {
                "flows": [
                    {"step": number, "action": name, "status": "completed"}
                    for number, name in enumerate(tools or ["look at the input"], start=1)
                ]
            },
            "user_message": {
                "title": title,
                "content": f"A rehearsal; with a model, its answer stands here.\n{findings}",
            },
            "agent_memory": {
                "title": title,
                "content": "A rehearsal learns nothing; with a model, what it learned stands here.",
                "category": "context",
                "importance": 1,
                "tags": ["rehearsal"],
            },
            "manual_review": {
                "title": title,
                "description": f"In the rehearsal of {self.name} it would ask this now, and wait with what follows.",
                "severity": "low",
                "suggested_actions": ["Approve, and run it with a model", "Reject, and refine the design"],
            },
            "emit_event": {
                "type": _first(r"\bemit(?:s|_event)?\b[^`“\"'\n]{0,30}[`“\"']([\w.-]+)", text, "custom"),
                "data": {"rehearsal": True},
            },
            "persona_action": {
                "target": _first(
                    r"\bpersona(?:_action for)?\b\s+[`“\"']([^`”\"'\n]+)[`”\"']", text, self.name
                ),
                "action": "run",
                "input": {"rehearsal": True},
            },
        }
        assert set(bodies) < set(PROTOCOL_KINDS)
        return bodies[kind]


def _takes_frame(tool: ToolDefinition) -> bool:
    return any(is_frame_handle(schema) for schema in tool.input_schema.get("properties", {}).values())


def _instructions(prompt: str) -> str:
    """What the person wrote: the prompt up to the parts that the house adds."""
    for heading in (
        "## Available Tools",
        "## Available Credentials",
        "## Memories",
        "## Communication Protocols",
    ):
        prompt = prompt.partition(f"\n{heading}\n")[0]
    return prompt


def _asking_lines(pattern: str, text: str) -> list[str]:
    """The lines that ask for something; a negation shortly before takes it back."""
    lines = []
    for match in re.finditer(pattern, text, re.IGNORECASE):
        if not _NEGATION.search(text[max(0, match.start() - 40) : match.start()]):
            start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
            lines.append(text[start : end if end >= 0 else len(text)])
    return lines


def _title(line: str) -> str:
    """A line of the instructions without its number and without how to do it."""
    line = re.sub(r"^\s*(?:\d+[.)]|[-*])\s*", "", line)
    return _shortened(re.split(r":\s+(?:send|write|emit)\b", line)[0].strip(" ."), 80)


def _first(pattern: str | re.Pattern[str], text: str, otherwise: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        return otherwise
    return match[match.lastindex or 0].rstrip(".,;:")


def _results(messages: list[ModelMessage]) -> dict[str, str]:
    """What the tools answered so far, by tool, in the order of the calls."""
    calls = [
        (part.tool_call_id, part.tool_name)
        for message in messages
        for part in message.parts
        if part.part_kind == "tool-call"
    ]
    answers = {
        part.tool_call_id: str(part.content)
        for message in messages
        for part in message.parts
        if part.part_kind in ("tool-return", "retry-prompt")
    }
    return {name: answers[call_id] for call_id, name in calls if call_id in answers}


def _contents(message: ModelMessage) -> Iterator[Any]:
    for part in message.parts:
        content = getattr(part, "content", None) or getattr(part, "args", None)
        if content:
            yield content


def _digest(text: str) -> str:
    """A text in one line, by counting: no meaning is claimed."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "empty"
    commas = lines[0].count(",")
    if commas and len(lines) > 1 and all(line.count(",") >= commas for line in lines[:5]):
        return f"a table of {len(lines) - 1} rows with the columns {_shortened(lines[0], 120)}"
    beginning = _shortened(" ".join(lines), 160)
    return beginning if len(lines) == 1 else f"{len(lines)} lines that begin with “{beginning}”"


def _shortened(text: str, chars: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]
