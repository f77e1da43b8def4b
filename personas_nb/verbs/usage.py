"""The error for what was typed wrong."""

from __future__ import annotations

from personas_nb.errors import InvalidInput


class WrongUsage(InvalidInput):
    """What was typed is no verb, or lacks something, or has too much."""

    code = "WRONG_USAGE"
