"""How a model's last answer ended, the same for every engine."""

from __future__ import annotations

from personas_nb.engine.model_errors import name_of
from personas_nb.entities.run_event import RunEvent, WarningRaised
from personas_nb.errors import ModelError


def check_end(
    provider: str, finish_reason: str | None, *, has_text: bool, num_requests: int, max_output_tokens: int
) -> list[RunEvent]:
    """Warnings about the last answer; raises ``ModelError`` where it is none.

    ``finish_reason`` is stop, tool_call, length, content_filter, or None where the server named none: a stream that
    was cut politely looks like success, and only this gives it away. Nothing to add is a good end after tool
    calls, but no answer to the first request.
    """
    who = name_of(provider)
    if finish_reason is None:
        raise ModelError(
            f"{who} stopped before the end of its answer.",
            kind="connection",
            hint="What arrived is kept; run again.",
            retryable=True,
        )
    if finish_reason == "content_filter":
        raise ModelError(
            f"{who} withheld the rest of its answer because of its content policy.",
            kind="rejected",
            hint="What arrived is kept; change the instructions or the input.",
        )
    if num_requests == 1 and not has_text:
        raise ModelError(
            f"{who} answered with nothing.",
            kind="bad_answer",
            hint="Run again; if it stays so, choose another model.",
            retryable=True,
        )
    if finish_reason == "length":
        return [WarningRaised(text=f"The answer was cut at {max_output_tokens:,} output tokens.")]
    return []
