"""A kind of service that personas may reach."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class ConnectorField(Entity):
    """One field that a credential of a connector has."""

    key: str
    label: str = ""
    secret: bool = False
    required: bool = True
    default: str | None = None


class Connector(Entity):
    """The definition of a service: its fields, which tools it serves, how to set it up."""

    id: str = Field(default_factory=new_id)
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    label: str = ""
    description: str = ""
    fields: tuple[ConnectorField, ...] = ()
    tools: tuple[str, ...] = ()
    setup_instructions: str = ""
    healthcheck: dict[str, Any] = Field(default_factory=dict)
    is_builtin: bool = False
    created_at: UtcDatetime = Field(default_factory=now)
