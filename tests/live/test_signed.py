"""What was signed stays signed: after Postfix, smilla and decryption, openssl and gpg still verify it.

client, signs -> Postfix -> smilla -> sink -> openssl or gpg opens -> openssl or gpg verifies

The same for a sender's own DKIM signature: the header that stayed outside and what was inside make up the message that
was signed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkim
import pytest

from tests.lab import signing
from tests.lab.chain import Chain
from tests.lab.keys import OpenPGPKey, SMIMEKey, make_openpgp_key, make_smime_key
from tests.lab.mail import inside, rejoined
from tests.lab.opendkim import make_dkim_key
from tests.lab.programs import require_servers
from tests.lab.signing import BadSignatureError
from tests.live.mta import CANARY, Mta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

HEAD = b"From: Sender <sender@s.test>\r\nTo: somebody@r.test\r\nSubject: signed\r\nMIME-Version: 1.0\r\n"
ENTITY = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "Grüße, with spaces at the end  \r\n\tand a tab\t\r\n-- \r\nFrom here\r\n.\r\n".encode()
    + CANARY
    + b"\r\n\r\n"
)


@dataclass(frozen=True)
class Signers:
    """The sender's keys."""

    smime: SMIMEKey
    openpgp: OpenPGPKey


@dataclass(frozen=True)
class Form:
    """How a sender signs an entity, and how a reader gets it back, verified."""

    sign: Callable[[Signers], bytes]
    verify: Callable[[Signers, bytes, Path], bytes]


def _text(entity: bytes) -> bytes:
    return entity.partition(b"\r\n\r\n")[2]


FORMS = {
    "smime-detached": Form(
        lambda signers: signing.smime_signed(signers.smime, ENTITY),
        lambda signers, signed, place: signing.smime_verified(signers.smime, signed, place),
    ),
    "smime-opaque": Form(
        lambda signers: signing.smime_opaque(signers.smime, ENTITY),
        lambda signers, signed, place: signing.smime_verified(signers.smime, signed, place),
    ),
    "openpgp-detached": Form(
        lambda signers: signing.openpgp_signed(signers.openpgp, ENTITY),
        lambda signers, signed, place: signing.openpgp_verified(signers.openpgp, signed, place),
    ),
    "openpgp-opaque": Form(
        lambda signers: signing.openpgp_opaque(signers.openpgp, _text(ENTITY)),
        lambda signers, signed, place: signing.openpgp_opaque_verified(signers.openpgp, signed),
    ),
    "openpgp-clear": Form(
        lambda signers: signing.openpgp_opaque(signers.openpgp, _text(ENTITY), clear=True),
        lambda signers, signed, place: signing.openpgp_opaque_verified(signers.openpgp, signed),
    ),
}


@dataclass(frozen=True)
class Bench:
    """Postfix with the usual filter, one sender and the recipients."""

    mta: Mta
    signers: Signers
    keys: Keys

    def opened(self, message: bytes, name: str, place: Path) -> tuple[bytes, bytes, bytes]:
        """The message as it was sent, as it arrived, and what is inside, after it went to that recipient."""
        reply, sent = self.mta.send(message, [f"{name}@r.test"])
        assert reply.code == 250, reply
        arrived = self.mta.arrived(sent).raw
        assert CANARY not in arrived
        file = place / "arrived.eml"
        file.write_bytes(arrived)
        return sent, arrived, self.keys.people[name].open(file)


@pytest.fixture(scope="module")
def bench(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Bench]:
    """All that these tests share."""
    require_servers()
    filters: dict[str, Any] = {"outbound": {}}
    place = Path(tempfile.mkdtemp(prefix="signed-", dir=folder))
    place.chmod(0o755)
    with make_openpgp_key(place, "sender@s.test") as openpgp, Chain(place / "chain", lab.resolver, filters) as chain:
        yield Bench(Mta(chain), Signers(make_smime_key(place, "sender@s.test"), openpgp), keys)


@pytest.mark.parametrize("name", ["alice", "erin", "bob"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_signature_within_verifies_after_decryption(bench: Bench, tmp_path: Path, name: str, form: Form) -> None:
    signed = form.sign(bench.signers)
    sent, _, inner = bench.opened(HEAD + signed, name, tmp_path)
    assert inner == inside(sent) == signed
    verified = form.verify(bench.signers, inner, tmp_path)
    if form is FORMS["openpgp-clear"]:  # which keeps neither line ends nor what stands at the end of a line
        assert CANARY in verified
    else:
        assert verified in (ENTITY, _text(ENTITY))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_signature_over_other_octets_does_not(bench: Bench, tmp_path: Path, form: Form) -> None:
    """The control: the programs do look."""
    signed = form.sign(bench.signers)
    changed = signed.replace(CANARY, CANARY.upper())
    if changed == signed:  # it is inside an armour or base64
        lines = signed.split(b"\r\n")
        at = len(lines) // 2
        lines[at] = lines[at][:9] + (b"A" if lines[at][9:10] != b"A" else b"B") + lines[at][10:]
        changed = b"\r\n".join(lines)
    form.verify(bench.signers, signed, tmp_path)
    with pytest.raises(BadSignatureError):
        form.verify(bench.signers, changed, tmp_path)


@pytest.mark.parametrize("name", ["alice", "erin", "bob"])
@pytest.mark.parametrize("canonicalization", ["simple/simple", "relaxed/relaxed"])
def test_the_senders_dkim_signature_verifies_over_what_was_inside(
    bench: Bench, tmp_path: Path, name: str, canonicalization: str
) -> None:
    key = make_dkim_key("s.test")
    message = HEAD + b"X-Folded: a\r\n  b\r\n\tc\r\n" + ENTITY
    header, _, body = canonicalization.partition("/")
    names = [b"From", b"To", b"Subject", b"MIME-Version", b"X-Folded", b"Content-Type", b"Content-Transfer-Encoding"]
    signature = dkim.sign(
        message,
        key.selector.encode(),
        key.domain.encode(),
        key.raw_private,
        canonicalize=(header.encode(), body.encode()),
        include_headers=names,
    )
    sent, arrived, inner = bench.opened(signature + message, name, tmp_path)
    assert dkim.verify(sent, dnsfunc=key.answer)
    assert not dkim.verify(arrived, dnsfunc=key.answer)
    assert dkim.verify(rejoined(arrived, inner), dnsfunc=key.answer)
    assert not dkim.verify(rejoined(arrived, inner.replace(CANARY, CANARY.upper())), dnsfunc=key.answer)
