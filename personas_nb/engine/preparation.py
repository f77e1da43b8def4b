"""Everything that a run is made of, read before it begins."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personas_nb.engine.agents.job import Job, Resumption
from personas_nb.engine.approvals import decisions
from personas_nb.engine.healing import Healing
from personas_nb.engine.models import ResolvedModel, key_redactor, resolve
from personas_nb.engine.prompt import assemble
from personas_nb.engine.spending import Allowance
from personas_nb.engine.untrusted import Untrusted
from personas_nb.engine.workspaces import TrialFolder, Workspace
from personas_nb.entities.eval import EvalSubject
from personas_nb.entities.execution import CredentialUse, Execution
from personas_nb.entities.memory import Memory, Recall
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.metrics.budgets import Budgets
from personas_nb.personas.memories import Memories
from personas_nb.personas.personas import Personas
from personas_nb.settings import Settings
from personas_nb.store.evals import EvalRunTable
from personas_nb.tools.catalog import Tools
from personas_nb.tools.gateway import Gateway, Intents
from personas_nb.tools.run_tools import RunTools
from personas_nb.vault.access import access_of, known_secrets
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import Redactor


@dataclass(frozen=True)
class Rooms:
    """What a run needs of the rest of the house."""

    settings: Settings
    personas: Personas
    memories: Memories
    tools: Tools
    credentials: Credentials
    budgets: Budgets
    healing: Healing

    def model(self, persona: Persona, provider: str | None = None) -> ResolvedModel:
        """The model that a run of the persona uses; raises as ``resolve`` does."""
        return resolve(
            persona.model_profile,
            settings=self.settings,
            provider=provider,
            reveal=lambda credential_id: self.credentials.reveal(credential_id, "auth_token"),
        )

    def tested(self, execution: Execution) -> EvalSubject | None:
        """What a run tests; None for one that is no test. Raises ``NotFound`` where its eval is gone."""
        if execution.eval_run_id is None:
            return None
        found = EvalRunTable(self.personas.store).subject(execution.eval_run_id)
        if found is None:
            raise NotFound("The eval that the run belongs to is gone.", hint="Run the eval again.")
        return found

    def remembered(
        self, persona: Persona, given: str | None, *, rehearsal: bool
    ) -> tuple[list[Memory], Recall | None]:
        """The memories that go into a prompt with this input, and why; None where there are none to choose from."""
        if not persona.uses_memories:
            return [], None
        told, recall = self.memories.recall(
            persona.id, given, self.settings.memory_limit_chars, rehearsal=rehearsal
        )
        return told, recall if told or recall.left_out else None


@dataclass(frozen=True)
class Prepared:
    """One run, ready to go; ``workspace`` is this run's until it is released."""

    execution: Execution
    persona: Persona
    model: ResolvedModel
    job: Job
    redactor: Redactor
    untrusted: Untrusted
    workspace: Workspace | TrialFolder
    tools: RunTools
    timeout_ms: int
    warnings: tuple[str, ...]
    credentials: tuple[CredentialUse, ...]
    before: Before | None = None
    subject: EvalSubject | None = None
    recall: str | None = None
    """What it is told of its memories, and why, as JSON."""

    @property
    def version(self) -> int | None:
        """The version of the prompt that runs; None for a design that is none yet."""
        return self.persona.version if self.subject is None else self.subject.version

    def close(self) -> None:
        """Let go of what was taken for the run."""
        self.job.gateway.close()
        self.tools.close()
        self.workspace.release()


@dataclass(frozen=True)
class Before:
    """What is stored of a run that goes on after a decision; ``seq`` numbers its last event."""

    conversation: str
    approvals: tuple[Review, ...]
    seq: int
    called: tuple[str, ...]
    messages: tuple[tuple[str, Any], ...]

    def resumption(self, execution: Execution, persona: Persona) -> Resumption:
        """What its agent goes on from."""
        text = execution.output_data or ""
        return Resumption(
            self.conversation,
            decisions(self.approvals, persona.version),
            usage_of(execution),
            ends_line=not text or text.endswith("\n"),
        )


def usage_of(execution: Execution) -> UsageReported:
    """What a run had used when it was stored."""
    return UsageReported(
        input_tokens=execution.input_tokens,
        output_tokens=execution.output_tokens,
        cache_read_tokens=execution.cache_read_tokens,
        cache_write_tokens=execution.cache_write_tokens,
        cost_usd=execution.cost_usd,
        num_turns=execution.num_turns,
        model=execution.model_used,
        session_id=execution.claude_session_id,
    )


def prepare(
    rooms: Rooms,
    home: Path,
    execution: Execution,
    persona: Persona,
    *,
    intents: Intents | None = None,
    before: Before | None = None,
) -> Prepared:
    """Read model, tools and memories of a run, and take its workspace; blocks.

    ``before`` is what there is of one that goes on after a decision. Raises ``NotFound``, ``InvalidInput``,
    ``VaultError`` and ``ModelError``.
    """
    subject = rooms.tested(execution)
    if subject is not None:
        persona = subject.applied_to(persona)
    model = rooms.model(persona, execution.requested_provider)
    _check_same_engine(execution, model)
    tools = rooms.tools.of_run(
        persona,
        execution.id,
        rehearsal=_rehearses_tools(model, subject),
        part=execution.pauses,
        names=subject.tools if subject else None,
    )
    try:
        return _prepared(rooms, home, execution, persona, model, tools, intents, before, subject)
    except BaseException:
        tools.close()
        raise


def _rehearses_tools(model: ResolvedModel, subject: EvalSubject | None) -> bool:
    """Whether calls outside are described only: in a rehearsal, and in a test unless it was asked for otherwise."""
    return model.is_rehearsal or (subject is not None and not subject.live_tools)


def _check_same_engine(execution: Execution, model: ResolvedModel) -> None:
    """What one engine began no other can take up."""
    if not execution.pauses or execution.engine in (None, model.engine):
        return
    raise InvalidInput(
        f"The run waited on the engine {execution.engine}, and its persona uses {model.engine} now.",
        hint="Run it again, or set the model_profile back before you approve.",
    )


def _prepared(
    rooms: Rooms,
    home: Path,
    execution: Execution,
    persona: Persona,
    model: ResolvedModel,
    tools: RunTools,
    intents: Intents | None,
    before: Before | None,
    subject: EvalSubject | None = None,
) -> Prepared:
    settings = rooms.settings
    stored, problems = known_secrets(rooms.credentials)
    redactor = key_redactor(settings, model=model, more={**stored, **tools.secrets})
    access = access_of(rooms.credentials, tools.definitions, redactor)
    memories, recall = rooms.remembered(persona, execution.input_data, rehearsal=model.is_rehearsal)
    given = redactor.redact(_with_files(execution) or "")
    workspace = TrialFolder(home, execution.id) if subject else Workspace(home, persona, execution.files)
    gateway = Gateway(
        tools.definitions,
        workspace=workspace.folder,
        settings=settings,
        redactor=redactor,
        rehearsal=_rehearses_tools(model, subject),
        implementations=tools.implementations,
        access=access,
        held=rooms.tools.needing_approval(persona),
        intents=intents,
    )
    # Only what a persona with `bypass` starts in the CLI reads variables.
    is_bypassing = persona.permissions == "bypass" and model.engine == "claude"
    variables = access.environment() if is_bypassing else {}
    prompt = assemble(
        persona,
        tools=gateway.definitions,
        credentials=[*variables, *access.hints(gateway.definitions)],
        memories=memories,
        input=given or None,
        boundary=f"data-{secrets.token_hex(8)}",
    )
    max_turns = _first(execution.max_turns, persona.max_turns, settings.max_turns)
    max_budget_usd = _first(execution.max_budget_usd, persona.max_budget_usd, settings.max_budget_usd)
    job = Job(
        execution_id=execution.id,
        persona=persona,
        prompt=redactor.redact(prompt),
        gateway=gateway,
        model=model,
        settings=settings,
        redactor=redactor,
        input=execution.input_data,
        allowance=Allowance(
            model,
            max_budget_usd=max_budget_usd,
            max_turns=max_turns,
            max_tokens=settings.unknown_price_token_limit,
            before=usage_of(execution) if before else None,
        ),
        max_turns=max_turns,
        max_budget_usd=max_budget_usd,
        max_tokens=settings.unknown_price_token_limit,
        secrets=variables,
        resumption=before.resumption(execution, persona) if before else None,
    )
    timeout_ms: int = _first(execution.timeout_ms, persona.timeout_ms, settings.timeout_ms)
    earlier = [step.output + (step.error or "") for step in execution.tool_steps]
    return Prepared(
        execution,
        persona,
        model,
        job,
        redactor,
        _untrusted(settings, redactor, [given, *tools.texts, *earlier], memories),
        workspace,
        tools,
        timeout_ms=max(1, timeout_ms - (execution.duration_ms or 0)),  # it did not run while it waited
        before=before,
        warnings=(
            *_tests(subject),
            *_doubts(persona, model, workspace),
            *map(redactor.redact, (*tools.notes, *problems)),
        ),
        credentials=access.uses(),
        subject=subject,
        recall=json.dumps(redactor.redact_value(recall.model_dump()), ensure_ascii=False) if recall else None,
    )


def _tests(subject: EvalSubject | None) -> tuple[str, ...]:
    """What is different about a run that is a test."""
    if subject is None:
        return ()
    outside = "" if subject.live_tools else "; calls outside were only described"
    return (f"A test of {subject.label}: it told, started and remembered nothing{outside}.",)


def _untrusted(
    settings: Settings, redactor: Redactor, given: Sequence[str], memories: Sequence[Memory]
) -> Untrusted:
    untrusted = Untrusted(max_object_bytes=settings.protocol_object_limit_bytes)
    for text in [*given, *(f"{memory.title}\n{memory.content}" for memory in memories)]:
        untrusted.add(redactor.redact(text))
    return untrusted


def _with_files(execution: Execution) -> str | None:
    """The input, and the files that were given to the run."""
    if not execution.files:
        return execution.input_data
    listing = "Files for this run, in your workspace:\n" + "\n".join(f"- {file}" for file in execution.files)
    return f"{execution.input_data}\n\n{listing}" if execution.input_data else listing


def _doubts(persona: Persona, model: ResolvedModel, workspace: Workspace | TrialFolder) -> tuple[str, ...]:
    doubts = list(model.notes)
    if isinstance(persona.structured_prompt, str):
        doubts.append("The structured prompt cannot be read, so the system prompt was used instead.")
    if persona.permissions == "bypass" and model.engine != "claude":
        doubts.append(
            "Its permissions are bypass, which only the engine claude knows; here it has the assigned tools."
        )
    if workspace.note:
        doubts.append(workspace.note)
    return tuple(doubts)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
