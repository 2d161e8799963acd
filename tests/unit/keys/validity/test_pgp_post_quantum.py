"""Keys of ML-DSA and ML-KEM, each joined with a curve (draft-ietf-openpgp-pqc): both halves count."""

from __future__ import annotations

from datetime import UTC, datetime

import pysequoia
import pytest

from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import parse
from smilla.encrypt import pgp
from smilla.formats.openpgp import PUBLIC_SUBKEY, SIGNATURE, Packet, encrypted_message, packets
from smilla.keys.validity.pgp import assess
from smilla.model import Assessment, Candidate, Format
from tests.openpgp_maker import packet

ADDRESS = "alice@example.org"
SIGNED = {"MLDSA65_Ed25519": 64 + 3309, "MLDSA87_Ed448": 114 + 4627}
STRENGTHS = {"MLDSA65_Ed25519": 192, "MLDSA87_Ed448": 256}


def made(suite: str) -> pysequoia.Tsk:
    return pysequoia.Tsk.generate(
        user_id=ADDRESS, profile=pysequoia.Profile.RFC9580, cipher_suite=getattr(pysequoia.CipherSuite, suite)
    )


def judged(raw: bytes) -> Assessment:
    return assess(Candidate("openpgpkey", "", Format.OPENPGP, raw), parse(ADDRESS), datetime.now(UTC))


def with_changes(raw: bytes, tag: int, at: int) -> bytes:
    """One bit changed in every packet of that tag, so many octets from its end."""

    def changed(found: Packet) -> bytes:
        if found.tag != tag:
            return found.raw
        body = bytearray(found.body)
        body[at] ^= 1
        return packet(found.tag, bytes(body))

    return b"".join(changed(found) for found in packets(raw))


@pytest.mark.parametrize("suite", SIGNED)
def test_post_quantum_key_passes_and_is_encrypted_to(suite: str) -> None:
    tsk = made(suite)
    key = judged(bytes(tsk.extract_certificate())).key
    assert key is not None
    assert key.format is Format.OPENPGP
    assert key.strength == STRENGTHS[suite]
    assert "ML-KEM" in key.algorithm
    message = b"".join(pgp.encrypt([b"letter"], 6, [key], SequoiaEngine()))  # type: ignore[list-item]
    assert encrypted_message([message]).encrypted
    assert pysequoia.decrypt(message, tsk.decryptor()).bytes == b"letter"


@pytest.mark.parametrize("suite", SIGNED)
def test_either_half_of_a_signature_that_is_wrong_voids_it(suite: str) -> None:
    raw = bytes(made(suite).extract_certificate())
    assert judged(with_changes(raw, 99, 0)).key is not None
    for at in (-SIGNED[suite], -1):
        found = judged(with_changes(raw, SIGNATURE, at))
        assert found.key is None
        assert "bad_signature" in {reason.code for reason in found.reasons}


@pytest.mark.parametrize("suite", SIGNED)
def test_signature_that_is_cut_off_voids_the_key(suite: str) -> None:
    raw = bytes(made(suite).extract_certificate())
    cut = [packet(p.tag, p.body[: -3000 if p.tag == SIGNATURE else None]) for p in packets(raw)]
    assert judged(b"".join(cut)).key is None


@pytest.mark.parametrize("suite", SIGNED)
def test_changed_kem_key_is_not_bound(suite: str) -> None:
    raw = bytes(made(suite).extract_certificate())
    assert judged(with_changes(raw, PUBLIC_SUBKEY, -1)).key is None
