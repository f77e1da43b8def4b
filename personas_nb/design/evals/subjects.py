"""What is tested: a version of a persona, a design of a session, either with a model of its own choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from personas_nb.engine.models import ResolvedModel, resolve
from personas_nb.entities.design import DesignSessionRecord
from personas_nb.entities.eval import EvalSubject
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.entities.tool import ToolDefinition
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.evals import STAND_INS

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.personas.personas import Personas
    from personas_nb.personas.versions import Versions
    from personas_nb.tools.catalog import Tools


@dataclass(frozen=True)
class Plan:
    """What is to be tested, as whom, with which tools and which model."""

    subject: EvalSubject
    persona: Persona
    owner_id: str
    tools: tuple[ToolDefinition, ...]
    model: ResolvedModel


class Subjects:
    """Finds what a persona, a slug or a design session means for an eval."""

    def __init__(
        self, store: Store, *, personas: Personas, versions: Versions, tools: Tools, settings: Settings
    ) -> None:
        self.store, self.settings = store, settings
        self._personas, self._versions, self._tools = personas, versions, tools

    def owner(self, subject: Persona | DesignSession | str) -> tuple[str, Persona | None]:
        """Whose the cases are; and the persona, where there is one already."""
        record: DesignSessionRecord | None = getattr(subject, "record", None)
        if record is None:
            persona = self._personas.get(subject)  # type: ignore[arg-type]  # a session has a record
            return persona.id, persona
        persona_id = record.persona_id
        try:
            return record.id, self._personas.get(persona_id) if persona_id else None
        except NotFound:
            return record.id, None

    def plan(
        self,
        subject: Persona | DesignSession | str,
        version: int | str | None,
        provider: str | None,
        model: str | None,
        *,
        live_tools: bool,
    ) -> Plan:
        """What is tested; raises ``NotFound``, ``InvalidInput``, and ``ModelError`` where its model has no key."""
        owner_id, persona = self.owner(subject)
        record: DesignSessionRecord | None = getattr(subject, "record", None)
        if record is not None:
            if version is not None:
                raise InvalidInput("A design has no versions.", hint="Give the persona instead.")
            tested = self._design(record, subject)  # type: ignore[arg-type]
            persona = persona or self._stand_in(record)
        else:
            assert persona is not None
            tested = self._version(persona, version)
        profile = _with_model(tested.model_profile, provider, model)
        resolved = resolve(
            profile,
            settings=self.settings,
            provider=provider,
            reveal=lambda credential_id: self._personas.credentials.reveal(credential_id, "auth_token"),
        )
        asked = model or (provider if provider != "rehearsal" else None)
        tested = tested.changed(
            label=f"{tested.label} · {asked}" if asked else tested.label,
            model_profile=profile,
            provider=provider,
            live_tools=live_tools,
        )
        if tested.tools is None:
            tools = self._tools.assigned(persona)
        else:
            tools = [tool for tool in self._tools.list() if tool.name in tested.tools]
        return Plan(tested, persona, owner_id, tuple(tools), resolved)

    def _version(self, persona: Persona, version: int | str | None) -> EvalSubject:
        found: PromptVersion = self._versions.get(persona, persona.version if version is None else version)
        sessions = self.store.table("design_sessions", DesignSessionRecord)
        made_by = sessions.find("persona_id = ?", [persona.id], order_by="updated_at desc", limit=1)
        triggers = self.store.table("triggers", Trigger).find("persona_id = ?", [persona.id])
        return EvalSubject(
            label=f"version {found.version}",
            name=persona.name,
            description=persona.description,
            version=found.version,
            instruction=made_by[0].instruction if made_by else "",
            system_prompt=found.system_prompt,
            structured_prompt=found.structured_prompt,
            triggers=tuple(dict.fromkeys(trigger.trigger_type for trigger in triggers)),
            model_profile=persona.model_profile,
        )

    def _design(self, record: DesignSessionRecord, session: DesignSession) -> EvalSubject:
        result = session.result
        if result is None:
            raise InvalidInput("The session has no design yet.", hint="Answer its question, or try it again.")
        return EvalSubject(
            label=f"design {record.id[:8]}.{len(record.turns)}",
            name=result.name or record.name or "Persona",
            description=result.summary[:10_000],
            session_id=record.id,
            instruction=record.instruction,
            system_prompt=result.full_prompt_markdown,
            structured_prompt=result.structured_prompt,
            tools=result.suggested_tools,
            connectors=tuple(connector.name for connector in result.suggested_connectors),
            triggers=tuple(dict.fromkeys(trigger.trigger_type for trigger in result.suggested_triggers)),
            model_profile=result.suggested_model_profile,
        )

    def _stand_in(self, record: DesignSessionRecord) -> Persona:
        """The persona that a design which is none yet is tested as: archived, and in a project of its own."""
        slug = f"eval-{record.id[:8]}"
        rows = self.store.table("personas", Persona)
        with self.store.write():
            found = rows.find("slug = ? and project_id = ?", [slug, STAND_INS], limit=1)
            if found:
                return found[0]
            name = f"Design {record.id[:8]} under test"
            return self._personas.archive(
                self._personas.create(
                    name, slug=slug, project_id=STAND_INS, author="design", summary="for evals"
                )
            )


def _with_model(profile: ModelProfile | None, provider: str | None, model: str | None) -> ModelProfile | None:
    """The profile with another model; with another provider nothing of it is left, least of all its token."""
    if provider is not None and (profile is None or profile.provider not in (None, provider)):
        profile = None
    if model is None:
        return profile
    return (profile or ModelProfile(provider=None)).changed(
        model=model, provider=provider or (profile and profile.provider)
    )
