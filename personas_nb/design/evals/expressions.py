"""Whether regular expressions match a text, tried in a process of its own that can be ended.

Python's ``re`` cannot be interrupted and keeps the interpreter for itself: a pattern such as ``(a+)+$`` would stand
the whole kernel still. The module ``regex`` knows a time limit, but takes all memory for ``((a{100}){100}){100}``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence

from personas_nb.errors import InvalidInput

LIMIT_SECONDS = 2.0
PATTERN_LIMIT_CHARS = 1000
_START_SECONDS = 10.0  # a loaded machine may need long to start the process
_CHILD = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
except Exception:
    pass
patterns, text = json.load(sys.stdin)
print("begun", flush=True)
for pattern in patterns:
    try:
        found = re.search(pattern, text)
        said = [found is not None, found[0][:200] if found else ""]
    except Exception as error:
        said = [None, type(error).__name__]
    print(json.dumps(said), flush=True)
"""


def check_pattern(pattern: str) -> None:
    """Raise ``InvalidInput`` for what is no regular expression, or too long a one.

    >>> check_pattern(r"[0-9]+ EUR")
    """
    if len(pattern) > PATTERN_LIMIT_CHARS:
        raise InvalidInput(
            f"A pattern has {len(pattern):,} characters; {PATTERN_LIMIT_CHARS:,} are allowed.",
            hint="Look for less at once.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInput(
            f"“{pattern[:100]}” is no regular expression: {error}.",
            hint="Plain text to look for goes into `contains`.",
        ) from None


def matches(
    patterns: Sequence[str], text: str, *, limit_seconds: float = LIMIT_SECONDS
) -> list[tuple[bool | None, str]]:
    """For each pattern whether it is found anywhere in the text, and what was found; None: it could not be told.

    All of them together may take ``limit_seconds``.

    >>> matches([r"[0-9]+ EUR", "USD"], "It is 40 EUR.")
    [(True, '40 EUR'), (False, '')]
    """
    if not patterns:
        return []
    lines = _answers(json.dumps([list(patterns), text]), limit_seconds)
    found: list[tuple[bool | None, str]] = []
    for line in lines[: len(patterns)]:
        is_found, what = json.loads(line)
        found.append((is_found, what if is_found is not None else f"It failed with {what}."))
    if len(found) < len(patterns):
        found.append((None, f"It took longer than {limit_seconds:g} s, so it was given up."))
    while len(found) < len(patterns):
        found.append((None, "It was not tried: one before it took too long."))
    return found


def _answers(given: str, limit_seconds: float) -> list[str]:
    """What the process has printed, line by line, when it ended or was ended."""
    import threading

    process = subprocess.Popen(  # noqa: S603 - our own program; what was given is its input
        [sys.executable, "-I", "-S", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # an interrupt of the kernel is not its own
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(_START_SECONDS, process.kill)
    timer.start()
    try:
        try:
            process.stdin.write(given)
            process.stdin.close()
        except OSError:  # it is gone already
            return []
        begun = process.stdout.readline()
        timer.cancel()
        timer = threading.Timer(limit_seconds, process.kill)
        timer.start()
        return [line for line in process.stdout.read().splitlines() if line] if begun else []
    finally:
        timer.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
