"""Reading, searching, marking and sending mail, against a real Dovecot and a real SMTP server with TLS."""

from __future__ import annotations

import json
import socket
import ssl
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import dovecot as dovecot_server
from support.dovecot import Dovecot, dovecot
from support.ports import free_ports
from support.smtp import PASSWORD, USER, Smtp, smtp
from support.tls import Certificate, certificate

from personas_nb.errors import InvalidInput, ToolError, ToolTimeout
from personas_nb.settings import Settings
from personas_nb.tools import mail_servers
from personas_nb.tools.mail import gmail_mark_read, gmail_read, gmail_search, gmail_send
from personas_nb.tools.mail_query import criteria
from personas_nb.tools.mail_text import html_to_text, readable
from personas_nb.vault.access import Opened

SETTINGS = Settings()
# aiosmtpd's, of servers that a test means to be without TLS
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


@pytest.fixture(autouse=True)
def _trusted(pem: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem.authority))


@pytest.fixture(scope="module")
def running(pem: Certificate) -> Iterator[Dovecot]:
    with dovecot(pem) as server:
        yield server


@pytest.fixture
def inbox(running: Dovecot) -> Dovecot:
    running.empty()
    return running


@pytest.fixture
def post(pem: Certificate) -> Iterator[Smtp]:
    with smtp(pem) as server:
        yield server


def account(imap_port: int = 1, smtp_port: int = 1, **fields: str) -> Opened:
    given = {
        "user": USER,
        "app_password": PASSWORD,
        "imap_host": "localhost",
        "imap_port": str(imap_port),
        "smtp_host": "localhost",
        "smtp_port": str(smtp_port),
        **fields,
    }
    return Opened(given, name="my mail", connector="gmail", secret_keys=["app_password"])


def letter(subject: str = "Hello", text: str = "How are you?", **headers: str) -> EmailMessage:
    mail = EmailMessage()
    defaults = {"from": "Bob <bob@example.com>", "to": USER, "date": "Fri, 20 Nov 2026 10:00:00 +0100"}
    for name, value in {**defaults, "subject": subject, **headers}.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return mail


def read(inbox: Dovecot, **arguments: Any) -> dict[str, Any]:
    answer = json.loads(gmail_read(account(inbox.tls_port), SETTINGS, **arguments))
    assert isinstance(answer, dict)
    return answer


def subjects(inbox: Dovecot, query: str) -> list[str]:
    answer = json.loads(gmail_search(account(inbox.tls_port), SETTINGS, query))
    return sorted(mail["subject"] for mail in answer["mails"])


def sentence(call: Callable[[], Any], kind: type[Exception] = ToolError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


# Reading


def test_the_newest_mails_come_first_with_everything_a_reader_needs(inbox: Dovecot) -> None:
    inbox.deliver(letter("First"))
    uid = inbox.deliver(letter("Zweiter: Käse", "Grüße\nBob", cc="Zoë <zoe@example.com>"))
    answer = read(inbox)
    assert (answer["found"], answer["shown"]) == (2, 2)
    mail = answer["mails"][0]
    assert mail["message_id"].endswith(f".{uid}")
    assert {key: mail[key] for key in ("from", "to", "cc", "subject", "date", "unread")} == {
        "from": "Bob <bob@example.com>",
        "to": USER,
        "cc": "Zoë <zoe@example.com>",
        "subject": "Zweiter: Käse",
        "date": "2026-11-20T10:00:00+01:00",
        "unread": True,
    }
    assert (mail["text"], mail["attachments"]) == ("Grüße\nBob", [])


def test_reading_leaves_a_mail_unread_and_marking_marks_just_that_one(inbox: Dovecot) -> None:
    one, other = inbox.deliver(letter("One")), inbox.deliver(letter("Other"))
    message_id = read(inbox)["mails"][1]["message_id"]
    assert read(inbox, message_id=message_id)["subject"] == "One"
    assert "Seen" not in inbox.flags(one)
    assert gmail_mark_read(account(inbox.tls_port), SETTINGS, message_id) == "Marked 1 mail as read."
    assert ("Seen" in inbox.flags(one), "Seen" in inbox.flags(other)) == (True, False)
    assert [mail["subject"] for mail in read(inbox, unread=True)["mails"]] == ["Other"]


def test_marking_never_removes_a_mail_that_another_program_has_marked_for_deletion(inbox: Dovecot) -> None:
    kept = inbox.deliver(letter("Doomed"), flags=r"(\Deleted)")
    marked = inbox.deliver(letter("Read me"))
    gmail_mark_read(account(inbox.tls_port), SETTINGS, marked)
    assert "Deleted" in inbox.flags(kept)


def test_several_mails_are_marked_and_one_that_is_gone_is_named(inbox: Dovecot) -> None:
    uids = [inbox.deliver(letter()), inbox.deliver(letter())]
    said = gmail_mark_read(account(inbox.tls_port), SETTINGS, f"{uids[0]}, {uids[1]},99999")
    assert said == "Marked 2 mails as read. Not there any more: 99999."
    assert "There is no mail 99999" in sentence(
        lambda: gmail_mark_read(account(inbox.tls_port), SETTINGS, "99999")
    )


@pytest.mark.parametrize("message_id", ["1:*", "1 OR", "*", "abc", "1\r\nA1 LOGOUT", "--", "²"])
def test_what_is_no_message_id_is_refused(inbox: Dovecot, message_id: str) -> None:
    said = sentence(lambda: gmail_mark_read(account(inbox.tls_port), SETTINGS, message_id), InvalidInput)
    assert "is no message_id" in said


def test_a_mailbox_that_was_numbered_anew_is_noticed(inbox: Dovecot) -> None:
    uid = inbox.deliver(letter())
    said = sentence(lambda: gmail_mark_read(account(inbox.tls_port), SETTINGS, f"17.{uid}"))
    assert said == "The mailbox was numbered anew since. Look the mail up again."


def test_a_mail_is_found_by_its_message_id_header(inbox: Dovecot) -> None:
    inbox.deliver(letter("Known", message_id="<known@example.com>"))
    assert read(inbox, message_id="<known@example.com>")["subject"] == "Known"


def test_attachments_are_listed_with_their_sizes_and_not_fetched_as_text(inbox: Dovecot) -> None:
    mail = letter("Invoice", "See the file.")
    mail.add_attachment(b"x" * 5000, maintype="application", subtype="pdf", filename="Rechnung für Ann.pdf")
    mail.add_attachment("a,b\n1,2\n", filename="data.csv")
    mail.add_attachment(letter("Forwarded"))
    inbox.deliver(mail)
    found = read(inbox)["mails"][0]
    assert found["text"] == "See the file."
    assert [(each["name"], each["type"]) for each in found["attachments"]] == [
        ("Rechnung für Ann.pdf", "application/pdf"),
        ("data.csv", "text/plain"),
        ("Forwarded", "message/rfc822"),
    ]
    assert found["attachments"][0]["size_bytes"] == 5000


def test_a_mail_that_is_html_alone_is_read_as_text(inbox: Dovecot) -> None:
    mail = letter("Offer")
    page = (
        "<html><head><title>T</title><style>p{color:red}</style></head><body><p>Dear Ann,</p>"
        "<div style='display: none'>hidden</div>buy <a href='https://shop.example/x'>this</a><br>now &amp; here"
        "<script>alert(1)</script></body></html>"
    )
    mail.set_content(page, subtype="html")
    inbox.deliver(mail)
    text = read(inbox)["mails"][0]["text"]
    assert text == "Dear Ann,\nbuy this (https://shop.example/x)\nnow & here"


def test_a_long_text_is_cut_with_a_mark_and_read_on_by_offset(inbox: Dovecot) -> None:
    inbox.deliver(letter("Long", "".join(f"line {number}\n" for number in range(9000))))
    listed = read(inbox)["mails"][0]
    assert len(listed["text"]) == 1500
    assert listed["text_part"].startswith("the first 1,500 of")
    text, part = "", {"text_part": "go on"}
    while "go on" in part["text_part"]:
        part = read(inbox, message_id=listed["message_id"], offset=len(text))
        text += part["text"]
        assert len(json.dumps(part, ensure_ascii=False)) <= SETTINGS.tool_output_limit_chars
    assert text.splitlines() == [f"line {number}" for number in range(9000)]


def test_a_list_of_many_long_mails_fits_into_one_answer(inbox: Dovecot) -> None:
    for number in range(30):
        inbox.deliver(letter(f"Mail {number}", "\\\n" * 3000))
    answer = gmail_read(account(inbox.tls_port), SETTINGS, limit=30)
    assert len(answer) <= SETTINGS.tool_output_limit_chars
    assert json.loads(answer)["shown"] == 30


def test_a_mail_over_the_limit_is_cut_and_says_so(inbox: Dovecot) -> None:
    mail = letter("Huge", "See the file.")
    mail.add_attachment(b"x" * 300_000, maintype="application", subtype="zip", filename="all.zip")
    uid = inbox.deliver(mail)
    settings = Settings(mail_limit_bytes=100_000)
    answer = json.loads(gmail_read(account(inbox.tls_port), settings, uid))
    assert answer["text"] == "See the file."
    assert answer["cut"].startswith("Only 100,000 of its 4")
    assert answer["attachments"] == [{"name": "all.zip", "type": "application/zip", "size_bytes": None}]


@pytest.mark.parametrize("limit", [0, -1, 51])
def test_a_limit_out_of_range_is_a_sentence(inbox: Dovecot, limit: int) -> None:
    assert "from 1 to 50" in sentence(lambda: read(inbox, limit=limit), InvalidInput)


def test_an_empty_inbox_is_no_error(inbox: Dovecot) -> None:
    assert read(inbox) == {"found": 0, "shown": 0, "mails": []}


# Nonsense


@pytest.mark.parametrize(
    ("raw", "field", "expected"),
    [
        (b"Subject: x\r\nContent-Type: text/plain; charset=x-nonsense\r\n\r\nK\xe4se", "text", "Käse"),
        (b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nK\xe4se", "text", "Käse"),
        (b"Subject: x\r\nContent-Type: text/plain; charset=base64\r\n\r\nK\xc3\xa4se", "text", "Käse"),
        (b'Subject: x\r\nContent-Type: text/plain; charset="a\x00b"\r\n\r\nok', "text", "ok"),
        (b"Subject: K\xc3\xa4se\r\n\r\nx", "subject", "Käse"),
        (b"Subject: K\xe4se\r\n\r\nx", "subject", "Käse"),
        (b"Subject: =?x-unknown?q?K=C3=A4se?=\r\n\r\nx", "subject", "Käse"),
        (b"Subject: =?utf-8?b?!!!!?=\r\n\r\nx", "text", "x"),
        (b"Date: yesterday\r\n\r\nx", "date", "yesterday"),
        (b"Date: Fri, 99 Nov 2026 99:99:99 +9999\r\n\r\nx", "text", "x"),
        (b"", "text", ""),
        (b"\x00\xff\xfe", "subject", ""),
        (b"Content-Type: multipart/mixed\r\n\r\nno boundary", "attachments", []),
    ],
)
def test_a_mail_of_nonsense_is_read_as_well_as_it_can_be(raw: bytes, field: str, expected: Any) -> None:
    assert readable(raw)[field] == expected


@given(
    st.binary(max_size=400), st.sampled_from([b"text/plain", b"text/html", b"multipart/mixed; boundary=b"])
)
def test_no_mail_makes_reading_fail(data: bytes, kind: bytes) -> None:
    found = readable(b"Content-Type: " + kind + b"\r\nSubject: " + data[:40] + b"\r\n\r\n--b\r\n" + data)
    json.dumps(found).encode()
    assert isinstance(found["text"], str)


def test_a_mail_that_is_nested_a_thousand_times_does_not_end_the_tool() -> None:
    raw = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (depth, depth)
        for depth in range(1000)
    )
    assert isinstance(readable(raw)["text"], str)


@pytest.mark.parametrize("piece", ["<", "<!--", "<a ", "<a href='", "&", "<![CDATA[", "<p>", "</p>", "<!"])
def test_hostile_html_takes_no_longer_than_it_is_long(piece: str) -> None:
    begun = time.monotonic()
    html_to_text(piece * (300_000 // len(piece)))
    assert time.monotonic() - begun < 20


# Searching


def test_a_search_finds_by_sender_subject_state_and_words(inbox: Dovecot) -> None:
    inbox.deliver(letter("Your statement", "Balance: 12", **{"from": "service@bank.example"}))
    inbox.deliver(letter("Lunch", "Balance your diet"), flags=r"(\Seen)")
    inbox.deliver(letter("Käse", "grüner Käse"), flags=r"(\Flagged)")
    assert subjects(inbox, "from:bank") == ["Your statement"]
    assert subjects(inbox, 'subject:"your statement"') == ["Your statement"]
    assert subjects(inbox, "balance") == ["Lunch", "Your statement"]
    assert subjects(inbox, "balance is:unread") == ["Your statement"]
    assert subjects(inbox, "balance -from:bank") == ["Lunch"]
    assert subjects(inbox, "subject:lunch OR subject:käse") == ["Käse", "Lunch"]
    assert subjects(inbox, "grüner") == ["Käse"]
    assert subjects(inbox, "is:starred") == ["Käse"]
    assert subjects(inbox, "nothing-like-this") == []


def test_a_search_finds_by_the_day_of_arrival(inbox: Dovecot) -> None:
    inbox.deliver(letter("Old"), date='"01-Oct-2026 12:00:00 +0000"')
    inbox.deliver(letter("New"), date='"15-Nov-2026 12:00:00 +0000"')
    assert subjects(inbox, "since:2026-11-01") == ["New"]
    assert subjects(inbox, "before:2026/11/01") == ["Old"]
    assert subjects(inbox, "after:2026-09-01 before:2026-12-01") == ["New", "Old"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since:yesterday", "“since:yesterday” is no date. Write since:2026-11-20."),
        ("newer_than:soon", "“newer_than:soon” is no age."),
        ("is:funny", "“is:funny” is unknown."),
        ("has:attachment", "“has:” cannot be asked of a mailbox."),
        ("subjekt:x", "“subjekt:” is unknown. Did you mean “subject”?"),
        ("larger:huge", "“larger:huge” is no size."),
        (" ".join("abcdefg" for _ in range(51)), "more than 50 parts"),
    ],
)
def test_a_search_that_imap_cannot_say_is_a_sentence(query: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(").replace("?", r"\?")):
        criteria(query, date(2026, 11, 20))


@given(st.text(max_size=60))
def test_no_search_ends_the_line_of_its_command(query: str) -> None:
    try:
        found = criteria(query, date(2026, 11, 20))
    except InvalidInput:
        return
    assert not any(ord(sign) < 32 for sign in found)
    outside = found.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    assert found.count('"') == 0 or len(outside) >= 2
    assert set("".join(outside)) <= set(string.ascii_letters + string.digits + " -")


def test_quotes_and_line_ends_of_a_search_stay_inside_it(inbox: Dovecot) -> None:
    inbox.deliver(letter('Say "yes" \\ no'))
    assert subjects(inbox, 'subject:"Say"') == ['Say "yes" \\ no']
    assert subjects(inbox, 'x"\r\nA1 LOGOUT') == []


# Sending


def test_a_mail_is_sent_to_everybody_and_the_hidden_stay_hidden(post: Smtp) -> None:
    said = gmail_send(
        account(smtp_port=post.port),
        SETTINGS,
        "Bob <bob@example.com>, zoe@example.com",
        "Käse & more",
        "Grüße\nAnn",
        cc="carl@example.com",
        bcc="secret@example.com",
    )
    (sent,) = post.received
    assert sent.recipients == ["bob@example.com", "zoe@example.com", "carl@example.com", "secret@example.com"]
    assert sent.sender == USER
    assert (sent.mail["subject"], sent.mail["to"]) == (
        "Käse & more",
        "Bob <bob@example.com>, zoe@example.com",
    )
    assert sent.mail.get_content().splitlines() == ["Grüße", "Ann"]
    assert "secret@example.com" not in sent.mail.as_string()
    assert said.startswith(
        "Sent to bob@example.com, zoe@example.com, carl@example.com, secret@example.com: “Käse"
    )
    assert sent.mail["message-id"] in said


def test_a_reply_names_the_mail_that_it_answers(inbox: Dovecot, post: Smtp) -> None:
    original = letter(
        "Question", message_id="<q2@example.com>", references="<q0@example.com> <q1@example.com>"
    )
    uid = inbox.deliver(original)
    gmail_send(
        account(inbox.tls_port, post.port),
        SETTINGS,
        "bob@example.com",
        "Re: Question",
        "Yes.",
        message_id=uid,
    )
    sent = post.received[0].mail
    assert sent["in-reply-to"] == "<q2@example.com>"
    assert sent["references"] == "<q0@example.com> <q1@example.com> <q2@example.com>"
    assert "Answered" not in inbox.flags(uid)


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "Hi\r\nBcc: evil@example.com"},
        {"subject": "Hi\nX: y"},
        {"to": "bob@example.com\r\nBcc: evil@example.com"},
        {"to": "bob@example.com\x00"},
        {"cc": "bob@example.com\u2028X: y"},
        {"to": "bob"},
        {"to": "bob@@example.com"},
        {"to": "bob@example.com <evil@example.com>"},
        {"to": "Bob <bob@example.com> x@y.example"},
        {"to": '"Bob <bob@example.com>'},
        {"to": "  "},
        {"bcc": "undisclosed:;"},
        {"to": ", ".join(f"a{number}@example.com" for number in range(101))},
    ],
)
def test_a_header_that_is_smuggled_in_is_refused_and_nothing_is_sent(
    post: Smtp, fields: dict[str, str]
) -> None:
    given = {"to": "bob@example.com", "subject": "Hi", "body": "x", **fields}
    sentence(lambda: gmail_send(account(smtp_port=post.port), SETTINGS, **given), InvalidInput)
    assert post.received == []


def test_one_refused_recipient_is_named_and_the_others_get_it(post: Smtp) -> None:
    post.refused.add("nobody@example.com")
    said = gmail_send(
        account(smtp_port=post.port), SETTINGS, "bob@example.com, nobody@example.com", "Hi", "x"
    )
    assert said.splitlines()[0].startswith("Sent to bob@example.com: “Hi”")
    assert said.splitlines()[1] == "Refused was nobody@example.com: 550 No such user."
    assert "refused every recipient: nobody@example.com (550 No such user)" in sentence(
        lambda: gmail_send(account(smtp_port=post.port), SETTINGS, "nobody@example.com", "Hi", "x")
    )


def test_a_mail_whose_sending_broke_off_may_have_been_sent(post: Smtp) -> None:
    post.drops = True
    said = sentence(lambda: gmail_send(account(smtp_port=post.port), SETTINGS, "bob@example.com", "Hi", "x"))
    assert said == (
        "localhost broke off the connection while the mail was sent. "
        "It may have been sent nevertheless: look before you send it again."
    )


def test_an_smtp_credential_sends_from_its_sender_and_reads_nothing(post: Smtp) -> None:
    fields = {"host": "localhost", "port": str(post.port), "user": USER, "password": PASSWORD}
    opened = Opened({**fields, "sender": "team@example.com"}, name="out", connector="smtp")
    gmail_send(opened, SETTINGS, "bob@example.com", "Hi", "x")
    assert post.received[0].sender == "team@example.com"
    assert "has no IMAP server" in sentence(lambda: gmail_read(opened, SETTINGS))


def test_starttls_is_used_where_the_server_begins_in_the_clear(pem: Certificate, inbox: Dovecot) -> None:
    inbox.deliver(letter("Over STARTTLS"))
    answer = json.loads(gmail_read(account(inbox.plain_port), SETTINGS))
    assert answer["mails"][0]["subject"] == "Over STARTTLS"
    with smtp(pem, "starttls") as post:
        gmail_send(account(smtp_port=post.port), SETTINGS, "bob@example.com", "Hi", "x")
        assert len(post.received) == 1


def test_a_server_without_tls_gets_no_password_unless_the_setting_allows_this_machine(
    pem: Certificate,
) -> None:
    with smtp(pem, "none") as post:
        call = account(smtp_port=post.port), "bob@example.com", "Hi", "x"
        said = sentence(lambda: gmail_send(call[0], SETTINGS, *call[1:]))
        assert "offers no encryption, so it got no password. It is this machine" in said
        assert post.logins == []
        gmail_send(call[0], Settings(mail_without_tls="loopback"), *call[1:])
        assert len(post.received) == 1


# Faults


def test_a_refused_login_is_a_sentence_without_the_password(inbox: Dovecot, post: Smtp) -> None:
    wrong = {"app_password": "wrong-password-1"}
    expected = f"localhost refused the login of “{USER}”. Go on without it and say so"
    assert sentence(lambda: gmail_read(account(inbox.tls_port, **wrong), SETTINGS)).startswith(expected)
    send = lambda: gmail_send(account(1, post.port, **wrong), SETTINGS, "bob@example.com", "Hi", "x")  # noqa: E731
    assert sentence(send).startswith(expected)


def test_a_password_beyond_ascii_is_sent_as_utf8(inbox: Dovecot) -> None:
    said = sentence(lambda: gmail_read(account(inbox.tls_port, app_password="pässwörd-123"), SETTINGS))
    assert "refused the login" in said


def test_a_port_that_nobody_listens_on_and_a_host_that_does_not_exist_are_sentences() -> None:
    (port,) = free_ports(1)
    assert sentence(lambda: gmail_read(account(port), SETTINGS)) == (
        f"localhost:{port} refused the connection. Check the port."
    )
    send = lambda: gmail_send(account(1, port), SETTINGS, "bob@example.com", "Hi", "x")  # noqa: E731
    assert "refused the connection" in sentence(send)
    assert "is no port" in sentence(lambda: gmail_read(account(imap_port=99_999), SETTINGS))
    assert sentence(lambda: gmail_read(account(1, imap_host="a..localhost"), SETTINGS)) == (
        "The host “a..localhost” has no address. Check its spelling and the network."
    )


def test_a_certificate_that_is_not_trusted_ends_it_before_the_password(
    inbox: Dovecot, post: Smtp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
    said = sentence(lambda: gmail_read(account(inbox.tls_port), SETTINGS))
    assert said.startswith(f"The certificate of localhost:{inbox.tls_port} cannot be trusted")
    assert "cannot be trusted" in sentence(lambda: gmail_read(account(inbox.plain_port), SETTINGS))
    send = lambda: gmail_send(account(1, post.port), SETTINGS, "bob@example.com", "Hi", "x")  # noqa: E731
    assert "cannot be trusted" in sentence(send)
    assert post.logins == []


def test_a_certificate_for_another_name_is_not_trusted(
    pem: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = certificate(tmp_path, "mail.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
    with smtp(other) as post:
        send = lambda: gmail_send(account(1, post.port), SETTINGS, "bob@example.com", "Hi", "x")  # noqa: E731
        assert "cannot be trusted" in sentence(send)


@contextmanager
def scripted(pem: Certificate, talk: Callable[[ssl.SSLSocket], None]) -> Iterator[int]:
    """An IMAP server that says what it is told, to one client; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem.chain, pem.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as client, suppress(OSError):
            talk(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


def answering(until: str) -> Callable[[ssl.SSLSocket], None]:
    """Greets, says OK to every command, and hangs up at one that has this word."""

    def talk(client: ssl.SSLSocket) -> None:
        client.sendall(b"* OK IMAP4rev1 ready\r\n")
        lines = client.makefile("rb")
        for line in lines:
            tag, _, command = line.decode().partition(" ")
            if until in command:
                return
            if command.startswith("CAPABILITY"):
                client.sendall(b"* CAPABILITY IMAP4rev1\r\n")
            if "FETCH" in command:
                client.sendall(
                    b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 5000 BODY[]<0> {5000}\r\nSubject: x\r\n"
                )
                return
            if "SEARCH" in command:
                client.sendall(b"* SEARCH 1\r\n")
            client.sendall(f"{tag} OK done\r\n".encode())

    return talk


@pytest.mark.parametrize("until", ["CAPABILITY", "LOGIN", "EXAMINE", "SEARCH", "(nothing)"])
def test_a_server_that_drops_the_connection_at_any_step_is_a_sentence(pem: Certificate, until: str) -> None:
    with scripted(pem, answering(until)) as port:
        said = sentence(lambda: gmail_read(account(port), SETTINGS))
    assert said == "localhost broke off the connection."


@pytest.mark.parametrize("greeting", [b"220 I am an FTP server\r\n", b"\x00\xff\r\n", b"* BYE go away\r\n"])
def test_a_server_that_speaks_something_else_is_a_sentence(pem: Certificate, greeting: bytes) -> None:
    with scripted(pem, lambda client: client.sendall(greeting)) as port:
        said = sentence(lambda: gmail_read(account(port), SETTINGS))
    assert said.startswith("localhost ")


def test_a_server_that_says_nothing_is_given_up(pem: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_servers, "ANSWER_SECONDS", 0.3)
    with scripted(pem, lambda client: client.recv(1) and None) as port:
        said = sentence(lambda: gmail_read(account(port), SETTINGS), ToolTimeout)
    assert said == f"localhost:{port} did not answer within 0.3 s."


def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(pem: Certificate) -> None:
    def drip(client: ssl.SSLSocket) -> None:
        client.sendall(b"* OK IMAP4rev1 ready\r\n")
        tag = client.recv(100).split()[0]
        client.sendall(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
        client.recv(100)
        while True:
            client.sendall(b"*")
            threading.Event().wait(0.05)

    with scripted(pem, drip) as port:
        said = sentence(lambda: gmail_read(account(port), Settings(mail_timeout_ms=700)), ToolTimeout)
    assert said == "localhost took longer than 0.7 s. Ask for less at once."


def test_a_credential_with_a_line_end_begins_no_other_command(inbox: Dovecot) -> None:
    assert dovecot_server.PASSWORD == PASSWORD
    opened = account(inbox.tls_port, user="ann@example.com\r\nA1 LOGOUT")
    assert "several lines" in sentence(lambda: gmail_read(opened, SETTINGS))
