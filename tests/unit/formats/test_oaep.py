"""AlgorithmIdentifiers of RSAES-OAEP: written as asn1crypto reads them, read as RFC 4055 says, or refused."""

from __future__ import annotations

import pytest
from asn1crypto import cms as asn1
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import der, oaep
from smilla.model.style import OAEP

SHA1, SHA256, SHA512 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"
MGF1, P_SPECIFIED = "1.2.840.113549.1.1.8", "1.2.840.113549.1.1.9"


def identifier(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.oid(oid), *parameters)


def mask(digest: str) -> bytes:
    return der.context(1, identifier(MGF1, identifier(digest, der.null())))


def algorithm(*fields: bytes) -> bytes:
    return identifier(oaep.RSAES_OAEP, der.sequence(*fields))


def read(raw: bytes) -> OAEP:
    return oaep.read(der.read(raw))


def test_ours_is_what_asn1crypto_writes() -> None:
    sha256 = {"algorithm": "sha256"}
    parameters = {"hash_algorithm": sha256, "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": sha256}}
    theirs = asn1.KeyEncryptionAlgorithm({"algorithm": "rsaes_oaep", "parameters": parameters})
    ours = asn1.KeyEncryptionAlgorithm.load(oaep.SHA256.raw_algorithm, strict=True)
    assert ours.native["parameters"]["hash_algorithm"]["algorithm"] == "sha256"
    assert ours.native["parameters"]["mask_gen_algorithm"] == theirs.native["parameters"]["mask_gen_algorithm"]


def test_defaults_are_sha1_and_no_label() -> None:
    assert read(algorithm()) == OAEP("sha1", "sha1", algorithm())


def test_absent_parameters_leave_the_choice_to_us() -> None:
    assert read(identifier(oaep.RSAES_OAEP)) == oaep.SHA256


def test_each_parameter_is_read_and_the_octets_are_kept() -> None:
    raw = algorithm(
        der.context(0, identifier(SHA512)), mask(SHA1), der.context(2, identifier(P_SPECIFIED, der.octet_string(b"L")))
    )
    assert read(raw) == OAEP("sha512", "sha1", raw, b"L")


@pytest.mark.parametrize(
    "raw",
    [
        identifier("1.2.840.113549.1.1.1", der.null()),
        identifier(oaep.RSAES_OAEP, der.null()),
        identifier(oaep.RSAES_OAEP, der.sequence(), der.sequence()),
        der.sequence(),
        algorithm(der.context(0, identifier("1.2.840.113549.2.5", der.null()))),  # MD5
        algorithm(der.context(0, identifier(SHA256, der.sequence()))),
        algorithm(der.context(0)),
        algorithm(der.context(0, identifier(SHA256), identifier(SHA256))),
        algorithm(der.context(0, der.integer(1))),
        algorithm(der.context(0, identifier(SHA256)), der.context(0, identifier(SHA256))),
        algorithm(mask(SHA256), der.context(0, identifier(SHA256))),
        algorithm(der.context(1, identifier(MGF1))),
        algorithm(der.context(1, identifier("1.2.3", identifier(SHA256)))),
        algorithm(der.context(2, identifier(P_SPECIFIED))),
        algorithm(der.context(2, identifier("1.2.3", der.octet_string(b"")))),
        algorithm(der.context(3, identifier(SHA256))),
    ],
)
def test_what_is_no_oaep_that_we_know_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        read(raw)


@given(st.binary(max_size=60))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    try:
        read(algorithm(octets))
    except ParseError:
        return
    assert octets == b"" or octets[0] in (0xA0, 0xA1, 0xA2)
