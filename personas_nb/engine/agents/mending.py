"""What pydantic-ai took from a model's answer, made fit to be acted upon and sent back. Import it lazily."""

from __future__ import annotations

from copy import copy

from pydantic_ai.messages import ModelResponse, ModelResponsePart, ToolCallPart

from personas_nb.engine.surrogates import mended


def mend(response: ModelResponse) -> ModelResponse:
    """Mend an answer in place, which is returned: no halves of surrogate pairs, no id twice, no null as arguments."""
    taken: set[str] = set()
    response.parts = [_part(part, taken) for part in response.parts]
    return response


def _part(part: ModelResponsePart, taken: set[str]) -> ModelResponsePart:
    changes = {name: whole for name, value in vars(part).items() if (whole := mended(value)) != value}
    if isinstance(part, ToolCallPart):
        call_id = changes.get("tool_call_id", part.tool_call_id)
        if (
            call_id in taken
        ):  # some servers call it what the function is called; pydantic-ai would end the run
            call_id = changes["tool_call_id"] = _free(call_id, taken)
        taken.add(call_id)
        if isinstance(part.args, str) and part.args.strip() == "null":
            changes["args"] = "{}"
    if changes:
        part = copy(part)
        vars(part).update(changes)
    return part


def _free(call_id: str, taken: set[str]) -> str:
    count = 2
    while f"{call_id}-{count}" in taken:
        count += 1
    return f"{call_id}-{count}"
