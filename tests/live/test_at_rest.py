"""At rest: what lies in the mailbox is ciphertext, and the server goes on working on it as before.

client -> Postfix -> smilla -> LMTP -> Dovecot, with Sieve -> Maildir -> IMAP -> openssl, gpg

alice (RSA) and erin (P-256) have certificates, bob an OpenPGP key; carol has none, which shows what would have been.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import imaplib
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.dovecot import PASSWORD
from tests.lab.keys import encrypt_openpgp
from tests.lab.mail import added_by_mta, header_fields, inside
from tests.lab.processes import LOOPBACK, wait_until
from tests.lab.programs import find_program, require_servers
from tests.live.at_rest import Mailboxes, mailboxes
from tests.live.mta import CANARY, check_logs, letter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

    from tests.lab.dns import DNSLab
    from tests.lab.keys import OpenPGPKey, SMIMEKey
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

PEOPLE = ("alice", "erin", "bob")
RULES = """\
require ["body", "fileinto", "mailbox", "relational", "comparator-i;ascii-numeric"];
if header :value "ge" :comparator "i;ascii-numeric" "X-Spam-Score" "5" { fileinto :create "Junk"; }
elsif header :contains "Subject" "[list]" { fileinto :create "List"; }
elsif address :is "From" "boss@s.test" { fileinto :create "Boss"; }
elsif header :contains "Authentication-Results" "dkim=fail" { fileinto :create "Doubtful"; }
elsif header :is "X-Smilla" "encrypted; format=openpgp" { fileinto :create "OpenPGP"; }
elsif body :raw :contains "the word by which it was sorted" { fileinto :create "Word"; }
"""
VERDICT = (
    b"Authentication-Results: mx.home.test;\r\n\tdkim=pass header.d=s.test header.s=one header.b=abc;\r\n"
    b"\tspf=pass smtp.mailfrom=sender@s.test"
)


@pytest.fixture(scope="module")
def boxes(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mailboxes]:
    """Mailboxes with two listeners: for what comes from outside, and for what users here send."""
    require_servers("dovecot")
    filters: dict[str, dict[str, Any]] = {
        "inbound": {"mode": "inbound"},
        "auto": {"mode": "auto", "keys": {"sources": ["directory", "smimea", "openpgpkey"]}},
    }
    own = {f"{name}@home.test": keys.people[name] for name in PEOPLE} | {"dave@home.test": keys.expired}
    with mailboxes(folder, lab.resolver, own, rules=RULES, filters=filters, bounces="inbound") as running:
        yield running
        check_logs(running.chain)
        # Nor in an index or a cache of Dovecot's.
        files = [path for name in (*PEOPLE, "dave") for path in (running.dovecot.folder / "mail" / name).rglob("*")]
        assert files
        assert not [path for path in files if path.is_file() and CANARY in path.read_bytes()]


def opened(arrived: bytes, key: SMIMEKey | OpenPGPKey, place: Path) -> bytes:
    """What the key's owner reads."""
    assert CANARY not in arrived
    file = place / "arrived.eml"
    file.write_bytes(arrived)
    return key.open(file)


def parsed(entity: bytes) -> EmailMessage:
    """A message or an entity, as a mail program sees it."""
    return email.message_from_bytes(entity, policy=email.policy.SMTP)


BODIES = {
    "ordinary": CANARY + b"\r\nsecond line\r\n",
    "eight-bit": "Käse ".encode() + b"K\xe4se \xff\xfe " + CANARY + b"\r\n",
    "nul": b"a\0b\0\0" + CANARY + b"\r\n",
    "dots-and-from": b".\r\n..\r\nFrom here on\r\n>From there\r\n" + CANARY + b"\r\n.\r\n",
    "lines-of-5000-octets": (b"x" * 5000 + CANARY + b"\r\n") * 2,
    "empty-lines-at-the-end": CANARY + b"\r\n" * 7,
    "large": (CANARY + b"\r\n") * 40000,
}


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_read_over_imap_opens_to_the_octets_that_were_sent(
    boxes: Mailboxes, keys: Keys, tmp_path: Path, name: str, body: bytes
) -> None:
    fields = (b"MIME-Version: 1.0", b"Content-Type: text/plain;\r\n\tcharset=utf-8")
    reply, sent = boxes.send(letter(*fields, b"Content-Transfer-Encoding: 8bit", body=body), [f"{name}@home.test"])
    assert reply.code == 250, reply
    mailbox = "OpenPGP" if name == "bob" else "INBOX"
    assert opened(boxes.read(name, sent, mailbox), keys.people[name], tmp_path) == inside(sent)


def test_a_mailbox_without_a_key_gets_its_mail_as_it_was(boxes: Mailboxes) -> None:
    reply, sent = boxes.send(letter(), ["carol@home.test"])
    assert reply.code == 250, reply
    assert added_by_mta(boxes.read("carol", sent), sent) is not None


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_the_header_stays_as_it_was_and_in_its_order(boxes: Mailboxes, keys: Keys, tmp_path: Path, name: str) -> None:
    fields = [
        VERDICT,
        b"Received-SPF: pass (mx.home.test: 192.0.2.7 is authorized)",
        b"ARC-Seal: i=1; a=rsa-sha256; t=1; cv=none; d=s.test; s=one; b=abc",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=s.test; s=one; h=from:to;\r\n\tbh=abc; b=def",
        b"X-Spam-Score: 1.3",
        b"X-Spam-Status: No, score=1.3 required=5.0\r\n\ttests=NONE",
        b"Message-ID: <3@s.test>",
        b"In-Reply-To: <2@s.test>",
        b"References: <1@s.test>\r\n <2@s.test>",
        b"List-Id: A list <list.s.test>",
        b"List-Unsubscribe: <mailto:leave@s.test>",
        b"Auto-Submitted: no",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain",
    ]
    _, sent = boxes.send(letter(*fields), [f"{name}@home.test"])
    arrived = boxes.read(name, sent, "OpenPGP" if name == "bob" else "INBOX")
    assert opened(arrived, keys.people[name], tmp_path) == inside(sent)
    names = [b"From", b"To", b"Subject", b"X-Mark", *(field.partition(b":")[0] for field in fields[:-1])]
    wanted = [name.decode() for name in names]
    assert header_fields(arrived, *wanted) == header_fields(sent, *wanted)


SORTED = {
    "X-Spam-Score: 7": "Junk",
    "Subject: Re: [list] a letter": "List",
    "Subject: =?utf-8?q?=5Blist=5D_K=C3=A4se?=": "List",
    "From: The Boss <boss@s.test>": "Boss",
    "Authentication-Results: mx.home.test; dkim=fail header.d=s.test": "Doubtful",
}


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
@pytest.mark.parametrize("field", SORTED)
def test_sieve_sorts_by_the_header(boxes: Mailboxes, keys: Keys, tmp_path: Path, name: str, field: str) -> None:
    usual = {"From": "Sender <sender@s.test>", "To": f"{name}@home.test", "Subject": "a letter"}
    fields = usual | dict([field.split(": ", 1)])
    head = "".join(f"{key}: {text}\r\n" for key, text in fields.items()).encode()
    reply, sent = boxes.send(head + b"\r\n" + CANARY + b"\r\n", [f"{name}@home.test"])
    assert reply.code == 250, reply
    arrived = boxes.read(name, sent, SORTED[field])
    if name != "carol":
        assert opened(arrived, keys.people[name], tmp_path) == inside(sent)


@pytest.mark.parametrize(("name", "mailbox"), [("carol", "Word"), ("alice", "INBOX"), ("erin", "INBOX")])
def test_what_sieve_cannot_read_it_cannot_sort_by(boxes: Mailboxes, name: str, mailbox: str) -> None:
    _, sent = boxes.send(letter(body=b"the word by which it was sorted\r\n"), [f"{name}@home.test"])
    boxes.read(name, sent, mailbox)


@pytest.mark.parametrize("name", ["erin", "carol"])
def test_the_server_still_knows_what_answers_what(boxes: Mailboxes, name: str) -> None:
    """A thread as the server sees it (RFC 5256), beside a message that only has the same words in its subject."""
    chain = [(b"<a@s.test>", b""), (b"<b@s.test>", b"<a@s.test>"), (b"<c@s.test>", b"<a@s.test> <b@s.test>")]
    for identity, answered in chain:
        fields = [b"Message-ID: " + identity] + ([b"References: " + answered] if answered else [])
        _, sent = boxes.send(letter(*fields, b"X-Thread: yes"), [f"{name}@home.test"])
        boxes.read(name, sent)
    with imaplib.IMAP4(LOOPBACK, boxes.dovecot.port, timeout=60) as imap:
        imap.login(name, PASSWORD)
        imap.select("INBOX", readonly=True)
        kind, threads = imap.thread("REFERENCES", "UTF-8", "HEADER X-Thread yes")
        assert kind == "OK"
        numbers = threads[0].split()  # one thread, in the order of the answers
        assert (threads[0].count(b"("), len(numbers)) == (1, 3)
        _, envelope = imap.fetch(numbers[1].decode(), "(ENVELOPE)")
        assert "<b@s.test>" in str(envelope)


def multipart(kind: bytes, *parts: bytes) -> tuple[bytes, bytes]:
    """A Content-Type field, and the body with these parts."""
    body = b"".join(b"--=_of-the-test\r\n" + part + b"\r\n" for part in parts) + b"--=_of-the-test--\r\n"
    return b"Content-Type: " + kind + b';\r\n\tboundary="=_of-the-test"', body


TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + CANARY + b"\r\n"
CALENDAR = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//test//EN\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@s.test\r\n"
    b"DTSTAMP:20260101T000000Z\r\nDTSTART:20260102T100000Z\r\nORGANIZER:mailto:boss@s.test\r\n"
    b"ATTENDEE;RSVP=TRUE:mailto:alice@home.test\r\nSUMMARY:" + CANARY + b"\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
INVITATION = b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n" + CALENDAR
DSN = (
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.s.test\r\n\r\n"
    b"Final-Recipient: rfc822; gone@s.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
)
MDN = (
    b"Content-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822;sender@s.test\r\n"
    b"Original-Message-ID: <1@home.test>\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n"
)
RETURNED = b"Content-Type: message/rfc822\r\n\r\n" + letter()


@dataclass(frozen=True)
class Report:
    """What a program has sent: the envelope sender, the Content-Type field, the body, and the content types of all
    parts within, as Python's parser walks them."""

    sender: str
    field: bytes
    body: bytes
    types: list[str]


REPORTS = {
    "dsn": Report(
        "",
        *multipart(b"multipart/report; report-type=delivery-status", TEXT, DSN, RETURNED),
        [
            *("multipart/report", "text/plain", "message/delivery-status", "text/plain", "text/plain"),
            *("message/rfc822", "text/plain"),
        ],
    ),
    "mdn": Report(
        "",
        *multipart(b"Multipart/Report; Report-Type=disposition-notification", TEXT, MDN),
        ["multipart/report", "text/plain", "message/disposition-notification", "text/plain"],
    ),
    "invitation": Report(
        "boss@s.test",
        *multipart(b"multipart/alternative", TEXT, INVITATION),
        ["multipart/alternative", "text/plain", "text/calendar"],
    ),
    "bare-invitation": Report(
        "boss@s.test",
        b"Content-Type: text/calendar; method=REQUEST;\r\n\tcharset=utf-8; component=VEVENT",
        CALENDAR,
        ["text/calendar"],
    ),
    "null-sender": Report("", b"Content-Type: text/plain", CANARY + b"\r\n", ["text/plain"]),
}


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_reports_and_invitations_are_whole_once_opened(
    boxes: Mailboxes, keys: Keys, tmp_path: Path, name: str, report: Report
) -> None:
    message = letter(b"Auto-Submitted: auto-replied", b"MIME-Version: 1.0", report.field, body=report.body)
    reply, sent = boxes.send(message, [f"{name}@home.test"], sender=report.sender)
    assert reply.code == 250, reply
    arrived = boxes.read(name, sent, "OpenPGP" if name == "bob" else "INBOX")
    assert header_fields(arrived, "Return-Path") == [f"Return-Path: <{report.sender}>".encode()]
    assert header_fields(arrived, "Auto-Submitted") == [b"Auto-Submitted: auto-replied"]
    inner = opened(arrived, keys.people[name], tmp_path)
    assert inner == inside(sent)
    assert [part.get_content_type() for part in parsed(inner).walk()] == report.types


@contextlib.contextmanager
def refusing(boxes: Mailboxes) -> Iterator[None]:
    """Within it, the next server refuses nobody@r.test, who publishes no key; so Postfix has to notify the sender."""
    boxes.chain.sink.answer = lambda line: b"550 5.1.1 gone" if line.startswith(b"RCPT TO:<nobody@r.test>") else None
    try:
        yield
    finally:
        boxes.chain.sink.answer = lambda line: None


RETURN = b"Subject: Undelivered Mail Returned to Sender"


def test_what_comes_back_to_a_user_here_is_encrypted_with_what_it_returns(
    boxes: Mailboxes, keys: Keys, tmp_path: Path
) -> None:
    with refusing(boxes):
        reply, _ = boxes.send(letter(), ["nobody@r.test"], sender="erin@home.test", listener="auto")
        assert reply.code == 250, reply
        arrived = boxes.dovecot.wait_for("erin", RETURN)
    assert header_fields(arrived, "Return-Path") == [b"Return-Path: <>"]
    inner = opened(arrived, keys.erin, tmp_path)
    assert parsed(inner).get_content_type() == "multipart/report"
    assert b"550 5.1.1 gone" in inner
    assert CANARY in inner


def test_what_comes_back_waits_while_the_key_has_expired(boxes: Mailboxes, keys: Keys, tmp_path: Path) -> None:
    with refusing(boxes):
        reply, _ = boxes.send(letter(), ["nobody@r.test"], sender="dave@home.test", listener="auto")
        assert reply.code == 250, reply
        boxes.chain.filters["inbound"].wait_for_log("deferred rcpt=dave@home.test .*reason=expired", 60)
        assert boxes.dovecot.messages("dave") == []
        assert boxes.chain.mta.queued()
        renewed = boxes.directory / "dave@home.test.renewed"
        renewed.write_bytes(keys.alice.certificate_file.read_bytes())
        renewed.rename(boxes.directory / "dave@home.test.crt")
        assert boxes.chain.postfix.tries_until(lambda: boxes.dovecot.messages("dave") != [])
        arrived = boxes.dovecot.wait_for("dave", RETURN)
    assert CANARY in opened(arrived, keys.alice, tmp_path)


def encrypted_by_the_sender(keys: Keys) -> dict[str, tuple[str, bytes]]:
    """Whom and what a sender has encrypted on his own, with openssl and gpg."""
    inner = b"Content-Type: text/plain\r\n\r\n" + CANARY + b"\r\n"
    options = ["cms", "-encrypt", "-binary", "-aes256", "-crlfeol", str(keys.alice.certificate_file)]
    result = subprocess.run([str(find_program("openssl")), *options], input=inner, capture_output=True, check=True)
    head, _, body = result.stdout.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    armour = encrypt_openpgp(keys.bob, inner).replace(b"\n", b"\r\n")
    version = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    encrypted = b"Content-Type: application/octet-stream\r\n\r\n" + armour
    field, parts = multipart(b'multipart/encrypted; protocol="application/pgp-encrypted"', version, encrypted)
    return {
        "smime": ("alice", letter(*head.split(b"\r\n"), body=body)),
        "openpgp": ("bob", letter(b"MIME-Version: 1.0", field, body=parts)),
        "inline": ("bob", letter(body=armour)),
    }


@pytest.mark.parametrize("form", ["smime", "openpgp", "inline"])
@pytest.mark.parametrize("listener", ["inbound", "auto"])
def test_what_arrives_encrypted_is_stored_byte_for_byte_and_opened_once(
    boxes: Mailboxes, keys: Keys, tmp_path: Path, form: str, listener: str
) -> None:
    name, message = encrypted_by_the_sender(keys)[form]
    reply, sent = boxes.send(message, [f"{name}@home.test"], listener=listener)
    assert reply.code == 250, reply
    arrived = boxes.read(name, sent)
    assert added_by_mta(arrived, sent) is not None
    if form != "inline":
        assert opened(arrived, keys.people[name], tmp_path) == b"Content-Type: text/plain\r\n\r\n" + CANARY + b"\r\n"


def test_mail_from_here_to_here_is_encrypted_for_the_mailbox(boxes: Mailboxes, keys: Keys, tmp_path: Path) -> None:
    to = ["bob@home.test", "erin@home.test", "carol@home.test"]
    reply, sent = boxes.send(letter(), to, sender="alice@home.test", listener="auto")
    assert reply.code == 250, reply
    assert opened(boxes.read("bob", sent, "OpenPGP"), keys.bob, tmp_path) == inside(sent)
    assert opened(boxes.read("erin", sent), keys.erin, tmp_path) == inside(sent)
    assert added_by_mta(boxes.read("carol", sent), sent) is not None


def test_one_message_to_here_and_to_outside_is_encrypted_for_both(boxes: Mailboxes, keys: Keys, tmp_path: Path) -> None:
    reply, sent = boxes.send(
        letter(), ["alice@home.test", "bob@r.test", "nobody@r.test"], sender="erin@home.test", listener="auto"
    )
    assert reply.code == 250, reply
    assert opened(boxes.read("alice", sent), keys.alice, tmp_path) == inside(sent)
    mark = b"\r\n" + sent[: sent.index(b"\r\n")] + b"\r\n"
    sink = boxes.chain.sink

    def outside() -> dict[str, bytes]:
        return {name: mail.raw for mail in list(sink.messages) if mark in mail.raw for name in mail.rcpt_to}

    assert wait_until(lambda: len(outside()) == 2, 60), boxes.chain.mta.log[-3000:]
    assert opened(outside()["bob@r.test"], keys.bob, tmp_path) == inside(sent)
    assert CANARY in outside()["nobody@r.test"]
