"""What is found by its words: tools and connectors of the catalog, and the pattern that fits a task best.

- Full text finds candidates: stored templates, designs that passed their tests, the catalog. Shipped patterns are
  few and all compared.
- One measure orders them, whatever they come from: the rare words that a task shares with a title and keywords count
  most. Below a threshold nothing is taken; a pattern that fits badly is worse than none.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from personas_nb.design.prose import VERBS, content_words, verb_of, word_set
from personas_nb.design.shipped import Pattern, shipped_patterns
from personas_nb.entities.connector import Connector
from personas_nb.entities.pattern import PersonaDesignPattern
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.database import Store
from personas_nb.store.templates import TemplateIndex

APPROACH = CustomSection(key="approach", label="How to do it well")
_ENOUGH = 6.0  # two rare keywords, or one and a few common words
_CANDIDATES = 4
_LINES = 6
_TELLS_LITTLE = word_set(
    "report summary list file files data day week month time page table result message text"
)


# ── tools and connectors ────────────────────────────────────────────────────────────────────────────────────


def find_tools(
    text: str, tools: Sequence[ToolDefinition], store: Store, *, understood: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tools and connectors that no word of the lexicon stands for: named in the text, or found in full text.

    A tool that is not built in is taken when two words of the text are in its name or description. A built-in
    one only when nothing was ``understood``.
    """
    named = [tool.name for tool in tools if _names(tool.name, text)]
    words = [word for word in content_words(text) if verb_of(word) == "" and word.isalnum() and len(word) > 2]
    stems = {stem(word) for word in words}
    for tool, _rank in store.table("tools", ToolDefinition).search(words, limit=20):
        shared = stems & stems_of(f"{tool.name} {tool.description}")
        if len(shared) >= 2 and not (tool.is_builtin and understood):
            named.append(tool.name)
    builtin = {tool.name for tool in tools if tool.is_builtin}
    custom = [name for name in named if name not in builtin][:5]
    shipped = [name for name in named if name in builtin][: None if understood else 1]
    services = [
        connector.name
        for connector, _rank in store.table("connectors", Connector).search(words, limit=10)
        if not connector.is_builtin and stems & stems_of(f"{connector.name} {connector.label}")
    ]
    found = tuple(dict.fromkeys((*shipped, *custom)))
    return found, tuple(dict.fromkeys((*services, *needed_by(found, tools))))


def needed_by(names: Iterable[str], tools: Sequence[ToolDefinition]) -> tuple[str, ...]:
    """The connectors that these tools need a credential of."""
    wanted = set(names)
    needed = (tool.requires_credential_type for tool in tools if tool.name in wanted)
    return tuple(dict.fromkeys(name for name in needed if name))


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Match:
    """A pattern that fits, how well (higher is better), and the words that it shares with the task."""

    pattern: Pattern
    score: float
    shared: tuple[str, ...] = ()


def best_match(task: str, tools: Sequence[str], store: Store) -> Match | None:
    """The pattern, template or tested design that fits a task best; None if none fits well."""
    found = matches(task, tools, store)
    return found[0] if found else None


def matches(task: str, tools: Sequence[str], store: Store) -> list[Match]:
    """Everything that fits a task, best first. ``tools`` are those that the task is known to need."""
    words = content_words(re.sub(r"https?://", " ", task))
    stems = {stem(word): word for word in words}
    stems |= {stem(part): part for word in words for part in re.split(r"[^\w]+", word) if len(part) > 2}
    found = [_match(pattern, stems, tools) for pattern in (*_stored(words, store), *shipped_patterns())]
    return sorted((match for match in found if match.score >= _ENOUGH), key=lambda match: -match.score)


def _match(pattern: Pattern, stems: dict[str, str], tools: Sequence[str]) -> Match:
    shared: dict[str, float] = {}
    near, far = _index(pattern)
    for keyword in near:
        if keyword <= stems.keys():
            weight = 3.0 if len(keyword) == 1 else 4.0
            for each in keyword:
                shared[each] = max(shared.get(each, 0.0), weight * _rarity(each))
    for each in far & stems.keys() - shared.keys():
        shared[each] = _rarity(each)
    score = sum(shared.values())
    if tools and pattern.tools and not set(tools) & set(pattern.tools):
        score /= 2
    if pattern.origin != "shipped":
        score *= 1.1  # one's own before ours
    return Match(pattern, score, tuple(sorted(stems[each] for each in shared)))


@lru_cache(maxsize=512)
def _index(pattern: Pattern) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """The stems of each keyword and title word, and those of the summary."""
    near = {frozenset(stems_of(keyword)) for keyword in pattern.keywords}
    near |= {frozenset({each}) for each in stems_of(pattern.title)}
    return tuple(each for each in near if each), frozenset(stems_of(pattern.summary))


def _rarity(each: str) -> float:
    """How much a word tells: 0.1 for what stands everywhere, 1.6 for what only one shipped pattern has."""
    if each in _common():
        return 0.1
    seen = _frequencies()[each]
    return 0.5 * math.log(1 + len(shipped_patterns()) / max(seen, 1))


@cache
def _frequencies() -> Counter[str]:
    return Counter(
        each
        for pattern in shipped_patterns()
        for each in stems_of(" ".join((pattern.title, *pattern.keywords)))
    )


@cache
def _common() -> frozenset[str]:
    return frozenset(stem(word) for word in _TELLS_LITTLE)


def _stored(words: Sequence[str], store: Store) -> Iterator[Pattern]:
    """Templates and tested designs that share words with the task."""
    plain = [word for word in words if word.isalnum() and len(word) > 2 and stem(word) not in _common()]
    if not plain:
        return
    for template, _rank in TemplateIndex(store).search(plain, _CANDIDATES):
        design = template.design
        yield _of_prompt(
            template.name,
            template.title or template.name,
            template.summary,
            template.keywords,
            design.suggested_tools,
            design.structured_prompt,
            "template",
        )
    table = store.table("design_patterns", PersonaDesignPattern)
    for tested, _rank in table.search(plain, limit=_CANDIDATES):
        keywords = tuple(tested.keywords.split())
        yield _of_prompt(
            tested.name,
            tested.name,
            tested.summary,
            keywords,
            tested.tools,
            tested.structured_prompt,
            "tested design",
        )


def _of_prompt(
    name: str,
    title: str,
    summary: str,
    keywords: tuple[str, ...],
    tools: tuple[str, ...],
    prompt: StructuredPrompt,
    origin: str,
) -> Pattern:
    """A whole prompt as a pattern: its lines, each bound to the tools that it names."""
    kept = next((one.content for one in prompt.custom_sections if one.key == APPROACH.key), "")
    return Pattern(
        name=name,
        title=title,
        summary=summary,
        keywords=keywords,
        tools=tools,
        approach=tuple(_bound(line, tools) for line in _lines(kept or prompt.instructions)),
        examples=tuple(_bound(line, tools) for line in _lines(prompt.examples)),
        errors=tuple(_bound(line, tools) for line in _lines(prompt.error_handling)),
        origin=origin,
    )


def _lines(text: str) -> list[str]:
    """The points of a list, without their numbers and dashes."""
    plain = (re.sub(r"^\s*(?:[-•*]|\d{1,3}[.)])\s*", "", line).strip() for line in text.splitlines())
    return [line for line in plain if line and not line.startswith("#")][:_LINES]


def _bound(line: str, tools: Sequence[str]) -> str:
    line = line.replace("{", "(").replace("}", ")")
    named = (tool for tool in tools if tool in line and _names(tool, line))
    tool = next(named, None)
    return f"[{tool}] {line}" if tool else line


def _names(tool: str, text: str) -> bool:
    return bool(re.search(rf"(?<![\w.]){re.escape(tool)}(?!\w|\.\w)", text))


# ── adapting ────────────────────────────────────────────────────────────────────────────────────────────────


def adapted(
    lines: Iterable[str], *, has: Iterable[str], source: str = "", target: str = ""
) -> tuple[str, ...]:
    """The lines that a design can follow, with what it reads and writes in their places.

    >>> adapted(["[file_write] Write {target|the report}.", "[gmail_send] Send it."], has=["file_write"])
    ('Write the report.',)
    >>> adapted(["Read {source|the table} whole."], has=[], source="sales.csv")
    ('Read sales.csv whole.',)
    """
    there, named, kept = set(has), {"source": source, "target": target}, []
    for line in lines:
        bound = re.match(r"\[([\w.-]+)\]\s*", line)
        if bound and bound[1] not in there:
            continue
        text = line[bound.end() :] if bound else line
        text = re.sub(r"\{(source|target)\|([^}]*)\}", lambda match: named[match[1]] or match[2], text)
        kept.append(text[:1].upper() + text[1:])
    return tuple(kept)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def stems_of(text: str) -> set[str]:
    """The stems of a text's words."""
    return {stem(word) for word in re.findall(r"[^\W_]+", text.lower())}


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """A word without its ending, for comparing.

    >>> stem("invoices") == stem("invoice"), stem("queries") == stem("query"), stem("summarise") == stem("summarize")
    (True, True, True)
    """
    word = word.lower()
    base = verb_of(word)
    if base and word not in VERBS and word.endswith("ing"):
        word = base
    word = re.sub(r"is(e[sd]?|ing)$", r"iz\1", word) if len(word) > 6 else word
    for ending in ("ies", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word.removesuffix("e")
