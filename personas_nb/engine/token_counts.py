"""Token counts as model servers report them, without what cannot be right: that counts as not measured."""

from __future__ import annotations

from typing import Any

MOST_TOKENS = 1_000_000_000  # no answer has a hundredth of it
_ANTHROPIC = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_ANTHROPIC_DETAILS = ("cache_creation", "output_tokens_details", "server_tool_use")


def count_of(value: Any) -> int | None:
    """A number of tokens; None for what cannot be one.

    >>> [count_of(value) for value in (12, "12", 12.0, 1.5, -1, True, None, 10**30)]
    [12, 12, 12, None, None, None, None, None]
    """
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    if is_digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if is_count else None


def openai_counts(usage: Any, earlier: dict[str, Any]) -> dict[str, Any]:
    """What is known after one more ``usage`` of the same answer.

    Each is of the whole answer so far; a server that repeats a count as 0 or null has not taken it back.
    """
    known = dict(earlier)
    for name, value in _dict(usage).items():
        count: Any = _counts(value) if name.endswith("_details") else count_of(value)
        if count or (count == 0 and name not in known):
            known[name] = count
    return known


def openai_usage(counts: dict[str, Any]) -> dict[str, Any] | None:
    """The counts of an answer as the API has them; None where they say too little, or contradict each other."""
    given, written = counts.get("prompt_tokens", 0), counts.get("completion_tokens")
    cached = counts.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    if written is None or not given + written or cached > given:
        return None
    return counts | {"prompt_tokens": given, "total_tokens": given + written}


def anthropic_usage(usage: Any, *, is_first: bool) -> dict[str, Any]:
    """A ``usage`` of the Messages API; ``is_first``: it is not one that goes on with an earlier one."""
    given = _dict(usage)
    kept = {name: value for name, value in given.items() if name not in (*_ANTHROPIC, *_ANTHROPIC_DETAILS)}
    kept |= {name: count for name in _ANTHROPIC if (count := count_of(given.get(name)))}
    kept |= {name: counts for name in _ANTHROPIC_DETAILS if (counts := _counts(given.get(name)))}
    return {"input_tokens": 0, "output_tokens": 0} | kept if is_first else kept


def _counts(value: Any) -> dict[str, int]:
    return {name: count for name, each in _dict(value).items() if (count := count_of(each)) is not None}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
