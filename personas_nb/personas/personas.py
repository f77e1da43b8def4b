"""Personas: made, changed, archived, found.

- Every change is one transaction that reads the row, validates the whole persona and writes only the columns that
  differ; two processes that change different fields do not undo each other.
- A change of the prompt writes its version in the same transaction.
- The slug is made from the first name and stays, so that a renamed persona is still found by what notebooks say.
"""

from __future__ import annotations

import builtins
import re
import unicodedata
from typing import Any, Literal

from personas_nb.entities.base import Entity, made, now
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona, slug_of
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.errors import Conflict, InvalidInput, NotFound, did_you_mean
from personas_nb.personas import channels
from personas_nb.personas.fields import check_names, revised
from personas_nb.personas.groups import Groups
from personas_nb.personas.prompt_diff import compare
from personas_nb.personas.reference import by_id, only
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials

ID_CHARS = 36
Author = Literal["user", "design", "rollback", "healing"]

# What belongs to a persona and does not go with its row by itself.
_EVALS_OF = "owner_id = ?1 or owner_id in (select id from design_sessions where persona_id = ?1)"
_NOT_CASCADED = (
    ("eval_cases", _EVALS_OF),
    ("design_patterns", _EVALS_OF),
    (
        "personas",  # those that its designs were tested as
        "project_id = 'evals' and slug in "
        "(select 'eval-' || substr(id, 1, 8) from design_sessions where persona_id = ?)",
    ),
    ("design_sessions", "persona_id = ?"),
    ("intents", "execution_id in (select id from executions where persona_id = ?)"),
    ("event_deliveries", "persona_id = ?"),
    ("events", "target_persona_id = ?"),
    ("events", "execution_id in (select id from executions where persona_id = ?)"),
)


class Personas:
    """The personas of one store.

    Everywhere a persona is asked for, its slug, its name (in any case), its id, a unique beginning of the id (four
    characters or more) or the ``Persona`` itself will do.
    """

    def __init__(self, store: Store, credentials: Credentials) -> None:
        self.store = store
        self.credentials = credentials
        self.groups = Groups(store)
        self._rows = store.table("personas", Persona)
        self._versions = store.table("prompt_versions", PromptVersion)

    def create(
        self, name: str, *, author: Author = "user", summary: str | None = None, **fields: Any
    ) -> Persona:
        """A persona with that name and these fields.

        Where its slug or name exists already, that persona gets the fields given (a new version if its prompt
        changes) and keeps the rest and its spelling; an archived one comes back; the same again changes nothing.
        The fields are those of ``Persona``, ``group`` (a group's name), and each prompt section by its own name.
        ``model_profile={"auth_token": …}`` goes to the vault, and so do addresses and tokens of
        ``notification_channels=[{"type": "apprise", "url": …}]``. Raises ``InvalidInput``.

            personas.create(name="Invoice watcher", system_prompt="You watch invoices.", max_turns=10)
        """
        check_names(fields, is_new=True)
        made(Persona, {"name": name})
        self._unlock_for(fields)
        with self.store.write():
            found = self._namesake(name, fields)
            if found is not None:
                given = {key: value for key, value in fields.items() if key not in ("slug", "project_id")}
                if found.archived_at is not None:
                    given = {"enabled": True, **given}
                return self._change(found, given, author, summary, restore=True)
            return self._add(name, fields, author, summary)

    def update(
        self, ref: str | Persona, *, author: Author = "user", summary: str | None = None, **fields: Any
    ) -> Persona:
        """Change these fields and no other; the same values again change nothing.

        ``structured_prompt={…}`` replaces all its sections; ``identity=…`` (or, from a mapping,
        ``"structured_prompt.identity"``) one of them; ``"model_profile.model"`` one choice of the model profile.
        Without ``summary`` a new prompt version says what changed. Renaming keeps the slug. A model profile with
        another provider or ``base_url`` loses the token that was meant for the former one. Raises ``NotFound``,
        ``InvalidInput``, and ``Conflict`` for a name that another persona has.
        """
        check_names(fields, is_new=False)
        self._unlock_for(fields)
        with self.store.write():
            return self._change(self.get(ref), fields, author, summary)

    def get(self, ref: str | Persona) -> Persona:
        """The persona, archived ones included. Raises ``NotFound``, and ``InvalidInput`` where several fit."""
        found = self._rows.get(ref.id) if isinstance(ref, Persona) else self._find(str(ref).strip())
        if found is None:
            shown = ref.name if isinstance(ref, Persona) else str(ref)
            known = {name for row in self.list() for name in (row.slug, row.name)}
            raise NotFound(
                f"There is no persona “{shown}”.",
                hint=did_you_mean(shown, sorted(known), otherwise="`%persona list` shows all."),
            )
        return found

    def list(self, include_archived: bool = False) -> list[Persona]:
        """All personas by slug, without the archived ones unless asked for."""
        return self._rows.find("1" if include_archived else "archived_at is null", order_by="slug")

    def enable(self, ref: str | Persona) -> Persona:
        """Let it run; an archived one comes back."""
        return self.update(ref, enabled=True)

    def disable(self, ref: str | Persona) -> Persona:
        """Let nothing start it; it stays in the list."""
        return self.update(ref, enabled=False)

    def archive(self, ref: str | Persona) -> Persona:
        """Disable it and take it out of the list; everything of it is kept."""
        with self.store.write():
            persona = self.get(ref)
            if persona.archived_at is not None:
                return persona
            archived = persona.changed(enabled=False, archived_at=now(), updated_at=now())
            self._write_differences(persona, archived)
            return archived

    def purge(self, ref: str | Persona) -> None:
        """Delete the persona and all that is stored of it: versions, memories, runs, triggers, its token."""
        with self.store.write():
            persona = self.get(ref)
            for table, where in _NOT_CASCADED:
                self.store.table(table, Entity).delete(where, [persona.id])
            self._forget_token(persona.model_profile, None)
            for credential in self.credentials.list():  # of its MCP servers, its channels and its webhooks
                if credential.connector in (
                    "mcp",
                    "webhook",
                    channels.CONNECTOR,
                ) and credential.name.endswith(f"({persona.id})"):
                    self.credentials.remove(credential.id)
            self._rows.delete("id = ?", [persona.id])

    def _add(self, name: str, fields: dict[str, Any], author: Author, summary: str | None) -> Persona:
        project_id = fields.get("project_id", "default")
        slug = fields.get("slug") or self._free_slug(slug_of(name), project_id)
        blank = made(Persona, {"name": name, "slug": slug, "project_id": project_id})
        if fields.get("slug"):
            self._refuse_taken_name(blank)
        given = {key: value for key, value in fields.items() if key not in ("slug", "project_id")}
        persona = self._sealed(blank, revised(blank, self._with_group(given)))
        self._rows.insert(persona)
        self._write_version(persona, author, summary or "created")
        return persona

    def _change(
        self,
        current: Persona,
        fields: dict[str, Any],
        author: Author,
        summary: str | None,
        *,
        restore: bool = False,
    ) -> Persona:
        wanted = revised(current, self._with_group(fields))
        if wanted.name != current.name:
            self._refuse_taken_name(wanted)
        wanted = self._sealed(current, wanted)
        if wanted.archived_at is not None and (restore or wanted.enabled):
            wanted = wanted.changed(archived_at=None)
        if self._rows.dumped(wanted) == self._rows.dumped(current):
            return current
        if _tiers(wanted) != _tiers(current):
            wanted = wanted.changed(version=current.version + 1)
            difference = compare(current, wanted, a=current.version, b=wanted.version)
            self._write_version(wanted, author, summary or difference.summary)
        wanted = wanted.changed(updated_at=now())
        self._write_differences(current, wanted)
        return wanted

    def _write_differences(self, old: Persona, new: Persona) -> None:
        before, after = self._rows.dumped(old), self._rows.dumped(new)
        self._rows.update(
            old.id, **{name: getattr(new, name) for name in after if after[name] != before[name]}
        )

    def _write_version(self, persona: Persona, author: Author, summary: str) -> None:
        fields = {
            "persona_id": persona.id,
            "version": persona.version,
            "system_prompt": persona.system_prompt,
            "structured_prompt": persona.structured_prompt,
            "change_summary": summary,
            "author": author,
        }
        self._versions.insert(made(PromptVersion, fields))

    def _with_group(self, fields: dict[str, Any]) -> dict[str, Any]:
        """``group`` (a name) and ``group_id`` as the id of a group that exists."""
        given = dict(fields)
        ref = given.pop("group", None) or given.get("group_id")
        if "group" in fields or "group_id" in fields:
            given["group_id"] = self.groups.get(str(ref)).id if ref else None
        return given

    def _unlock_for(self, fields: dict[str, Any]) -> None:
        profile = fields.get("model_profile")
        tokens = [
            fields.get("model_profile.auth_token"),
            profile.auth_token if isinstance(profile, ModelProfile) else None,
            # A JSON text is looked into later; that it may hold a token is enough.
            profile.get("auth_token") if isinstance(profile, dict) else isinstance(profile, str),
        ]
        if any(tokens) or channels.has_secrets(fields.get("notification_channels")):
            self.credentials.unlock()

    def _sealed(self, current: Persona, wanted: Persona) -> Persona:
        """The wanted persona with its secrets in the vault."""
        wanted = self._with_token(current, wanted)
        if wanted.notification_channels == current.notification_channels:
            return wanted
        return channels.sealed(self.credentials, wanted)

    def _with_token(self, current: Persona, wanted: Persona) -> Persona:
        """The wanted persona with its token in the vault, and without the one meant for another server."""
        old, new = current.model_profile, wanted.model_profile
        if new is None or new == old:
            self._forget_token(old, new)
            return wanted
        kept = old.auth_credential_id if old else None
        if new.auth_credential_id not in (None, kept):
            raise InvalidInput(
                "“auth_credential_id” is chosen by the vault.", hint="Give the key itself as auth_token."
            )
        token = new.auth_token.get_secret_value() if new.auth_token is not None else None
        if token:
            kept = self.credentials.keep(
                token, name=_token_name(wanted), connector="model", field="auth_token"
            )
        elif token == "" or old is None or (old.provider, old.base_url) != (new.provider, new.base_url):
            kept = None
        new = new.changed(auth_token=None, auth_credential_id=kept)
        self._forget_token(old, new)
        return wanted.changed(model_profile=new)

    def _forget_token(self, old: ModelProfile | None, new: ModelProfile | None) -> None:
        gone = old.auth_credential_id if old else None
        if gone and gone != (new.auth_credential_id if new else None):
            self.store.table("credentials", Entity).delete("id = ?", [gone])

    def _find(self, text: str) -> Persona | None:
        if len(text) == ID_CHARS and (found := self._rows.get(text)) is not None:
            return found
        return (
            self._best(self._rows.find("slug = ?", [text]), text)
            or self._best(self._rows.find("name = ? collate nocase", [text]), text)
            or self._best(self._rows.find("slug = ?", [text.lower()]), text)
            or by_id(self._rows, text, _label)
            or self._best(self._called(text), text)
        )

    def _namesake(self, name: str, fields: dict[str, Any]) -> Persona | None:
        """The persona that ``create`` means: the one of that name, else the one whose slug says the same."""
        project = fields.get("project_id", "default")
        slug = fields.get("slug") or slug_of(name)
        holder = next(iter(self._rows.find("slug = ? and project_id = ?", [slug, project])), None)
        if fields.get("slug"):
            return holder
        called = [row for row in self._called(name) if row.project_id == project]
        if called:
            return self._best(called, name)
        if holder is None or not _slug_says_all(name):
            return None
        usual = slug_of(holder.name)
        if usual == slug:
            # “Report 日本” holds the slug “report”, and is not meant by “Report”.
            return holder if _slug_says_all(holder.name) else None
        # Its slug was made from a former name, or got a number because the usual one was taken.
        is_numbered = re.fullmatch(re.escape(_room_for_number(usual)) + r"-[0-9]+", slug)
        return None if is_numbered else holder

    def _called(self, name: str) -> builtins.list[Persona]:
        wanted = " ".join(name.split()).casefold()
        # SQLite folds the case of ASCII letters only: names with others are compared here.
        near = self._rows.find("name = ? collate nocase or name glob '*[^ -~]*'", [wanted])
        return [row for row in near if row.name.casefold() == wanted]

    def _best(self, found: builtins.list[Persona], ref: str) -> Persona | None:
        return only([row for row in found if row.archived_at is None] or found, ref, _label)

    def _refuse_taken_name(self, persona: Persona) -> None:
        others = [row for row in self._called(persona.name) if row.id != persona.id]
        others += self._rows.find("slug = ? and id <> ?", [slug_of(persona.name), persona.id])
        others = [row for row in others if row.project_id == persona.project_id]
        if others:
            raise Conflict(
                f"“{persona.name}” is what {_label(others[0])} is called.",
                hint="Choose another name, or purge that persona first.",
            )

    def _free_slug(self, slug: str, project_id: str) -> str:
        number, free = 1, slug
        while self._rows.count("slug = ? and project_id = ?", [free, project_id]):
            number += 1
            free = f"{_room_for_number(slug)}-{number}"
        return free


def _label(persona: Persona) -> str:
    return f"{persona.slug} ({persona.id[:8]})"


def _tiers(persona: Persona) -> tuple[Any, Any]:
    return persona.system_prompt, persona.structured_prompt


def _room_for_number(slug: str) -> str:
    return slug[:58].rstrip("-")


def _token_name(persona: Persona) -> str:
    # The id, because a slug is unique in its project only.
    return f"model token of {persona.slug} ({persona.id})"


def _slug_says_all(name: str) -> bool:
    """Whether the slug has every letter and digit of the name; “日本” and names over 64 characters lose some."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if c.isalnum())
    return slug_of(name).replace("-", "") == letters.lower()
