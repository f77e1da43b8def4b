"""How the extension comes into a Jupyter server, and leaves it."""

from __future__ import annotations

from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Unicode

from personas_nb.server.host import Host
from personas_nb.server.routes import ROUTES
from personas_nb.server.webhook import WebhookHandler

HOST = "personas_nb_host"


class PersonasServer(ExtensionApp):
    """The extension ``personas_nb``; ``c.PersonasServer.home`` names another home than ``PERSONAS_HOME``."""

    name = "personas_nb"

    home = Unicode("", help="The folder of the home. Empty: PERSONAS_HOME, else the user's data folder.").tag(
        config=True
    )

    def initialize_settings(self) -> None:
        """One host for all handlers of this server."""
        self.settings[HOST] = Host(self.home or None, log=self.log)

    def initialize_handlers(self) -> None:
        """The routes, below the server's base URL."""
        self.handlers.extend([("personas/webhook/([^/]+)/?", WebhookHandler), *ROUTES])

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:  # noqa: ARG002 - as Jupyter calls it
        """Once the server runs: go on with what it has to, without keeping it waiting.

        Enabled under two names (the package's and this module's) it is started and stopped twice; one has the host.
        """
        if (host := self.settings.get(HOST)) is not None:
            host.begin()

    async def stop_extension(self) -> None:
        """Let the loop and the store go."""
        if (host := self.settings.get(HOST)) is not None:
            await host.close()
