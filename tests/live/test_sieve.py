"""The Sieve scripts of contrib/sieve, run by Dovecot's Pigeonhole on mail as it comes in.

client, with STARTTLS or without -> Postfix -> smilla -> Dovecot (Sieve) -> IMAP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.client import SMTPClient
from tests.lab.programs import REPOSITORY, require_servers
from tests.live.at_rest import Mailboxes, mailboxes
from tests.live.mta import letter, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

FOLDER = "Came in the clear"
FORGED = (
    b"X-Smilla-Transport: tls TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none",
    b"Authentication-Results: mx.home.test; x-tls=pass",
)
FILTERS = {"inbound": {"mode": "inbound", "transport": {"authserv_id": "mx.home.test"}}}


@pytest.fixture(scope="module", params=["plain-to-folder", "plain-to-flag"])
def boxes(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mailboxes]:
    """Mailboxes whose mail goes through one of the scripts; nobody but alice has a key."""
    require_servers("dovecot")
    key, der = make_certificate("p256", common_name="mta.test")
    pem = folder / f"{request.param}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + to_pem(der))
    pem.chmod(0o600)
    main = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(pem)}
    rules = (REPOSITORY / f"contrib/sieve/{request.param}.sieve").read_text("utf-8")
    with mailboxes(
        folder, lab.resolver, {"alice@home.test": keys.alice}, rules=rules, filters=FILTERS, main=main
    ) as found:
        yield found


def send(boxes: Mailboxes, user: str, message: bytes, *, tls: bool) -> bytes:
    """Sends a message, marked."""
    sent = b"X-Mark: %d-\r\n" % next(numbers) + message
    with SMTPClient(boxes.chain.port("inbound")) as client:
        if tls:
            client.start_tls()
        assert client.send("sender@s.test", [f"{user}@home.test"], sent)[-1].code == 250
    return sent


def is_told(boxes: Mailboxes, user: str, sent: bytes) -> bool:
    """Whether the script has filed or marked it."""
    mark = b"\n" + sent[: sent.index(b"\r\n")]
    boxes.chain.mta.wait_until_empty()
    (file,) = [path for path in boxes.dovecot.files(user) if mark in path.read_bytes().replace(b"\r\n", b"\n")]
    is_filed = f".{FOLDER}" in str(file)
    keywords = file.parent.parent / "dovecot-keywords"
    is_marked = keywords.exists() and "CameInTheClear" in keywords.read_text() and file.name.endswith("a")
    assert not (is_filed and is_marked)
    return is_filed or is_marked


def test_what_came_in_the_clear_is_told_whatever_its_sender_says(boxes: Mailboxes) -> None:
    for user in ("alice", "carol"):
        assert is_told(boxes, user, send(boxes, user, letter(*FORGED), tls=False))
        assert is_told(boxes, user, send(boxes, user, letter(), tls=False))


def test_what_came_over_tls_is_left_alone(boxes: Mailboxes) -> None:
    plain = b"X-Smilla-Transport: plain; e2e=none"
    for user in ("alice", "carol"):
        assert not is_told(boxes, user, send(boxes, user, letter(plain), tls=True))


def test_what_came_encrypted_end_to_end_is_left_alone_though_its_hop_was_not(boxes: Mailboxes) -> None:
    first = boxes.read("alice", send(boxes, "alice", letter(), tls=True))
    encrypted = first[first.index(b"Content-Type:") :]
    assert not is_told(boxes, "carol", send(boxes, "carol", encrypted, tls=False))
