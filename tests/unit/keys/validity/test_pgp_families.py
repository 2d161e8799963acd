"""Several records of one primary key: they are judged as one certificate, and each recipient's subkey is their own."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from smilla.address import parse
from smilla.keys.validity import pgp
from smilla.model import Assessment, Candidate, DNSSECStatus, Format, PGPKey
from tests.openpgp_maker import FLAGS_SIGN, packet, secret, signature, subkey, subpacket, user_id
from tests.unit.keys.validity.test_pgp import ALICE, GOOD, LATER, MADE, NAMED, NOW, PRIMARY, START, SUB, codes
from tests.unit.timing import idle_seconds

NEWER = secret("ecdh-nistp256", LATER)
REVOCATION = signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, LATER, subpacket(29, b"\x02"))
RENEWED = START + NAMED + subkey(PRIMARY, NEWER, LATER)


def candidate(raw: bytes) -> Candidate:
    return Candidate("openpgpkey", "somewhere", Format.OPENPGP, raw, DNSSECStatus.SECURE)


def judged(*raws: bytes) -> tuple[Assessment, ...]:
    return pgp.assess_all([candidate(raw) for raw in raws], parse("alice@example.org"), NOW, pgp.Terms())


def subkeys(found: tuple[Assessment, ...]) -> set[str]:
    return {a.key.encrypts_to for a in found if isinstance(a.key, PGPKey)}


def test_records_of_one_key_are_merged_and_the_newest_subkey_is_taken_from_either() -> None:
    for records in ((GOOD, RENEWED), (RENEWED, GOOD)):
        found = judged(*records)
        assert [a.candidate.raw for a in found] == list(records)
        assert subkeys(found) == {NEWER.fingerprint.hex().upper()}
        assert len({a.key.raw for a in found if a.key}) == 1


def test_what_one_record_revokes_no_other_record_brings_back() -> None:
    for records in ((GOOD, GOOD + REVOCATION), (GOOD + REVOCATION, GOOD)):
        assert [codes(a) for a in judged(*records)] == [["revoked"], ["revoked"]]
    found = judged(GOOD + REVOCATION, RENEWED, GOOD)
    assert subkeys(found) == {NEWER.fingerprint.hex().upper()}


def test_revocation_of_the_whole_key_counts_for_all_records_of_it() -> None:
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, subpacket(29, b"\x02"))
    assert [codes(a) for a in judged(GOOD, START + revocation)] == [["revoked"], ["revoked"]]
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4) + ALICE.encode()
    certification_revoked = START + packet(13, ALICE.encode()) + signature(PRIMARY, 0x30, octets, LATER)
    assert "revoked" in codes(judged(GOOD, certification_revoked)[0])


def test_revocation_of_a_subkey_counts_from_a_record_that_does_not_have_the_subkey() -> None:
    for records in ((GOOD, START + NAMED + REVOCATION), (START + NAMED + REVOCATION, GOOD)):
        assert [codes(a) for a in judged(*records)] == [["revoked"], ["revoked"]]


def test_revocation_of_a_user_id_counts_in_whichever_of_three_records_it_stands() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4) + ALICE.encode()
    revoked = START + packet(13, ALICE.encode()) + signature(PRIMARY, 0x30, octets, LATER)
    other = user_id(PRIMARY, "bob@example.org", MADE)
    for records in permutations([START + other + subkey(PRIMARY, SUB, MADE), START + NAMED, revoked]):
        assert [codes(a) for a in judged(*records)] == [["revoked"]] * 3


def test_what_one_record_holds_and_nobody_can_read_may_have_been_for_encryption_in_the_other() -> None:
    signer, rsa = secret("ecdsa-nistp256", MADE), secret("rsa2048", MADE)
    plain, bound = (START + NAMED + subkey(PRIMARY, key, MADE, FLAGS_SIGN) for key in (signer, rsa))
    for one, other in (
        (plain, plain + packet(60, b"x")),
        (bound, START + NAMED + packet(14, rsa.body) + packet(2, b"\x05\x18" + bytes(60))),
    ):
        assert codes(judged(one)[0]) == ["sign_only"]
        for records in ((one, other), (other, one)):
            assert all(a.meant_for_encryption and a.key is None for a in judged(*records))


@pytest.mark.parametrize("kind", [b"\x20", b"\x28"])
def test_revocation_in_one_record_that_cannot_be_read_counts_in_the_other(kind: bytes) -> None:
    unread = GOOD + packet(2, b"\x05" + kind + bytes(60))
    for records in ((GOOD, unread), (unread, GOOD)):
        assert [codes(a) for a in judged(*records)] == [["revoked"], ["revoked"]]


def test_binding_in_one_record_that_ends_the_use_for_encryption_counts_in_the_other() -> None:
    rsa = secret("rsa2048", MADE)
    for_signing = signature(PRIMARY, 0x18, PRIMARY.signed + rsa.signed, LATER, FLAGS_SIGN)
    found = judged(START + NAMED + subkey(PRIMARY, rsa, MADE), START + NAMED + packet(14, rsa.body) + for_signing)
    assert [codes(a) for a in found] == [["sign_only"], ["sign_only"]]


def test_record_that_cannot_be_read_to_its_end_still_revokes() -> None:
    other = secret("ecdsa-nistp256", MADE)
    keyring = packet(6, other.body) + user_id(other, ALICE, MADE) + START + NAMED + packet(14, SUB.body) + REVOCATION
    for broken in (GOOD + REVOCATION + b"\xff", GOOD + REVOCATION + packet(34, b""), keyring):
        first, second = judged(GOOD, broken)
        assert codes(first) == ["revoked"]
        assert second.key is None
        assert second.meant_for_encryption


def test_records_of_different_keys_stay_apart() -> None:
    other = secret("ecdsa-nistp256", MADE)
    second = packet(6, other.body) + user_id(other, ALICE, MADE) + subkey(other, SUB, MADE)
    forged = signature(other, 0x28, other.signed + SUB.signed, LATER)
    assert [codes(a) for a in judged(GOOD, second + forged)] == [["usable"], ["revoked"]]


def test_one_record_alone_or_twice_is_judged_as_ever() -> None:
    alone = pgp.assess(candidate(GOOD), parse("alice@example.org"), NOW)
    assert judged(GOOD) == (alone,)
    assert judged(GOOD, GOOD) == (alone, replace(alone))


def test_crowd_of_records_of_one_key_costs_no_more_than_their_octets() -> None:
    records = [GOOD + signature(PRIMARY, 0x20, PRIMARY.signed, LATER, spoil=True, hash_algorithm=8)] * 2
    records += [START + NAMED + packet(14, secret("cv25519", MADE + i).body) for i in range(300)]
    assert len(judged(*records)) == 302
    assert idle_seconds(lambda: judged(*records), 20) < 20


# --- which of several subkeys


@pytest.mark.parametrize("newer", ["x25519", "x448", "ecdh-brainpoolP256r1"])
def test_subkey_that_common_programs_open_is_taken_before_a_newer_one_that_they_do_not(newer: str) -> None:
    other = secret(newer, LATER)
    raw = GOOD + subkey(PRIMARY, other, LATER)
    for prefer, chosen in (("compatible", SUB), ("strongest", other)):
        (found,) = pgp.assess_all([candidate(raw)], parse("alice@example.org"), NOW, pgp.Terms(prefer=prefer))
        assert subkeys((found,)) == {chosen.fingerprint.hex().upper()}
    alone = judged(START + NAMED + subkey(PRIMARY, other, LATER))
    assert subkeys(alone) == {other.fingerprint.hex().upper()}


def test_primary_key_that_common_programs_open_is_taken_before_a_subkey_that_they_do_not() -> None:
    main, other = secret("rsa2048", MADE), secret("x448", LATER)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE, subpacket(27, b"\x0f")) + subkey(main, other, LATER)
    assert subkeys(judged(raw)) == {main.fingerprint.hex().upper()}
    assert codes(judged(raw + subkey(main, SUB, MADE))[0]) == ["usable"]
    assert subkeys(judged(raw + subkey(main, SUB, MADE))) == {SUB.fingerprint.hex().upper()}
