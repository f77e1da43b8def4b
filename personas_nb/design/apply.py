"""A design becomes a persona: prompt, tools, triggers and subscriptions, in one transaction.

- What an earlier design brought and this one does not want is taken away; what a person added by hand stays.
- What cannot be yet (a connector without a credential, a trigger that never fires) becomes a list of what is to do.
- Applying the same design again changes nothing.
- A trigger is planned when it is made, so that whoever fires triggers does so at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from personas_nb.design.feasibility import assess, cannot_start
from personas_nb.design.merge import trigger_key
from personas_nb.design.settings_of import approve_first, prompt_of, settings_fields
from personas_nb.design.todo import Todos
from personas_nb.entities.base import made, now
from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.design import (
    DesignResult,
    Feasibility,
    FeasibilityIssue,
    SuggestedSettings,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.event import Subscription
from personas_nb.entities.mcp_server import McpServer
from personas_nb.entities.persona import Persona
from personas_nb.entities.todo import Todo
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import DesignError, InvalidInput
from personas_nb.store.database import Store
from personas_nb.triggers.hearing import GONE, skip_pending
from personas_nb.triggers.matching import type_key
from personas_nb.triggers.planning import planned
from personas_nb.triggers.webhooks import forget_secret, plain_config

if TYPE_CHECKING:
    from personas_nb.personas.personas import Personas
    from personas_nb.tools.catalog import Tools

TriggerOrigin = Literal["design", "import"]


@dataclass(frozen=True)
class Applied:
    """The persona as it is now, and what was changed, in words; no words: it was so already."""

    persona: Persona
    changes: tuple[str, ...] = ()
    todo: tuple[Todo, ...] = ()


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
        self._todos = Todos(store)

    def assess(self, result: DesignResult, persona: Persona | None = None) -> Feasibility:
        """Whether the design can work with what the store, and the persona where there is one, have now."""
        servers = self._store.table("mcp_servers", McpServer)
        return assess(
            result,
            tools=self._tools.list(),
            connectors=self._store.table("connectors", Connector).find(),
            credentials=self._credentials().keys(),
            servers=[row.name for row in servers.find("persona_id = ?", [persona.id])] if persona else (),
            timezone=self._timezone(),
        )

    def todo(self, persona: Persona) -> list[Todo]:
        """What could not be applied of the persona's designs, and is not so yet."""
        persona = self._personas.get(persona)  # whoever holds one holds it as it was
        design = last_design(persona)
        if design is None:
            return []
        assigned = {tool.name for tool in self._tools.assigned(persona.id)}
        tools = tuple(
            name for name in design.suggested_tools if name in assigned
        )  # what was taken away lacks nothing
        issues = self.assess(design.changed(suggested_tools=tools), persona).issues
        return self._todos.still_open(persona, [issue for issue in issues if issue.kind != "trigger"])

    def present(self, persona: Persona) -> DesignResult:
        """A persona as the design that it is now: its prompt, tools, triggers and subscriptions."""
        design = last_design(persona)
        designed = {trigger_key(one) for one in design.suggested_triggers} if design else set()
        triggers = [
            SuggestedTrigger(
                trigger_type=row.trigger_type, config=plain_config(row.config), description=row.description
            )
            for row in self._triggers.find("persona_id = ?", [persona.id])
        ]
        by_hand = {
            trigger_key(row)
            for row in self._triggers.find("persona_id = ? and origin = 'user'", [persona.id])
        }
        return DesignResult(
            name=persona.name,
            structured_prompt=persona.prompt,
            summary=persona.description,
            suggested_tools=tuple(
                tool.name for tool in self._tools.assigned(persona.id) if "." not in tool.name
            ),
            suggested_triggers=tuple(
                one for one in triggers if trigger_key(one) in designed or trigger_key(one) not in by_hand
            ),
            suggested_event_subscriptions=tuple(
                SuggestedSubscription(event_type=row.event_type, source_filter=row.source_filter)
                for row in self._subscriptions.find("persona_id = ?", [persona.id])
            ),
            suggested_model_profile=persona.model_profile,
        )

    def normalised(self, result: DesignResult) -> DesignResult:
        """The design with a zone in every schedule, so that it keeps its time on another machine."""
        return _normalised(result, self._timezone())

    def apply(
        self,
        result: DesignResult,
        *,
        name: str,
        existing: Persona | None = None,
        rename: bool = False,
        context: tuple[str, ...] = (),
        designed: DesignResult | None = None,
        session_id: str | None = None,
        origin: TriggerOrigin = "design",
    ) -> Applied:
        """Make the design a persona of that name, or the next revision of ``existing``.

        ``rename`` gives ``existing`` the new name. ``designed`` is the design as it was meant, where a person keeps
        parts of the persona as they are. Triggers of an import (``origin``) are off until a person enables them.
        Raises ``DesignError``, with nothing written, when the design is blocked.
        """
        result = _normalised(result, self._timezone())
        with self._store.write():
            feasibility = self.assess(result, existing)
            _refuse_blocked(feasibility)
            wanted, issues = self._startable(result)
            final = name if existing is None or rename else existing.name
            meant = _normalised(designed or result, self._timezone())
            kept = tuple(one for one in meant.suggested_triggers if not cannot_start(one, self._timezone()))
            meant = meant.changed(name=final, suggested_triggers=kept, feasibility=feasibility)
            result = result.changed(name=final, suggested_triggers=wanted)
            fields = self._fields(result, existing, context, meant)
            if origin == "import":
                fields["permissions"] = "assigned"  # what a stranger wrote may not do what it likes
            before = last_design(existing)
            changes: list[str] = []
            if existing is None:
                persona = self._personas.create(author="design", summary="designed", **fields)
                changes.append(f"Persona “{persona.name}” was created.")
            else:
                persona, changed = self._updated(existing, fields)
                changes += changed
            changes += self._apply_tools(persona, result, before)
            changes += approve_first(self._tools, persona, result, before)
            changes += self._apply_triggers(persona, result, origin)
            changes += self._apply_subscriptions(persona, result, before, origin)
            persona = self._personas.get(persona.id)
            left = [*self.assess(result, persona).issues, *issues]
            self._todos.replace(persona, left, result.suggested_notification_channels, session_id)
            return Applied(persona, tuple(changes), tuple(self.todo(persona)))

    def _startable(self, result: DesignResult) -> tuple[tuple[SuggestedTrigger, ...], list[FeasibilityIssue]]:
        """The triggers that would start something, and why the others would not."""
        found = [(one, cannot_start(one, self._timezone())) for one in result.suggested_triggers]
        return tuple(one for one, issue in found if issue is None), [issue for _, issue in found if issue]

    def _fields(
        self, result: DesignResult, existing: Persona | None, context: tuple[str, ...], meant: DesignResult
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": result.name,
            "description": result.summary[:10_000],
            "system_prompt": result.full_prompt_markdown,
            "structured_prompt": prompt_of(result),
            "notification_channels": self._channels(result, existing),
            "last_design_result": meant.model_dump(mode="json"),
        }
        before = last_design(existing)
        fields |= settings_fields(result, existing, before)
        own = existing.model_profile if existing else None
        if result.suggested_model_profile is not None and (
            own is None or (before is not None and own == before.suggested_model_profile)
        ):
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

    def _apply_triggers(self, persona: Persona, result: DesignResult, origin: TriggerOrigin) -> list[str]:
        rows = self._triggers.find("persona_id = ?", [persona.id])
        wanted = {_key(trigger): trigger for trigger in result.suggested_triggers}
        by_design = {_key(row): row for row in rows if row.origin != "user"}
        changes = []
        for row in rows:
            if row.origin != "user" and (_key(row) not in wanted or by_design[_key(row)].id != row.id):
                self._triggers.delete("id = ?", [row.id])
                forget_secret(self._personas.credentials, row)
                changes.append(f"Trigger “{row.description or row.trigger_type}” was removed.")
        present = {_key(row) for row in rows}
        for key, trigger in wanted.items():
            if key in present:
                continue
            row = Trigger(
                persona_id=persona.id,
                trigger_type=trigger.trigger_type,
                config=plain_config(trigger.config),
                description=trigger.description,
                origin=origin,
                enabled=origin != "import",
            )
            self._triggers.insert(planned(row, row.created_at, self._timezone()))
            off = ", off until you enable it" if origin == "import" else ""
            changes.append(f"Trigger “{trigger.description or trigger.trigger_type}” was added{off}.")
        return changes

    def _apply_subscriptions(
        self, persona: Persona, result: DesignResult, before: DesignResult | None, origin: TriggerOrigin
    ) -> list[str]:
        rows = self._subscriptions.find("persona_id = ?", [persona.id])
        present = {(type_key(row.event_type), row.source_filter): row for row in rows}
        wanted = {
            (type_key(one.event_type), one.source_filter): one.event_type
            for one in result.suggested_event_subscriptions
        }
        from_design = {
            (type_key(one.event_type), one.source_filter)
            for one in (before.suggested_event_subscriptions if before else ())
        }
        changes = []
        for key in (from_design - wanted.keys()) & present.keys():
            skip_pending(self._store, present[key].id, GONE, now())
            self._subscriptions.delete("id = ?", [present[key].id])
            changes.append(f"The persona no longer listens to {present[key].event_type}.")
        for key, event_type in wanted.items():
            if key not in present:
                self._subscriptions.insert(
                    Subscription(
                        persona_id=persona.id,
                        event_type=event_type,
                        source_filter=key[1],
                        enabled=origin != "import",
                    )
                )
                off = ", off until you enable it" if origin == "import" else ""
                changes.append(f"The persona listens to {event_type}{off}.")
        return changes


_FIELD_WORDS = {
    "name": "name",
    "description": "description",
    "notification_channels": "notification channels",
    "model_profile": "model",
    "design_context": "context files",
    "archived_at": "archived no more",
    "permissions": "permissions",
    **{name: name.replace("_", " ") for name in SuggestedSettings.model_fields if name != "approve_first"},
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


def last_design(persona: Persona | None) -> DesignResult | None:
    """The design that the persona was last made of; None when a person made it, or it cannot be read."""
    if persona is None or not persona.last_design_result:
        return None
    try:
        return made(DesignResult, persona.last_design_result)
    except InvalidInput:
        return None


def _without_feasibility(dumped: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (dumped or {}).items() if name != "feasibility"}


def _key(trigger: Trigger | SuggestedTrigger) -> str:
    return trigger_key(trigger)
