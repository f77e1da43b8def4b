"""The Jupyter server extension: the webhook door, a REST API, and a host for the loop that fires triggers.

It is enabled by being installed. Nothing of a home is opened before somebody asks for it, unless the settings say
that this server fires its triggers. Handlers answer and translate; what they answer comes from the rooms below.
Every route but the webhook door needs the server's own login.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """What Jupyter asks an extension for."""
    from personas_nb.server.extension import PersonasServer

    return [{"module": "personas_nb.server", "app": PersonasServer}]
