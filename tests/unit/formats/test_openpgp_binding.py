"""The certificate that the engines see holds the recipient's own key, and nothing that would change their minds."""

from __future__ import annotations

from datetime import UTC, datetime

import pysequoia
import pytest

from smilla.address import parse
from smilla.formats.openpgp import PUBLIC_SUBKEY, SIGNATURE, packets
from smilla.formats.openpgp_binding import bound_certificate
from smilla.formats.openpgp_keys import parse_key, parse_signature
from smilla.keys.validity import pgp
from smilla.model import Candidate, Format, PGPKey

_FEATURES = 30


def passed(raw: bytes) -> PGPKey:
    candidate = Candidate("openpgpkey", "x", Format.OPENPGP, raw)
    key = pgp.assess(candidate, parse("a@x.test"), datetime.now(UTC), require_user_id=False).key
    assert isinstance(key, PGPKey)
    return key


@pytest.fixture(scope="module")
def published() -> bytes:
    """pysequoia's version 4 keys announce SEIPDv2."""
    tsk = pysequoia.Tsk.generate(user_id="A <a@x.test>", profile=pysequoia.Profile.RFC4880)
    return bytes(tsk.extract_certificate())


def test_bound_certificate_holds_the_encryption_key_octet_for_octet(published: bytes) -> None:
    key = passed(published)
    original = [p.body for p in packets(key.raw) if p.tag == PUBLIC_SUBKEY]
    assert [p.body for p in packets(key.raw_bound) if p.tag == PUBLIC_SUBKEY] == original
    assert key.raw_for_engine == key.raw_bound


def test_bound_certificate_announces_version_1_of_the_container_only(published: bytes) -> None:
    announced = [
        parse_signature(p).value(_FEATURES) for p in packets(passed(published).raw_bound) if p.tag == SIGNATURE
    ]
    assert announced == [b"\x01", None]


def test_bound_certificate_announces_version_2_where_the_key_did(published: bytes) -> None:
    key = passed(published)
    announced = [parse_signature(p).value(_FEATURES) for p in packets(key.raw_for_seipd2) if p.tag == SIGNATURE]
    assert announced == [b"\x09", None]
    silent = passed(key.raw_bound)
    assert silent.raw_bound_seipd2 == b""
    assert silent.raw_for_seipd2 == silent.raw_for_engine


def test_signatures_of_a_bound_certificate_pass_our_own_gate(published: bytes) -> None:
    again = passed(passed(published).raw_bound)
    assert again.algorithm == "ECDH cv25519"


def test_primary_key_that_encrypts_itself_becomes_the_subkey_under_its_own_key_id() -> None:
    primary = next(packets(bytes(pysequoia.Cert.generate("a"))))
    bound = bound_certificate(parse_key(primary))
    (subkey,) = [parse_key(p) for p in packets(bound) if p.tag == PUBLIC_SUBKEY]
    assert subkey.fingerprint == parse_key(primary).fingerprint
