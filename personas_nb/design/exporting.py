"""A persona as a file: gathered from the store, written in one of four formats, without any secret.

- What a file leaves out is said, each with the reason; nothing is left out silently.
- Known secrets, and what looks like one, are taken out before a format sees the persona.
- A file is replaced in one step, and only if it is an earlier export of the same persona, unless that is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

from personas_nb.design.apply import last_design
from personas_nb.design.formats import notebook, persona_json, persona_md, subagent
from personas_nb.design.formats.fitting import TRIGGER_KEYS
from personas_nb.design.formats.front_matter import WRITTEN_BY, split
from personas_nb.design.formats.parsing import decoded, object_of
from personas_nb.design.formats.portable import SETTINGS, LeftOut, Portable
from personas_nb.design.formats.strangers import cleaned
from personas_nb.entities.base import made
from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.design import (
    SuggestedChannel,
    SuggestedConnector,
    SuggestedServer,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.memory import Memory
from personas_nb.entities.persona import Persona, slug_of
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.errors import Conflict, InvalidInput, did_you_mean
from personas_nb.triggers.webhooks import CREDENTIAL_KEY
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from personas_nb.personas.personas import Personas
    from personas_nb.tools.catalog import Tools
    from personas_nb.triggers.triggers import Triggers

Format = Literal["json", "notebook", "subagent", "persona_md"]
FORMATS: tuple[Format, ...] = get_args(Format)
_WRITERS: dict[Format, ModuleType] = {
    "json": persona_json,
    "notebook": notebook,
    "subagent": subagent,
    "persona_md": persona_md,
}
SUFFIXES: dict[Format, str] = {
    "json": ".persona.json",
    "notebook": ".ipynb",
    "subagent": ".md",
    "persona_md": ".persona.md",
}


@dataclass(frozen=True)
class Exported:
    """A file that was written (or, not ``changed``, was so already), and what of the persona it does not hold."""

    persona: str
    path: Path
    format: Format
    left_out: tuple[LeftOut, ...] = ()
    changed: bool = True
    size_bytes: int = 0


class Exporter:
    """Writes personas to files. ``redactor`` takes known secrets out, and names those that it could not open."""

    def __init__(
        self,
        *,
        personas: Personas,
        tools: Tools,
        triggers: Triggers,
        redactor: Callable[[], tuple[Redactor, list[str]]],
    ) -> None:
        self._personas = personas
        self._store = personas.store
        self._tools = tools
        self._triggers = triggers
        self._redactor = redactor

    def export(
        self,
        persona: Persona | str,
        path: str | Path,
        format: str | None = None,  # noqa: A002 - the contract's name
        *,
        overwrite: bool = False,
    ) -> Exported:
        """Write a persona to a file; a folder gets a file named after the persona.

        ``format`` None is told from the ending: .ipynb, .persona.md, .md, else JSON. Raises ``Conflict`` for a file
        that is no earlier export of this persona, unless ``overwrite``; ``InvalidInput`` for one that cannot be
        written. Nothing was written then.
        """
        found = self._personas.get(persona)
        target = Path(str(path)).expanduser()
        chosen = _format(format, target)
        if target.is_dir():
            target = target / f"{found.slug}{SUFFIXES[chosen]}"
        portable, left_out = self.portable(found)
        written = _WRITERS[chosen].write(portable)
        data = written.text.encode()
        left_out = (*left_out, *written.left_out)
        changed = _put(target, data, portable, chosen, overwrite=overwrite)
        return Exported(found.slug, target, chosen, left_out, changed, len(data))

    def portable(self, persona: Persona) -> tuple[Portable, tuple[LeftOut, ...]]:
        """A persona as files hold it, without secrets, and what of it no file holds."""
        redactor, unopened = self._redactor()
        left_out = list(self._left_out(persona))
        if unopened:
            reason = f"{' '.join(unopened)} Nobody looked for what is in there."
            left_out.append(LeftOut("sealed secrets", reason))
        fields = self._fields(persona).to_dict()
        known = redactor.redact_value(fields)
        if known != fields:
            left_out.append(
                LeftOut("a stored secret", "It stood in the persona's texts, and is not in the file.")
            )
        clean, entries = cleaned(known)
        left_out += [
            LeftOut(entry.source, "A literal secret stood there, and is not in the file.")
            for entry in entries
        ]
        return made(Portable, clean), tuple(dict.fromkeys(left_out))

    def _fields(self, persona: Persona) -> Portable:
        prompt = persona.structured_prompt
        design = last_design(persona)
        assigned = [tool.name for tool in self._tools.assigned(persona) if "." not in tool.name]
        needing = self._tools.needing_approval(persona)
        profile = persona.model_profile
        return Portable(
            name=persona.name,
            description=persona.description,
            system_prompt=persona.system_prompt,
            structured_prompt=prompt if isinstance(prompt, StructuredPrompt) else None,
            **{
                name: getattr(persona, name)
                for name in SETTINGS
                if name not in ("max_concurrent", "uses_memories")
            },
            max_concurrent=persona.max_concurrent if persona.max_concurrent != 1 else None,
            uses_memories=None if persona.uses_memories else False,
            model_profile=profile.changed(auth_token=None, auth_credential_id=None) if profile else None,
            tools=tuple(assigned),
            approve_first=tuple(sorted(needing)),
            triggers=tuple(self._suggested_triggers(persona)),
            event_subscriptions=tuple(self._suggested_subscriptions(persona)),
            notification_channels=tuple(self._channels(persona)),
            connectors=tuple(self._connectors(persona)),
            servers=tuple(self._servers(persona)),
            highlights=design.design_highlights if design else (),
            **({"flow": design.flow} if design else {}),
        )

    def _suggested_triggers(self, persona: Persona) -> Iterator[SuggestedTrigger]:
        for row in self._triggers.list(persona):
            kept = {key: row.config[key] for key in TRIGGER_KEYS[row.trigger_type] if key in row.config}
            yield SuggestedTrigger(trigger_type=row.trigger_type, config=kept, description=row.description)

    def _suggested_subscriptions(self, persona: Persona) -> Iterator[SuggestedSubscription]:
        design = last_design(persona)
        words = (
            {one.event_type: one.description for one in design.suggested_event_subscriptions}
            if design
            else {}
        )
        for row in self._triggers.subscriptions(persona):
            yield SuggestedSubscription(
                event_type=row.event_type,
                source_filter=row.source_filter,
                description=words.get(row.event_type, ""),
            )

    def _channels(self, persona: Persona) -> Iterator[SuggestedChannel]:
        """The persona's channels, and those of its design that wait for a credential."""
        # The address of a channel is its own, no connector that somebody could add.
        rows = self._store.table("credentials", Credential).find("connector != 'channel'")
        credentials = {row.id: row.connector for row in rows}
        design = last_design(persona)
        suggested = {one.type: one for one in design.suggested_notification_channels} if design else {}
        for channel in persona.notification_channels:
            kind = str(channel.get("type") or "")
            known = suggested.pop(kind, None)
            connector = credentials.get(str(channel.get("credential_id") or ""))
            if kind:
                words = known.description if known else ""
                yield SuggestedChannel(
                    type=kind,
                    description=words,
                    required_connector=connector or (known.required_connector if known else None),
                )
        yield from suggested.values()

    def _connectors(self, persona: Persona) -> Iterator[SuggestedConnector]:
        """What the design asked for, and what the tools need."""
        design = last_design(persona)
        suggested = {one.name: one for one in design.suggested_connectors} if design else {}
        yield from suggested.values()
        known = {row.name: row for row in self._store.table("connectors", Connector).find()}
        for tool in self._tools.assigned(persona):
            name = tool.requires_credential_type
            if name and name in known and name not in suggested:
                suggested[name] = SuggestedConnector(
                    name=name,
                    credential_fields=tuple(field.key for field in known[name].fields),
                    setup_instructions=known[name].setup_instructions,
                )
                yield suggested[name]

    def _servers(self, persona: Persona) -> Iterator[SuggestedServer]:
        for server in self._tools.servers(persona):
            yield SuggestedServer(
                name=server.name,
                command=server.command,
                url=server.url,
                env=tuple(server.env),
                headers=tuple(server.headers),
                only=server.only,
            )

    def _left_out(self, persona: Persona) -> Iterator[LeftOut]:
        """What stays here whatever the format."""
        memories = self._store.table("memories", Memory).count("persona_id = ?", [persona.id])
        if memories:
            yield LeftOut(f"memories ({memories})", "What it has learned stays here.")
        if persona.permissions != "assigned":
            yield LeftOut("permissions", f"“{persona.permissions}” is for a person to set: no file does.")
        profile = persona.model_profile
        if profile is not None and profile.auth_credential_id:
            yield LeftOut("model_profile.auth_token", "Keys stay in the vault: set one where it is imported.")
        if any(channel.get("credential_id") for channel in persona.notification_channels):
            yield LeftOut(
                "notification_channels: addresses", "They are secrets: add credentials where it is imported."
            )
        if any(server.env or server.headers for server in self._tools.servers(persona)):
            yield LeftOut(
                "servers: values of env and headers", "They may be secrets: the file has their names."
            )
        if isinstance(persona.structured_prompt, str):
            yield LeftOut("structured_prompt", "It cannot be read; the system_prompt stands for it.")
        if persona.group_id:
            yield LeftOut("group", "Groups belong to a home.")
        unknown = [
            f"{row.trigger_type}.{key}"
            for row in self._triggers.list(persona)
            for key in row.config
            if key not in (*TRIGGER_KEYS[row.trigger_type], CREDENTIAL_KEY)
        ]
        if any(CREDENTIAL_KEY in row.config for row in self._triggers.list(persona)):
            yield LeftOut(
                "webhook: secret", "It stays in the vault: enabling it where it is imported makes one."
            )
        if unknown:
            yield LeftOut("trigger settings", f"{', '.join(dict.fromkeys(unknown))} belong to this home.")


def _format(name: str | None, path: Path) -> Format:
    if name is None:
        lower = path.name.lower()
        ends = (known for known in FORMATS if known != "json" and lower.endswith(SUFFIXES[known]))
        return max(ends, key=lambda known: len(SUFFIXES[known]), default="json")
    plain = str(name).strip().lower().replace("-", "_").replace(".", "_").strip("_")
    for known in FORMATS:
        if plain == known:
            return known
    raise InvalidInput(
        f"There is no format “{name}” to export to.",
        hint=did_you_mean(plain, FORMATS, otherwise=f"There are {', '.join(FORMATS)}."),
    )


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────


def _put(path: Path, data: bytes, persona: Portable, format_: Format, *, overwrite: bool) -> bool:
    """Write the file in one step; False where it has these bytes already."""
    try:
        path = path.resolve()  # a link stays one
        if path.exists():
            if not stat.S_ISREG(path.stat().st_mode):
                raise InvalidInput(f"{path} is no regular file.", hint="Choose another path.")
            before = path.read_bytes() if path.stat().st_size < 100_000_000 else b""
            if before == data:
                return False
            if not overwrite and not _is_export(before, path, persona, format_):
                raise Conflict(
                    f"{path.name} is there already, and is no earlier export of {persona.name}.",
                    hint="Choose another name, or replace it with --overwrite (overwrite=True).",
                )
        elif not path.parent.is_dir():
            raise InvalidInput(f"There is no folder {path.parent}.", hint="Make it first, or choose another.")
        replace_file(path, data)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput(f"{path} cannot be written: {why}.", hint="Choose another path.") from None
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step: whoever reads it meanwhile sees it before or after."""
    temporary = path.with_name(f".{path.name[:100]}.{uuid4().hex[:8]}.new")
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_export(data: bytes, path: Path, persona: Portable, format_: Format) -> bool:
    """Whether a file is an earlier export of this persona in this format."""
    try:
        name = _name_in(decoded(data, path.name), path.name, format_)
    except InvalidInput:
        return False
    return name is not None and slug_of(name) == slug_of(persona.name)


def _name_in(text: str, source: str, format_: Format) -> str | None:
    """The persona's name in a file that we wrote; None in any other."""
    if format_ in ("json", "notebook"):
        document: Any = object_of(text, source)
        if format_ == "notebook":
            metadata = document.get("metadata")
            document = metadata.get(notebook.KEY) if isinstance(metadata, dict) else None
        is_ours = isinstance(document, dict) and document.get("format") == persona_json.FORMAT
        return str(document.get("name")) if is_ours else None
    if WRITTEN_BY not in text[:200]:
        return None
    fields = split(text, source).fields
    identity = fields.get("identity")
    name = identity.get("name") if isinstance(identity, dict) else fields.get("name")
    return str(name) if name else None
