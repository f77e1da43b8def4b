"""Markdown that begins with fields between two lines of ``---``.

- The fields are YAML. Many files in the wild are not: an unquoted colon in a description is the usual reason. These
  are read line by line, as their programs do.
- Anchors and aliases are refused: a few lines of them can stand for any number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from personas_nb.errors import InvalidInput, TooLarge

WRITTEN_BY = "# Written by personas_nb."
"""A comment among the fields by which an export is known again."""
FIELDS_LIMIT_CHARS = 65_536
DEPTH_LIMIT = 20

_MARK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)(?:\A|(?<=\n))(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"([A-Za-z_][\w.-]{0,99})[ \t]*:(?:[ \t]+(.*)|[ \t]*)$")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/()-]*")


class FrontMatter(NamedTuple):
    """The fields and the text under them; ``is_yaml``: whether the fields are YAML, or were read line by line."""

    fields: dict[str, Any]
    body: str
    is_yaml: bool = True


def has_front_matter(text: str) -> bool:
    """Whether the text begins with fields."""
    return _MARK.match(text[: FIELDS_LIMIT_CHARS + 100]) is not None


def split(text: str, source: str) -> FrontMatter:
    """The fields and the body. Raises ``InvalidInput`` where the text has no fields, ``TooLarge`` for too many.

    >>> split("---\\nname: tester\\ndescription: Triggers on: tests\\n---\\nYou test.", "a.md").fields
    {'name': 'tester', 'description': 'Triggers on: tests'}
    """
    found = _MARK.match(text[: FIELDS_LIMIT_CHARS + 100])
    if found is None:
        if len(text) > FIELDS_LIMIT_CHARS and text.lstrip().startswith("---"):
            raise TooLarge(f"The fields of {source} are longer than {FIELDS_LIMIT_CHARS:,} characters.")
        raise InvalidInput(
            f"{source} does not begin with fields between two lines of “---”.",
            hint="A subagent or a .persona.md file has them.",
        )
    body = text[found.end() :]
    try:
        fields, is_yaml = _yaml(found[1]), True
    except ValueError:
        fields, is_yaml = _lines(found[1]), False
    if not fields:
        raise InvalidInput(f"The fields of {source} cannot be read.", hint="They look like `name: my-agent`.")
    # What we wrote comes back to the letter; others leave empty lines around a text as they like.
    is_ours = WRITTEN_BY in found[1]
    body = body.removeprefix("\n").removesuffix("\n") if is_ours else body.strip("\r\n")
    return FrontMatter(fields, body, is_yaml)


def joined(fields: Mapping[str, Any], body: str) -> str:
    """The text of a file with these fields and this body."""
    import yaml

    options: dict[str, Any] = {"sort_keys": False, "width": 1_000_000}
    dumped = yaml.safe_dump(dict(fields), allow_unicode=True, **options)
    if yaml.safe_load(dumped) != dict(fields):  # a line end of Unicode, which YAML reads as a space
        dumped = yaml.safe_dump(dict(fields), **options)
    return f"---\n{WRITTEN_BY}\n{dumped}---\n\n{body}\n"


def _yaml(text: str) -> dict[str, Any]:
    """The fields as YAML; ``ValueError`` where the text is none, or does what a stranger's must not."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT or isinstance(event, yaml.AliasEvent):
                raise ValueError("nested too deep, or an alias")
        fields = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(fields, dict):
        raise ValueError("no mapping")
    return {str(key): _plain(value) for key, value in fields.items()}


def _plain(value: Any) -> Any:
    """As JSON has it: a date is its text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _lines(text: str) -> dict[str, Any]:
    """Fields that are no YAML: a name, a colon, and the rest of the line with what is indented below it."""
    fields: dict[str, Any] = {}
    name = ""
    for line in text.splitlines():
        found = _FIELD.match(line)
        if found:
            name = found[1]
            fields[name] = _value((found[2] or "").strip())
        elif name and line.strip():
            item = line.strip()
            if item.startswith("- ") and not isinstance(fields[name], str):
                fields[name].append(_value(item[2:].strip()))
            elif item.startswith("- ") and not fields[name]:
                fields[name] = [_value(item[2:].strip())]
            elif line[0] in " \t" and isinstance(fields[name], str):
                fields[name] = f"{fields[name]} {item}".strip()
    return fields


def _value(text: str) -> Any:
    """A value on one line: in quotes, a list in brackets, or plain text; the marks of a block text are none."""
    if text in (">", ">-", ">+", "|", "|-", "|+"):
        return ""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        return [part.strip().strip("\"'") for part in text[1:-1].split(",") if part.strip()]
    return text
