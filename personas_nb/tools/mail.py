"""The four mail tools: reading and marking over IMAP, sending over SMTP.

- A mail is named by ``UIDVALIDITY.UID``, so that a mailbox that was numbered anew is noticed; its Message-ID
  header in ``<…>`` works as well.
- Reading leaves a mail unread. Nothing is ever deleted: flags are set by STORE alone (imap-tools would EXPUNGE).
- A mail may be anything: how it is read is in ``mail_text``, what a search may say in ``mail_query``.
"""

from __future__ import annotations

import json
import re
import smtplib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import format_datetime, formataddr, make_msgid
from typing import TYPE_CHECKING, Any, NamedTuple

from personas_nb.errors import InvalidInput, ToolError
from personas_nb.settings import KIB, Settings
from personas_nb.tools.mail_query import criteria, quoted
from personas_nb.tools.mail_servers import mailbox, smtp_server, submission
from personas_nb.tools.mail_text import header, readable
from personas_nb.vault.access import Opened
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from imap_tools.mailbox import BaseMailBox

MAILS_LIMIT = 50
RECIPIENTS_LIMIT = 100
LISTED_TEXT_CHARS = 1_500
LISTED_BYTES = 256 * KIB  # of one mail among several

_NO_SECRETS = Redactor({})
_WORD = r"[^\s@,;:<>()\[\]\"\\]+"
_ADDRESS = re.compile(f"{_WORD}@{_WORD}")
_PARTS = re.compile(r'(?:"[^"]*"|[^",;])+')  # what commas and semicolons separate
_RECEIVER = re.compile(rf'(?:"([^"]*)"|([^"<>]*?))\s*<({_ADDRESS.pattern})>|({_ADDRESS.pattern})')
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")


class _Fetched(NamedTuple):
    uid: str
    raw: bytes
    size_bytes: int
    is_unread: bool


def gmail_read(
    opened: Opened,
    settings: Settings,
    message_id: str | None = None,
    limit: int = 10,
    unread: bool = False,
    offset: int = 0,
    redactor: Redactor = _NO_SECRETS,
) -> str:
    """One mail whole, or the newest ones of the inbox, as JSON; they stay unread.

    A text that is too long for one answer is cut and says so; ``offset`` goes on in it, counted without the secrets
    that ``redactor`` takes out. Raises ``ToolError`` and
    ``InvalidInput`` with a sentence for everything that goes wrong.
    """
    with mailbox(opened, settings) as box:
        if message_id:
            (uid,) = _uids(box, message_id, one=True)
            fetched = _fetch(box, uid, settings.mail_limit_bytes)
            if fetched is None:
                raise _no_mail(message_id)
            return _one(box, fetched, settings, offset, redactor)
        found = box.uids("UNSEEN" if unread else "ALL", None)
        return _several(box, found, limit, settings, redactor)


def gmail_search(
    opened: Opened, settings: Settings, query: str, limit: int = 10, redactor: Redactor = _NO_SECRETS
) -> str:
    """The newest mails of the inbox that match, as JSON; ``query`` is written as in Gmail."""
    asked = criteria(query, datetime.now(UTC).date())
    with mailbox(opened, settings) as box:
        found = box.uids(asked.encode(), None if asked.isascii() else "UTF-8")
        return _several(box, found, limit, settings, redactor)


def gmail_mark_read(opened: Opened, settings: Settings, message_id: str) -> str:
    """Mark mails as read; says which of them are not there."""
    with mailbox(opened, settings, readonly=False) as box:
        uids = _uids(box, message_id)
        there = [uid for uid in uids if uid in _present(box, uids)]
        if not there:
            raise _no_mail(message_id)
        status, said = box.client.uid("STORE", ",".join(there), "+FLAGS.SILENT", r"(\Seen)")
        if status != "OK":
            raise ToolError(f"The mailbox did not mark them: {_joined(said)[:200]}.")
    missing = [uid for uid in uids if uid not in there]
    marked = f"Marked {len(there)} mail{'s' if len(there) > 1 else ''} as read."
    return f"{marked} Not there any more: {', '.join(missing)}." if missing else marked


def gmail_send(
    opened: Opened,
    settings: Settings,
    to: str,
    subject: str,
    body: str,
    cc: str = "",
    bcc: str = "",
    message_id: str | None = None,
) -> str:
    """Send a mail, with ``message_id`` as a reply to that one; says who was sent it, and who was refused."""
    receivers = {name: _addresses(name, text) for name, text in (("to", to), ("cc", cc), ("bcc", bcc))}
    everybody = list(dict.fromkeys(address for several in receivers.values() for _, address in several))
    if not receivers["to"]:
        raise InvalidInput("“to” holds no address.", hint="Such as ann@example.com, bob@example.com.")
    if len(everybody) > RECIPIENTS_LIMIT:
        raise InvalidInput(
            f"A mail goes to at most {RECIPIENTS_LIMIT} addresses.", hint="Send several mails."
        )
    mail = _composed(_sender(opened), receivers, _one_line("subject", subject), body)
    if message_id:
        _answers(mail, _original(opened, settings, message_id))
    refused = _sent(opened, settings, mail, everybody)
    reached = [address for address in everybody if address not in refused]
    lines = [f"Sent to {', '.join(reached)}: “{subject}”, {len(body):,} characters. {mail['Message-ID']}"]
    lines += [f"Refused was {address}: {why}." for address, why in refused.items()]
    return "\n".join(lines)


# --- reading ------------------------------------------------------------------------------------------------------


def _one(box: BaseMailBox, fetched: _Fetched, settings: Settings, offset: int, redactor: Redactor) -> str:
    room = settings.tool_output_limit_chars
    mail = _shown(box, fetched, settings.mail_limit_bytes, redactor)
    text = mail["text"]
    if offset and offset >= len(text):
        raise InvalidInput(f"The text has {len(text):,} characters.", hint="Give a smaller offset.")
    begin, chars = max(0, offset), room
    while True:
        end = min(len(text), begin + chars)
        mail["text"] = text[begin:end]
        if begin or end < len(text):
            more = f"; go on with offset={end}" if end < len(text) else ""
            mail["text_part"] = f"characters {begin:,} to {end:,} of {len(text):,}{more}"
        answer = _json(mail)
        if len(answer) <= room or chars < 100:
            return answer
        chars = chars * 3 // 4


def _several(
    box: BaseMailBox, found: Sequence[str], limit: int, settings: Settings, redactor: Redactor
) -> str:
    if not 1 <= limit <= MAILS_LIMIT:
        raise InvalidInput(f"“limit” must be from 1 to {MAILS_LIMIT}.")
    newest = sorted(found, key=int, reverse=True)[:limit]
    fetched = [_fetch(box, uid, LISTED_BYTES) for uid in newest]
    mails = [_shown(box, each, LISTED_BYTES, redactor) for each in fetched if each is not None]
    texts = [mail["text"] for mail in mails]
    chars = LISTED_TEXT_CHARS
    while True:
        for mail, text in zip(mails, texts, strict=True):
            mail["text"] = text[:chars]
            if len(text) > chars:
                mail["text_part"] = f"the first {chars:,} of {len(text):,} characters; read it by message_id"
        answer = _json({"found": len(found), "shown": len(mails), "mails": mails})
        if len(answer) <= settings.tool_output_limit_chars or chars < 100:
            return answer
        chars = chars * 3 // 4


def _shown(box: BaseMailBox, fetched: _Fetched, limit_bytes: int, redactor: Redactor) -> dict[str, Any]:
    is_cut = fetched.size_bytes > limit_bytes
    mail = {
        "message_id": f"{_validity(box)}.{fetched.uid}",
        "unread": fetched.is_unread,
        **readable(fetched.raw, is_cut=is_cut),
    }
    mail["text"] = redactor.redact(mail["text"], cut_off=is_cut)  # before it is cut further
    if not mail["cc"]:
        del mail["cc"]
    if is_cut:
        mail["cut"] = (
            f"Only {limit_bytes:,} of its {fetched.size_bytes:,} bytes were read: text and attachments may be missing."
        )
    return mail


def _fetch(box: BaseMailBox, uid: str, limit_bytes: int) -> _Fetched | None:
    """The beginning of a mail, without marking it as read; None where it is gone."""
    _, answer = box.client.uid("FETCH", uid, f"(UID FLAGS RFC822.SIZE BODY.PEEK[]<0.{limit_bytes}>)")
    raw = next((part[1] for part in answer if isinstance(part, tuple)), None)
    if raw is None:
        return None
    said = _joined(part[0] if isinstance(part, tuple) else part for part in answer)
    size = re.search(r"RFC822\.SIZE (\d+)", said)
    return _Fetched(uid, bytes(raw), int(size[1]) if size else len(raw), "\\Seen" not in said)


def _uids(box: BaseMailBox, message_id: str, *, one: bool = False) -> list[str]:
    """The UIDs that a message_id, or several, name."""
    found: list[str] = []
    named = [part.strip() for part in message_id.split(",") if part.strip()]
    if not named or len(named) > (1 if one else RECIPIENTS_LIMIT):
        raise InvalidInput(
            "“message_id” names no mail." if not named else "“message_id” names too many mails."
        )
    for name in named:
        if _MESSAGE_ID.fullmatch(name):
            if not (uids := box.uids(f"HEADER Message-ID {quoted(name)}".encode(), None)):
                raise _no_mail(name)
            found.append(uids[-1])
            continue
        known = re.fullmatch(r"(?:(\d{1,10})\.)?(\d{1,10})", name, re.ASCII)
        if known is None:
            raise InvalidInput(
                f"“{_short(name)}” is no message_id.", hint="Take it from gmail_read or gmail_search."
            )
        if known[1] and known[1] != _validity(box):
            raise ToolError("The mailbox was numbered anew since.", hint="Look the mail up again.")
        found.append(known[2])
    return list(dict.fromkeys(found))


def _present(box: BaseMailBox, uids: Sequence[str]) -> set[str]:
    _, answer = box.client.uid("FETCH", ",".join(uids), "(UID)")
    return set(re.findall(r"UID (\d+)", _joined(part for part in answer if isinstance(part, bytes))))


def _validity(box: BaseMailBox) -> str:
    said = box.client.untagged_responses.get("UIDVALIDITY") or [b"0"]
    return _joined(said[-1:])


def _no_mail(message_id: str) -> ToolError:
    return ToolError(
        f"There is no mail {_short(message_id)} in the inbox.", hint="Look it up with gmail_search."
    )


def _joined(parts: Iterable[Any]) -> str:
    return b" ".join(part for part in parts if isinstance(part, bytes)).decode("ascii", "replace")


def _short(text: str) -> str:
    return " ".join(text.split())[:60]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- sending ------------------------------------------------------------------------------------------------------


def _addresses(name: str, text: str) -> list[tuple[str, str]]:
    """Names and addresses; raises ``InvalidInput`` for anything else, such as a header that is smuggled in."""
    found = []
    if _one_line(name, text).count('"') % 2:
        raise InvalidInput(f"A quotation mark in “{name}” is not closed.")
    for part in _PARTS.findall(text):
        if not part.strip():
            continue
        known = _RECEIVER.fullmatch(part.strip())
        who, address = (known[1] or known[2] or "", known[3] or known[4]) if known else ("", "")
        # A name that looks like another address hides who it goes to.
        if not known or ("@" in who and who.strip() != address):
            raise InvalidInput(
                f"“{_short(part)}” in “{name}” is no mail address.",
                hint="Such as ann@example.com, Bob <bob@example.com>.",
            )
        found.append((who.strip(), address))
    return found


def _one_line(name: str, text: str) -> str:
    if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", text):
        raise InvalidInput(
            f"“{name}” has several lines.", hint="Give it on one line, without line ends or tabs."
        )
    return text


def _sender(opened: Opened) -> str:
    names = ("sender", "from", "from_address")
    address = next((opened[name].strip() for name in names if opened.get(name)), smtp_server(opened).user)
    if not _ADDRESS.fullmatch(address):
        raise ToolError(
            f"The credential “{opened.name}” has no address to send from.",
            hint="A person gives it as its sender.",
        )
    return address


def _composed(
    sender: str, receivers: dict[str, list[tuple[str, str]]], subject: str, body: str
) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    try:
        mail["From"] = sender
        for name in ("to", "cc"):
            if receivers[name]:
                mail[name.capitalize()] = ", ".join(formataddr(pair) for pair in receivers[name])
        mail["Subject"] = subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].encode("idna").decode())
        mail.set_content(body.encode("utf-8", "replace").decode())
    except (ValueError, UnicodeError) as error:
        raise InvalidInput(f"The mail cannot be written: {error}.") from None
    return mail


def _original(opened: Opened, settings: Settings, message_id: str) -> Message:
    """The headers of the mail that is answered; of one that is named by its Message-ID just that."""
    if _MESSAGE_ID.fullmatch(message_id.strip()):
        original = Message()
        original["Message-ID"] = message_id.strip()
        return original
    with mailbox(opened, settings) as box:
        (uid,) = _uids(box, message_id, one=True)
        _, answer = box.client.uid("FETCH", uid, "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID REFERENCES)])")
        raw = next((part[1] for part in answer if isinstance(part, tuple)), None)
        if raw is None:
            raise _no_mail(message_id)
        return message_from_bytes(raw)


def _answers(mail: EmailMessage, original: Message) -> None:
    answered = _MESSAGE_ID.findall(header(original, "message-id"))
    if not answered:
        raise ToolError("The mail to reply to has no Message-ID.", hint="Send a mail of its own.")
    earlier = _MESSAGE_ID.findall(header(original, "references"))[-20:]
    mail["In-Reply-To"] = answered[0]
    mail["References"] = " ".join(dict.fromkeys([*earlier, answered[0]]))


def _sent(opened: Opened, settings: Settings, mail: EmailMessage, everybody: Sequence[str]) -> dict[str, str]:
    """Send it; who was refused, and why."""
    with submission(opened, settings) as client:
        try:
            refused = client.send_message(mail, to_addrs=list(everybody))
        except smtplib.SMTPServerDisconnected:
            raise ToolError(
                f"{smtp_server(opened).host} broke off the connection while the mail was sent.",
                hint="It may have been sent nevertheless: look before you send it again.",
            ) from None
    return {
        address: f"{code} {said.decode('utf-8', 'replace')}".strip()
        for address, (code, said) in refused.items()
    }
