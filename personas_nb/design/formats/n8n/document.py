"""The file: what its JSON says, checked and cleaned, before anything is made of it.

A `Workflow` has only nodes that are nodes and links between nodes that exist. What had to be left out is in
``findings``. Its texts hold no literal secret and nothing that nobody sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple

from personas_nb.design.formats.n8n.secrets import LEFT_OUT, Secrets
from personas_nb.design.formats.n8n.text import code, listed, name_like, plain, visible
from personas_nb.design.formats.report import ImportEntry, Outcome
from personas_nb.errors import InvalidInput, TooLarge

IMPORT_LIMIT_BYTES = 10 * 1024 * 1024
MAX_LINKS = 50_000
WRAPPERS = ("workflow", "data")
"""Where the gallery and the API of n8n put a workflow."""
_MANY = 20
"""From here on, findings of one kind are counted."""
_AGAIN = "Export the workflow again in n8n: its menu, “Download”."


@dataclass(slots=True)
class Node:
    """One node; ``kind`` is the last part of its type, ``is_core`` says that it is one of n8n's own."""

    place: int
    name: str
    type: str
    kind: str
    version: float
    parameters: dict[str, Any]
    is_core: bool = True
    disabled: bool = False
    credentials: tuple[str, ...] = ()
    notes: str = ""
    webhook_id: str = ""
    goes_on_after_errors: bool = False
    error_output: bool = False
    retries: int = 0
    execute_once: bool = False

    def text(self, *path: str) -> str:
        """The parameter at that path as a text; empty when there is none."""
        value = self.at(*path)
        return value if isinstance(value, str) else ""

    def at(self, *path: str) -> Any:
        """The parameter at that path; None when there is none."""
        value: Any = self.parameters
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def items(self, *path: str) -> list[dict[str, Any]]:
        """The mappings of the list at that path."""
        value = self.at(*path)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


class Link(NamedTuple):
    """A connection from an output of one node to an input of another, by their places."""

    source: int
    output: int
    target: int
    input: int
    kind: str


@dataclass(slots=True)
class Workflow:
    """A workflow as it was read."""

    name: str
    nodes: list[Node]
    links: list[Link]
    timezone: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    findings: list[ImportEntry] = field(default_factory=list)


def parse(
    text: str | bytes | Mapping[str, Any], source: str = "", document: dict[str, Any] | None = None
) -> Workflow:
    """The workflow in a file. Raises ``InvalidInput`` for what is none, ``TooLarge`` over 10 MiB.

    A ``document`` is what the text was parsed to already, whatever its size; it is used up.
    """
    raw = _written(text, source) if isinstance(text, Mapping) else text
    if document is None or isinstance(raw, bytes):
        raw = _decoded(raw, source)
    document = _workflow_of(_loaded(raw, source) if document is None else document, source)
    secrets = Secrets(raw)
    del raw, text
    reading = _Reading(secrets)
    nodes = reading.nodes(document["nodes"])
    if not nodes:
        raise InvalidInput(f"{_named(source)} has no nodes.", hint=_AGAIN)
    links = reading.links(document.get("connections"), nodes)
    settings = _mapping(document.get("settings"))
    secrets.strip(settings)
    name = document.get("name")
    title = name_like(secrets.scrubbed(name)) if isinstance(name, str) else ""
    reading.rest(document)
    document.clear()  # who gave it may hold it until all is done, and it is large
    zone = settings.get("timezone")
    return Workflow(
        name=title or _name_from(source),
        nodes=nodes,
        links=links,
        timezone=plain(zone, 60) if isinstance(zone, str) and zone != "DEFAULT" else "",
        settings=settings,
        findings=reading.findings,
    )


def _named(source: str) -> str:
    return f"“{name_like(PurePath(source).name, 100)}”" if name_like(PurePath(source).name) else "The file"


def _name_from(source: str) -> str:
    stem = re.sub(r"[_\s]+", " ", name_like(PurePath(source).stem)).strip()
    return stem or "n8n workflow"


def _written(data: Mapping[str, Any], source: str) -> str:
    """Parsed data as text: what is read is changed on the way, and the caller's stays as it is."""
    try:
        return json.dumps(dict(data))
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(f"{_named(source)} is no data that JSON can hold.", hint=_AGAIN) from None


def _decoded(text: str | bytes, source: str) -> str:
    size_bytes = (
        len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode("utf-8", "replace"))
    )
    if size_bytes > IMPORT_LIMIT_BYTES:
        raise TooLarge(
            f"{_named(source)} has {size_bytes / 1024 / 1024:.1f} MiB; an import takes at most 10 MiB.",
            hint="Take the pinned data out in n8n, or split the workflow.",
        )
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{_named(source)} is no text in UTF-8.", hint=_AGAIN) from None
    return text.removeprefix("\ufeff")


def _loaded(raw: str, source: str) -> Any:
    if not raw.strip():
        raise InvalidInput(f"{_named(source)} is empty.", hint=_AGAIN)
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            what = f"goes on after the end of the workflow, in line {error.lineno}"
            hint = "Leave what follows it out: a file is one workflow."
        elif not raw[error.pos :].strip() or error.msg.startswith("Unterminated string"):
            what, hint = f"breaks off in line {error.lineno}", _AGAIN
        else:
            what, hint = f"is no JSON: line {error.lineno}, column {error.colno} cannot be read", _AGAIN
        raise InvalidInput(f"{_named(source)} {what}.", hint=hint) from None
    except RecursionError:
        raise InvalidInput(f"{_named(source)} is nested too deeply to be a workflow.", hint=_AGAIN) from None
    except ValueError:  # a number of more digits than Python reads
        raise InvalidInput(
            f"{_named(source)} has a number that nobody could have meant.", hint=_AGAIN
        ) from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _workflow_of(document: Any, source: str) -> dict[str, Any]:
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if isinstance(document, list):
        raise InvalidInput(
            f"{_named(source)} is a list of {len(document)} things, not one workflow.",
            hint="Export them with `n8n export:workflow --all --separate`, and import the folder.",
        )
    if not isinstance(document, dict):
        raise InvalidInput(f"{_named(source)} is no n8n workflow: it is no JSON object.", hint=_AGAIN)
    for wrapper in WRAPPERS:
        inner = document.get(wrapper)
        if "nodes" not in document and isinstance(inner, dict) and isinstance(inner.get("nodes"), list):
            document = inner
    if any(key.startswith('"') for key in document):
        raise InvalidInput(
            f"{_named(source)} was damaged: its keys stand in quotes twice, and its nodes are cut into lines.",
            hint=f"It cannot be put together again. {_AGAIN}",
        )
    if not document:
        raise InvalidInput(f"{_named(source)} is an empty object.", hint=_AGAIN)
    if not isinstance(document.get("nodes"), list):
        raise InvalidInput(f"{_named(source)} is no n8n workflow: it has no list of nodes.", hint=_AGAIN)
    return _mapping(document)


class _Reading:
    """Collects what of a file could not be used, while its parts are read."""

    def __init__(self, secrets: Secrets) -> None:
        self.findings: list[ImportEntry] = []
        self._secrets = secrets
        self._raw_places: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def note(self, kind: str, source: str, outcome: Outcome, reason: str) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= _MANY:
            self.findings.append(ImportEntry(source, outcome, reason))

    def nodes(self, given: list[Any]) -> list[Node]:
        nodes: list[Node] = []
        taken: set[str] = set()
        for number, item in enumerate(given, 1):
            if not isinstance(item, dict):
                self.note("odd nodes", f"node {number}", "dropped", "It is no node: it is no JSON object.")
                continue
            raw_name = item.get("name")
            name = self._clean(raw_name, 200) if isinstance(raw_name, str) else ""
            if isinstance(raw_name, str):
                self._raw_places.setdefault(raw_name, len(nodes))
            unique = name = name or f"node {number}"
            count = 2
            while unique in taken:
                unique, count = f"{name} ({count})", count + 1
            if unique != name:
                self.note(
                    "same names",
                    unique,
                    "needs_human",
                    f"Several nodes are named {code(name)}; connections were taken to mean the first of them.",
                )
            taken.add(unique)
            nodes.append(self._node(len(nodes), unique, item))
        return nodes

    def _clean(self, text: str, limit_chars: int) -> str:
        return plain(self._secrets.scrubbed(text), limit_chars)

    def _node(self, place: int, name: str, item: dict[str, Any]) -> Node:
        given_type = item.get("type")
        node_type = self._clean(given_type, 120) if isinstance(given_type, str) else ""
        package, _, kind = node_type.rpartition(".")
        parameters = _mapping(item.get("parameters"))
        version, notes = item.get("typeVersion"), item.get("notes")
        node = Node(
            place=place,
            name=name,
            type=node_type,
            kind=kind if re.fullmatch(r"\w{1,80}", kind) else "",
            version=float(version) if isinstance(version, int | float) and abs(version) < 1e6 else 1.0,
            parameters=parameters,
            is_core=package in ("n8n-nodes-base", "@n8n/n8n-nodes-langchain"),
            disabled=item.get("disabled") is True,
            credentials=self._credentials(name, item.get("credentials")),
            notes=visible(self._secrets.scrubbed(notes)) if isinstance(notes, str) else "",
            webhook_id=self._clean(str(item.get("webhookId") or ""), 80),
            goes_on_after_errors=item.get("continueOnFail") is True
            or item.get("onError") == "continueRegularOutput",
            error_output=item.get("onError") == "continueErrorOutput",
            retries=_small(item.get("maxTries"), 3) if item.get("retryOnFail") is True else 0,
            execute_once=item.get("executeOnce") is True,
        )
        removed = self._secrets.strip(parameters)
        if LEFT_OUT in name or LEFT_OUT in node.notes:
            removed.append("name or notes")
        if removed:
            where = listed([code(field) for field in removed[:5]]) + (
                " and others" if len(removed) > 5 else ""
            )
            self.findings.append(
                ImportEntry(
                    name,
                    "dropped",
                    f"A secret was written into the node itself ({where}). It was left out: put it into a credential,"
                    " and change it, for the file was passed on with it.",
                )
            )
        return node

    def _credentials(self, name: str, given: Any) -> tuple[str, ...]:
        if not isinstance(given, dict):
            return ()
        types = tuple(key for key in given if re.fullmatch(r"\w{2,60}", key) and self._clean(key, 60) == key)
        if any(isinstance(value, dict) and set(value) - {"id", "name"} for value in given.values()):
            reason = "The values of its credential stood in the file. They were left out: change them."
            self.findings.append(ImportEntry(name, "dropped", reason))
        return types

    def links(self, given: Any, nodes: list[Node]) -> list[Link]:
        links: dict[Link, None] = {}
        if given is not None and not isinstance(given, dict):
            self.note("odd links", "connections", "dropped", "They are no JSON object.")
        for raw_source, outputs in (given if isinstance(given, dict) else {}).items():
            source = self._raw_places.get(raw_source)
            if source is None:
                self.note(
                    "lost links",
                    f"connections of {self._clean(raw_source, 80)}",
                    "dropped",
                    "There is no node of that name.",
                )
                continue
            for kind, ports in outputs.items() if isinstance(outputs, dict) else ():
                self._ports(links, nodes, source, kind, ports)
        if len(links) >= MAX_LINKS:
            reason = f"Only the first {MAX_LINKS:,} were followed."
            self.findings.append(ImportEntry("connections", "dropped", reason))
        return list(links)

    def _ports(self, links: dict[Link, None], nodes: list[Node], source: int, kind: str, ports: Any) -> None:
        for output, targets in enumerate(ports if isinstance(ports, list) else ()):
            for target in targets if isinstance(targets, list) else ():
                raw_name = target.get("node") if isinstance(target, dict) else None
                found = self._raw_places.get(raw_name) if isinstance(raw_name, str) else None
                if found is None:
                    named = self._clean(raw_name, 80) if isinstance(raw_name, str) else "something"
                    self.note(
                        "lost links",
                        f"connection {nodes[source].name} → {named}",
                        "dropped",
                        "There is no node of that name.",
                    )
                elif len(links) < MAX_LINKS:
                    links[Link(source, output, found, _small(target.get("index"), 0), plain(kind, 40))] = None

    def rest(self, document: dict[str, Any]) -> None:
        """Entries for the parts of the file beside its nodes and connections."""
        for kind, count in self._counts.items():
            if count > _MANY:
                self.findings.append(
                    ImportEntry(kind, "needs_human", f"There are {count - _MANY:,} more like these.")
                )
        pinned = document.get("pinData")
        if isinstance(pinned, dict) and pinned:
            reason = "Sample data that was pinned to nodes is not taken along."
            self.findings.append(ImportEntry("pinned data", "dropped", reason))
        if document.get("staticData"):
            reason = "What the workflow remembered between its runs is not taken along."
            self.findings.append(ImportEntry("static data", "dropped", reason))


def _small(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000 else default
