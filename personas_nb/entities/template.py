"""A design that is kept to be used again and to be found by its words."""

from __future__ import annotations

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.design import DesignResult


class DesignTemplate(Entity):
    """A template persona: what it is called, what it is for, and its whole design.

    ``name`` is unique and what a person types; ``keywords`` are words that somebody who wants it might use;
    ``source`` says where it comes from, such as the path of a notebook.
    """

    id: str = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=200)
    title: str = ""
    summary: str = ""
    keywords: tuple[str, ...] = ()
    design: DesignResult
    source: str = ""
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
