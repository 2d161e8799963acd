"""The authorities of the circles, by the names that MTAs call them in macros.

An MTA tells the issuer of a client's certificate by name alone.  A name that cannot be compared for certain is left
out: one that is not printable ASCII, that has a slash (Sendmail writes slashes between the parts of a name), several
common names, or parts whose short names OpenSSL and we may spell differently.  Then that authority's clients count as
TLS, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from smilla.config.options import Circle
from smilla.errors import ConfigError
from smilla.model import Authorities

_SHORT = {  # as OpenSSL's X509_NAME_oneline has them
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.DOMAIN_COMPONENT: "DC",
}


def authorities(circles: Iterable[Circle]) -> tuple[Authorities, ...]:
    """The authorities of each circle.  Raises ConfigError if a file cannot be read."""
    return tuple(_of(circle) for circle in circles)


def _of(circle: Circle) -> Authorities:
    subjects = [certificate.subject for certificate in certificates(circle.ca_file)]
    common_names = frozenset(name for subject in subjects if (name := _common_name(subject)))
    return Authorities(circle.name, common_names, frozenset(n for subject in subjects if (n := _whole(subject))))


def certificates(path: str) -> list[x509.Certificate]:
    """The certificates in a file of PEM.  Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError([f"[[circle]] ca_file {path}: {error}"]) from error


def _common_name(subject: x509.Name) -> str:
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return _certain(found[0].value) if len(found) == 1 else ""


def _whole(subject: x509.Name) -> str:
    if any(part.oid not in _SHORT or not _certain(part.value) for part in subject):
        return ""
    return "".join(f"/{_SHORT[part.oid]}={_certain(part.value)}" for part in subject)


def _certain(value: str | bytes) -> str:
    is_certain = isinstance(value, str) and value.isascii() and value.isprintable() and "/" not in value
    return str(value) if is_certain else ""
