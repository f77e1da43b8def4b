"""Design, run, watch and govern autonomous AI agents (personas) in Jupyter.

>>> from personas_nb import Studio                                     # doctest: +SKIP
>>> with Studio() as studio:                                           # doctest: +SKIP
...     persona = studio.design("Every weekday at 9 read notes.txt and post a summary").apply()
...     print(studio.run(persona.name).output_data)

In a notebook: ``%load_ext personas_nb``, then ``%persona``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personas_nb.errors import PersonaError
    from personas_nb.studio import Studio

__version__ = "0.1.0"
__all__ = ["PersonaError", "Studio", "__version__", "load_ipython_extension", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    # Lazy, so that %load_ext costs nothing: the front door opens a room only when somebody asks for it.
    if name == "Studio":
        from personas_nb.studio import Studio

        return Studio
    if name == "PersonaError":
        from personas_nb.errors import PersonaError

        return PersonaError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """What a Jupyter server asks an extension for."""
    from personas_nb.server import _jupyter_server_extension_points as points

    return points()


def load_ipython_extension(ipython: Any) -> None:
    """Register ``%persona`` and ``%%persona``."""
    from personas_nb.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again."""
    from personas_nb.magics import unload

    unload(ipython)
