"""Keys and messages for the tests of decryption."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.address import parse
from smilla.copies import rewrap
from smilla.decrypt import held_key
from smilla.encrypt import cms
from smilla.keys.validity.x509 import assess
from smilla.message import parse as parse_message
from smilla.model import Candidate, Format, Style, X509Key
from tests.certificates import NOW, make_certificate, to_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from smilla.decrypt.held_key import HeldKey
    from smilla.model import Message

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\nThe canary sings in gr\xc3\xbcn.\r\n"
OUTSIDE = b"From: sue@example.org\r\nTo: hugh@example.org\r\nSubject: [...]\r\nMIME-Version: 1.0\r\n"


@dataclass(frozen=True)
class Owner:
    private: PrivateKeyTypes
    raw: bytes
    key: X509Key
    held: HeldKey


@cache
def owner(kind: str = "rsa2048", number: int = 0) -> Owner:
    private, raw = make_certificate(kind, number=number, common_name=f"Hugh {number}")
    candidate = Candidate("directory", "x", Format.SMIME, raw)
    key = assess(candidate, parse("a@example.org"), NOW, require_address=False).key
    assert isinstance(key, X509Key)
    (held,) = held_key.read(pem(private) + to_pem(raw))
    return Owner(private, raw, key, held)


def pem(private: PrivateKeyTypes) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def written(content: bytes, *to: Owner, style: Style | None = None) -> bytes:
    return b"".join(cms.encrypt([content], len(content), [one.key for one in to], style or Style()))


def message(raw: bytes) -> Message:
    return parse_message(raw).message


def smime(der: bytes, outside: bytes = OUTSIDE, kind: str = "application/pkcs7-mime; name=smime.p7m") -> Message:
    """The message around a CMS structure, as smilla writes it."""
    bare = message(outside + b"\r\n")
    return message(b"".join(rewrap.applied(bare, rewrap.smime(bare, lambda *_: iter([der])))))


def pgp_mime(armour: bytes, outside: bytes = OUTSIDE) -> Message:
    """The message around an armour, as smilla writes it."""
    bare = message(outside + b"\r\n")
    return message(b"".join(rewrap.applied(bare, rewrap.openpgp(bare, lambda *_: iter([armour])))))
