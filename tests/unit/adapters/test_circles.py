"""The authorities of a circle: by which names an MTA may call them, and which names are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smilla.adapters.circles import authorities
from smilla.config.options import Circle
from smilla.errors import ConfigError
from tests.certificates import NOW

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "CN": NameOID.COMMON_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
KEY = ec.generate_private_key(ec.SECP256R1())


def authority(*parts: tuple[str, str]) -> bytes:
    """A self-signed certificate of that name, in PEM."""
    name = x509.Name([x509.NameAttribute(SHORT[kind], text) for kind, text in parts])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW.replace(year=2040))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_an_authority_is_known_by_its_common_name_and_by_its_whole_name(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    first = authority(("C", "ES"), ("O", "Our Network"), ("CN", "Our CA"))
    path.write_bytes(b"some words\n" + first + authority(("CN", "Our CA 2")))
    (found,) = authorities([Circle("ours", ("example.org",), str(path))])
    assert found.circle == "ours"
    assert found.common_names == {"Our CA", "Our CA 2"}
    assert found.whole_names == {"/C=ES/O=Our Network/CN=Our CA", "/CN=Our CA 2"}


@pytest.mark.parametrize(
    ("parts", "common", "whole"),
    [
        ((("O", "Our Network"),), set(), {"/O=Our Network"}),
        ((("CN", "a/CN=b"),), set(), set()),
        ((("CN", "Autoridad de Certificación"),), set(), set()),
        ((("CN", "one"), ("CN", "two")), set(), {"/CN=one/CN=two"}),
        ((("CN", "Our CA"), ("emailAddress", "ca@example.org")), {"Our CA"}, set()),
        ((("O", "über"), ("CN", "Our CA")), {"Our CA"}, set()),
    ],
)
def test_names_that_cannot_be_compared_for_certain_are_left_out(
    tmp_path: Path, parts: tuple[tuple[str, str], ...], common: set[str], whole: set[str]
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority(*parts))
    (found,) = authorities([Circle("ours", ("example.org",), str(path))])
    assert (set(found.common_names), set(found.whole_names)) == (common, whole)


@pytest.mark.parametrize("raw", [None, b"", b"no certificate"])
def test_a_file_that_cannot_be_read_is_a_fault_of_the_configuration(tmp_path: Path, raw: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(ConfigError, match="ca_file"):
        authorities([Circle("ours", ("example.org",), str(path))])
