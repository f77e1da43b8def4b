"""Design without a model: rules, a small lexicon and retrieval, and it says so.

The same sentence gives the same design, as long as the store holds the same tools, connectors and templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from personas_nb.design import lexicon
from personas_nb.design.designer import DesignAnswer, DesignRequest, markdown_of
from personas_nb.design.proposing import (
    SAYS_SO,
    channels_of,
    connectors_of,
    flow_of,
    highlights_of,
    prompt_of,
    subscriptions_of,
    triggers_of,
)
from personas_nb.design.prose import name_of, summary_of
from personas_nb.design.reading import Reading, Step, read, step_of
from personas_nb.design.schedules import Schedule
from personas_nb.entities.design import DesignQuestion, DesignResult
from personas_nb.store.database import Store

__all__ = ["SAYS_SO", "OfflineDesigner"]

_OPTIONS = (
    "Read a file in the workspace and write a report about it",
    "Read my inbox and post a summary",
    "Check a web page and tell me when it has changed",
    "Answer what I ask and remember what matters to me",
)


class OfflineDesigner:
    """Designs by rules; costs nothing and reaches nothing outside the store."""

    provider = "rehearsal"
    model = "rehearsal"

    def __init__(self, store: Store) -> None:
        self._store = store

    async def design(self, request: DesignRequest) -> DesignAnswer:
        """A design, a refined design, or one question when the sentence says too little; never a second one."""
        if request.previous is not None:
            from personas_nb.design.wishes import refined  # it has many patterns to compile

            return DesignAnswer(refined(request.previous, request, self._store), cost_usd=0.0)
        was_asked = any(turn.question is not None for turn in request.turns)
        said = [request.instruction, *(turn.text for turn in request.turns if turn.kind == "answer")]
        if request.kind == "answer":
            said.append(request.text)
        reading = read(said, request, self._store)
        if reading.is_vague and not was_asked:
            return DesignAnswer(question=_question(reading, request), cost_usd=0.0)
        return DesignAnswer(_result(reading, request), cost_usd=0.0)


def _question(reading: Reading, request: DesignRequest) -> DesignQuestion:
    options = list(_OPTIONS)
    if request.context:
        name = request.context[0].name
        options[0] = f"Read the file {name} and write a report about it"
    about = f" about “{reading.task}”" if reading.task and len(reading.task) <= 60 else ""
    return DesignQuestion(
        question=f"What should the persona do{about}? Name what it reads and what comes of it.",
        options=tuple(options),
    )


def _result(reading: Reading, request: DesignRequest) -> DesignResult:
    steps = reading.steps or (step_of(reading.task or request.instruction, about_mail=False),)
    steps = _with_an_end(steps, reading)
    found = [step.clause for step in steps if step.clause]
    tools = tuple(tool for name in reading.tools for tool in request.tools if tool.name == name)
    prompt = prompt_of(reading, steps, tools, request)
    return DesignResult(
        name=request.name or reading.title or name_of(found, otherwise=_subject_of(reading.schedules)),
        structured_prompt=prompt,
        suggested_tools=tuple(tool.name for tool in tools),
        suggested_triggers=triggers_of(reading.schedules),
        suggested_connectors=connectors_of(reading.connectors, reading.services, request.connectors),
        full_prompt_markdown=markdown_of(prompt),
        summary=summary_of(found),
        design_highlights=highlights_of(reading, found),
        suggested_notification_channels=channels_of(reading.channels),
        suggested_event_subscriptions=subscriptions_of(reading.schedules),
        flow=flow_of(steps),
    )


def _with_an_end(steps: tuple[Step, ...], reading: Reading) -> tuple[Step, ...]:
    """The steps, with a message to the user when nothing else would come out."""
    comes_out = {"file_write", "gmail_send"} & set(reading.tools) or set(reading.messages) - {"agent_memory"}
    if comes_out or reading.channels:
        return steps
    text = "Send a user_message with the result, in a few lines."
    return (*steps, Step("", lexicon.Wanted(messages=("user_message",)), text))


def _subject_of(schedules: Sequence[Schedule]) -> list[str]:
    """What an event is about: the persona that sends it, or its type."""
    events = [one.config for one in schedules if one.trigger_type == "event"]
    names = [str(config.get("source_filter") or config["event_type"]) for config in events]
    return re.findall(r"[^\W_]+", names[0])[:2] if names else []
