"""A server's certificate for 127.0.0.1, or for another name, and the authority that issued it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem

# Who verifies them goes by the machine's clock.
_TIMES: dict[str, Any] = {"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2040, 1, 1, tzinfo=UTC)}
ROOT = make_certificate("p256", common_name="Root", ca=True, number=1, **_TIMES)
OTHER = make_certificate("p256", common_name="Other", ca=True, number=2, **_TIMES)
HERE = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def certificate(
    names: Sequence[x509.GeneralName] = HERE, issuer: Any = ROOT, number: int = 3, **more: Any
) -> tuple[PrivateKeyTypes, bytes]:
    """A private key and the certificate that is issued for it; another ``number`` is another key."""
    return make_certificate("p256", other_names=names, number=number, issuer=issuer, **{**_TIMES, **more})


def pem(names: Sequence[x509.GeneralName] = HERE, issuer: Any = ROOT, number: int = 3, **more: Any) -> bytes:
    """Both as one file."""
    key, leaf = certificate(names, issuer, number, **more)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(leaf)


def context(folder: Path, names: Sequence[x509.GeneralName] = HERE, issuer: Any = ROOT) -> ssl.SSLContext:
    """What a server with such a certificate needs."""
    (folder / "server.pem").write_bytes(pem(names, issuer))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "server.pem")
    return made


def authorities(folder: Path) -> Path:
    """The file of the authority that is trusted."""
    path = folder / "ca.pem"
    path.write_bytes(to_pem(ROOT[1]))
    path.chmod(0o644)
    return path
