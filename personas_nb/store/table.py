"""A table whose rows are entities."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from personas_nb.entities.base import Entity, in_words, is_encodable, rfc3339
from personas_nb.errors import InvalidInput, RowUnreadable

if TYPE_CHECKING:
    from personas_nb.store.database import Store

E = TypeVar("E", bound=Entity)
_SCALARS = (str, int, float, bool, datetime)
_ENCODE = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # json.dumps makes one at each call


class Table(Generic[E]):
    """Reading and writing one table; every value is validated on its way in and out.

    Fields that are no plain scalar are stored as JSON. ``where`` takes SQL with ``?`` for values.
    """

    skipped: frozenset[str] = frozenset()
    """Fields that are not columns of this table."""

    def __init__(self, store: Store, name: str, entity: type[E]) -> None:
        self.store = store
        self.name = name
        self.entity = entity

    def get(self, entity_id: str) -> E | None:
        """The row of that id, or None."""
        found = self.find("id = ?", [entity_id], limit=1)
        return found[0] if found else None

    def find(
        self, where: str = "1", values: Sequence[Any] = (), *, order_by: str = "rowid", limit: int = -1
    ) -> list[E]:
        """The rows that match, as entities."""
        if not isinstance(limit, int):
            raise InvalidInput("The limit is no whole number.", hint="Such as limit=50.")
        query = f"select * from {self.name} where {where} order by {order_by} limit ?"
        with self.store.read() as db:
            rows = db.execute(query, [*(encoded(value) for value in values), encoded(limit)]).fetchall()
        return [self.loaded(row) for row in rows]

    def count(self, where: str = "1", values: Sequence[Any] = ()) -> int:
        """How many rows match."""
        query = f"select count(*) from {self.name} where {where}"
        with self.store.read() as db:
            return int(db.execute(query, [encoded(value) for value in values]).fetchone()[0])

    def insert(self, entity: E) -> E:
        """Write a new row."""
        row = self.dumped(entity)
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        query = f"insert into {self.name} ({names}) values ({marks})"
        with self.store.write() as db:
            db.execute(query, list(row.values()))
        return entity

    def update(self, entity_id: str, **fields: Any) -> None:
        """Change these columns of one row and no other; the caller has validated them."""
        if not fields:
            return
        json_fields = json_fields_of(self.entity)
        # A text in a JSON column is JSON too, as insert writes it.
        values = [
            _json(value) if name in json_fields and isinstance(value, str) else encoded(value)
            for name, value in fields.items()
        ]
        assignments = ", ".join(f"{name} = ?" for name in fields)
        query = f"update {self.name} set {assignments} where id = ?"
        with self.store.write() as db:
            db.execute(query, [*values, entity_id])

    def delete(self, where: str, values: Sequence[Any] = ()) -> int:
        """Delete the rows that match; how many there were."""
        query = f"delete from {self.name} where {where}"
        with self.store.write() as db:
            return db.execute(query, [encoded(value) for value in values]).rowcount

    def search(self, words: Sequence[str], *, limit: int = 10) -> list[tuple[E, float]]:
        """Rows whose indexed text has any of the words, best first, with their rank (higher is better)."""
        # A NUL ends the query for SQLite, in the middle of a quoted word.
        match = " OR ".join(f'"{word}"' for word in (re.sub('["\0]', "", w) for w in words) if word)
        if not match:
            return []
        # The virtual table's name is not in scope as an alias inside bm25(), so it is not abbreviated.
        query = (
            f"select t.*, -bm25({self.name}_fts) as rank_ from {self.name}_fts "
            f"join {self.name} t on t.rowid = {self.name}_fts.rowid "
            f"where {self.name}_fts match ? order by rank_ desc limit ?"
        )
        with self.store.read() as db:
            rows = db.execute(query, [match, limit]).fetchall()
        return [(self.loaded({k: row[k] for k in row.keys() if k != "rank_"}), row["rank_"]) for row in rows]  # noqa: SIM118 - Row

    def dumped(self, entity: E) -> dict[str, Any]:
        """The entity as a row."""
        plain = entity.model_dump(mode="json", exclude=set(self.skipped))
        json_fields = json_fields_of(self.entity)
        return {
            name: _json(value) if name in json_fields and value is not None else _holdable(_scalar(value))
            for name, value in plain.items()
        }

    def loaded(self, row: Any) -> E:
        """The row as an entity."""
        json_fields = json_fields_of(self.entity)
        fields: Mapping[str, Any] = {
            name: self._parsed(name, row[name])
            if name in json_fields and row[name] is not None
            else row[name]
            for name in row.keys()  # noqa: SIM118 - sqlite3.Row iterates over values
        }
        try:
            return self.entity.model_validate(fields)
        except ValidationError as error:
            raise self._unreadable(in_words(error.errors(include_url=False), self.entity)) from None

    def _parsed(self, name: str, text: str) -> Any:
        """A JSON column's value; where the field may be a text, one that is not what it should be stays a text."""
        takes_text = _takes_text(self.entity.model_fields[name].annotation)
        try:
            value = json.loads(text)
            return _adapter(self.entity, name).validate_python(value) if takes_text else value
        except ValueError:
            if takes_text:
                return text
            raise self._unreadable(f"its “{name}” is no JSON.") from None

    def _unreadable(self, why: str) -> RowUnreadable:
        return RowUnreadable(
            f"A row of {self.name} cannot be read: {why}",
            hint="Something other than personas_nb has written it; restore the store from a copy.",
        )


@cache
def _adapter(entity: type[Entity], name: str) -> TypeAdapter[Any]:
    annotation: Any = entity.model_fields[name].annotation
    return TypeAdapter(annotation)


@cache
def json_fields_of(entity: type[Entity]) -> frozenset[str]:
    """The fields that are stored as JSON: all but text, numbers, booleans and times."""
    return frozenset(name for name, field in entity.model_fields.items() if not _is_scalar(field.annotation))


def _is_scalar(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_scalar(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return all(part is type(None) or _is_scalar(part) for part in get_args(annotation))
    return origin is Literal or annotation in _SCALARS


def _takes_text(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and str in get_args(annotation)


def _json(value: Any) -> str:
    text = _ENCODE(value)
    # Half of a surrogate pair, as a model that is cut inside an emoji leaves it, is no UTF-8; escaped it is.
    return text if is_encodable(text) else json.dumps(value, separators=(",", ":"))


def _scalar(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def encoded(value: Any) -> Any:
    """A field's value as SQLite stores it: times as text, structures as JSON, booleans as 0 or 1.

    Raises ``InvalidInput`` for what SQLite cannot hold: it is also what somebody gives as a name or an id.
    """
    if value is None or (type(value) is str and value.isascii()):
        return value
    if isinstance(value, datetime):
        return rfc3339(value)
    if hasattr(value, "model_dump"):
        return _json(value.model_dump(mode="json"))
    if isinstance(value, (dict, list, tuple)):
        plain = [item.model_dump(mode="json") if hasattr(item, "model_dump") else item for item in value]
        return _json(value if isinstance(value, dict) else plain)
    return _holdable(_scalar(value))


def _holdable(value: Any) -> Any:
    if value is None or isinstance(value, float | bytes):
        return value
    if isinstance(value, str):
        if is_encodable(value):
            return value
        raise InvalidInput("The text holds half a character (a lone surrogate).", hint="Leave it out.")
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        raise InvalidInput("The number is too large to be stored.", hint="Give a smaller one.")
    raise InvalidInput(
        f"A {type(value).__name__} cannot be stored or looked up.", hint="Give a text or a number."
    )
