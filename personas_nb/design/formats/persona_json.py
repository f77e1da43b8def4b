"""Our own JSON: one persona, with the names of its fields, and the version of the format.

Version 0 had no envelope: a bare design, as ``DesignResult`` writes itself. A step of `UPGRADES` makes a document of
one version one of the next, so that every file that was ever written can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from personas_nb.design.formats.parsing import checked_object, object_of
from personas_nb.design.formats.portable import Portable, Written, portable_of
from personas_nb.design.formats.report import ImportEntry, ImportReport
from personas_nb.design.formats.strangers import cleaned
from personas_nb.errors import InvalidInput

FORMAT = "personas_nb.persona"
VERSION = 1

Document = dict[str, Any]


def is_ours(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a persona or a design of ours."""
    return document.get("format") == FORMAT or _is_design(document)


def read(text: str | bytes | Mapping[str, Any], source: str) -> ImportReport:
    """The persona as a draft; a mapping is what has been parsed already.

    Raises ``InvalidInput`` for a document that is none of ours, or of a later version.

    >>> read({"format": FORMAT, "version": 1, "name": "A", "system_prompt": "You test."}, "a.json").name
    'A'
    """
    document = checked_object(dict(text), source) if isinstance(text, Mapping) else object_of(text, source)
    return report_of(document, source, format="json")


def report_of(document: Document, source: str, *, format: str) -> ImportReport:  # noqa: A002 - the report's name for it
    """The report of a document of any version, wherever it was found."""
    written = _version(document, source)
    fields, secrets = cleaned(upgraded(document, source))
    entries = [ImportEntry(f"version {written}", "absorbed", f"It was brought up to version {VERSION}.")]
    persona, said = portable_of(_without_envelope(fields), source, may_be_silent=True)
    known = entries if written != VERSION else []
    return ImportReport(format, persona.name, persona.draft(), (*said, *known, *secrets), source)


def write(persona: Portable) -> Written:
    """The persona as JSON; all of it has a place there."""
    return Written(json.dumps(document_of(persona), indent=2, ensure_ascii=False) + "\n")


def document_of(persona: Portable) -> Document:
    """The persona as the object that the JSON is."""
    return {"format": FORMAT, "version": VERSION, **persona.to_dict()}


def upgraded(
    document: Document, source: str, steps: Mapping[int, Callable[[Document], Document]] | None = None
) -> Document:
    """The document as the present version writes it, step by step from the one that wrote it."""
    steps = UPGRADES if steps is None else steps
    version, latest = _version(document, source), max([VERSION, *(number + 1 for number in steps)])
    while version < latest:
        document = {**steps[version](document), "version": version + 1}
        version += 1
    return document


def _version(document: Document, source: str) -> int:
    if "format" not in document and _is_design(document):
        return 0
    version = document.get("version")
    if (
        document.get("format") != FORMAT
        or not isinstance(version, int)
        or isinstance(version, bool)
        or version < 1
    ):
        raise InvalidInput(
            f"{source} is no persona of ours: its format and version do not say so.",
            hint=f'It would begin with "format": "{FORMAT}", "version": {VERSION}.',
        )
    if version > VERSION:
        raise InvalidInput(
            f"{source} was written by a later version of personas_nb (format {version}; this one reads {VERSION}).",
            hint="Upgrade personas_nb.",
        )
    return version


def _is_design(document: Mapping[str, Any]) -> bool:
    return "structured_prompt" in document and any(name.startswith("suggested_") for name in document)


def _without_envelope(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in ("format", "version")}


_OF_A_DESIGN = {
    "summary": "description",
    "full_prompt_markdown": "system_prompt",
    "suggested_tools": "tools",
    "suggested_triggers": "triggers",
    "suggested_connectors": "connectors",
    "suggested_notification_channels": "notification_channels",
    "suggested_event_subscriptions": "event_subscriptions",
    "suggested_model_profile": "model_profile",
    "suggested_servers": "servers",
    "design_highlights": "highlights",
}


def _enveloped(document: Document) -> Document:
    """A bare design as a persona."""
    settings = document.get("suggested_settings")
    fields = {
        _OF_A_DESIGN.get(name, name): value
        for name, value in document.items()
        if name not in ("feasibility", "suggested_settings") and value is not None
    }
    return {"format": FORMAT, **(settings if isinstance(settings, dict) else {}), **fields}


UPGRADES: dict[int, Callable[[Document], Document]] = {0: _enveloped}
"""What makes a document of a version one of the next."""
