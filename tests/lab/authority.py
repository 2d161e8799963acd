"""Certificates of mail and web servers, and what Python's TLS needs of them."""

from __future__ import annotations

import itertools
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.hops.tlsa import association
from tests.certificates import key_usage, make_certificate, to_pem

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_numbers = itertools.count(5000)  # each key is another


@dataclass(frozen=True)
class Certificate:
    """A server's, with its key: in DER, and as one PEM file with the chain."""

    raw: bytes
    file: Path

    def tlsa(self, usage: int, selector: int = 1, matching_type: int = 1) -> bytes:
        """RDATA of a TLSA record that names it."""
        return bytes([usage, selector, matching_type]) + association(self.raw, selector, matching_type)

    def server(self) -> ssl.SSLContext:
        """For a server that has it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


class Authority:
    """An authority of its own; ``file`` has its certificate in PEM."""

    def __init__(self, folder: Path, name: str) -> None:
        self._now = datetime.now(UTC)
        signs = [(key_usage("key_cert_sign"), True)]
        self._pair = make_certificate(
            "p256",
            common_name=name,
            ca=True,
            number=next(_numbers),
            extensions=signs,
            not_before=self._now - timedelta(days=60),
            not_after=self._now + timedelta(days=90),
        )
        self._folder, self._name = folder, name
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(to_pem(self._pair[1]))
        self.certificate = Certificate(self._pair[1], self.file)

    def issue(self, *names: str, days: int = 60) -> Certificate:
        """A server's certificate for these DNS names, good for so many days from now (below 0: expired)."""
        pair = make_certificate(
            "p256",
            common_name=names[0],
            other_names=[x509.DNSName(name) for name in names],
            number=next(_numbers),
            issuer=self._pair,
            ca=False,
            not_before=self._now - timedelta(days=30),
            not_after=self._now + timedelta(days=days),
        )
        path = self._folder / f"{self._name}-{names[0]}.pem"
        path.write_bytes(_key(pair[0]) + to_pem(pair[1]) + to_pem(self._pair[1]))
        path.chmod(0o600)
        return Certificate(pair[1], path)


def _key(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
