"""A stored credential; its secrets are sealed."""

from __future__ import annotations

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class Credential(Entity):
    """A named set of values for a connector; ``sealed`` holds ciphertext by field, ``plain`` what is no secret."""

    id: str = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=200)
    connector: str
    plain: dict[str, str] = Field(default_factory=dict)
    sealed: dict[str, str] = Field(default_factory=dict, repr=False)
    key_id: str = ""
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
