"""n8n's expressions in words. They are explained, never evaluated.

A parameter that begins with ``=`` is a template; each ``{{ … }}`` in it is JavaScript. What is said for one stands
between ‹ and ›, as something to fill in. What is not understood is quoted.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from personas_nb.design.formats.n8n.text import code, plain

_LIMIT_CHARS = 160
_STRING = r"""(?:'([^'\n]{0,200})'|"([^"\n]{0,200})"|`([^`\n]{0,200})`)"""
_PATH = (
    r"""((?:\??\.[A-Za-z_$][\w$]{0,80}|\??\.?\[\s{0,3}"""
    r"""(?:'[^'\n]{0,120}'|"[^"\n]{0,120}"|\d{1,6})\s{0,3}\]){0,20})"""
)
_OF_ITEM = re.compile(rf"(?:\$json|\$input\.(?:item|first\(\)|last\(\))\.json|\$data){_PATH}")
_OF_NODE = re.compile(
    rf"(?:\$\(\s{{0,3}}{_STRING}\s{{0,3}}\)(?:\.(?:item|first\(\)|last\(\)|all\(\)(?:\[\d{{1,4}}\])?|itemMatching\([^()]{{0,40}}\)))?"
    rf"|(?:\$item\(\d{{1,4}}\)\.)?\$node\[\s{{0,3}}{_STRING}\s{{0,3}}\]|\$items\(\s{{0,3}}{_STRING}[^()]{{0,20}}\)(?:\[\d{{1,4}}\])?)(?:\.(?:json|data))?{_PATH}"
)
_BY_MODEL = re.compile(rf"\$fromAI\(\s{{0,5}}{_STRING}(?:\s{{0,5}},\s{{0,5}}{_STRING})?[^()]{{0,300}}\)")
_ENVIRONMENT = re.compile(r"\$(env|vars)(?:\.([A-Za-z_]\w{0,80})|\[\s?['\"]([^'\"\n]{1,80})['\"]\s?\])")
_AS_JSON = re.compile(r"JSON\.stringify\(\s{0,5}(.{1,300}?)\s{0,5}(?:,[^()]{0,40})?\)")
_CONSTANT = re.compile(r"""null|true|false|-?\d{1,15}(?:\.\d{1,15})?|'([^'\\]{0,160})'|"([^"\\]{0,160})\"""")
_CALL = re.compile(r"\.(\w{1,40})\(([^()]{0,120})\)")
_STEP = re.compile(r"""\.([A-Za-z_$][\w$]*)|\[\s*(?:'([^']*)'|"([^"]*)"|(\d+))\s*\]""")
_COMMENT = re.compile(r"/\*.{0,500}?\*/|^\s*//[^\n]{0,500}\n", re.DOTALL | re.MULTILINE)
_KNOWN = {
    "$now": "the present time",
    "$today": "today",
    "$json": "the item",
    "$input.all()": "all items",
    "$input.first()": "the first item",
    "$input.item": "the item",
    "$workflow.id": "the id of this workflow",
    "$workflow.name": "the name of this workflow",
    "$execution.id": "the id of this run",
    "$execution.resumeUrl": "the address that lets the run go on",
    "$itemIndex": "the number of the item",
    "$runIndex": "the number of the round",
    "$prevNode.name": "the name of the step before",
}
_TAILS = {
    "toISO": "as ISO text", "toISOString": "as ISO text", "toISODate": "as an ISO date", "toString": "as text",
    "toLowerCase": "in lower case", "toUpperCase": "in capitals", "trim": "without spaces around it",
    "toJsonString": "as JSON", "toNumber": "as a number", "toDateTime": "as a time", "length": "",
}  # fmt: skip


def is_expression(value: Any) -> bool:
    """Whether n8n would evaluate the text.

    >>> is_expression("={{ 12 }}"), is_expression("12")
    (True, False)
    """
    return isinstance(value, str) and value.startswith("=") and "{{" in value


def constant(value: Any) -> Any:
    """What n8n makes of a parameter, where that needs no evaluation; an expression stays as it is.

    >>> constant("=0 9 * * 1"), constant("={{ '0 9 * * 1' }}"), constant("={{ 12 }}"), constant("={{ $json.x }}")
    ('0 9 * * 1', '0 9 * * 1', '12', '={{ $json.x }}')
    """
    if not isinstance(value, str) or not value.startswith("="):
        return value
    if "{{" not in value:
        return value[1:]
    inner = re.fullmatch(r"=\{\{\s*(.{1,170}?)\s*\}\}", value.strip())
    found = _CONSTANT.fullmatch(inner[1]) if inner else None
    if found is None or found[0] in ("null", "true", "false"):
        return value
    return next((text for text in found.groups() if text is not None), found[0])


def explained(text: str, limit_chars: int = 2_000) -> str:
    """A parameter as a text in which each expression is said in words.

    >>> explained("=Dear {{ $json.name }}, see {{ $('Fetch').item.json.url }}")
    'Dear ‹name›, see ‹url of “Fetch”›'
    """
    if not text.startswith("="):
        return text if len(text) <= limit_chars else text[:limit_chars] + "…"
    return explain_places(text[1 : limit_chars * 2], limit_chars)


def explain_places(text: str, limit_chars: int) -> str:
    """A text with each ``{{ … }}`` in it said in words; an open one goes to the end."""
    parts: list[str] = []
    at = length = 0
    while length <= limit_chars:
        start = text.find("{{", at)
        if start < 0:
            parts.append(text[at:])
            break
        end = text.find("}}", start)
        end = len(text) if end < 0 else end
        while text[end : end + 3] == "}}}":  # an object literal ends here, too
            end += 1
        parts += [text[at:start], f"‹{in_words(text[start + 2 : end])}›"]
        length += len(parts[-1]) + len(parts[-2])
        at = end + 2
    whole = "".join(parts)
    return whole if len(whole) <= limit_chars else whole[:limit_chars] + "…"


def value_words(value: Any, limit_chars: int = 120) -> str:
    """A parameter's value as a code span, its expressions in words.

    >>> value_words("=https://x.org/{{ $json.id }}")
    '`https://x.org/‹id›`'
    """
    if isinstance(value, str):
        return code(explained(value, limit_chars * 3), limit_chars)
    return code(
        json.dumps(value) if value is None or isinstance(value, bool | int | float) else "", limit_chars
    )


@lru_cache(maxsize=2048)
def in_words(expression: str) -> str:
    """One expression in words; quoted where it is more than a reference.

    >>> in_words("$json['due date']"), in_words("$fromAI('To', 'who gets it')")
    ('due date', 'To: who gets it; you decide')
    >>> in_words("$json.a + 1")
    'what this gives: $json.a + 1'
    """
    text = expression[:1_000].strip()
    if "/*" in text or "//" in text:
        text = _COMMENT.sub("", text).strip()
    whole = plain(text, _LIMIT_CHARS)
    if not text:
        return "nothing"
    if whole in _KNOWN:
        return _KNOWN[whole]
    if match := _CONSTANT.fullmatch(whole):
        return next((text or "nothing" for text in match.groups() if text is not None), match[0])
    if match := _AS_JSON.fullmatch(text):
        return f"{in_words(match[1])}, as JSON"
    if match := _BY_MODEL.fullmatch(text):
        name, about = _first(match.groups()[:3]), _first(match.groups()[3:])
        return plain(f"{name}: {about}; you decide" if about else f"{name}, which you decide", _LIMIT_CHARS)
    if match := _ENVIRONMENT.fullmatch(text):
        kind = "environment variable" if match[1] == "env" else "variable"
        return f"n8n's {kind} {match[2] or plain(match[3], 60)}"
    base, said = _without_tails(text)
    if words := _reference(base):
        return plain(words + said, _LIMIT_CHARS)
    return f"what this gives: {whole}"


def _without_tails(text: str) -> tuple[str, str]:
    """The text without the calls at its end that can be said in a word or two."""
    said: list[str] = []
    while text.endswith(")") and len(said) < 4:
        match = next(
            (found for found in _CALL.finditer(text[-180:]) if found.end() == min(len(text), 180)), None
        )
        if match is None or match[1] not in _TAILS or match[2].strip():
            break
        said.insert(0, f", {_TAILS[match[1]]}")
        text = text[: len(text) - len(match[0])]
    return text, "".join(said)


def _reference(text: str) -> str:
    if text in _KNOWN:
        return _KNOWN[text]
    if match := _OF_ITEM.fullmatch(text):
        return _path(match[1]) or "the item"
    if match := _OF_NODE.fullmatch(text):
        *names, path = match.groups()
        node = f"“{plain(_first(names), 60)}”"
        field = _path(path)
        return f"{field} of {node}" if field else f"the result of {node}"
    return ""


def _path(steps: str) -> str:
    """``.a["b c"][0]`` as ``a.b c.0``."""
    return ".".join(
        next(part for part in found.groups() if part is not None) for found in _STEP.finditer(steps)
    )


def _first(groups: Any) -> str:
    return next((group for group in groups if group), "")
