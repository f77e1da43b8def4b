"""Whether the arguments of a tool call fit the tool's input schema, in sentences that a model can act upon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import InvalidInput, did_you_mean

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list, tuple),
    "null": (type(None),),
}


def check_arguments(tool: ToolDefinition, arguments: object) -> None:
    """Raise InvalidInput, naming all that is wrong, unless the arguments fit ``tool.input_schema``.

    Looked at are type, enum, required, properties, additionalProperties and items, at any depth; what else a
    JSON schema can say is left to the tool itself.
    """
    wrong = list(_problems(arguments, {"type": "object", **tool.input_schema}, ""))
    if not wrong:
        return
    properties = tool.input_schema.get("properties") or {}
    required = tool.input_schema.get("required") or []
    takes = ", ".join(f"{name} (required)" if name in required else name for name in properties)
    raise InvalidInput(
        f"{'; '.join(wrong)}.", hint=f"{tool.name} takes {takes}." if takes else f"{tool.name} takes nothing."
    )


def _problems(value: object, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    subject = f"“{where}”" if where else "the arguments"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        yield f"{subject} must be {' or '.join(_in_words(kind) for kind in kinds)}, not {_kind_of(value)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{subject} must be one of {', '.join(str(choice) for choice in schema['enum'])}"
    if isinstance(value, dict):
        yield from _object_problems(value, schema, where)
    if isinstance(value, list | tuple) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _problems(item, schema["items"], f"{where}[{index}]")


def _object_problems(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties") or {}
    others = schema.get("additionalProperties", True)
    inside = f"{where}." if where else ""
    for name in schema.get("required") or ():
        if name not in value:
            yield f"“{inside}{name}” is missing"
    for name, item in value.items():
        if name in known:
            yield from _problems(item, known[name], inside + name)
        elif others is False:
            near = did_you_mean(str(name), known)
            yield f"“{inside}{name}” is unknown" + (f" ({near[0].lower()}{near[1:]})" if near else "")
        elif isinstance(others, dict):
            yield from _problems(item, others, inside + name)


def _is_a(value: object, kind: str) -> bool:
    if kind in ("integer", "number"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (kind == "number" or float(value).is_integer())  # type: ignore[arg-type]
    return isinstance(value, _TYPES.get(kind, object))


def _in_words(kind: str) -> str:
    return "null" if kind == "null" else f"{'an' if kind[0] in 'aio' else 'a'} {kind}"


def _kind_of(value: object) -> str:
    for kind in ("null", "boolean", "string", "integer", "number", "array", "object"):
        if _is_a(value, kind):
            return _in_words(kind)
    return f"a {type(value).__name__}"
