"""A key that a message brings, and the mail that it then encrypts.

client -> smtpd "gate" [OpenDKIM verifies, a milter says what DMARC found, smilla learns] -> Maildir
client -> smtpd "gate" [the same] -> sink                                    (mail to whoever sent the key)

OpenDKIM is the real one.  What DMARC finds, a milter of the tests says, since OpenDMARC asks the resolver of the
machine.  All of it twice: with a file, and with a PostgreSQL.
"""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.authority import Authority
from tests.lab.chain import Chain
from tests.lab.client import Reply, SMTPClient
from tests.lab.dmarc_word import DMARCWord
from tests.lab.keys import OpenPGPKey, make_openpgp_key
from tests.lab.mail import inside
from tests.lab.opendkim import AUTHSERV_ID, DKIMKey, OpenDKIM, make_dkim_key
from tests.lab.postgres import Postgres
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.live.mta import CANARY, letter, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live

WHO = "nobody@r.test"  # of a signed zone, and publishes nothing
PASSED = b"X-DMARC: pass (p=none dis=none) header.from=r.test"
SETTINGS: dict[str, Any] = {
    "mode": "auto",
    "local_domains": ["home.test"],
    "internal_networks": ["192.0.2.0/24"],
    "keys": {"sources": ["smimea", "openpgpkey", "learned"]},
    "transport": {"authserv_id": AUTHSERV_ID},
    "learned": {"accept": ["smime", "autocrypt"]},
    "policy": {"no_key": "plain"},
    "log": {"level": "debug"},
}


@dataclass(frozen=True)
class Bench:
    """All that these tests share."""

    chain: Chain
    dkim: DKIMKey
    key: OpenPGPKey
    database: Postgres | None

    def offer(self, *fields: bytes, covered: tuple[bytes, ...] = (), author: str = WHO) -> bytes:
        """A message from ``author`` with an Autocrypt field, signed by r.test."""
        text = base64.b64encode(self.key.raw)
        data = b"\r\n ".join(text[at : at + 70] for at in range(0, len(text), 70))
        date = formatdate().encode()
        autocrypt = b"Autocrypt: addr=" + author.encode() + b"; prefer-encrypt=mutual;\r\n keydata=\r\n " + data
        head = b"From: " + author.encode() + b"\r\nTo: alice@home.test\r\nSubject: hello\r\nDate: " + date + b"\r\n"
        message = head + autocrypt + b"\r\n\r\n" + CANARY + b"\r\n"
        names = list(covered or (b"From", b"To", b"Subject", b"Date", b"Autocrypt"))
        made = dkim.sign(message, b"one", b"r.test", self.dkim.raw_private, include_headers=names)
        return b"".join(field + b"\r\n" for field in fields) + bytes(made) + message

    def send(self, message: bytes, to: str) -> bytes:
        """Through the gate; the message as it was sent, marked."""
        marked = b"X-Mark: %d-\r\n" % next(numbers) + message
        reply = self.reply(marked, to)
        assert reply.code == 250, reply
        return marked

    def reply(self, message: bytes, to: str) -> Reply:
        """The last one of the gate."""
        with SMTPClient(self.chain.port("gate")) as client:
            return client.send("sender@s.test", [to], message)[-1]

    def arrives(self, sent: bytes) -> bytes:
        """What the sink has of it."""
        mark = b"\r\n" + sent[: sent.index(b"\r\n")] + b"\r\n"

        def found() -> list[bytes]:
            return [mail.raw for mail in list(self.chain.sink.messages) if mark in mail.raw]

        assert wait_until(lambda: bool(found()), 60), self.chain.mta.log[-3000:]
        return found()[0]

    @property
    def log(self) -> str:
        return self.chain.filters["gate"].log

    def logs(self, message: bytes, pattern: str) -> str:
        """The first line that matches, once the message has come in."""
        before, wanted = len(self.log), re.compile(pattern, re.MULTILINE)
        self.send(message, "alice@home.test")
        assert wait_until(lambda: wanted.search(self.log, before) is not None, 60), self.log[-2000:]
        found = wanted.search(self.log, before)
        assert found is not None
        return found[0]


@dataclass(frozen=True)
class Certified:
    """A certificate of an authority for the sender, and a message that OpenSSL has signed with it."""

    place: Path

    def make(self) -> None:
        """An authority, and a certificate below one below it."""
        now = datetime.now(UTC)
        times: dict[str, Any] = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=9)}
        root = make_certificate("p256", common_name="Root", ca=True, number=80, **times)
        below = make_certificate("p256", common_name="Below", ca=True, number=81, issuer=root, **times)
        private, raw = make_certificate("rsa2048", email=WHO, common_name="Nobody", number=82, issuer=below, **times)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files = {"root": to_pem(root[1]), "below": to_pem(below[1]), "own": to_pem(raw), "key": pem}
        for name, octets in files.items():
            (self.place / f"{name}.pem").write_bytes(octets)
        (self.place / "root.pem").chmod(0o644)

    def _path(self, name: str) -> str:
        return str(self.place / f"{name}.pem")

    def message(self, *fields: bytes) -> bytes:
        """multipart/signed, with the certificates."""
        file = self.place / "content"
        file.write_bytes(b"Content-Type: text/plain\r\n\r\n" + CANARY + b"\r\n")
        signing = ["-signer", self._path("own"), "-inkey", self._path("key"), "-certfile", self._path("below")]
        command = ["openssl", "cms", "-sign", "-crlfeol", *signing, "-in", str(file)]
        entity = subprocess.run(command, check=True, capture_output=True).stdout
        head = [*fields, b"From: " + WHO.encode(), b"Date: " + formatdate().encode()]
        return b"\r\n".join(head) + b"\r\n" + entity.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def opens(self, message: bytes) -> bytes:
        """What is inside, by OpenSSL."""
        file = self.place / "arrived"
        file.write_bytes(message)
        opening = ["-recip", self._path("own"), "-inkey", self._path("key")]
        command = ["openssl", "cms", "-decrypt", "-binary", "-in", str(file), *opening]
        return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def certified(folder: Path) -> Certified:
    place = Path(tempfile.mkdtemp(prefix="certified-", dir=folder))
    place.chmod(0o755)
    found = Certified(place)
    found.make()
    return found


@pytest.fixture(scope="module", params=["file", "database"])
def bench(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, certified: Certified) -> Iterator[Bench]:
    require_servers("opendkim")
    place = Path(tempfile.mkdtemp(prefix="learned-", dir=folder))
    place.chmod(0o755)
    signing, key = make_dkim_key("r.test"), make_openpgp_key(place, WHO)
    verifier, word = OpenDKIM(place / "verifier", signing), DMARCWord(place / "word")
    settings = {**SETTINGS, "smime": {"ca_file": str(certified.place / "root.pem")}}
    with ExitStack() as stack:
        database = None
        if request.param == "database":
            require_servers("postgres")
            authority = Authority(place, "authority")
            database = stack.enter_context(Postgres(place / "postgres", authority.issue("localhost")))
            settings["store"] = {"url": database.make_database("mail")}
        chain = Chain(place / "chain", lab.resolver, {"gate": settings})
        gate = chain.listeners["gate"]
        gate.milters = [verifier.milter, word.milter, *gate.milters]
        for running in (key, verifier, word, chain):
            stack.enter_context(running)
        yield Bench(chain, signing, key, database)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((), "no verifier of ours"),
        ((b"X-DMARC: fail header.from=r.test",), "DMARC did not pass"),
        ((b"X-DMARC: pass header.from=evil.test",), "another domain"),
        ((PASSED, b"X-DMARC: fail header.from=r.test"), "DMARC did not pass"),
        # Somebody's own word, above and below the Received field that he also writes.
        (
            (
                b"Authentication-Results: mx.home.test; dkim=pass header.d=r.test",
                b"Received: from x by y; Fri, 20 Nov 2026 11:00:00 +0000",
                b"Authentication-Results: mx.home.test; dmarc=pass header.from=r.test",
            ),
            "no verifier of ours",
        ),
    ],
)
def test_nothing_is_learned_without_the_word_of_our_verifiers(
    bench: Bench, fields: tuple[bytes, ...], why: str
) -> None:
    assert why in bench.logs(bench.offer(*fields), "key-(not-)?learned .*$")


def test_field_that_nobody_signed_teaches_nothing(bench: Bench) -> None:
    unsigned = bench.offer(PASSED, covered=(b"From", b"To", b"Date"))
    assert "no valid DKIM signature" in bench.logs(unsigned, "key-(not-)?learned .*$")
    changed = bench.offer(PASSED).replace(b"Subject: hello", b"Subject: other")
    assert "no valid DKIM signature" in bench.logs(changed, "key-(not-)?learned .*$")


def test_changed_or_unvouched_signature_teaches_nothing(bench: Bench, certified: Certified) -> None:
    assert "no verifier" in bench.logs(certified.message(), "key-(not-)?learned .*$")
    changed = certified.message(PASSED).replace(CANARY, CANARY.swapcase())
    assert "was changed" in bench.logs(changed, "key-(not-)?learned .*$")


def test_mail_goes_plain_before_and_encrypted_after_the_key_was_learned(bench: Bench, tmp_path: Path) -> None:
    before = bench.send(letter(to=WHO.encode()), WHO)
    assert CANARY in bench.arrives(before)
    bench.logs(bench.offer(PASSED), "key-learned rcpt=nobody@r.test format=openpgp .*$")
    sent = bench.send(letter(to=WHO.encode()), WHO)
    arrived = bench.arrives(sent)
    assert CANARY not in arrived
    file = tmp_path / "arrived.eml"
    file.write_bytes(arrived)
    assert bench.key.open(file) == inside(sent)
    told = "encrypted rcpt=nobody@r.test format=openpgp source=learned dnssec=learned"
    assert wait_until(lambda: told in bench.log, 60)
    # The same key once more is no news; the next message's line shows that this one is over.
    for _ in range(2):
        bench.logs(bench.offer(PASSED), "^.*message from=.*$")
    assert len(re.findall("key-learned ", bench.log)) == 1


def test_mail_waits_while_the_database_is_gone(bench: Bench) -> None:
    if bench.database is None:  # a file is never gone
        return
    bench.logs(bench.offer(PASSED), "^.*message from=.*$")
    bench.database.stop()
    try:
        reply = bench.reply(letter(to=WHO.encode()), WHO)
        assert reply.code // 100 == 4, reply
        assert not re.search("(?i)postgres|database|sql", str(reply)), reply
    finally:
        bench.database.start()
    assert wait_until(lambda: bench.reply(letter(to=WHO.encode()), WHO).code == 250, 60)


def test_certificate_of_a_signature_is_learned_and_used(bench: Bench, certified: Certified) -> None:
    """It comes after the OpenPGP key in time, and before it in what is used, as with every source that has both."""
    told = bench.logs(certified.message(PASSED), "key-learned rcpt=nobody@r.test format=smime .*$")
    assert "way=smime" in told
    sent = bench.send(letter(to=WHO.encode()), WHO)
    arrived = bench.arrives(sent)
    assert CANARY not in arrived
    assert certified.opens(arrived) == inside(sent)
