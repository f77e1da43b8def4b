"""What is left to do for a persona: kept with it, and compared with what there is each time it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import get_args

from personas_nb.entities.credential import Credential
from personas_nb.entities.design import FeasibilityIssue, SuggestedChannel
from personas_nb.entities.persona import Persona
from personas_nb.entities.todo import Todo, TodoKind
from personas_nb.entities.trigger import Trigger
from personas_nb.store.database import Store

_KINDS: tuple[str, ...] = get_args(TodoKind)


class Todos:
    """The lists of all personas."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = store.table("persona_todos", Todo)

    def replace(
        self,
        persona: Persona,
        issues: Iterable[FeasibilityIssue],
        channels: Iterable[SuggestedChannel],
        session_id: str | None,
    ) -> None:
        """What is to do after a design was applied, in the place of what was before; the same again stays."""
        wanted = [_todo(persona, issue, session_id) for issue in dict.fromkeys(issues)]
        wanted += [
            _channel(persona, channel, session_id) for channel in channels if channel.required_connector
        ]
        old = {_key(row): row for row in self._rows.find("persona_id = ?", [persona.id])}
        new = {_key(todo): todo for todo in wanted}
        with self._store.write():
            for key in old.keys() - new.keys():
                self._rows.delete("id = ?", [old[key].id])
            for key, todo in new.items():
                if key not in old:
                    self._rows.insert(todo)
                elif old[key].session_id != session_id:
                    self._rows.update(old[key].id, session_id=session_id, remedy=todo.remedy)

    def still_open(self, persona: Persona, issues: Sequence[FeasibilityIssue]) -> list[Todo]:
        """What is not done; ``issues`` are what stands in the way of the persona's last design now.

        What was done and is undone (a credential that was removed) is to do again.
        """
        kept = self._rows.find("persona_id = ?", [persona.id])
        session_id = kept[0].session_id if kept else None
        by_key = {_key(todo): todo for todo in kept}
        found = []
        for issue in issues:
            todo = _todo(persona, issue, session_id)
            found.append(by_key.get(_key(todo), todo))
        for todo in kept:
            is_open = todo.kind == "trigger" and not self._has_own_trigger(todo)
            if is_open or (todo.kind == "channel" and self._is_ready(persona, todo)):
                found.append(todo)
        return found

    def _has_own_trigger(self, todo: Todo) -> bool:
        """Whether a person has given it a trigger since."""
        rows = self._store.table("triggers", Trigger)
        return (
            rows.count(
                "persona_id = ? and origin = 'user' and created_at > ?", [todo.persona_id, todo.created_at]
            )
            > 0
        )

    def _is_ready(self, persona: Persona, todo: Todo) -> bool:
        """Whether a channel could be used by now, and is not: its credential came after the design was applied."""
        if any(channel.get("type") == todo.subject for channel in persona.notification_channels):
            return False
        connector = todo.problem.partition("“")[2].partition("”")[0]
        return self._store.table("credentials", Credential).count("connector = ?", [connector]) > 0


def _todo(persona: Persona, issue: FeasibilityIssue, session_id: str | None) -> Todo:
    remedy = issue.remedy
    if not remedy.startswith("%") and (typed := re.search("`(%[^`]+)`", remedy)):
        remedy = typed[1]  # a list says what to type, not what else could be done
    if session_id is not None:  # another session may be the current one by the time it is typed
        remedy = remedy.replace("%persona refine ", f"%persona refine --session {session_id[:8]} ", 1)
    return Todo(
        persona_id=persona.id,
        session_id=session_id,
        kind=issue.kind if issue.kind in _KINDS else "other",
        subject=issue.subject,
        problem=issue.problem,
        remedy=remedy,
    )


def _channel(persona: Persona, channel: SuggestedChannel, session_id: str | None) -> Todo:
    option = f" --session {session_id[:8]}" if session_id else ""
    return Todo(
        persona_id=persona.id,
        session_id=session_id,
        kind="channel",
        subject=channel.type,
        problem=f"The credential for “{channel.required_connector}” is there; {channel.type} is not used yet.",
        remedy=f"%persona apply{option}",
    )


def _key(todo: Todo) -> tuple[str, str, str]:
    return todo.kind, todo.subject, todo.problem
