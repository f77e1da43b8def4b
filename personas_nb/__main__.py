"""The same verbs from a terminal: ``personas VERB …`` or ``python -m personas_nb VERB …``.

``personas run NAME -`` reads the input from the standard input. The exit code is 0, 1 for a run or verb that
failed (one sentence on the standard error), 2 for what cannot be understood, 130 for an interrupt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Do one verb and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a glyph gets a question mark
    if words in (["--version"], ["-V"]):
        from personas_nb import __version__

        return _said(f"personas_nb {__version__}")
    try:
        return _said(_performed(words))
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, it becomes a sentence
        return _failed(error)


def _performed(words: list[str]) -> str:
    from personas_nb.studio import Studio
    from personas_nb.verbs.dispatch import perform
    from personas_nb.verbs.parsing import parse_argv
    from personas_nb.verbs.surface import Shell, in_shell_words, printed
    from personas_nb.verbs.usage import WrongUsage

    typed = parse_argv(words)
    for argument in typed.verb.options:
        if not argument.terminal and argument.key in typed.raw:
            raise WrongUsage(f"{argument.name} works in a notebook only.", hint="Leave it out.")
    with Studio() as studio:
        cell = _standard_input() if typed.reads_input else None
        result = perform(typed, studio=studio, surface=Shell(), cell=cell)
        return printed(result) if isinstance(result, str) else in_shell_words(printed(result))


def _standard_input() -> str:
    from personas_nb.errors import InvalidInput

    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(
            "The standard input is no text in UTF-8.", hint="Give a file with --file instead."
        ) from None


def _failed(error: BaseException) -> int:
    from personas_nb.errors import PersonaError
    from personas_nb.settings import default_home
    from personas_nb.verbs.failures import keep_secrets, sentence_of, unexpected, was_interrupted
    from personas_nb.verbs.surface import in_shell_words
    from personas_nb.verbs.usage import WrongUsage

    is_interrupt = was_interrupted(error)
    if isinstance(error, KeyboardInterrupt):
        _complain("Interrupted.")
        return INTERRUPTED
    keep_secrets(error, default_home())
    if not isinstance(error, PersonaError):
        error = unexpected(error, default_home())
    _complain(in_shell_words(sentence_of(error)))
    if is_interrupt:
        return INTERRUPTED
    return USAGE if isinstance(error, WrongUsage) else FAILED


def _said(text: Any) -> int:
    if text:
        print(text, flush=True)  # noqa: T201 - this is the terminal
    return OK


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


if __name__ == "__main__":
    sys.exit(main())
