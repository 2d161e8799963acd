"""smimeCapabilities in a certificate: a hint that is read, shown, and never a reason against it."""

from __future__ import annotations

import pytest
from cryptography import x509

from smilla.address import parse
from smilla.formats import der
from smilla.keys.validity import capabilities
from smilla.keys.validity.x509 import assess
from smilla.model import Assessment, Candidate, Format, X509Key
from tests import certificates
from tests.certificates import NOW, make_certificate

AES128_CBC, AES192_CBC, AES256_CBC = (f"2.16.840.1.101.3.4.1.{n}" for n in (2, 22, 42))
AES128_GCM, AES256_GCM = "2.16.840.1.101.3.4.1.6", "2.16.840.1.101.3.4.1.46"
TRIPLE_DES, SHA256 = "1.2.840.113549.3.7", "2.16.840.1.101.3.4.2.1"


def judged(*extensions: tuple[x509.ExtensionType, bool]) -> Assessment:
    _, raw = make_certificate(extensions=extensions)
    return assess(Candidate("directory", "x", Format.SMIME, raw), parse("a@x.org"), NOW, require_address=False)


def ciphers(*extensions: tuple[x509.ExtensionType, bool]) -> tuple[str, ...]:
    key = judged(*extensions).key
    assert isinstance(key, X509Key)
    return key.ciphers


def test_ciphers_that_we_write_are_kept_in_the_order_of_the_certificate() -> None:
    listed = (AES192_CBC, AES128_CBC, TRIPLE_DES, AES256_GCM, SHA256, AES256_CBC, AES128_GCM)
    found = judged(certificates.capabilities(*listed))
    assert isinstance(found.key, X509Key)
    assert found.key.ciphers == ("aes128-cbc", "aes256-gcm", "aes256-cbc", "aes128-gcm")
    shown = "aes192-cbc, aes128-cbc, des-ede3-cbc, aes256-gcm, 2.16.840.1.101.3.4.2.1, aes256-cbc, aes128-gcm"
    assert found.facts["smime_capabilities"] == shown


def test_certificate_without_the_extension_announces_nothing() -> None:
    assert ciphers() == ()
    assert "smime_capabilities" not in judged().facts


def test_parameters_of_a_capability_are_passed_over() -> None:
    """RC2 with 128 bits, as Outlook writes it, and an AES with NULL parameters."""
    value = der.sequence(
        der.sequence(der.oid("1.2.840.113549.3.2"), der.integer(128)), der.sequence(der.oid(AES128_CBC), der.null())
    )
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(capabilities.OID), value)
    assert ciphers((extension, False)) == ("aes128-cbc",)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30",
        b"\x30\x80\0\0",
        der.octet_string(b"x"),
        der.sequence(der.oid(AES128_CBC)),
        der.sequence(der.sequence()),
        der.sequence(der.sequence(der.integer(1))),
        der.sequence(der.sequence(der.oid(AES128_CBC))) + b"\0",
        der.sequence(*[der.sequence(der.oid(AES128_CBC))] * 65),
    ],
)
def test_malformed_or_crowded_list_announces_nothing_and_harms_nothing(value: bytes) -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(capabilities.OID), value)
    assert ciphers((extension, False)) == ()


def test_list_is_understood_where_it_is_critical() -> None:
    assert ciphers(certificates.capabilities(AES128_CBC, critical=True)) == ("aes128-cbc",)


def test_list_in_another_extension_or_of_more_than_64_announces_nothing() -> None:
    extension, critical = certificates.capabilities(AES128_CBC)
    assert isinstance(extension, x509.UnrecognizedExtension)
    assert ciphers((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), extension.value), critical)) == ()
    assert len(ciphers(certificates.capabilities(*[AES128_CBC] * 64))) == 64
    assert ciphers(certificates.capabilities(*[AES128_CBC] * 65)) == ()
