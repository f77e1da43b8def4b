"""Text of strangers, marked as such: a name is a code span, a longer text a fence that nothing in it can end."""

from __future__ import annotations

import re

from personas_nb.engine.protocol import PROTOCOL_KINDS

# Control characters, what turns text around, half characters, and characters that nobody sees but a model reads.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_MESSAGE = re.compile(rf'\{{(\s{{0,100}})\\{{0,8}}"({"|".join(PROTOCOL_KINDS)})\\{{0,8}}"')
_RUN = re.compile(r"`{3,}")
_NAME = re.compile(r"[^\w\s.,;:&+'’‘“”()/!?@%=°–—-]", re.ASCII)


def visible(text: object) -> str:
    """Text without what nobody sees: control characters, marks of direction, hidden tags.

    >>> visible("sum\\u202e\\x07mary")
    'summary'
    """
    whole = str(text)
    if whole.isascii() and whole.isprintable():
        return whole
    return _UNSEEN.sub("", whole.replace("\r\n", "\n").replace("\r", "\n"))


def plain(text: object, limit_chars: int = 80) -> str:
    """Text on one line, cut after ``limit_chars``.

    >>> plain("two\\n lines  here", 10)
    'two lines…'
    """
    given = text if isinstance(text, str) else str(text)
    line = " ".join(visible(given[: limit_chars * 4 + 200]).split())
    if len(line) > limit_chars or len(given) > limit_chars * 4 + 200:
        return line[: limit_chars - 1].rstrip() + "…"
    return line


def code(text: object, limit_chars: int = 80) -> str:
    """Text as a Markdown code span that nothing in it can leave.

    >>> code("a `b` <c>")
    "`a 'b' <c>`"
    """
    return f"`{plain(text, limit_chars).replace('`', chr(39)) or '(empty)'}`"


def fenced(text: object, limit_chars: int) -> str:
    """Text as a Markdown fence that nothing in it can end; a message of ours that stands in it is one no more.

    >>> print(fenced("one\\n```two", 99))
    ````text
    one
    ```two
    ````
    """
    given = str(text)
    whole = visible(given[: limit_chars + 1]).strip("\n")
    if len(given) > limit_chars:
        whole = f"{whole[:limit_chars].rstrip()}\n…"
    whole = _MESSAGE.sub(r"{\1“\2”", whole)
    ticks = "`" * max(3, 1 + max((len(run) for run in _RUN.findall(whole)), default=0))
    return f"{ticks}text\n{whole}\n{ticks}"


def name_like(text: object, limit_chars: int = 80) -> str:
    """Text as a name: no sign that Markdown or HTML gives a meaning to.

    >>> name_like("✨ <b>RSS</b> to [Telegram](x)")
    '✨ b RSS /b to Telegram (x)'
    """
    line = plain(text, limit_chars * 2)
    kept = "".join(char if ord(char) > 127 else _NAME.sub(" ", char) for char in line)
    return plain(kept, limit_chars).strip(" -–—/:;,.")


def humanised(word: str) -> str:
    """An identifier as words.

    >>> humanised("getAllRows"), humanised("OAuth2Api")
    ('get all rows', 'o auth2 api')
    """
    return (
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain(word, 60))
        .replace("_", " ")
        .lower()
        .replace("oauth", "o auth")
    )


def listed(words: list[str], joiner: str = "and") -> str:
    """Words as a list.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(words[:-1])} {joiner} {words[-1]}" if len(words) > 1 else "".join(words)
