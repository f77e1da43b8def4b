"""Which format a file has, told from what is in it; its name counts only where the content says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from personas_nb.design.formats import desktop, front_matter, notebook, persona_json, persona_md, subagent
from personas_nb.design.formats.parsing import checked_object, decoded, object_of
from personas_nb.design.formats.report import ImportReport
from personas_nb.errors import InvalidInput, did_you_mean

Format = Literal["n8n", "desktop", "subagent", "json", "notebook", "persona_md"]
FORMATS: tuple[Format, ...] = get_args(Format)
LABELS: Mapping[str, str] = {
    "n8n": "n8n workflow",
    "desktop": "Personas Desktop",
    "subagent": "Claude Code subagent",
    "json": "personas_nb JSON",
    "notebook": "personas_nb notebook",
    "persona_md": ".persona.md",
}
_KNOWN = (
    "an n8n workflow, a Personas Desktop template or export, a Claude Code subagent, a .persona.md, "
    "or our own JSON or notebook"
)


def read(
    data: str | bytes | Mapping[str, Any],
    source: str,
    *,
    format: str | None = None,  # noqa: A002 - the report's name for it
    recipes: Mapping[str, Any] | None = None,
) -> ImportReport:
    """The file as a report, by its format or, where none is given, by what it looks like.

    ``recipes`` are those that a template of Personas Desktop may refer to. Raises ``InvalidInput`` and ``TooLarge``
    with one sentence and the next step.
    """
    document = None
    if format:
        chosen = format_named(format)
    else:
        chosen, data, document = _recognised(data, source)
    if chosen == "n8n":
        from personas_nb.design.formats import n8n

        return n8n.read(data, source, document=document)
    data = data if document is None else document
    if chosen == "desktop":
        return desktop.read(data, source, recipes=recipes)
    if chosen == "json":
        return persona_json.read(data, source)
    if isinstance(data, Mapping):
        if chosen == "notebook":
            return notebook.read(data, source)
        raise InvalidInput(f"A {LABELS[chosen]} is a text, not data.", hint="Give its path.")
    readers = {"notebook": notebook.read, "subagent": subagent.read, "persona_md": persona_md.read}
    return readers[chosen](data, source)


def format_named(name: str) -> Format:
    """The format of that name; “-” and “.” are as good as “_”. Raises ``InvalidInput`` with the nearest one."""
    plain = str(name).strip().lower().replace("-", "_").replace(".", "_").strip("_")
    plain = _ALIASES.get(plain, plain)
    if plain not in FORMATS:
        raise InvalidInput(
            f"There is no format “{name}”.",
            hint=did_you_mean(plain, FORMATS, otherwise=f"There are {', '.join(FORMATS)}."),
        )
    return plain


def format_of(data: str | bytes | Mapping[str, Any], source: str) -> Format:
    """The format that the content has; raises ``InvalidInput`` for none that can be imported.

    >>> format_of('{"nodes": [], "connections": {}}', "flow.json"), format_of("---\\nname: a\\n---\\nYou.", "a.md")
    ('n8n', 'subagent')
    """
    return _recognised(data, source)[0]


def _recognised(
    data: str | bytes | Mapping[str, Any], source: str
) -> tuple[Format, str | Mapping[str, Any], dict[str, Any] | None]:
    """The format, the content as text where it is one, and the object that it was parsed to, if it was."""
    if isinstance(data, Mapping):
        document = checked_object(dict(data), source)
        return _of_object(document, source), data, document
    text = decoded(data, source)
    if front_matter.has_front_matter(text):
        fields = front_matter.split(text, source).fields
        is_persona = persona_md.is_persona_md(fields) or source.endswith(".persona.md")
        return "persona_md" if is_persona else "subagent", text, None
    begins = text.lstrip()[:1]
    if begins in ("{", "[") or source.lower().endswith((".json", ".ipynb")):
        document = object_of(text, source)
        return _of_object(document, source), text, document
    if not text.strip():
        raise InvalidInput(f"{source} is empty.", hint="Export it again.")
    raise InvalidInput(f"{source} is in no format that can be imported.", hint=f"It may be {_KNOWN}.")


def _of_object(document: dict[str, Any], source: str) -> Format:
    if persona_json.is_ours(document):
        return "json"
    if notebook.is_notebook(document):
        return "notebook"
    if desktop.is_desktop(document):
        return "desktop"
    if desktop.is_recipes(document):
        raise InvalidInput(
            f"{source} holds recipes that templates refer to, and no persona.",
            hint="Import the templates beside it; it is read then.",
        )
    from personas_nb.design.formats import n8n

    if n8n.is_n8n(document):
        return "n8n"
    names = ", ".join(f"“{str(name)[:40]}”" for name in list(document)[:5])
    raise InvalidInput(
        f"{source} is JSON in no format that can be imported; it has {names}.", hint=f"It may be {_KNOWN}."
    )


_ALIASES = {"template": "desktop", "desktop_template": "desktop", "ipynb": "notebook", "md": "subagent"}
