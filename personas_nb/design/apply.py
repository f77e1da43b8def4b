"""A design becomes a persona: prompt, tools, triggers and subscriptions, in one transaction.

- What an earlier design brought and this one does not want is taken away; what a person added by hand stays.
- Applying the same design again changes nothing.
- ``next_trigger_at`` of a trigger is left to the loop that fires triggers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personas_nb.design.feasibility import assess
from personas_nb.entities.base import made
from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.design import DesignResult, Feasibility, FeasibilityIssue, SuggestedTrigger
from personas_nb.entities.event import Subscription
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import DesignError, InvalidInput
from personas_nb.store.database import Store

if TYPE_CHECKING:
    from personas_nb.personas.personas import Personas
    from personas_nb.tools.catalog import Tools


@dataclass(frozen=True)
class Applied:
    """The persona as it is now, and what was changed, in words; no words: it was so already."""

    persona: Persona
    changes: tuple[str, ...] = ()


class Applier:
    """Applies designs to one store."""

    def __init__(
        self, store: Store, *, personas: Personas, tools: Tools, timezone: Callable[[], str]
    ) -> None:
        self._store = store
        self._personas = personas
        self._tools = tools
        self._timezone = timezone
        self._triggers = store.table("triggers", Trigger)
        self._subscriptions = store.table("subscriptions", Subscription)

    def assess(self, result: DesignResult) -> Feasibility:
        """Whether the design can work with what the store has now."""
        return assess(
            result,
            tools=self._tools.list(),
            connectors=self._store.table("connectors", Connector).find(),
            credentials=self._credentials().keys(),
            timezone=self._timezone(),
        )

    def todo(self, persona: Persona) -> list[FeasibilityIssue]:
        """What of the persona's last design could not be applied, and is still missing."""
        design = _last_design(persona)
        return list(self.assess(design).issues) if design else []

    def apply(
        self,
        result: DesignResult,
        *,
        name: str,
        existing: Persona | None = None,
        rename: bool = False,
        context: tuple[str, ...] = (),
    ) -> Applied:
        """Make the design a persona of that name, or the next revision of ``existing``.

        ``rename`` gives ``existing`` the new name. Raises ``DesignError``, with nothing written, when the
        design is blocked.
        """
        result = _normalised(result, self._timezone())
        with self._store.write():
            feasibility = self.assess(result)
            _refuse_blocked(feasibility)
            result = result.changed(name=name if existing is None or rename else existing.name)
            fields = self._fields(result.changed(feasibility=feasibility), existing, context)
            before = _last_design(existing)
            changes: list[str] = []
            if existing is None:
                persona = self._personas.create(author="design", summary="designed", **fields)
                changes.append(f"Persona “{persona.name}” was created.")
            else:
                persona, changed = self._updated(existing, fields)
                changes += changed
            changes += self._apply_tools(persona, result, before)
            changes += self._apply_triggers(persona, result)
            changes += self._apply_subscriptions(persona, result, before)
            return Applied(self._personas.get(persona.id), tuple(changes))

    def _fields(
        self, result: DesignResult, existing: Persona | None, context: tuple[str, ...]
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": result.name,
            "description": result.summary[:10_000],
            "system_prompt": result.full_prompt_markdown,
            "structured_prompt": result.structured_prompt,
            "notification_channels": self._channels(result, existing),
            "last_design_result": result.model_dump(mode="json"),
        }
        if result.suggested_model_profile is not None:
            fields["model_profile"] = result.suggested_model_profile
        if context:
            fields["design_context"] = context
        return fields

    def _updated(self, existing: Persona, fields: dict[str, Any]) -> tuple[Persona, list[str]]:
        same = _without_feasibility(fields["last_design_result"])
        if same == _without_feasibility(existing.last_design_result):
            del fields["last_design_result"]  # a credential that came or went is no other design
        if existing.archived_at is not None:
            fields["enabled"] = True  # brings it back
        persona = self._personas.update(existing.id, author="design", **fields)
        words = [
            what for name, what in _FIELD_WORDS.items() if getattr(persona, name) != getattr(existing, name)
        ]
        if persona.version != existing.version:
            words.append(f"prompt, version {persona.version}")
        return persona, [f"Changed: {', '.join(words)}."] if words else []

    def _channels(self, result: DesignResult, existing: Persona | None) -> tuple[dict[str, Any], ...]:
        """The persona's channels, and those of the design whose credential is there."""
        credentials = self._credentials()
        channels = list(existing.notification_channels) if existing else []
        for suggested in result.suggested_notification_channels:
            credential_id = credentials.get(suggested.required_connector or "")
            if credential_id and all(channel.get("type") != suggested.type for channel in channels):
                channels.append(
                    {"type": suggested.type, "enabled": True, "credential_id": credential_id, "config": {}}
                )
        return tuple(channels)

    def _credentials(self) -> dict[str, str]:
        """Credential id by connector; the oldest one where there are several."""
        rows = self._store.table("credentials", Credential).find(order_by="created_at desc")
        return {row.connector: row.id for row in rows}

    def _apply_tools(self, persona: Persona, result: DesignResult, before: DesignResult | None) -> list[str]:
        assigned = {tool.name for tool in self._tools.assigned(persona.id)}
        new = [name for name in dict.fromkeys(result.suggested_tools) if name not in assigned]
        from_design = set(before.suggested_tools) if before else set()
        old = sorted((from_design - set(result.suggested_tools)) & assigned)
        if new:
            self._tools.assign(persona.id, *new)
        if old:
            self._tools.unassign(persona.id, *old)
        return [f"Tool {name} was assigned." for name in new] + [
            f"Tool {name} was taken away." for name in old
        ]

    def _apply_triggers(self, persona: Persona, result: DesignResult) -> list[str]:
        rows = self._triggers.find("persona_id = ?", [persona.id])
        wanted = {_key(trigger): trigger for trigger in result.suggested_triggers}
        by_design = {_key(row): row for row in rows if row.origin == "design"}
        changes = []
        for row in rows:
            if row.origin == "design" and (_key(row) not in wanted or by_design[_key(row)].id != row.id):
                self._triggers.delete("id = ?", [row.id])
                changes.append(f"Trigger “{row.description or row.trigger_type}” was removed.")
        present = {_key(row) for row in rows}
        for key, trigger in wanted.items():
            if key in present:
                continue
            self._triggers.insert(
                Trigger(
                    persona_id=persona.id,
                    trigger_type=trigger.trigger_type,
                    config=trigger.config,
                    description=trigger.description,
                    origin="design",
                )
            )
            changes.append(f"Trigger “{trigger.description or trigger.trigger_type}” was added.")
        return changes

    def _apply_subscriptions(
        self, persona: Persona, result: DesignResult, before: DesignResult | None
    ) -> list[str]:
        rows = self._subscriptions.find("persona_id = ?", [persona.id])
        present = {(_event(row.event_type), row.source_filter): row for row in rows}
        wanted = {
            (_event(one.event_type), one.source_filter): one.event_type
            for one in result.suggested_event_subscriptions
        }
        from_design = {
            (_event(one.event_type), one.source_filter)
            for one in (before.suggested_event_subscriptions if before else ())
        }
        changes = []
        for key in (from_design - wanted.keys()) & present.keys():
            self._subscriptions.delete("id = ?", [present[key].id])
            changes.append(f"The persona no longer listens to {present[key].event_type}.")
        for key, event_type in wanted.items():
            if key not in present:
                self._subscriptions.insert(
                    Subscription(persona_id=persona.id, event_type=event_type, source_filter=key[1])
                )
                changes.append(f"The persona listens to {event_type}.")
        return changes


_FIELD_WORDS = {
    "name": "name",
    "description": "description",
    "notification_channels": "notification channels",
    "model_profile": "model",
    "design_context": "context files",
    "archived_at": "archived no more",
}


def _refuse_blocked(feasibility: Feasibility) -> None:
    if feasibility.overall != "blocked":
        return
    blocking = [issue for issue in feasibility.issues if issue.blocking]
    raise DesignError(
        f"The design cannot be applied: {' '.join(issue.problem for issue in blocking)}",
        hint=f"Type {blocking[0].remedy}.",
    )


def _normalised(result: DesignResult, timezone: str) -> DesignResult:
    """The design with a zone in every schedule, so that it keeps its time on another machine."""
    triggers = tuple(
        trigger.changed(config={**trigger.config, "timezone": timezone})
        if trigger.trigger_type == "schedule" and not trigger.config.get("timezone")
        else trigger
        for trigger in result.suggested_triggers
    )
    return result.changed(suggested_triggers=triggers)


def _last_design(persona: Persona | None) -> DesignResult | None:
    """The design that the persona was last made of; None when a person made it, or it cannot be read."""
    if persona is None or not persona.last_design_result:
        return None
    try:
        return made(DesignResult, persona.last_design_result)
    except InvalidInput:
        return None


def _without_feasibility(dumped: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (dumped or {}).items() if name != "feasibility"}


def _key(trigger: Trigger | SuggestedTrigger) -> tuple[str, str]:
    return trigger.trigger_type, json.dumps(trigger.config, sort_keys=True)


def _event(event_type: str) -> str:
    """Event types compare in lower case, with “-”, “_” and “.” equal."""
    return event_type.lower().replace("-", "_").replace(".", "_")
