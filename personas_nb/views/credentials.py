"""Credentials and connectors: what is set and what it is for, never a value of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.connector import Connector, ConnectorField
from personas_nb.entities.credential import Credential
from personas_nb.vault.environment import name_of
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Short, Words, one_line, plural
from personas_nb.views.page import Page, Step, listing
from personas_nb.views.view import View

OF_PERSONAS = ("model", "channel", "webhook")  # kept for what a persona has; there is no service to log in to


def credential_list(credentials: Sequence[Credential], *, tz: str = "UTC") -> View:
    """All credentials, with the names of the fields that are set."""
    rows: list[list[Cell]] = [
        [
            Short(one_line(credential.name, 60)),
            Code(credential.connector),
            _set(credential),
            _state(credential),
            Short(marks.moment(credential.checked_at, tz)) if credential.checked_at else "",
        ]
        for credential in credentials
    ]
    steps: list[Step] = [
        ("%persona credentials add NAME CONNECTOR", "another one; you are asked for its secrets")
    ]
    services = [credential for credential in credentials if credential.connector not in OF_PERSONAS]
    if services:
        step = f"%persona credentials check {typed(services[0].name)}"
        steps.insert(0, (step, "log in with it, really"))
    elif not credentials:
        steps.append(("%persona connectors", "the kinds of services"))
    return listing(
        "Credentials",
        ("name", "connector", "set", "checked", f"when ({tz})"),
        rows,
        empty="There is no credential yet.",
        steps=steps,
        value=list(credentials),
    )


def _state(credential: Credential) -> Cell:
    if credential.check_status:
        return marks.mark(credential.check_status)
    return "kept for a persona" if credential.connector in OF_PERSONAS else "not checked"


def credential_card(credential: Credential, *, tz: str = "UTC") -> View:
    """One credential."""
    page = Page(credential.name, detail=f"credential · {credential.connector}")
    page.facts(
        [
            ("set", _set(credential)),
            ("checked", marks.mark(credential.check_status) if credential.check_status else "not yet"),
            ("changed", f"{marks.moment(credential.updated_at, tz)} {tz}"),
        ]
    )
    return page.next(
        [(f"%persona credentials check {typed(credential.name)}", "log in with it, really")]
    ).view(credential)


def connector_list(connectors: Sequence[Connector], counts: Mapping[str, int]) -> View:
    """All connectors; ``counts`` says how many credentials each has."""
    rows: list[list[Cell]] = [
        [
            Code(connector.name),
            one_line(connector.label, 40),
            ", ".join(field.key for field in connector.fields if field.required),
            Code(", ".join(connector.tools)),
            plural(counts[connector.name], "credential") if counts.get(connector.name) else "",
        ]
        for connector in connectors
    ]
    steps: list[Step] = [("%persona connectors show NAME", "what it needs, and how to get it")]
    return listing(
        "Connectors", ("name", "", "needs", "serves", "there"), rows, empty="There is none.", steps=steps,
        value=list(connectors),
    )  # fmt: skip


def connector_card(connector: Connector) -> View:
    """One connector: its fields, its tools, how to set it up."""
    origin = "shipped" if connector.is_builtin else "your own"
    page = Page(connector.label or connector.name, detail=f"connector {connector.name} · {origin}")
    page.sentence(one_line(connector.description, 300))
    rows: list[list[Cell]] = [
        [
            Code(field.key),
            one_line(field.label, 80),
            "secret" if field.secret else "",
            _need(field),
            Code(name_of(connector, field.key)),
        ]
        for field in connector.fields
    ]
    page.table(("field", "", "", "", "in child processes"), rows)
    kind = str(connector.healthcheck.get("kind", "HTTP request")) if connector.healthcheck else ""
    page.facts(
        [
            ("serves", Code(", ".join(connector.tools)) if connector.tools else None),
            ("checked by", kind.upper() if kind in ("imap", "smtp") else kind),
            ("how", Words(one_line(connector.setup_instructions, 1_000))),
        ]
    )
    step = f"%persona credentials add NAME {connector.name}"
    return page.next([(step, "you are asked for what is missing")]).view(connector)


def typed(name: str) -> str:
    """A name as it is typed in a line."""
    return f'"{name}"' if " " in name else name


def _set(credential: Credential) -> str:
    return ", ".join(f"{field} set" for field in credential.fields_set) or "nothing"


def _need(field: ConnectorField) -> str:
    if field.required:
        return "required"
    return f"default {one_line(field.default, 60)}" if field.default else "optional"
