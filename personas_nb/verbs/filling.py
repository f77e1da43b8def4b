"""``{name}`` in a line or cell becomes what the notebook's variable of that name holds.

- Plain names only, and only where they name a variable of the person's; nothing is evaluated, and every other
  brace (``{{name}}`` too) stays byte for byte.
- A cell that is JSON or YAML is parsed first and its strings are filled then, so that what a variable holds can
  never change the document's shape. A string that is exactly ``{name}`` becomes the object itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

FRAME_ROWS = 200
NODES_MAX = 1_000_000
_NAME = re.compile(r"\{\s*([^\W\d]\w*)\s*\}")
_NOT_DATA = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type)


class Filling:
    """Puts the variables of a namespace into texts and documents; ``notes`` say what had to be cut.

    >>> Filling({"city": "Brno"}).text("In {city}: {unknown} {1} {{city}}")
    'In Brno: {unknown} {1} {{city}}'
    """

    def __init__(self, namespace: Mapping[str, Any], hidden: Mapping[str, Any] | None = None) -> None:
        self._namespace = namespace
        self._hidden = hidden or {}
        self.notes: list[str] = []

    def text(self, text: str) -> str:
        """The text with its names filled, each as text."""
        if "{" not in text:
            return text

        def filled(found: re.Match[str]) -> str:
            is_doubled = (
                text[found.start() - 1 : found.start()] == "{" and text[found.end() : found.end() + 1] == "}"
            )
            if is_doubled or not self._has(found[1]):
                return found[0]
            return self._as_text(found[1], self._namespace[found[1]])

        return _NAME.sub(filled, text)

    def document(self, value: Any) -> Any:
        """A parsed document with its strings filled; keys stay."""
        if isinstance(value, str):
            whole = _NAME.fullmatch(value)
            if whole and self._has(whole[1]):
                return self._as_value(whole[1], self._namespace[whole[1]])
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.document(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.document(inner) for inner in value]
        return value

    def value(self, name: str) -> Any:
        """What the notebook has under a name; raises ``KeyError``."""
        return self._namespace[name]

    def _has(self, name: str) -> bool:
        if name not in self._namespace or name.startswith("_"):
            return False
        value = self._namespace[name]
        if name in self._hidden and self._hidden[name] is value:
            return False  # IPython's own: In, Out, exit, quit
        return not isinstance(value, _NOT_DATA)

    def _as_value(self, name: str, value: Any) -> Any:
        value = _plain(value)
        if value is None or isinstance(value, bool | int | float | str | dict | list):
            return value
        if isinstance(value, tuple | set | frozenset):
            return list(value)
        return self._as_text(name, value)

    def _as_text(self, name: str, value: Any) -> str:
        value = _plain(value)
        if isinstance(value, str):
            return value
        if _is_pandas(value):
            return self._csv(name, value)
        if isinstance(value, dict | list | tuple):
            try:
                return json.dumps(value, ensure_ascii=False, default=str)
            except (ValueError, TypeError, RecursionError):
                return str(value)
        return str(value)

    def _csv(self, name: str, frame: Any) -> str:
        count = len(frame)
        has_default_index = type(frame.index).__name__ == "RangeIndex"
        shown: str = frame.head(FRAME_ROWS).to_csv(index=not has_default_index, lineterminator="\n")
        if count <= FRAME_ROWS:
            return shown
        cut = f"the first {FRAME_ROWS} of {count:,} rows"
        note = f"Of {name} only {cut} went into the input."
        if note not in self.notes:
            self.notes.append(note)
        return f"{shown}[{cut}]\n"


def cell_input(cell: str, filling: Filling | None = None) -> str | dict[str, Any] | list[Any]:
    """What a cell means as input, filled: JSON, YAML below ``---``, else text.

    >>> cell_input('{"rows": "{rows}", "note": "{rows} {x}"}', Filling({"rows": [1, 2]}))
    {'rows': [1, 2], 'note': '[1, 2] {x}'}
    """
    found = parsed(cell)
    if isinstance(found, str):
        text = found.removesuffix("\n")
        return filling.text(text) if filling else text
    document: dict[str, Any] | list[Any] = filling.document(found) if filling else found
    return document


def parsed(text: str) -> str | dict[str, Any] | list[Any]:
    """The document that a text is, as dict or list; what is neither JSON nor YAML stays the text that it is."""
    stripped = text.strip()
    if stripped.startswith(("{", "[")):
        value = _from_json(stripped)
    elif stripped.partition("\n")[0].strip() == "---":
        value = _from_yaml(stripped)
    else:
        return text
    return value if isinstance(value, dict | list) and _is_modest(value) else text


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: an impossible date
        return None


def _is_modest(document: Any) -> bool:
    """Whether it has at most a million parts: aliases of YAML can make a few lines into any number, or a circle."""
    sizes: dict[int, int] = {}

    def size(value: Any, above: frozenset[int]) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in above:
            return NODES_MAX + 1
        if id(value) not in sizes:
            inner: Sequence[Any] = list(value.values()) if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(part, above | {id(value)}) for part in inner)
        return sizes[id(value)]

    try:
        return size(document, frozenset()) <= NODES_MAX
    except RecursionError:
        return False


def _plain(value: Any) -> Any:
    """A number of numpy as Python's own."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    return value


def _is_pandas(value: Any) -> bool:
    # Only a module that is loaded can have made it.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)
