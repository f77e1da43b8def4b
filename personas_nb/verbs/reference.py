"""``docs/reference.md``: every verb and every setting, written from the table and the settings themselves.

``python -m personas_nb.verbs.reference`` prints it; with a path it writes the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from personas_nb.settings import Settings
from personas_nb.verbs import table
from personas_nb.verbs.looking import meaning, typed
from personas_nb.verbs.table import Verb

_HEAD = """\
# Reference

This page is generated: `python -m personas_nb.verbs.reference docs/reference.md`.

## Verbs

`%load_ext personas_nb` brings `%persona` and `%%persona`; in a terminal the same verbs follow `personas`.

- A persona is named by its slug, name or id; everything else by a unique beginning of its id, or `latest`.
- Nouns are plural; their singular means the same (`%persona review approve latest`).
- Free text is the raw rest of the line; options may stand before it or at its end, and `--` ends them.
- `{name}` is filled from the notebook's variables where it names one; every other brace stays. `--raw` switches
  it off.
- `%config PersonaMagics.short_errors = False` shows tracebacks instead of sentences.
- In a terminal `-` reads a cell's text from the standard input: `personas run mail-boy - < mail.txt`. The exit
  code is 0, 1 for what failed, 2 for what cannot be understood, 130 for an interrupt.
"""
_SETTINGS = """\
## Settings

They are looked up in this order: the environment variable, the section of `personas.toml` in the home that
`PERSONAS_ENV` names (`[development]`, `[staging]`, `[production]`), its section `[default]`, the default below.

`PERSONAS_HOME` is the folder that holds everything, `PERSONAS_ENV` the environment. `PERSONAS_KEYRING=off` and
`PERSONAS_KEY_FILE` (a path) keep the key of the vault in a file instead of the system's keyring.
"""


def reference() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for group, verbs in table.groups().items():
        parts.append(f"### {group}\n")
        parts += [_verb(verb) for verb in verbs]
    parts.append(_SETTINGS)
    rows = [
        (f"`{row.key}`", f"`{row.variable}`", row.default, row.expected, row.description)
        for row in Settings.describe()
    ]
    parts.append(_table(("setting", "variable", "default", "takes", "meaning"), rows))
    return "\n".join(parts)


def _verb(verb: Verb) -> str:
    return "\n".join(_lines(verb))


def _lines(verb: Verb) -> Iterator[str]:
    yield f"#### `{f'%persona {verb.words}'.strip()}`\n"
    yield f"{verb.summary}\n"
    usage = [f"%persona {verb.usage}".strip()]
    if verb.cell:
        usage.append(f"%%persona {_with_cell(verb)}        (the cell is {verb.cell})")
    yield "```text\n" + "\n".join(usage) + "\n```\n"
    if verb.details:
        yield f"{verb.details}\n"
    rows = [
        (f"`{typed(argument)}`", meaning(argument)) for argument in (*verb.positionals, *verb.options[:-1])
    ]
    if rows:
        yield _table(("argument", "meaning"), rows)
    if verb.examples:
        yield "```text\n" + "\n\n".join(verb.examples) + "\n```\n"


def _with_cell(verb: Verb) -> str:
    arguments = [argument.usage for argument in verb.arguments if argument.name != verb.free_text]
    return " ".join((verb.words, *arguments))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(argv: list[str]) -> None:
    """Print the page, or write it to the path that is given."""
    if argv:
        Path(argv[0]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main(sys.argv[1:])
