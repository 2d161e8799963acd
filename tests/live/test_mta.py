"""Real mail through the real MTAs and real signed DNS: what arrives is opened and compared octet by octet.

client -> smtpd -> smilla -> unbound (validating) -> nsd
            |
            +-> smtp -> sink, or virtual -> Maildir
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import sendmail
from tests.lab.chain import Chain
from tests.lab.client import SMTPClient, stuffed
from tests.lab.keys import encrypt_openpgp
from tests.lab.mail import added_by_mta, header_fields, inside
from tests.lab.postfix import queue_id
from tests.lab.processes import session_members
from tests.live.mta import CANARY, Mta, check_logs, letter, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.client import Reply
    from tests.lab.dns import DNSLab
    from tests.lab.keys import OpenPGPKey, SMIMEKey
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import ChainFactory, Keys

pytestmark = pytest.mark.live

DNS_TIMEOUT_S = 2


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    """An MTA with five filters: outbound as by default, strict, at rest, with authenticated encryption, and one that
    waits for no slow name server; the others do, since this machine may be slow itself."""
    place = Path(tempfile.mkdtemp(prefix="mta-", dir=folder))
    home = place / "keys"
    home.mkdir()
    (home / "alice@home.test.pem").write_bytes(keys.alice.certificate_file.read_bytes())
    (home / "bob@home.test.pgp").write_bytes(keys.bob.raw)
    for path in (place, home):
        path.chmod(0o755)
    dns = {"timeout_s": 30}
    filters: dict[str, Any] = {
        "outbound": {"dns": dns},
        "strict": {"dns": dns, "policy": {"no_key": "refuse", "insecure": "refuse"}},
        "inbound": {
            "mode": "inbound",
            "local_domains": ["home.test"],
            "keys": {"sources": ["directory"], "directory": str(home)},
        },
        "gcm": {"dns": dns, "smime": {"cipher": "aes256-gcm"}},
        "hasty": {"dns": {"timeout_s": DNS_TIMEOUT_S}},
    }
    try:
        with Chain(place, lab.resolver, filters, kind=request.param) as chain:
            yield Mta(chain)
            check_logs(chain)
            if request.param == "postfix":  # Sendmail's is the whole dialogue
                assert CANARY not in chain.mta.log.encode()
    finally:
        shutil.rmtree(place)


def check_encrypted(arrived: ReceivedMail, sent: bytes, key: SMIMEKey | OpenPGPKey, place: Path, inner: bytes) -> None:
    """The canary is gone, the header stands, and inside is exactly what was sent."""
    assert CANARY not in arrived.raw
    assert arrived.raw.isascii() or not sent.partition(b"\r\n\r\n")[0].isascii()
    file = place / "arrived.eml"
    file.write_bytes(arrived.raw)
    assert key.open(file) == inner
    for name in ("From", "To", "Subject", "X-Mark", "X-Folded"):
        assert header_fields(arrived.raw, name) == header_fields(sent, name)
    assert max(map(len, arrived.raw_body.split(b"\r\n"))) <= 998


BODIES = {
    "ordinary": CANARY + b"\r\nsecond line\r\n",
    "empty": b"",
    "eight-bit": "Käse ".encode() + b"K\xe4se \xff\xfe " + CANARY + b"\r\n",
    "nul": b"a\0b\0\0" + CANARY + b"\r\n",
    "dots": b".\r\n..\r\n.x\r\n...\r\n" + CANARY + b"\r\n.\r\n",
    "lines-of-5000-octets": (b"x" * 5000 + CANARY + b"\r\n") * 2,
    "no-final-line-end": CANARY,
    "empty-lines-at-the-end": CANARY + b"\r\n" * 7,
    "a-character-across-64-kb": b"y" * 76 + b"\r\n" + ("€" * 30 + "\r\n").encode() * 2000 + CANARY,
    "mentions-pgp": b"I write:\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n" + CANARY + b"\r\n-----END PGP MESSAGE-----\r\n",
}


@pytest.mark.parametrize("name", ["alice", "erin", "bob"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_a_recipient_opens_is_what_was_sent(mta: Mta, keys: Keys, tmp_path: Path, name: str, body: bytes) -> None:
    fields = (b"MIME-Version: 1.0", b"Content-Type: text/plain;\r\n\tcharset=utf-8", b"X-Folded: a\r\n  b\r\n\tc")
    message = letter(*fields, b"Content-Transfer-Encoding: 8bit", body=body, to=f"{name}@r.test".encode())
    reply, sent = mta.send(message, [f"{name}@r.test"])
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    assert (arrived.mail_from, arrived.rcpt_to) == ("sender@s.test", (f"{name}@r.test",))
    check_encrypted(arrived, sent, getattr(keys, name), tmp_path, inside(sent))
    form = b"openpgp" if name == "bob" else b"smime"
    assert header_fields(arrived.raw, "X-Smilla") == [b"X-Smilla: encrypted; format=" + form]
    assert len(header_fields(arrived.raw, "Content-Type")) == 1


MESSAGES = {
    "no-mime": letter(body=CANARY + b" \xe4\r\n"),
    "no-from": b"Subject: nobody\r\n\r\n" + CANARY + b"\r\n",
    "no-header": b"\r\n" + CANARY + b"\r\n",
    "upper-case-types": letter(
        b"MIME-VERSION: 1.0",
        b'CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY="b"',
        body=b"--b\r\n\r\n" + CANARY + b"\r\n--b--\r\n",
    ),
    "raw-utf8-header": letter("X-Note: Käse".encode(), b"Content-Description: na\xefve"),
    "a-foreign-mark": letter(b"X-Smilla: encrypted; format=smime", b"x-smilla: again"),
    "several-content-fields": letter(
        b"Content-Type: text/plain", b"X-A: 1", b"content-type: text/html", b"Content-X: y"
    ),
    "claims-to-be-encrypted": letter(
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b',
        body=b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" + CANARY + b"\r\n--b--\r\n",
    ),
    "claims-to-be-enveloped": letter(b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data"),
    "signed": letter(
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=b', body=b"--b\r\n" + CANARY
    ),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_odd_messages_are_encrypted_too(mta: Mta, keys: Keys, tmp_path: Path, message: bytes) -> None:
    reply, sent = mta.send(message, ["alice@r.test"])
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    if mta.chain.kind == "sendmail" and b"From:" not in message:  # which Sendmail adds
        sent = b"From: sender@s.test\r\n" + sent
    check_encrypted(arrived, sent, keys.alice, tmp_path, inside(sent))


def test_a_malformed_header_line_begins_the_body(mta: Mta, keys: Keys, tmp_path: Path) -> None:
    rest = b"this is no header field\r\nContent-Type: text/html\r\n\r\n" + CANARY + b"\r\n"
    reply, sent = mta.send(b"From: <a@s.test>\r\nSubject: x\r\n" + rest, ["alice@r.test"])
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    file = tmp_path / "arrived.eml"
    file.write_bytes(arrived.raw)
    assert keys.alice.open(file) == b"Content-Type: text/plain\r\n\r\n" + rest


@pytest.mark.parametrize("sender", ["", "sender+tag@s.test", '"quoted sender"@s.test', "SENDER@S.TEST"])
def test_the_envelope_sender_stays(mta: Mta, keys: Keys, tmp_path: Path, sender: str) -> None:
    reply, sent = mta.send(letter(), ["alice@r.test"], sender=sender)
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    assert arrived.mail_from == sender
    check_encrypted(arrived, sent, keys.alice, tmp_path, inside(sent))


def test_mail_with_smtputf8_is_encrypted(mta: Mta, keys: Keys, tmp_path: Path) -> None:
    if mta.chain.kind == "sendmail":
        with SMTPClient(mta.chain.port("outbound")) as client:
            assert "SMTPUTF8" not in client.ehlo.text  # Debian's 8.17 is built without it
        return
    mta.chain.sink.extensions = ("8BITMIME", "SMTPUTF8", "DSN")
    message = letter("X-Folded: Käse\r\n  日本".encode(), body="Käse ".encode() + CANARY + b"\r\n")
    reply, sent = mta.send(message, ["alice@r.test"], sender="käse@s.test", mail_parameters="BODY=8BITMIME SMTPUTF8")
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    assert arrived.mail_from == "käse@s.test"
    check_encrypted(arrived, sent, keys.alice, tmp_path, inside(sent))


@pytest.mark.parametrize("recipient", ["nobody@r.test", "alice@unsigned.test", "Alice@r.test", "alice+tag@r.test"])
@pytest.mark.parametrize("body", [BODIES["eight-bit"], BODIES["dots"], BODIES["nul"], BODIES["empty"]])
def test_without_a_proven_key_mail_passes_octet_for_octet_by_default(mta: Mta, recipient: str, body: bytes) -> None:
    fields = (b"MIME-Version: 1.0", b"Content-Type: text/plain;\r\n\tcharset=utf-8", b"Content-Transfer-Encoding:8bit")
    reply, sent = mta.send(letter(*fields, body=body), [recipient])
    assert reply.code == 250, reply
    arrived = mta.arrived(sent)
    added = added_by_mta(arrived.raw, sent)
    assert added is not None
    assert added.startswith(b"Received: ")
    assert b"\r\nX-Smilla" not in arrived.raw


@pytest.mark.parametrize("recipient", ["nobody@r.test", "alice@unsigned.test"])
def test_without_a_proven_key_a_strict_policy_refuses_at_the_end_of_data(mta: Mta, recipient: str) -> None:
    reply, sent = mta.send(letter(), [recipient], listener="strict")
    assert str(reply).startswith(f"550 5.7.5 <{recipient}>: ")
    mta.nothing_arrived(sent)


@pytest.mark.parametrize("recipient", ["alice@forged.test", "bob@forged.test", "alice@bogus.test", "nobody@bogus.test"])
@pytest.mark.parametrize("listener", ["outbound", "strict"])
def test_forged_answers_defer_at_the_end_of_data_and_nothing_goes_out(mta: Mta, recipient: str, listener: str) -> None:
    with SMTPClient(mta.chain.port(listener)) as client:
        replies = client.send("sender@s.test", [recipient], letter())
    assert [reply.code for reply in replies] == [250, 250, 354, 451]
    assert str(replies[-1]).startswith(f"451 4.7.5 <{recipient}>: the answer about a published key fails DNSSEC")
    assert not [mail for mail in mta.chain.sink.messages if recipient in mail.rcpt_to]


@pytest.mark.parametrize("zone", ["dead.test", "silent.test"])
def test_a_zone_without_a_server_defers_within_the_time(mta: Mta, zone: str) -> None:
    began_at = time.monotonic()
    reply, sent = mta.send(letter(), [f"alice@{zone}"], listener="hasty")
    assert str(reply).startswith(f"451 4.7.5 <alice@{zone}>: the name servers")
    assert time.monotonic() - began_at < DNS_TIMEOUT_S + 120  # a bound, and far from any load
    mta.nothing_arrived(sent)


def test_a_slow_domain_delays_its_own_mail_only(mta: Mta) -> None:
    """Twelve slow messages wait while others are answered.  Did they hold those up, none would ever be answered
    meanwhile; on a busy machine it may take more than one try to see."""
    mta.send(letter(), ["alice@r.test"], listener="hasty")
    for attempt in range(20):
        replies: list[Reply] = []

        def send_slow(number: int, attempt: int = attempt, replies: list[Reply] = replies) -> None:
            to = [f"person{attempt}.{number}@silent.test"]
            replies.append(mta.send(letter(), to, listener="hasty")[0])

        slow = [threading.Thread(target=send_slow, args=(number,)) for number in range(12)]
        for thread in slow:
            thread.start()
        sent, still_waiting = [], 12
        for name in ("alice", "erin", "bob", "nobody"):
            sent.append(mta.send(letter(), [f"{name}@r.test"], listener="hasty"))
            still_waiting = min(still_waiting, sum(thread.is_alive() for thread in slow))
        for thread in slow:
            thread.join(60)
        assert [reply.code for reply in replies] == [451] * 12
        served = [message for reply, message in sent if reply.code == 250]
        for message in served:
            mta.arrived(message)
        if still_waiting and len(served) == len(sent):
            return
    pytest.fail("no mail of others was answered while mail to silent.test waited")


def test_what_is_encrypted_already_passes_octet_for_octet(mta: Mta, keys: Keys) -> None:
    armour = encrypt_openpgp(keys.bob, b"Content-Type: text/plain\r\n\r\nhello\r\n").replace(b"\n", b"\r\n")
    pgp_mime = letter(
        b"MIME-Version: 1.0",
        b'Content-Type: MultiPart/Encrypted; BOUNDARY="=_b"; Protocol="application/PGP-Encrypted"',
        body=b"--=_b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--=_b\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" + armour + b"\r\n--=_b--\r\n",
    )
    inline = letter(b"Content-Type: text/plain; charset=us-ascii", body=armour)
    _, enveloped = mta.send(letter(), ["alice@r.test"])
    _, authenticated = mta.send(letter(), ["alice@r.test"], listener="gcm")
    encrypted = [pgp_mime, inline]
    for first in (enveloped, authenticated):
        mail = mta.arrived(first)
        types = header_fields(mail.raw, "Content-Type", "Content-Transfer-Encoding")
        assert (b"authEnveloped-data" in types[0]) is (first is authenticated)
        encrypted.append(letter(types[0].upper().replace(b"CONTENT", b"content"), types[1], body=mail.raw_body))
    for listener in ("outbound", "strict"):
        for message in encrypted:
            reply, sent = mta.send(message, ["alice@r.test"], listener=listener)
            assert reply.code == 250, reply
            assert added_by_mta(mta.arrived(sent).raw, sent) is not None


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_inbound_mail_is_encrypted_in_the_mailbox(mta: Mta, keys: Keys, tmp_path: Path, name: str) -> None:
    message = letter(b"Content-Type: text/plain; charset=utf-8", body="Käse ".encode() + CANARY + b"\r\n.\r\n")
    reply, sent = mta.send(message, [f"{name}@home.test"], listener="inbound")
    assert reply.code == 250, reply
    raw = mta.in_mailbox(name, sent)
    assert CANARY not in raw
    file = tmp_path / "arrived.eml"
    file.write_bytes(raw)
    key: SMIMEKey | OpenPGPKey = getattr(keys, name)
    assert key.open(file) == inside(sent)


def test_inbound_mail_for_a_mailbox_without_a_key_and_for_others_is_not_touched(mta: Mta) -> None:
    reply, sent = mta.send(letter(), ["carol@home.test"], listener="inbound")
    assert reply.code == 250, reply
    assert mta.in_mailbox("carol", sent).endswith(sent)
    reply, sent = mta.send(letter(), ["alice@r.test"], listener="inbound")
    assert added_by_mta(mta.arrived(sent).raw, sent) is not None


def test_the_log_names_the_queue_id_of_the_mta(mta: Mta) -> None:
    reply, sent = mta.send(letter(), ["alice@r.test"])
    mta.arrived(sent)
    number = queue_id(reply.text) or sendmail.queue_id(reply.text)
    assert number is not None
    lines = mta.chain.filters["outbound"].log_lines_of(number)
    assert lines[0].startswith(
        f"{number} encrypted rcpt=alice@r.test format=smime source=smimea dnssec=secure reason=usable"
    )
    mta.chain.mta.wait_until_empty()


def test_several_messages_on_one_connection_and_a_reset_between_them(mta: Mta, keys: Keys, tmp_path: Path) -> None:
    sent = []
    with SMTPClient(mta.chain.port("outbound")) as client:
        for name in ("alice", "bob", "erin"):
            client.command("MAIL FROM:<a@s.test>")
            client.command("RCPT TO:<nobody@r.test>")
            client.command("RSET")
            message = b"X-Mark: %d-\r\n" % next(numbers) + letter()
            assert client.send("sender@s.test", [f"{name}@r.test"], message)[-1].code == 250
            assert client.send("sender@s.test", ["alice@forged.test"], message)[-1].code == 451
            sent.append((name, message))
    for name, message in sent:
        check_encrypted(mta.arrived(message), message, getattr(keys, name), tmp_path, inside(message))


def kill(chain: Chain) -> None:
    """Kills the filter and its workers, which the chain started, as a crash would."""
    for pid in session_members(chain.filters["outbound"].child.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("moment", ["before-data", "within-data", "before-the-final-dot"])
def test_a_filter_killed_within_a_transaction_lets_nothing_out(chain: ChainFactory, moment: str) -> None:
    mta = chain({"policy": {"no_key": "refuse"}})
    octets = stuffed(letter(body=(CANARY + b"\r\n") * 40000))
    with SMTPClient(mta.port("outbound")) as client:
        client.command("MAIL FROM:<sender@s.test>")
        client.command("RCPT TO:<alice@r.test>")
        if moment == "before-data":
            kill(mta)
        reply = client.command("DATA")
        if reply.code == 354:
            half = len(octets) // 2 if moment == "within-data" else len(octets) - 5
            client.send_raw(octets[:half])
            time.sleep(0.2)
            if moment != "before-data":
                kill(mta)
            reply = client.command(octets[half:].removesuffix(b"\r\n"))
    assert 400 <= reply.code < 500, reply
    mta.mta.wait_until_empty()
    assert mta.sink.messages == []
