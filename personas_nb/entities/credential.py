"""A stored credential; its secrets are sealed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

CheckStatus = Literal["healthy", "degraded", "unhealthy", "unknown"]


class Credential(Entity):
    """A named set of values for a connector; ``sealed`` holds ciphertext by field, ``plain`` what is no secret.

    ``check_status`` is what its last check found since its values changed; None: it was not checked.
    """

    id: str = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=200)
    connector: str
    plain: dict[str, str] = Field(default_factory=dict)
    sealed: dict[str, str] = Field(default_factory=dict, repr=False)
    key_id: str = ""
    check_status: CheckStatus | None = None
    checked_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)

    @property
    def fields_set(self) -> tuple[str, ...]:
        """The names of the fields that have a value."""
        return (*self.plain, *self.sealed)


class VaultKey(Entity):
    """What a home knows of one of its keys; the key itself is elsewhere.

    ``active`` seals; ``next`` is made and seals nothing yet; ``lost`` could not be had when it was needed;
    ``retired`` seals nothing any more and is about to be forgotten.
    """

    id: str
    status: Literal["active", "next", "lost", "retired"]
    created_at: UtcDatetime = Field(default_factory=now)
