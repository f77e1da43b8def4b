"""``%persona`` and ``%%persona``: split the line, look the verb up, show the result.

Only the standard library is imported here, and what IPython has loaded already: ``%load_ext`` must cost nothing.
"""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import context_matcher
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Bool

if TYPE_CHECKING:
    from personas_nb.verbs.kernel import Kernel

_LINE = re.compile(r"\s*(?:[\w.,\s\[\]'\"]+=\s*)?%%?persona\s+")


@magics_class
class PersonaMagics(Magics):
    """Design, run, watch and govern personas; ``%persona help`` shows every verb."""

    shell: Any
    short_errors = Bool(
        True, help="Show an error as one sentence and the next step, not as a traceback."
    ).tag(config=True)

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._kernel: Kernel | None = None

    @no_var_expand
    @line_cell_magic
    def persona(self, line: str = "", cell: str | None = None) -> Any:
        """Personas: `%persona` is an overview, `%persona help` shows every verb."""
        try:
            return self._perform(line, cell)
        except (Exception, KeyboardInterrupt) as error:  # whatever it is, it becomes a sentence
            shown = self._shown(error)
        raise shown

    @property
    def kernel(self) -> Kernel:
        """The studios of this kernel, opened at the first verb."""
        if self._kernel is None:
            from personas_nb.verbs.kernel import Kernel

            self._kernel = Kernel()
        return self._kernel

    def close(self) -> None:
        """Close the studios."""
        if self._kernel is not None:
            self._kernel.close()

    def complete(self, context: Any) -> dict[str, Any]:
        """What may come next on a line that begins with our magic; never raises."""
        line = context.text_until_cursor
        found = _LINE.match(line) if "%persona" in line else None
        if found is None:
            return {"completions": []}
        from IPython.core.completer import SimpleCompletion

        from personas_nb.verbs.completion import complete

        fragment, words = complete(line[found.end() :], lambda: self.kernel.existing())
        return {
            "completions": [SimpleCompletion(text=word, type="persona") for word in words],
            "matched_fragment": fragment,
            "suppress": True,
            "ordered": True,
        }

    def _perform(self, line: str, cell: str | None) -> Any:
        from personas_nb.verbs.dispatch import perform
        from personas_nb.verbs.filling import Filling
        from personas_nb.verbs.parsing import parse_line
        from personas_nb.verbs.surface import Notebook, presented
        from personas_nb.verbs.usage import WrongUsage

        typed = parse_line(line, has_cell=cell is not None)
        if typed.reads_input:
            raise WrongUsage(
                "“-” reads the standard input of a terminal.",
                hint="Write the input into the cell: `%%persona run NAME`.",
            )
        is_plain = _is_plain(self.shell)
        result = perform(
            typed,
            studio=self.kernel.studio,
            surface=Notebook(self.shell, is_plain=is_plain),
            desk=self.kernel.desk,
            filling=Filling(self.shell.user_ns, self.shell.user_ns_hidden),
            cell=cell,
        )
        return presented(result, is_plain=is_plain, is_silent=typed.is_silent)

    def _shown(self, error: BaseException) -> BaseException:
        """The error to raise, without secrets: with ``short_errors`` IPython shows it as a sentence."""
        from personas_nb.errors import PersonaError
        from personas_nb.settings import default_home
        from personas_nb.verbs.failures import keep_secrets, sentence_of, shorten, unexpected

        is_interrupt = isinstance(error, KeyboardInterrupt)
        if not is_interrupt:
            keep_secrets(error, default_home())
        if not self.short_errors:
            return error
        if is_interrupt:
            shorten(error, "Interrupted.")
            return error
        if not isinstance(error, PersonaError):
            error = unexpected(error, default_home())
        shorten(error, sentence_of(error))
        return error


def load(ipython: Any) -> None:
    """Register the magics, their completion and the cards of our entities; once more replaces them."""
    from personas_nb.views.register import register

    unload(ipython)
    magics = PersonaMagics(ipython)
    ipython.register_magics(magics)
    if ipython.Completer is not None:

        @context_matcher(identifier="personas_nb")  # type: ignore[untyped-decorator]
        def personas_matcher(context: Any) -> Any:
            return magics.complete(context)

        ipython.Completer.custom_matchers.append(personas_matcher)
    register(ipython, zone=lambda: magics.kernel.zone())
    atexit.register(magics.close)


def unload(ipython: Any) -> None:
    """Take everything away that ``load`` brought, and close the studios."""
    from personas_nb.views.register import unregister

    magics = ipython.magics_manager.registry.pop("PersonaMagics", None)
    if magics is None:
        return
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop("persona", None)
    ipython.configurables[:] = [found for found in ipython.configurables if found is not magics]
    if ipython.Completer is not None:
        matchers = ipython.Completer.custom_matchers
        matchers[:] = [
            found for found in matchers if getattr(found, "matcher_identifier", "") != "personas_nb"
        ]
    unregister(ipython)
    atexit.unregister(magics.close)
    magics.close()


def _is_plain(shell: Any) -> bool:
    """Whether it is an IPython in a terminal, which shows no HTML."""
    return any(base.__name__ == "TerminalInteractiveShell" for base in type(shell).__mro__)
