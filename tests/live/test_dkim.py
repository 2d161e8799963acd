"""The order of filters: verify, then encrypt, then sign.

out: client -> Postfix [smilla, OpenDKIM signs] -> sink -> dkimpy verifies; further copies come back and are signed, too
in:  client -> Postfix [OpenDKIM verifies, smilla] -> Dovecot (Sieve sorts by the verdict) -> IMAP

The listeners "early" and "late" have the wrong order, and show what it breaks.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkim
import pytest

from tests.lab.mail import header_fields, inside, rejoined
from tests.lab.opendkim import AUTHSERV_ID, DKIMKey, OpenDKIM, make_dkim_key
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.live.at_rest import Mailboxes, mailboxes
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

RULES = """\
require ["fileinto", "mailbox"];
if header :contains "Authentication-Results" "dkim=fail" { fileinto :create "Doubtful"; }
"""
FILTERS: dict[str, dict[str, Any]] = {
    "outbound": {"keys": {"sources": ["smimea", "openpgpkey"]}, "local_domains": []},
    "early": {"keys": {"sources": ["smimea", "openpgpkey"]}, "local_domains": []},
    "inbound": {"mode": "inbound"},
    "late": {"mode": "inbound"},
}
MIME = (b"MIME-Version: 1.0", b"Content-Type: text/plain;\r\n\tcharset=utf-8", b"Content-Transfer-Encoding: 8bit")
BODY = "Grüße\r\n.\r\n  \r\n".encode() + CANARY + b"\r\n\r\n"


@dataclass(frozen=True)
class Bench:
    """All that these tests share."""

    boxes: Mailboxes
    key: DKIMKey
    keys: Keys

    def arrived(self, sent: bytes, count: int) -> dict[str, bytes]:
        """What reached the sink of a message, by recipient."""
        mark = b"\r\n" + sent[: sent.index(b"\r\n")] + b"\r\n"

        def found() -> dict[str, bytes]:
            mails = list(self.boxes.chain.sink.messages)
            return {name: mail.raw for mail in mails if mark in mail.raw for name in mail.rcpt_to}

        assert wait_until(lambda: len(found()) >= count, 60), self.boxes.chain.mta.log[-3000:]
        return found()

    def signed(self, message: bytes) -> bytes:
        """The message, signed by its sender's own server."""
        selector, domain = self.key.selector.encode(), self.key.domain.encode()
        names = [b"From", b"To", b"Subject", b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"]
        signature = dkim.sign(message, selector, domain, self.key.raw_private, include_headers=names)
        return bytes(signature) + message

    def verifies(self, message: bytes) -> bool:
        """Whether dkimpy, which is not OpenDKIM, takes the signature for good."""
        return bool(dkim.verify(message, dnsfunc=self.key.answer))

    def opened(self, message: bytes, name: str, place: Path) -> bytes:
        """What the recipient reads."""
        assert CANARY not in message
        file = place / "arrived.eml"
        file.write_bytes(message)
        return self.keys.people[name].open(file)


@pytest.fixture(scope="module", params=["simple/simple", "relaxed/relaxed"])
def bench(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Bench]:
    """Postfix with OpenDKIM before or behind smilla; the listener for further copies signs, too."""
    require_servers("dovecot", "opendkim")
    place = Path(tempfile.mkdtemp(prefix="dkim-", dir=folder))
    place.chmod(0o755)
    key = make_dkim_key("s.test")
    own = {f"{name}@home.test": keys.people[name] for name in ("alice", "bob")}
    signer, verifier = OpenDKIM(place / "signer", key, request.param), OpenDKIM(place / "verifier", key)

    def order(name: str, milters: Sequence[str]) -> list[str]:
        before = {"inbound": [verifier.milter], "early": [signer.milter]}
        after = {"outbound": [signer.milter], "plain": [signer.milter], "late": [verifier.milter]}
        return [*before.get(name, []), *milters, *after.get(name, [])]

    with (
        signer,
        verifier,
        mailboxes(folder, lab.resolver, own, rules=RULES, filters=FILTERS, order=order) as boxes,
    ):
        yield Bench(boxes, key, keys)


@pytest.mark.parametrize("names", ["alice", "bob", "alice erin bob nobody"])
def test_each_copy_carries_a_signature_over_what_leaves(bench: Bench, tmp_path: Path, names: str) -> None:
    to = [f"{name}@r.test" for name in names.split()]
    reply, sent = bench.boxes.send(letter(*MIME, body=BODY), to, listener="outbound")
    assert reply.code == 250, reply
    arrived = bench.arrived(sent, len(to))
    assert sorted(arrived) == sorted(to)
    for address, raw in arrived.items():
        (signature,) = header_fields(raw, "DKIM-Signature")
        assert b"content-type" in signature.lower()
        assert bench.verifies(raw), address
        assert not bench.verifies(raw.replace(b"\r\nContent-Type: ", b"\r\nContent-Type: x-"))
        assert not bench.verifies(raw[:-200] + raw[-200:].swapcase())
        name = address.partition("@")[0]
        if name != "nobody":
            assert bench.opened(raw, name, tmp_path) == inside(sent)
    assert len(set(arrived.values())) == len(to)


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_signature_made_before_encryption_does_not_verify(bench: Bench, name: str) -> None:
    reply, sent = bench.boxes.send(letter(*MIME, body=BODY), [f"{name}@r.test"], listener="early")
    assert reply.code == 250, reply
    raw = bench.arrived(sent, 1)[f"{name}@r.test"]
    assert len(header_fields(raw, "DKIM-Signature")) == 1
    assert not bench.verifies(raw)


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("verdict", ["pass", "fail", "none"])
def test_the_verdict_stands_on_what_lies_encrypted_in_the_mailbox(
    bench: Bench, tmp_path: Path, name: str, verdict: str
) -> None:
    message = letter(*MIME, body=BODY, to=f"{name}@home.test".encode())
    if verdict != "none":
        message = bench.signed(message)
    if verdict == "fail":
        message = message.replace(b"Subject: a letter", b"Subject: another letter")
    # Whoever writes the verdict himself is not believed.
    claim = f"Authentication-Results: {AUTHSERV_ID}; dkim=pass header.d=bank.test\r\n".encode()
    reply, sent = bench.boxes.send(claim + message, [f"{name}@home.test"])
    assert reply.code == 250, reply
    arrived = bench.boxes.read(name, sent, "Doubtful" if verdict == "fail" else "INBOX")
    results = header_fields(arrived, "Authentication-Results")
    assert len(results) == 1
    assert AUTHSERV_ID.encode() in results[0]
    assert f"dkim={verdict}".encode() in results[0]
    inner = bench.opened(arrived, name, tmp_path)
    assert inner == inside(sent)
    assert bench.verifies(rejoined(arrived, inner)) is (verdict == "pass")


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_verifier_behind_smilla_finds_good_signatures_bad(bench: Bench, name: str) -> None:
    message = bench.signed(letter(*MIME, body=BODY, to=f"{name}@home.test".encode()))
    reply, sent = bench.boxes.send(message, [f"{name}@home.test"], listener="late")
    assert reply.code == 250, reply
    (result,) = header_fields(bench.boxes.read(name, sent, "Doubtful"), "Authentication-Results")
    assert b"dkim=fail" in result
