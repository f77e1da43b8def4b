"""What a credential's check may reach: the very requests and mail logins that tools use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from personas_nb.settings import Settings
from personas_nb.vault.access import Opened


class Outside:
    """Requests and logins with the settings' limits; read when they are needed."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    async def request(self, url: str, **request: Any) -> str:
        """The answer to an HTTP request, as ``http_request`` gives it."""
        from personas_nb.tools.http import http_request

        return await http_request(self._settings(), url, **request)

    def log_in(self, protocol: str, login: Mapping[str, str]) -> None:
        """Log in to a mail server (imap or smtp) and out again; raises ``ToolError``."""
        from personas_nb.tools.mail_servers import mailbox, submission

        fields = {f"{protocol}_host": login["host"], f"{protocol}_port": login["port"]}
        opened = Opened(
            {**fields, "user": login["user"], "password": login["password"]},
            name=login["user"],
            connector=protocol,
        )
        connection: Any = mailbox if protocol == "imap" else submission
        with connection(opened, self._settings()):
            pass
