"""Templates, found by name or by their words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from personas_nb.entities.base import now
from personas_nb.entities.template import DesignTemplate

if TYPE_CHECKING:
    from personas_nb.store.database import Store


class TemplateIndex:
    """The templates of a store; their titles, summaries and keywords are searched in full text."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table("design_templates", DesignTemplate)

    def put(self, *templates: DesignTemplate) -> None:
        """Store templates in one transaction; one that has the name of a stored one replaces it and keeps its id."""
        with self._store.write():
            for template in templates:
                there = self.get(template.name)
                if there is None:
                    self._table.insert(template)
                    continue
                kept = template.changed(id=there.id, created_at=there.created_at, updated_at=there.updated_at)
                if kept != there:
                    row = kept.changed(updated_at=now())
                    self._table.update(there.id, **{name: getattr(row, name) for name in _CHANGED})

    def get(self, name: str) -> DesignTemplate | None:
        """The template of that name, or None."""
        found = self._table.find("name = ?", [name], limit=1)
        return found[0] if found else None

    def remove(self, name: str) -> bool:
        """Delete the template of that name; whether there was one."""
        return self._table.delete("name = ?", [name]) > 0

    def sources(self) -> dict[str, str]:
        """Where each template comes from, by name; no design is read for it."""
        with self._store.read() as db:
            rows = db.execute("select name, source from design_templates").fetchall()
        return {row["name"]: row["source"] for row in rows}

    def count(self) -> int:
        """How many there are."""
        return self._table.count()

    def search(self, words: Sequence[str], limit: int = 5) -> list[tuple[DesignTemplate, float]]:
        """Templates that have any of the words, best first, with their rank (higher is better).

        A word in the title counts four times as much as one in the summary, a keyword twice.
        """
        match = " OR ".join(f'"{word}"' for word in (re.sub('["\0]', "", each) for each in words) if word)
        if not match:
            return []
        # Ranked by rowid alone: a row holds a whole design, and sorting a thousand of them takes its time.
        query = (
            "select t.*, found.rank_ from (select rowid, -bm25(design_templates_fts, 4.0, 1.0, 2.0) as rank_ "
            "from design_templates_fts where design_templates_fts match ? order by rank_ desc, rowid limit ?) found "
            "join design_templates t on t.rowid = found.rowid order by found.rank_ desc, t.rowid"
        )
        with self._store.read() as db:
            rows = db.execute(query, [match, limit]).fetchall()
        return [
            (self._table.loaded({key: row[key] for key in row.keys() if key != "rank_"}), row["rank_"])  # noqa: SIM118 - Row
            for row in rows
        ]

    def list(self, *, source: str | None = None) -> list[DesignTemplate]:
        """All templates by name, or those of one source."""
        where, values = ("source = ?", [source]) if source is not None else ("1", [])
        return self._table.find(where, values, order_by="name")


_CHANGED = ("title", "summary", "keywords", "design", "source", "updated_at")
