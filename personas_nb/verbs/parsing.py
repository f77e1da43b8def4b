"""A typed line becomes a verb with its arguments.

- Free text is the raw rest of the line, never split as a shell would: “boss's mail” is two words of a sentence.
- Options of the verb may stand before the free text or at its very end; ``--`` ends them.
- Text as a whole in double quotes, straight or typographic, is taken without them.
- Words are read first and ``{name}`` is filled afterwards, so that what a variable holds is never an option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from personas_nb.errors import did_you_mean
from personas_nb.verbs import table
from personas_nb.verbs.table import Argument, Verb
from personas_nb.verbs.usage import WrongUsage
from personas_nb.verbs.values import absent, converted, fields_of
from personas_nb.verbs.words import TEXT_QUOTES, Word, is_dashed, word_at, words_of

Raw = str | list[str] | bool


@dataclass(frozen=True)
class Typed:
    """A line as it was typed: the verb, and its arguments as text by key."""

    verb: Verb
    raw: Mapping[str, Raw] = field(default_factory=dict)
    wants_help: bool = False
    reads_input: bool = False
    """Whether a lone ``-`` asked for the cell's text from the standard input."""
    is_silent: bool = False
    """Whether the line ended with ``;``, which in a notebook means: show nothing."""

    def values(self, fill: Callable[[str], str] = str, *, has_cell: bool = False) -> dict[str, Any]:
        """The arguments as what they mean, defaults included; ``fill`` puts variables into each text.

        A cell below (``has_cell``) stands in for the verb's free text.

        Raises ``WrongUsage`` for what is missing or no number, duration or choice.
        """
        fill = str if self.raw.get("raw") else fill
        found: dict[str, Any] = {}
        for argument in self.verb.arguments:
            given = self.raw.get(argument.key)
            if given is None or given == "":
                if argument.required and not (has_cell and argument.name == self.verb.free_text):
                    raise self._missing(argument)
                found[argument.key] = absent(argument)
            elif argument.kind == "fields":
                found[argument.key] = fields_of(given, fill)  # type: ignore[arg-type]  # a flag has no such kind
            elif isinstance(given, list):
                found[argument.key] = [converted(argument, fill(word)) for word in given]
            else:
                found[argument.key] = given if isinstance(given, bool) else converted(argument, fill(given))
        return found

    def _missing(self, argument: Argument) -> WrongUsage:
        what = (argument.unit or argument.name.upper()).removesuffix(" …").replace('"…"', "a text")
        return WrongUsage(f"`{self.verb.words}` needs {what}.", hint=f"Type `%persona {self.verb.usage}`.")


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def parse_line(line: str, *, has_cell: bool = False) -> Typed:
    """What a line after ``%persona`` (``%%persona``: ``has_cell``) means.

    >>> typed = parse_line('refine use my boss\\'s mail --session 1a2b')
    >>> typed.raw["text"], typed.raw["session"]
    ("use my boss's mail", '1a2b')
    """
    line, is_silent = _unsilenced(line)
    words = []
    for word in words_of(line):
        if word.quoted or word.text.startswith("-"):
            break
        words.append(word)
        if len(words) == 3:
            break
    verb, count, line_start = _verb_of(words)
    rest = line[line_start:]
    if count < 0:  # “memories NAME pin ID”: the name comes first
        rest = f"{words[1].text} {rest}" if verb.positionals[0].completer in ("personas", "groups") else rest
    reader = _Reader(verb)
    if verb.free_text:
        reader.read_free(rest, has_cell=has_cell)
    else:
        reader.read_words(rest)
    if is_silent and verb.option("--quiet"):
        reader.raw["quiet"] = True
    return replace(reader.typed(), is_silent=is_silent)


def _unsilenced(line: str) -> tuple[str, bool]:
    """The line without a ``;`` at its end, and whether there was one; behind free text only where that is quoted."""
    before = line.rstrip().removesuffix(";").rstrip()
    if before == line.rstrip():
        return line, False
    words = list(words_of(before))[:2]
    verb, count = table.find([word.text for word in words])
    if verb is None or not verb.free_text or verb.positionals[-1].kind == "fields":
        return before, True
    # The quoted text itself, or a name or an id and then the text.
    opening = re.match(r'\s*(?:[^\s"“„]+\s+)?(["“„])', before[words[count - 1].end :])
    is_quoted = opening is not None and before.endswith(TEXT_QUOTES[opening[1]])
    return (before, True) if is_quoted else (line, False)


def _verb_of(words: Sequence[Word]) -> tuple[Verb, int, int]:
    """The verb, how many words it is made of (negative: a name stands inside it), and where the rest begins."""
    texts = [word.text for word in words]
    verb, count = table.find(texts)
    if verb is None:
        raise _no_verb(texts[0])
    if count == 1 and len(texts) == 3 and texts[2] in table.subs(verb.noun):
        swapped, _ = table.find([verb.noun, texts[2]])
        assert swapped is not None
        return swapped, -2, words[2].end
    return verb, count, words[count - 1].end if count else 0


def _no_verb(word: str) -> WrongUsage:
    full = [verb.words for verb in table.VERBS if verb.sub == word]
    hint = f"Did you mean “{full[0]}”?" if full else did_you_mean(word, table.nouns())
    return WrongUsage(f"There is no verb “{word}”.", hint=f"{hint} `%persona help` shows all.".strip())


class _Reader:
    """Collects the arguments of one verb, from a line or from the words of a shell."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.raw: dict[str, Raw] = {}
        self.loose: list[Word] = []
        self.reads_input = False

    def typed(self) -> Typed:
        """What was read, with the loose words given to the verb's arguments."""
        wants_help = bool(self.raw.pop("help", False))
        if not wants_help:
            self._assign()
        return Typed(self.verb, self.raw, wants_help, self.reads_input)

    def read_words(self, text: str) -> None:
        """A line in which every word is an option or an argument."""
        self._take(list(words_of(text)))

    def read_argv(self, argv: Sequence[str]) -> None:
        """Words that a shell has parted."""
        self._take([Word(word, 0) for word in argv])
        if self.verb.free_text and not self.raw.get("help"):
            self._free_from_loose()

    def read_free(self, text: str, *, has_cell: bool = False) -> None:
        """A line that ends in free text: options, the arguments before it, the text, options."""
        before = 0 if self.verb.words == "design" else len(self.verb.positionals) - 1
        start = 0
        while (word := word_at(text, start)) is not None:
            if word.text == "--" and not word.quoted:
                self.raw[self.verb.free_text] = text[word.end :].strip()
                return
            if is_dashed(word):
                start = self._option(text, word)
            elif len(self.loose) < before:
                self.loose.append(word)
                start = word.end
            else:
                break
        rest = text[start:].strip()
        if self.verb.words == "design":
            rest = self._design_name(rest, has_cell=has_cell)
        if rest:
            self.raw[self.verb.free_text] = self._without_options(rest)

    def _design_name(self, text: str, *, has_cell: bool) -> str:
        """Take the name off: all of a cell's line; else a word, or a quoted one, before a quoted instruction."""
        if has_cell:
            name = self._without_options(text)
            if name:
                self.raw["name"] = name
            return ""
        word = word_at(text, 0)
        rest = text[word.end :].strip() if word is not None else ""
        if word is not None and rest[:1] in TEXT_QUOTES and rest[:1] and self._quoted(rest) is not None:
            self.raw["name"] = word.text
            return rest
        return text

    def _without_options(self, text: str) -> str:
        """Free text without its quotes, its trailing options taken off."""
        if text[:1] in TEXT_QUOTES:
            found = self._quoted(text)
            if found is not None:
                inner, options = found
                self._take_options(options)
                return inner
            if stray := re.search(
                rf"{TEXT_QUOTES[text[0]]}\s+(--[a-z][\w-]*)[^{TEXT_QUOTES[text[0]]}]*$", text
            ):
                if self.verb.option(stray[1]) is None:
                    raise self._no_option(stray[1])
                raise WrongUsage(f"What follows {stray[1]} cannot be read.", hint=self._how())
            if not self._is_config:
                return text
        for place in re.finditer(r"(?:^|(?<=\s))--?[A-Za-z]", text):
            if self._are_options(text, place.start()):
                self._take_options(text[place.start() :])
                return text[: place.start()].strip()
        return text

    @property
    def _is_config(self) -> bool:
        """Whether the free text is a quoted time with fields behind it, and then options."""
        return self.verb.positionals[-1].completer == "trigger_fields"

    def _quoted(self, text: str) -> tuple[str, str] | None:
        """What stands in the quotes that the text begins with, and the options after; None: it is no such text."""
        close = TEXT_QUOTES[text[0]]
        end = 0
        while (end := text.find(close, end + 1)) > 0:  # the first, for values of options may be quoted too
            after = word_at(text, end + 1)
            if after is None or (text[end + 1].isspace() and self._are_options(text, end + 1)):
                return text[1:end].strip(), text[end + 1 :]
        return None

    def _are_options(self, text: str, start: int) -> bool:
        """Whether all that begins here is options; the first word alone says no for most of a long text."""
        first = word_at(text, start)
        if first is None or first.quoted or self.verb.option(first.text.partition("=")[0]) is None:
            return False
        probe = _Reader(self.verb)
        try:
            probe._take_options(text[start:])
        except WrongUsage:
            return False
        return not probe.loose

    def _take_options(self, text: str) -> None:
        self._take(list(words_of(text)))

    def _option(self, text: str, word: Word) -> int:
        """Read the option at ``word``; where the text goes on after it and its value."""
        name, _, value = word.text.partition("=")
        argument = self._known(name)
        if argument.kind == "flag":
            self._keep(argument, [Word("", 0)])
            return word.end
        if value:
            self._keep(argument, [Word(value, 0)])
            return word.end
        following = word_at(text, word.end)
        if following is None:
            raise self._no_value(argument)
        self._keep(argument, [following])
        return following.end

    def _take(self, words: list[Word]) -> None:
        position = 0
        while position < len(words):
            word = words[position]
            position += 1
            if word.text == "--" and not word.quoted:
                self.loose += words[position:]
                return
            if word.text == "-" and not word.quoted:
                self.reads_input = True
            elif not is_dashed(word):
                self.loose.append(word)
            else:
                name, equals, value = word.text.partition("=")
                argument = self._known(name)
                values = [Word(value, 0)] if equals else []
                while argument.kind != "flag" and position < len(words) and not equals:
                    following = words[position]
                    if is_dashed(following) or (values and (not argument.many or following.text == "-")):
                        break
                    values.append(following)
                    position += 1
                self._keep(argument, values or [Word("", 0)])

    def _keep(self, argument: Argument, values: list[Word]) -> None:
        if argument.kind == "flag":
            if values[0].text:
                raise WrongUsage(f"{argument.name} takes no value.", hint=self._how())
            self.raw[argument.key] = True
            return
        if not values[0].text:
            raise self._no_value(argument)
        if argument.many:
            kept = self.raw.setdefault(argument.key, [])
            assert isinstance(kept, list)
            kept += [value.text for value in values]
        elif argument.key in self.raw:
            raise WrongUsage(f"{argument.name} is given twice.", hint=self._how())
        else:
            self.raw[argument.key] = values[0].text

    def _assign(self) -> None:
        """Give the loose words to the verb's arguments; a greedy one takes what the others leave."""
        wanted = [argument for argument in self.verb.positionals if argument.name != self.verb.free_text]
        words = [word.text for word in self.loose]
        spare = len(words) - len(wanted)
        for argument in wanted:
            if argument.key in self.raw or not words:
                continue
            take = 1
            if argument.many:
                self.raw[argument.key], words = words, []
                continue
            if argument.greedy and spare > 0:
                take += spare
            self.raw[argument.key], words = " ".join(words[:take]), words[take:]
        if words:
            raise self._too_much(words[0])

    def _free_from_loose(self) -> None:
        """Of words that a shell parted: those before the free text, then the text."""
        free = self.verb.free_text
        if self.verb.words == "design":
            words = [word.text for word in self.loose]
            is_named = len(words) == 2 and (" " in words[1].strip() or self.reads_input)
            if self.reads_input:
                self.raw["name"] = " ".join(words)
            elif is_named:
                self.raw["name"], self.raw[free] = words
            else:
                self.raw[free] = " ".join(words)
            self.raw = {key: value for key, value in self.raw.items() if value != ""}
            self.loose = []
            return
        before = len(self.verb.positionals) - 1
        texts = [word.text for word in self.loose[before:]]
        self.loose = self.loose[:before]
        if texts:
            is_fields = any(argument.kind == "fields" for argument in self.verb.positionals)
            self.raw[free] = texts if is_fields else " ".join(texts)

    def _known(self, name: str) -> Argument:
        argument = self.verb.option(name)
        if argument is None:
            raise self._no_option(name)
        return argument

    def _no_option(self, name: str) -> WrongUsage:
        if self.verb.keeps_secrets and not did_you_mean(name, [a.name for a in self.verb.options]):
            return self._not_in_the_line()
        known = [argument.name for argument in self.verb.options]
        hint = did_you_mean(name, known, otherwise=f"It takes {', '.join(known)}.")
        if self.verb.free_text:
            hint += " Put -- before a text that begins with dashes."
        return WrongUsage(f"`{self.verb.words}` has no option {name}.", hint=hint)

    def _no_value(self, argument: Argument) -> WrongUsage:
        what = f"one of {', '.join(argument.choices)}" if argument.choices else argument.unit or "a value"
        return WrongUsage(f"{argument.name} needs {what}.", hint=self._how())

    def _not_in_the_line(self) -> WrongUsage:
        return WrongUsage(
            f"`{self.verb.words}` takes no value in the line: it would be saved with the notebook.",
            hint=f"Take it out, and change a secret that was saved. {self._how()}",
        )

    def _too_much(self, word: str) -> WrongUsage:
        if self.verb.keeps_secrets:
            return self._not_in_the_line()
        if not self.verb.words:
            return _no_verb(word)
        subs = table.subs(self.verb.noun)
        if subs and self.verb.is_default:
            hint = did_you_mean(word, subs, otherwise=f"There are {', '.join(subs)}.")
            return WrongUsage(f"`{self.verb.noun}` has no “{word}”.", hint=hint)
        return WrongUsage(f"`{self.verb.words}` does not know what to do with “{word}”.", hint=self._how())

    def _how(self) -> str:
        return f"Type `%persona {self.verb.usage}`."


# ── words of a shell ────────────────────────────────────────────────────────────────────────────────────────


def parse_argv(argv: Sequence[str]) -> Typed:
    """What the words of a shell mean; a lone ``-`` stands for the standard input.

    >>> parse_argv(["runs", "show", "1a2b"]).raw
    {'id': '1a2b'}
    """
    words: list[Word] = []
    for position, text in enumerate(argv[:3]):
        if text.startswith("-"):
            break
        words.append(Word(text, position + 1))
    verb, count, start = _verb_of(words)
    rest = list(argv[start:])
    if count < 0 and verb.positionals[0].completer == "personas":
        rest.insert(0, argv[1])
    reader = _Reader(verb)
    reader.read_argv(rest)
    return reader.typed()
