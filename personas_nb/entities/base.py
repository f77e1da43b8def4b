"""What all entities share: identity, time, and how a field says what is wrong with it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, ValidationError

from personas_nb.errors import InvalidInput


def new_id() -> str:
    """A random UUID as text; any unique prefix of it names the entity."""
    try:
        random_bytes = _random.pop()
    except IndexError:
        # Many at once: each call of the system lets another thread go first.
        fresh = os.urandom(16 * IDS_AT_ONCE)
        _random.extend(fresh[at : at + 16] for at in range(16, len(fresh), 16))
        random_bytes = fresh[:16]
    # What str(uuid.UUID(bytes=…, version=4)) says, in a quarter of its time.
    text = random_bytes.hex()
    variant = "89ab"[random_bytes[8] & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


DEPTH_LIMIT = 100  # of data that are kept as JSON: what writes and reads them recurses
IDS_AT_ONCE = 64
_random: deque[bytes] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.clear)  # or parent and child would have the same ids


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """A moment as stored: UTC, microseconds, fixed width, so that text order is time order.

    >>> rfc3339(datetime(2026, 11, 21, 9, 0, tzinfo=UTC))
    '2026-11-21T09:00:00.000000Z'
    """
    return (
        moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    )  # strftime takes 8 times as long


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can say it: not half of a surrogate pair, which JSON can bring."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_deeper(value: Any, levels: int = DEPTH_LIMIT) -> bool:
    """Whether lists and dicts are nested in one another in more levels than these.

    >>> is_deeper({"a": [1]}, 1), is_deeper({"a": [1]}, 2)
    (True, False)
    """
    level = [value]
    for _ in range(levels + 1):
        nested = [each for each in level if isinstance(each, dict | list | tuple)]
        if not nested:
            return False
        items = (item for each in nested for item in (each.values() if isinstance(each, dict) else each))
        level = list({id(item): item for item in items}.values())  # one that holds itself grows no further
    return True


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return moment.astimezone(UTC)


UtcDatetime = Annotated[datetime, AfterValidator(_aware), PlainSerializer(rfc3339, when_used="json")]


def one_line(text: str) -> str:
    """A name as it is stored: on one line, single spaces; raises ``ValueError`` where nothing is left.

    >>> one_line(" Invoice\\n watcher ")
    'Invoice watcher'
    """
    text = " ".join(text.split())
    if not text:
        raise ValueError("must not be empty")
    return text


E = TypeVar("E", bound=BaseModel)


class Entity(BaseModel):
    """A frozen, validated record; a change makes a new one (``changed``)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=False, protected_namespaces=(), defer_build=True
    )

    def changed(self, **fields: Any) -> Self:
        """A copy with these fields changed and everything validated again; the others are untouched.

        Raises ``InvalidInput`` that names the field and what would be right.
        """
        return made(type(self), {**{name: getattr(self, name) for name in type(self).model_fields}, **fields})


def made(entity: type[E], fields: dict[str, Any]) -> E:
    """The entity made of these fields, or ``InvalidInput`` in words for people."""
    try:
        return entity.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(
            in_words(error.errors(include_url=False), entity), hint=_hint(error, entity)
        ) from None


def in_words(problems: Iterable[Any], entity: type[BaseModel]) -> str:
    """Pydantic's findings as sentences: the field, and what is wrong with it (never the value)."""
    sentences = []
    for problem in problems:
        where = ".".join(str(part) for part in problem["loc"]) or entity.__name__
        if problem["type"] == "extra_forbidden":
            sentences.append(f"{entity.__name__} has no field “{where}”")
        elif problem["type"] == "string_pattern_mismatch" and (likeness := _likeness(entity, where)):
            sentences.append(f"“{where}” must be {likeness}")
        else:
            what = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            sentences.append(f"“{where}” {what[:1].lower() + what[1:]}")
    return "; ".join(dict.fromkeys(sentences)) + "."


def _likeness(entity: type[BaseModel], name: str) -> str:
    """What a field must look like, in the words of its description."""
    field = entity.model_fields.get(name)
    return (field.description or "") if field else ""


def _hint(error: ValidationError, entity: type[BaseModel]) -> str:
    from personas_nb.errors import did_you_mean

    extra = [str(p["loc"][-1]) for p in error.errors(include_url=False) if p["type"] == "extra_forbidden"]
    if not extra:
        return ""
    names = list(entity.model_fields)
    return did_you_mean(extra[0], names, otherwise=f"Its fields are {', '.join(names)}.")
