"""Mail: composed here, given to its server by whoever knows mail servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from personas_nb.notify.channels import setting
from personas_nb.notify.ways.letter import Letter, NotSent, Outside

RECEIVERS_LIMIT = 20

_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@,;:<>()\[\]\"\\]+")


def email(outside: Outside, fields: Mapping[str, str], letter: Letter) -> None:
    """Send a mail; blocks. Raises ``NotSent``, also where a receiver was refused, and ``MaybeSent``."""
    sender, receivers = addresses(fields)
    refused = outside.submit(fields, composed(letter, sender, receivers), receivers)
    if refused:  # some got it: it is not sent again
        said = "; ".join(f"{address} ({why})" for address, why in refused.items())
        raise NotSent(f"Sent, but not to {said}.")


def addresses(fields: Mapping[str, str]) -> tuple[str, list[str]]:
    """Who a mail comes from, and whom it goes to; raises ``NotSent`` where that cannot be."""
    user = _first(fields, "user", "username")
    sender = _first(fields, "sender", "from", "from_address") or user
    receivers = [part.strip() for part in re.split("[,;]", setting(fields, "to") or user) if part.strip()]
    if not user:
        raise NotSent("The channel has no mail account.", hint="Give it a smtp or gmail credential.")
    for address in (sender, *receivers):
        if not _ADDRESS.fullmatch(address):
            raise NotSent(
                f"“{address[:60]}” is no mail address.", hint="Such as to=ann@example.com on the channel."
            )
    if not receivers or len(receivers) > RECEIVERS_LIMIT:
        raise NotSent(
            f"A message goes to 1 to {RECEIVERS_LIMIT} addresses.", hint="Such as to=ann@example.com."
        )
    return sender, receivers


def composed(letter: Letter, sender: str, receivers: list[str]) -> EmailMessage:
    """The mail; its Message-ID is made of the delivery's id, so that one that came twice is seen to be the same."""
    mail = EmailMessage(policy=SMTP)
    domain = sender.rpartition("@")[2]
    try:
        mail["From"] = sender
        mail["To"] = ", ".join(receivers)
        mail["Subject"] = _subject(letter)
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{letter.delivery_id}@{domain.encode('idna').decode()}>"
        mail["Auto-Submitted"] = "auto-generated"  # nobody's holiday notice answers it
        if letter.priority.lower() in ("high", "urgent", "critical"):
            mail["Importance"] = "high"
        mail.set_content(f"{letter.content}\n".encode("utf-8", "replace").decode())
    except (ValueError, UnicodeError) as error:
        raise NotSent(f"The mail cannot be written: {error}.") from None
    return mail


def _subject(letter: Letter) -> str:
    # Whatever a model put in there, it is one line of signs that can be shown.
    line = "".join(sign if sign.isprintable() else " " for sign in letter.heading)
    return " ".join(line.encode("utf-8", "replace").decode().split())[:200]


def _first(fields: Mapping[str, str], *names: str) -> str:
    return next((fields[name].strip() for name in names if fields.get(name, "").strip()), "")
