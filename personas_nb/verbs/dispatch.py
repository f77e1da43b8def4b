"""A typed line is done: its arguments become values, its handler is called. The same for every surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personas_nb.verbs.call import Call, Desk, Surface, handler_of
from personas_nb.verbs.filling import Filling
from personas_nb.verbs.parsing import Typed
from personas_nb.verbs.usage import WrongUsage

if TYPE_CHECKING:
    from personas_nb.studio import Studio


def perform(
    typed: Typed,
    *,
    studio: Studio,
    surface: Surface,
    desk: Desk | None = None,
    filling: Filling | None = None,
    cell: str | None = None,
) -> Any:
    """What the verb returns; ``cell`` is None where there is none. Raises ``PersonaError``."""
    verb = typed.verb
    if typed.wants_help:
        from personas_nb.verbs.looking import all_help, verb_help

        return verb_help(verb, is_kernel=surface.is_kernel) if verb.words else all_help()
    if cell is not None and not verb.cell:
        shown = f"%persona {verb.words}".strip()
        if verb.keeps_secrets:
            raise WrongUsage(
                f"`{shown}` takes no cell: a secret in it would be saved with the notebook.",
                hint=f"Delete the cell, change a secret that was saved, and type `{shown}`: you are asked for it.",
            )
        raise WrongUsage(f"`{shown}` takes no cell.", hint=f"Type it with one %: `{shown}`.")
    filling = filling or Filling({})
    call = Call(
        verb=verb,
        arguments=typed.values(filling.text, has_cell=cell is not None),
        studio=studio,
        surface=surface,
        desk=desk or Desk(),
        filling=filling,
        cell=cell,
    )
    return handler_of(verb)(call)
