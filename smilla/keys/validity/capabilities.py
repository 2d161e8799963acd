"""SMIMECapabilities in a certificate (RFC 4262, RFC 8551 section 2.5.2): what its holder's program can read.

It is only a hint and never a reason against a certificate: a malformed extension announces nothing.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cryptography import x509

from smilla.errors import ParseError
from smilla.formats import der

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OID = "1.2.840.113549.1.9.15"
_MOST = 64
_NAMES = {
    "2.16.840.1.101.3.4.1.2": "aes128-cbc",
    "2.16.840.1.101.3.4.1.22": "aes192-cbc",
    "2.16.840.1.101.3.4.1.42": "aes256-cbc",
    "2.16.840.1.101.3.4.1.6": "aes128-gcm",
    "2.16.840.1.101.3.4.1.26": "aes192-gcm",
    "2.16.840.1.101.3.4.1.46": "aes256-gcm",
    "1.2.840.113549.1.9.16.3.18": "chacha20-poly1305",
    "1.2.840.113549.3.7": "des-ede3-cbc",
    "1.2.840.113549.3.2": "rc2-cbc",
    "1.3.14.3.2.7": "des-cbc",
}
_OURS = ("aes128-cbc", "aes256-cbc", "aes128-gcm", "aes256-gcm")


def announced(extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> tuple[str, ...]:
    """What the certificate announces, in its order of preference: content ciphers by name, the rest by object
    identifier; () if it has no such extension, or a malformed or crowded one."""
    for extension in extensions:
        if extension.oid.dotted_string == OID and isinstance(extension.value, x509.UnrecognizedExtension):
            try:
                identifiers = tuple(islice(_identifiers(extension.value.value), _MOST + 1))
            except ParseError:
                return ()
            return tuple(_NAMES.get(oid, oid) for oid in identifiers) if len(identifiers) <= _MOST else ()
    return ()


def ciphers(capabilities: Iterable[str]) -> tuple[str, ...]:
    """The ciphers that smilla writes (the values of [smime] cipher), in the same order."""
    return tuple(name for name in capabilities if name in _OURS)


def _identifiers(raw: bytes) -> Iterator[str]:
    capabilities = der.read(raw)
    if capabilities.tag != der.SEQUENCE or capabilities.end != len(raw):
        raise ParseError("not a list of capabilities")
    for capability in capabilities.children():
        oid = next(capability.children(), None) if capability.tag == der.SEQUENCE else None
        if oid is None or oid.tag != der.OID:
            raise ParseError("a capability without an object identifier")
        yield der.dotted(oid.content)
