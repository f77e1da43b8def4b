"""The cases of personas and designs: written, made of runs, listed, removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.design.evals.cases import (
    CaseFiles,
    expectations,
    expected_of,
    files_of_run,
    name_of,
)
from personas_nb.design.evals.subjects import Subjects
from personas_nb.engine.executions import Executions, Input
from personas_nb.engine.prompt import as_text
from personas_nb.engine.workspaces import workspace_of
from personas_nb.entities.base import made
from personas_nb.entities.eval import EvalCase, EvalFile, Expectations
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, TooLarge, did_you_mean
from personas_nb.store.database import Store
from personas_nb.store.evals import EvalCaseTable
from personas_nb.store.executions import RunEventTable
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.tools.catalog import Tools


class Casebook:
    """The cases of a home; a subject is a persona (or its slug, name, id) or a design session."""

    def __init__(
        self,
        store: Store,
        *,
        subjects: Subjects,
        tools: Tools,
        executions: Executions,
        redactor: Callable[[], Redactor],
    ) -> None:
        self.store, self.settings = store, executions.settings
        self._subjects, self._tools, self._executions, self._redactor = subjects, tools, executions, redactor
        self._cases = EvalCaseTable(store)
        self._files = CaseFiles(store.home, limit_bytes=self.settings.input_limit_bytes)

    def add(
        self,
        subject: Persona | DesignSession | str,
        input: Input = None,  # noqa: A002 - as in studio.run
        *,
        name: str | None = None,
        files: Sequence[str | Path] = (),
        expect: Expectations | Mapping[str, Any] | None = None,
        from_run: str | None = None,
    ) -> EvalCase:
        """A case for a persona or a design; one of that name is replaced, and the same again changes nothing.

        ``expect`` are fields of ``Expectations``. ``from_run`` (an id, or ``latest``) takes input and files of a past
        run, and what it did as what is expected; what is given beside it wins. Files are copied into the home.
        Raises ``NotFound``, ``InvalidInput`` and ``TooLarge``; nothing is written then.
        """
        owner_id, persona = self._subjects.owner(subject)
        text, expected = self._checked_input(input), dict(_given(expect))
        kept = [self._files.keep(path) for path in ([files] if isinstance(files, str | Path) else files)]
        run_id = None
        if from_run is not None:
            run = self._executions.get(from_run)
            if persona is not None and run.persona_id != persona.id:
                raise InvalidInput(
                    f"The run {run.id[:8]} is one of {run.persona_name}.",
                    hint=f"Take a run of {persona.name}.",
                )
            if not run.is_finished:
                raise InvalidInput(f"The run {run.id[:8]} has not ended.", hint="Wait for it first.")
            run_id, text = run.id, text if input is not None else run.input_data
            sent = [row["kind"] for row in RunEventTable(self.store).of_types(run.id, "protocol")]
            expected = {**_usual(expected_of(run, sent)), **expected}
            if persona is not None and not kept:
                folder = workspace_of(self.store.home, persona)
                kept = [self._kept_of_run(path, size, run.id) for path, size in files_of_run(run, folder)]
        if len({file.name for file in kept}) < len(kept):
            raise InvalidInput("Two of the files have the same name.", hint="Rename one of them.")
        case = made(
            EvalCase,
            {
                "owner_id": owner_id,
                "name": name_of(self._redactor().redact(name), "")
                if name
                else self._free_name(owner_id, text),
                "input": text,
                "files": kept,
                "expect": expectations(expected, self._known_tools(persona)),
                "from_execution_id": run_id,
            },
        )
        return self._stored(case)

    def cases(self, subject: Persona | DesignSession | str) -> list[EvalCase]:
        """The cases of a persona or a design, by name."""
        owner_id, persona = self._subjects.owner(subject)
        return self._cases.of(owner_id, persona.id if persona else None)

    def case(self, subject: Persona | DesignSession | str, name: str) -> EvalCase:
        """One case by its name or a beginning of its id; raises ``NotFound``."""
        found = self.cases(subject)
        for case in found:
            if case.name == name or (len(name) >= 4 and case.id.startswith(name.lower())):
                return case
        names = [case.name for case in found]
        hint = did_you_mean(
            name, names, otherwise=f"There are {', '.join(names[:20])}." if names else "Add one first."
        )
        raise NotFound(f"There is no case “{name}”.", hint=hint)

    def remove(self, subject: Persona | DesignSession | str, name: str) -> None:
        """Forget a case; what came of it in past evals stays."""
        case = self.case(subject, name)
        self._cases.delete("id = ?", [case.id])
        used = {file.sha256 for other in self._cases.find("files <> '[]'") for file in other.files}
        self._files.forget(case.files, used)

    def _stored(self, case: EvalCase) -> EvalCase:
        with self.store.write():
            found = self._cases.find("owner_id = ? and name = ?", [case.owner_id, case.name], limit=1)
            if not found:
                return self._cases.insert(case)
            if found[0].digest == case.digest:
                return found[0]
            fields = {
                name: getattr(case, name)
                for name in ("input", "files", "expect", "from_execution_id", "updated_at")
            }
            self._cases.update(found[0].id, **fields)
            return found[0].changed(**fields)

    def _kept_of_run(self, path: Path, size: str, run_id: str) -> EvalFile:
        why = "is gone from the workspace"
        try:
            file = self._files.keep(path)
            if f"{file.size_bytes:,} bytes" == size:
                return file
            why = "was changed since"
        except TooLarge:
            raise
        except InvalidInput:
            pass
        raise NotFound(
            f"The file {path.name} of the run {run_id[:8]} {why}.", hint="Give it again with --file."
        )

    def _checked_input(self, given: Input) -> str | None:
        text = as_text(given)
        if text is None:
            return None
        size, limit = len(text.encode("utf-8", "replace")), self.settings.input_limit_bytes
        if size > limit:
            raise TooLarge(
                f"The input has {size / 2**20:,.1f} MiB; the limit is {limit / 2**20:g} MiB.",
                hint="Give a smaller part of it, or raise input_limit_bytes in the settings.",
            )
        return self._redactor().redact(text.encode("utf-8", "replace").decode())

    def _free_name(self, owner_id: str, text: str | None) -> str:
        """A name from the input; one without words gets a number, and the same one if it is the same input."""
        rows = self._cases.find("owner_id = ?", [owner_id])
        same = next((case.name for case in rows if case.input == text), None)
        name = name_of(text, "")
        if same is not None and (not name or same.startswith(name)):
            return same
        taken, number = {case.name for case in rows}, 1
        wanted = name or "case 1"
        while wanted in taken:
            number += 1
            wanted = f"{name or 'case'} {number}"
        return wanted

    def _known_tools(self, persona: Persona | None) -> list[str]:
        own = self._tools.assigned(persona) if persona is not None else []
        return list(dict.fromkeys(tool.name for tool in (*self._tools.list(), *own)))


def _given(expect: Expectations | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(expect, Expectations):
        return {name: getattr(expect, name) for name in expect.model_fields_set}
    if expect is not None and not isinstance(expect, Mapping):
        raise InvalidInput("What is expected is no mapping.", hint='Such as expect={"contains": "North"}.')
    return {name: value for name, value in (expect or {}).items() if value is not None}


def _usual(expected: dict[str, Any]) -> dict[str, Any]:
    """A cancelled run is no example of how it should end."""
    return {**expected, "status": expected["status"] if expected["status"] != "cancelled" else "completed"}
