"""The OpenPGP gate: each test builds one certificate and gets one thing wrong."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.address import parse
from smilla.formats.openpgp import packets
from smilla.formats.openpgp_binding import bound_certificate
from smilla.formats.openpgp_keys import Key, Signature, parse_key
from smilla.keys.validity import pgp, pgp_certificate, pgp_signatures
from smilla.model import Assessment, Candidate, DNSSECStatus, Format, PGPKey
from tests.openpgp_maker import (
    FLAGS_CERTIFY,
    FLAGS_ENCRYPT,
    FLAGS_SIGN,
    Secret,
    armoured,
    mpi,
    packet,
    seconds,
    secret,
    signature,
    subkey,
    subpacket,
    user_id,
)
from tests.unit.timing import idle_seconds

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = 86400
MADE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
LATER = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
FUTURE = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
ALICE = "Alice <alice@example.org>"

PRIMARY = secret("eddsa", MADE)
SUB = secret("cv25519", MADE)
START = packet(6, PRIMARY.body)
NAMED = user_id(PRIMARY, ALICE, MADE)
BOUND = subkey(PRIMARY, SUB, MADE)
GOOD = START + NAMED + BOUND


def judged(
    raw: bytes, address: str = "alice@example.org", source: str = "openpgpkey", *, require_user_id: bool = True
) -> Assessment:
    candidate = Candidate(source, "somewhere", Format.OPENPGP, raw, DNSSECStatus.SECURE)
    return pgp.assess_all([candidate], parse(address), NOW, pgp.Terms(require_user_id))[0]


def codes(assessment: Assessment) -> list[str]:
    assert (assessment.key is not None) == ([r.code for r in assessment.reasons] == ["usable"])
    return [reason.code for reason in assessment.reasons]


def said(assessment: Assessment, code: str) -> str:
    return next(reason.text for reason in assessment.reasons if reason.code == code)


def tags(raw: bytes) -> list[int]:
    return [found.tag for found in packets(raw)]


# --- what passes


@pytest.mark.parametrize(
    ("primary", "sub", "version", "algorithm", "strength"),
    [
        ("rsa2048", "rsa2048", 4, "RSA 2048", 112),
        ("rsa3072", "rsa3072", 4, "RSA 3072", 128),
        ("dsa", "cv25519", 4, "ECDH cv25519", 128),
        ("eddsa", "cv25519", 4, "ECDH cv25519", 128),
        ("ecdsa-nistp256", "ecdh-nistp256", 4, "ECDH nistp256", 128),
        ("ecdsa-nistp384", "ecdh-nistp384", 4, "ECDH nistp384", 192),
        ("ecdsa-nistp521", "ecdh-nistp521", 4, "ECDH nistp521", 256),
        ("ecdsa-brainpoolP256r1", "ecdh-brainpoolP256r1", 4, "ECDH brainpoolP256r1", 128),
        ("ed25519", "x25519", 4, "X25519", 128),
        ("ed25519", "x25519", 6, "X25519", 128),
        ("ed448", "x448", 6, "X448", 224),
        ("rsa2048", "rsa3072", 6, "RSA 3072", 128),
        ("ecdsa-nistp256", "ecdh-nistp256", 6, "ECDH nistp256", 128),
    ],
)
def test_key_of_each_good_algorithm_is_usable(
    primary: str, sub: str, version: int, algorithm: str, strength: int
) -> None:
    main = secret(primary, MADE, version)
    encryption = secret(sub, MADE + 1, version)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE) + subkey(main, encryption, MADE + 1)
    found = judged(raw)
    assert codes(found) == ["usable"]
    assert isinstance(found.key, PGPKey)
    assert (found.key.algorithm, found.key.strength, found.key.version) == (algorithm, strength, version)
    assert found.key.fingerprint == main.fingerprint.hex().upper()
    assert found.facts["subkey"] == encryption.fingerprint.hex().upper()
    assert found.key.raw == raw


@pytest.mark.parametrize("hash_algorithm", [8, 9, 10, 14])
def test_self_signatures_over_sha2_and_sha3_are_verified(hash_algorithm: int) -> None:
    named = user_id(PRIMARY, ALICE, MADE, hash_algorithm=hash_algorithm)
    assert codes(judged(START + named + BOUND)) == ["usable"]


def test_rsa_primary_key_that_encrypts_itself_is_kept() -> None:
    main = secret("rsa2048", MADE)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE, subpacket(27, b"\x0f"))
    found = judged(raw)
    assert codes(found) == ["usable"]
    assert found.key
    assert found.key.raw == raw


def test_key_with_a_direct_key_signature_alone_is_usable_where_no_user_id_is_asked_for() -> None:
    direct = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, FLAGS_CERTIFY)
    found = judged(START + direct + BOUND, require_user_id=False)
    assert codes(found) == ["usable"]
    assert found.key
    assert found.key.raw == START + direct + BOUND
    assert codes(judged(START + direct + BOUND)) == ["other_address"]


def test_packets_in_the_old_format_are_kept_octet_for_octet() -> None:
    raw = packet(6, PRIMARY.body, old=True) + NAMED + BOUND
    found = judged(raw)
    assert found.key
    assert found.key.raw == raw


def test_what_the_gate_passes_passes_again_after_the_cut() -> None:
    found = judged(GOOD)
    assert found.key
    again = judged(found.key.raw)
    assert again.key == found.key


# --- the octets


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0", b"hello", b"\xff\xff", GOOD[:-1], GOOD + b"\xc6", BOUND, NAMED, packet(1, b"x") + GOOD, b"\x99\x01"],
)
def test_garbage_is_malformed(raw: bytes) -> None:
    assert codes(judged(raw)) == ["malformed"]


def test_armour_in_a_record_is_refused_and_in_a_file_is_fine() -> None:
    raw = armoured(GOOD, "PGP PUBLIC KEY BLOCK", "Comment: Alice")
    assert codes(judged(raw)) == ["armoured"]
    assert codes(judged(raw, source="directory")) == ["usable"]
    assert codes(judged(GOOD, source="directory")) == ["usable"]
    assert codes(judged(armoured(GOOD), source="directory")) == ["malformed"]


def test_armour_with_a_wrong_crc_is_malformed() -> None:
    raw = armoured(GOOD, "PGP PUBLIC KEY BLOCK").replace(b"\r\n=", b"\r\n=A")
    assert codes(judged(raw, source="directory")) == ["malformed"]


@pytest.mark.parametrize("tag", [5, 7])
def test_secret_key_material_is_refused_and_not_repeated(tag: int) -> None:
    raw = START.replace(b"\xc6", b"\xc5", 1) + NAMED + BOUND if tag == 5 else GOOD + packet(7, SUB.body + b"secret!")
    found = judged(raw)
    assert codes(found) == ["secret_key"]
    assert "secret!" not in str(found.reasons) + str(found.facts)
    assert codes(judged(armoured(raw, "PGP PRIVATE KEY BLOCK"), source="directory")) == ["secret_key"]


def test_several_keys_in_one_record_are_refused() -> None:
    assert codes(judged(GOOD + GOOD)) == ["several_keys"]


@pytest.mark.parametrize(
    ("version", "code"),
    [(2, "old_version"), (3, "old_version"), (5, "unsupported_version"), (7, "unsupported_version")],
)
def test_key_of_another_version_is_refused(version: int, code: str) -> None:
    made = secret("rsa2048", MADE, version)
    found = judged(packet(6, made.body) + packet(13, ALICE.encode()))
    assert codes(found) == [code]
    assert found.meant_for_encryption


def test_marker_trust_padding_and_unknown_packets_do_no_harm_and_are_cut() -> None:
    raw = packet(10, b"PGP") + START + packet(12, b"\0\1") + NAMED + packet(60, b"what") + BOUND + packet(21, b"xyz")
    found = judged(raw)
    assert codes(found) == ["usable"]
    assert found.key
    assert found.key.raw == GOOD


def test_unknown_packet_that_must_be_understood_is_malformed() -> None:
    assert codes(judged(GOOD + packet(39, b"what"))) == ["malformed"]


# --- the address


@pytest.mark.parametrize(
    "text",
    [
        "alice@example.org",
        "<alice@example.org>",
        "Alice (home) <ALICE@Example.ORG>",
        "*@example.org",
        "Everybody <*@example.org>",
        '"Alice" <"alice"@example.org>',
        b"\xc4\xd6 latin-1 <alice@example.org>",
    ],
)
def test_user_id_that_names_the_address_matches(text: str | bytes) -> None:
    assert codes(judged(START + user_id(PRIMARY, text, MADE) + BOUND)) == ["usable"]


@pytest.mark.parametrize(
    "text",
    [
        "Alice",
        "bob@example.org",
        "alice@example.org <bob@example.org>",
        "<alice@example.org> <bob@example.org>",
        "<bob@example.org> <alice@example.org>",
        "Alice <alice@example.org> the first",
        "alice@example.org.evil.example",
        "*@*",
        "al*@example.org",
        "*@*.org",
        "alice@example.or",
        "",
    ],
)
def test_user_id_that_names_another_does_not_match(text: str) -> None:
    found = judged(START + user_id(PRIMARY, text, MADE) + BOUND)
    assert codes(found) == ["other_address"]
    assert found.meant_for_encryption
    assert codes(judged(START + user_id(PRIMARY, text, MADE) + BOUND, require_user_id=False)) == ["usable"]


@pytest.mark.parametrize(("octets", "code"), [(2048, "usable"), (2049, "malformed")])
def test_user_id_is_as_long_as_gpg_takes_it_and_no_longer(octets: int, code: str) -> None:
    text = "alice@example.org".rjust(octets - 2, "x").replace("xalice@", "<alice@", 1) + ">"
    found = judged(START + user_id(PRIMARY, text.rjust(octets, "x"), MADE) + BOUND)
    assert code in codes(found)
    assert (found.key is not None) == (code == "usable")


def test_octets_that_are_no_key_name_nobody() -> None:
    for raw in (b"", b"garbage", GOOD + b"\xff"):
        assert pgp.addresses(Candidate("directory", "x", Format.OPENPGP, raw)) == ()
    found = pgp.addresses(Candidate("directory", "x", Format.OPENPGP, GOOD))
    assert [str(mailbox) for mailbox in found] == ["alice@example.org"]


def test_internationalized_domain_matches_in_either_form() -> None:
    raw = START + user_id(PRIMARY, "alice@bücher.example", MADE) + BOUND
    assert codes(judged(raw, "alice@xn--bcher-kva.example")) == ["usable"]
    assert codes(judged(raw, "alice@BÜCHER.example")) == ["usable"]


def test_types_of_a_signature_that_bind_a_part_are_these_and_no_others() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4, "big") + ALICE.encode()
    of_user_id, of_subkey = [], []
    for kind in range(0x60):
        named = packet(13, ALICE.encode()) + signature(PRIMARY, kind, octets, MADE, FLAGS_CERTIFY)
        bound = packet(14, SUB.body) + signature(PRIMARY, kind, PRIMARY.signed + SUB.signed, MADE, FLAGS_ENCRYPT)
        of_user_id += [kind] if judged(START + named + BOUND).key else []
        of_subkey += [kind] if judged(START + NAMED + bound).key else []
    assert (of_user_id, of_subkey) == ([0x10, 0x11, 0x12, 0x13], [0x18])


def test_user_id_certified_by_somebody_else_does_not_match() -> None:
    mallory = secret("ecdsa-nistp256", MADE)
    foreign = signature(mallory, 0x13, PRIMARY.signed + b"x", MADE)
    raw = START + packet(13, ALICE.encode()) + foreign + BOUND
    assert codes(judged(raw)) == ["no_self_signature"] * 2


def test_matching_user_id_with_a_false_signature_does_not_count_beside_a_good_other_one() -> None:
    bob = user_id(PRIMARY, "bob@example.org", MADE)
    raw = START + bob + user_id(PRIMARY, ALICE, MADE, spoil=True) + BOUND
    assert codes(judged(raw)) == ["bad_signature"]
    assert codes(judged(raw, "bob@example.org")) == ["usable"]


def test_revoked_user_id_does_not_count_until_it_is_certified_anew() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4, "big") + ALICE.encode()
    revocation = signature(PRIMARY, 0x30, octets, LATER, subpacket(29, b"\x20"))
    bob = user_id(PRIMARY, "bob@example.org", MADE)
    found = judged(START + bob + NAMED + revocation + BOUND)
    assert codes(found) == ["revoked"]
    assert "revoked on 2025-01-01 (no longer valid)" in said(found, "revoked")
    at_once = signature(PRIMARY, 0x13, octets, LATER, FLAGS_CERTIFY)
    assert codes(judged(START + bob + NAMED + revocation + at_once + BOUND)) == ["revoked"]
    anew = signature(PRIMARY, 0x13, octets, LATER + DAY, FLAGS_CERTIFY)
    again = judged(START + bob + NAMED + revocation + anew + BOUND)
    assert codes(again) == ["usable"]
    assert again.key
    assert revocation not in again.key.raw


def test_foreign_certifications_are_cut_and_good_user_ids_stay() -> None:
    mallory = secret("ecdsa-nistp256", MADE)
    foreign = signature(mallory, 0x10, PRIMARY.signed, MADE)
    bob = user_id(PRIMARY, "bob@example.org", MADE)
    attribute = packet(17, b"\x02\x01x") + foreign
    found = judged(START + NAMED + foreign + attribute + bob + BOUND)
    assert found.key
    assert found.key.raw == START + NAMED + bob + BOUND


# --- time


def test_expired_subkey_is_unusable_and_says_when() -> None:
    until = int(datetime(2026, 1, 3, tzinfo=UTC).timestamp())
    found = judged(START + NAMED + subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, seconds(9, until - MADE)))
    assert codes(found) == ["expired"]
    key_id = SUB.key_id.hex().upper()
    assert said(found, "expired") == f"the encryption subkey {key_id} expired on 2026-01-03"
    assert found.meant_for_encryption


def test_expired_primary_key_is_unusable_and_says_when() -> None:
    found = judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(9, 31 * DAY)) + BOUND)
    assert codes(found) == ["expired"]
    assert said(found, "expired") == "the key expired on 2024-02-01"


def test_key_expires_at_the_second_and_not_before() -> None:
    left = int(NOW.timestamp()) - MADE
    assert codes(judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(9, left)) + BOUND)) == ["expired"]
    found = judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(9, left + 1)) + BOUND)
    assert codes(found) == ["usable"]
    assert found.key
    assert found.key.expires_at
    assert (found.key.expires_at - NOW).total_seconds() == 1


def test_subkey_expires_at_the_second_and_not_before() -> None:
    left = int(NOW.timestamp()) - MADE
    for lifetime, expected in ((left, "expired"), (left + 1, "usable")):
        bound = subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, seconds(9, lifetime))
        assert codes(judged(START + NAMED + bound)) == [expected]


def test_key_is_valid_from_the_second_of_its_creation() -> None:
    now = int(NOW.timestamp())
    main, sub = secret("eddsa", now), secret("cv25519", now)
    assert codes(judged(packet(6, main.body) + user_id(main, ALICE, now) + subkey(main, sub, now))) == ["usable"]


def test_of_self_signatures_from_the_same_second_the_one_that_expires_first_decides() -> None:
    short, long, endless = (
        user_id(PRIMARY, f"{n} <{n}@example.org>", MADE, FLAGS_CERTIFY, *more) for n, more in _LIVES
    )
    for others in (long + short, short + long, endless + short, short + endless):
        assert codes(judged(START + others + BOUND, "1@example.org")) == ["expired"]
    assert codes(judged(START + endless + long + BOUND, "2@example.org")) == ["usable"]


_LIVES: tuple[tuple[int, list[bytes]], ...] = ((1, [seconds(9, DAY)]), (2, [seconds(9, 9999 * DAY)]), (3, []))


def test_expiry_of_zero_means_never() -> None:
    found = judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(9, 0)) + BOUND)
    assert found.key
    assert found.key.expires_at is None
    assert found.facts["expires"] == "never"


def test_extended_expiry_in_a_newer_signature_counts() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4, "big") + ALICE.encode()
    old = signature(PRIMARY, 0x13, octets, MADE, FLAGS_CERTIFY, seconds(9, DAY))
    new = signature(PRIMARY, 0x13, octets, LATER, FLAGS_CERTIFY, seconds(9, 10000 * DAY))
    for order in (old + new, new + old):
        found = judged(START + packet(13, ALICE.encode()) + order + BOUND)
        assert codes(found) == ["usable"]
        assert found.key
        assert old not in found.key.raw
    shortened = signature(PRIMARY, 0x13, octets, LATER + 1, FLAGS_CERTIFY, seconds(9, DAY))
    assert codes(judged(START + packet(13, ALICE.encode()) + old + new + shortened + BOUND)) == ["expired"]


def test_newer_direct_key_signature_that_expires_decides() -> None:
    direct = signature(PRIMARY, 0x1F, PRIMARY.signed, LATER, FLAGS_CERTIFY, seconds(9, DAY))
    assert codes(judged(START + direct + NAMED + BOUND)) == ["expired"]


def test_newer_direct_key_signature_that_says_nothing_of_expiry_does_not_lift_it() -> None:
    direct = signature(PRIMARY, 0x1F, PRIMARY.signed, LATER, subpacket(12, b"\x80\x16" + bytes(20)))
    found = judged(START + direct + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(9, DAY)) + BOUND)
    assert codes(found) == ["expired"]
    assert found.facts["designated_revoker"]


def test_older_expired_direct_key_signature_is_overruled_and_cut() -> None:
    direct = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, FLAGS_CERTIFY, seconds(9, DAY))
    found = judged(START + direct + user_id(PRIMARY, ALICE, LATER) + BOUND)
    assert codes(found) == ["usable"]
    assert found.key
    assert direct not in found.key.raw


@pytest.mark.parametrize("lifetime", [DAY, int(NOW.timestamp()) - MADE])
def test_older_user_id_by_which_the_key_would_have_expired_is_cut(lifetime: int) -> None:
    bob = user_id(PRIMARY, "bob@example.org", MADE, FLAGS_CERTIFY, seconds(9, lifetime))
    found = judged(START + bob + user_id(PRIMARY, ALICE, LATER) + BOUND)
    assert codes(found) == ["usable"]
    assert found.key
    assert bob not in found.key.raw
    assert codes(judged(START + bob + user_id(PRIMARY, ALICE, LATER) + BOUND, "bob@example.org")) == ["usable"]


def test_expired_self_signature_does_not_bind() -> None:
    named = user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, seconds(3, DAY))
    found = judged(START + named + BOUND)
    assert set(codes(found)) == {"expired"}
    assert "the self-signature of 2024-01-01" in said(found, "expired")
    bound = subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, seconds(3, DAY))
    assert codes(judged(START + NAMED + bound)) == ["expired"]
    assert "expired on 2024-01-02" in said(judged(START + NAMED + bound), "expired")


def test_self_signature_binds_up_to_the_second_of_its_expiry() -> None:
    left = int(NOW.timestamp()) - MADE
    for lifetime, expected in ((left, "expired"), (left + 1, "usable"), (0, "usable")):
        assert codes(judged(START + NAMED + subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, seconds(3, lifetime)))) == [
            expected
        ]


def test_key_from_the_future_is_not_yet_valid() -> None:
    main = secret("eddsa", FUTURE)
    raw = packet(6, main.body) + user_id(main, ALICE, FUTURE) + subkey(main, SUB, FUTURE)
    found = judged(raw)
    assert set(codes(found)) == {"not_yet_valid"}
    assert said(found, "not_yet_valid") == "the key was created on 2027-01-01, in the future"
    young = judged(START + NAMED + subkey(PRIMARY, secret("cv25519", FUTURE), FUTURE))
    assert "was created on 2027-01-01, in the future" in str(young.reasons)


def test_binding_from_the_future_is_not_yet_valid_but_an_older_one_holds() -> None:
    bound = subkey(PRIMARY, SUB, FUTURE)
    assert codes(judged(START + NAMED + bound)) == ["not_yet_valid"]
    older = signature(PRIMARY, 0x18, PRIMARY.signed + SUB.signed, MADE, FLAGS_ENCRYPT)
    assert codes(judged(START + NAMED + bound + older)) == ["usable"]


def test_signature_older_than_its_key_is_false() -> None:
    assert set(codes(judged(START + user_id(PRIMARY, ALICE, MADE - 1) + BOUND))) == {"bad_signature"}
    young = secret("cv25519", LATER)
    assert codes(judged(START + NAMED + subkey(PRIMARY, young, MADE))) == ["bad_signature"]


# --- revocation


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x00", "no reason given"),
        (b"\x01used up", "superseded"),
        (b"\x02stolen", "compromised"),
        (b"\x03", "retired"),
        (None, "no reason given"),
    ],
)
def test_revoked_key_is_unusable_for_whatever_reason(body: bytes | None, words: str) -> None:
    why = [] if body is None else [subpacket(29, body)]
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, *why)
    found = judged(START + revocation + NAMED + BOUND)
    assert codes(found) == ["revoked"]
    assert said(found, "revoked") == f"the key was revoked on 2025-01-01 ({words})"
    assert found.meant_for_encryption


def test_newer_self_signature_does_not_lift_a_revocation() -> None:
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, MADE, subpacket(29, b"\x03"))
    assert codes(judged(START + revocation + user_id(PRIMARY, ALICE, LATER) + BOUND)) == ["revoked"]


def test_newer_binding_does_not_lift_the_revocation_of_a_subkey() -> None:
    revocation = signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, MADE, subpacket(29, b"\x01"))
    newer = signature(PRIMARY, 0x18, PRIMARY.signed + SUB.signed, LATER, FLAGS_ENCRYPT)
    assert codes(judged(START + NAMED + packet(14, SUB.body) + revocation + newer)) == ["revoked"]


def test_revoked_user_id_is_cut_beside_a_good_one() -> None:
    bob = user_id(PRIMARY, "bob@example.org", MADE)
    octets = PRIMARY.signed + b"\xb4" + (15).to_bytes(4, "big") + b"bob@example.org"
    found = judged(START + NAMED + bob + signature(PRIMARY, 0x30, octets, LATER) + BOUND)
    assert found.key
    assert found.key.raw == GOOD


def test_appended_revocation_counts_too() -> None:
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, LATER)
    assert codes(judged(GOOD + revocation)) == ["revoked"]


def test_revocation_over_sha1_and_from_the_future_counts() -> None:
    for revocation in (
        signature(PRIMARY, 0x20, PRIMARY.signed, LATER, hash_algorithm=2),
        signature(PRIMARY, 0x20, PRIMARY.signed, FUTURE),
        signature(PRIMARY, 0x20, PRIMARY.signed, MADE, seconds(3, DAY)),
    ):
        assert codes(judged(START + revocation + NAMED + BOUND)) == ["revoked"]


def test_revocation_that_cannot_be_verified_counts() -> None:
    unknown_hash = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, hash_algorithm=99)
    found = judged(START + unknown_hash + NAMED + BOUND)
    assert codes(found) == ["revoked"]
    assert "cannot be verified here" in said(found, "revoked")
    critical = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, subpacket(99, b"x", critical=True))
    assert codes(judged(START + critical + NAMED + BOUND)) == ["revoked"]
    version_3 = packet(2, b"\x03\x05\x20" + LATER.to_bytes(4, "big") + PRIMARY.key_id + b"\x01\x02" + b"ab" + mpi(7))
    assert codes(judged(START + version_3 + NAMED + BOUND)) == ["revoked"]


def test_false_or_foreign_revocation_does_not_count() -> None:
    false = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, spoil=True)
    foreign = signature(secret("ecdsa-nistp256", MADE), 0x20, PRIMARY.signed, LATER)
    issuer = subpacket(16, bytes(8))
    by_key_id = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, hash_algorithm=99, unhashed=issuer)
    for revocation in (false, foreign, by_key_id):
        found = judged(START + revocation + NAMED + BOUND)
        assert codes(found) == ["usable"]
        assert found.key
        assert revocation not in found.key.raw


def test_revoked_subkey_is_unusable_and_an_older_good_one_is_used() -> None:
    revocation = signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, LATER, subpacket(29, b"\x02"))
    found = judged(GOOD + revocation)
    assert codes(found) == ["revoked"]
    assert f"the subkey {SUB.key_id.hex().upper()} was revoked on 2025-01-01 (compromised)" in said(found, "revoked")
    other = secret("ecdh-nistp256", MADE - DAY)
    main = secret("eddsa", MADE - 2 * DAY)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE) + subkey(main, SUB, MADE)
    raw += signature(main, 0x28, main.signed + SUB.signed, LATER) + subkey(main, other, MADE)
    found = judged(raw)
    assert codes(found) == ["usable"]
    assert found.facts["subkey"] == other.fingerprint.hex().upper()
    assert found.key
    assert tags(found.key.raw) == [6, 13, 2, 14, 2]


# --- SEIPDv2

_ANNOUNCED, _NOT_ANNOUNCED = subpacket(30, b"\x09"), subpacket(30, b"\x01")


@pytest.mark.parametrize(
    ("direct", "of_user_id", "announced"),
    [
        (None, [], False),
        (None, [_ANNOUNCED], True),
        (None, [_NOT_ANNOUNCED], False),
        (None, [subpacket(30, b"")], False),
        (None, [subpacket(30, b"\x01\x08")], False),
        (_ANNOUNCED, [], True),
        (_ANNOUNCED, [_NOT_ANNOUNCED], False),
        (_NOT_ANNOUNCED, [_ANNOUNCED], True),
    ],
)
def test_encryption_with_integrity_of_version_2_is_what_the_newest_self_signature_announces(
    direct: bytes | None, of_user_id: list[bytes], announced: bool
) -> None:
    raw = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, direct) if direct else b""
    found = judged(START + raw + user_id(PRIMARY, ALICE, LATER, FLAGS_CERTIFY, *of_user_id) + BOUND)
    assert isinstance(found.key, PGPKey)
    (chosen,) = (parse_key(p) for p in packets(packet(14, SUB.body)))
    assert found.key.raw_bound == bound_certificate(chosen)
    assert found.key.raw_bound_seipd2 == (bound_certificate(chosen, seipd2=True) if announced else b"")
    assert found.facts.get("announces") == ("SEIPDv2" if announced else None)


def test_key_of_version_6_announces_for_itself() -> None:
    main, sub = secret("ed25519", MADE, 6), secret("x25519", MADE, 6)
    found = judged(
        packet(6, main.body) + user_id(main, ALICE, MADE, FLAGS_CERTIFY, _ANNOUNCED) + subkey(main, sub, MADE)
    )
    assert isinstance(found.key, PGPKey)
    assert (found.key.raw_bound, found.key.raw_bound_seipd2) == (b"", b"")


# --- which subkey


def test_newest_encryption_subkey_is_chosen_and_the_others_are_cut() -> None:
    newer, signing = secret("ecdh-nistp256", LATER), secret("ecdsa-nistp384", LATER)
    raw = START + NAMED + subkey(PRIMARY, newer, LATER) + BOUND + subkey(PRIMARY, signing, LATER, FLAGS_SIGN)
    found = judged(raw)
    assert found.key
    assert found.key.raw == START + NAMED + subkey_packets(raw, newer)
    assert found.facts["subkey"] == newer.fingerprint.hex().upper()


def subkey_packets(raw: bytes, wanted: Secret) -> bytes:
    found = list(packets(raw))
    at = next(i for i, p in enumerate(found) if p.body == wanted.body)
    return found[at].raw + found[at + 1].raw


def test_subkey_bound_for_storage_alone_counts() -> None:
    assert codes(judged(START + NAMED + subkey(PRIMARY, SUB, MADE, subpacket(27, b"\x08")))) == ["usable"]


def test_subkey_whose_newest_binding_is_for_signing_is_not_used() -> None:
    rsa = secret("rsa2048", MADE)
    raw = START + NAMED + subkey(PRIMARY, rsa, MADE)
    raw += signature(PRIMARY, 0x18, PRIMARY.signed + rsa.signed, LATER, FLAGS_SIGN)
    found = judged(raw)
    assert codes(found) == ["sign_only"]
    assert not found.meant_for_encryption


@pytest.mark.parametrize("tail", [b"", subkey(PRIMARY, secret("ecdsa-nistp256", MADE), MADE, FLAGS_SIGN)])
def test_sign_only_key_counts_as_no_key(tail: bytes) -> None:
    found = judged(START + NAMED + tail)
    assert codes(found) == ["sign_only"]
    assert not found.meant_for_encryption


def test_subkey_without_key_flags_is_refused() -> None:
    found = judged(START + NAMED + subkey(PRIMARY, SUB, MADE, seconds(9, 0)))
    assert codes(found) == ["no_key_flags"]
    assert found.meant_for_encryption


def test_subkey_bound_by_nobody_or_falsely_is_refused() -> None:
    assert codes(judged(START + NAMED + packet(14, SUB.body))) == ["no_self_signature"]
    assert codes(judged(START + NAMED + subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, spoil=True))) == ["bad_signature"]


def test_subkey_of_another_key_cannot_be_grafted_on() -> None:
    mallory = secret("ecdsa-nistp256", MADE)
    graft = subkey(mallory, SUB, MADE)
    assert codes(judged(START + NAMED + graft)) == ["no_self_signature"]
    unsigned = signature(mallory, 0x18, mallory.signed + SUB.signed, MADE, FLAGS_ENCRYPT, unhashed=b"")
    assert codes(judged(START + NAMED + packet(14, SUB.body) + unsigned)) == ["bad_signature"]


def test_binding_of_one_subkey_does_not_bind_another() -> None:
    other = secret("ecdh-nistp256", MADE)
    moved = BOUND.replace(packet(14, SUB.body), packet(14, other.body))
    assert codes(judged(START + NAMED + moved)) == ["bad_signature"]


def test_subkey_of_another_version_was_meant_for_encryption_and_cannot_be_used() -> None:
    found = judged(START + NAMED + subkey(PRIMARY, secret("x25519", MADE, 6), MADE))
    assert codes(found) == ["unreadable_subkey"]
    assert found.meant_for_encryption


# --- strength


@pytest.mark.parametrize("hash_algorithm", [1, 2])
def test_self_signatures_over_md5_and_sha1_are_weak(hash_algorithm: int) -> None:
    found = judged(START + user_id(PRIMARY, ALICE, MADE, hash_algorithm=hash_algorithm) + BOUND)
    assert set(codes(found)) == {"weak_signature"}
    bound = subkey(PRIMARY, SUB, MADE, FLAGS_ENCRYPT, hash_algorithm=hash_algorithm)
    assert codes(judged(START + NAMED + bound)) == ["weak_signature"]


def test_older_good_signature_holds_beside_a_newer_weak_one() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4, "big") + ALICE.encode()
    weak = signature(PRIMARY, 0x13, octets, LATER, FLAGS_CERTIFY, hash_algorithm=2)
    found = judged(START + NAMED + weak + BOUND)
    assert codes(found) == ["usable"]
    assert found.key
    assert weak not in found.key.raw


def test_short_rsa_key_is_weak() -> None:
    main = secret("rsa1024", MADE)
    found = judged(packet(6, main.body) + user_id(main, ALICE, MADE) + subkey(main, SUB, MADE))
    assert codes(found) == ["weak_key"]
    assert codes(judged(START + NAMED + subkey(PRIMARY, secret("rsa1024", MADE), MADE))) == ["weak_key"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("elgamal", "weak_algorithm"), ("unknown", "unsupported_algorithm"), ("ecdh-secp256k1", "unsupported_algorithm")],
)
def test_subkey_of_an_algorithm_that_will_not_do_says_so(kind: str, code: str) -> None:
    found = judged(START + NAMED + subkey(PRIMARY, secret(kind, MADE), MADE))
    assert codes(found) == [code]
    assert found.meant_for_encryption


def test_primary_key_on_a_curve_of_no_rfc_is_unsupported() -> None:
    main = secret("ecdsa-secp256k1", MADE)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE) + subkey(main, SUB, MADE)
    assert codes(judged(raw)) == ["unsupported_algorithm"]


def test_unknown_primary_algorithm_is_unsupported() -> None:
    made = Secret(33, bytes(64), MADE, 6)  # SLH-DSA
    found = judged(packet(6, made.body) + packet(13, ALICE.encode()))
    assert codes(found) == ["unsupported_algorithm"]
    assert "33" in found.facts["algorithm"]


def test_point_that_is_not_on_its_curve_is_malformed() -> None:
    sub = secret("ecdh-nistp256", MADE)
    at = len(sub.material) - 6
    off = Secret(18, sub.material[:at] + bytes([sub.material[at] ^ 1]) + sub.material[at + 1 :], MADE, 4)
    assert codes(judged(START + NAMED + subkey(PRIMARY, off, MADE))) == ["malformed"]


def test_ecdh_with_weak_key_derivation_is_refused() -> None:
    off = Secret(18, SUB.material[:-2] + b"\x02\x07", MADE, 4)
    assert codes(judged(START + NAMED + subkey(PRIMARY, off, MADE))) == ["unsupported_algorithm"]


@pytest.mark.parametrize("kind", [99, 20, 1])
def test_critical_subpacket_that_is_not_understood_voids_the_signature(kind: int) -> None:
    odd = subpacket(kind, b"\x01", critical=True)
    found = judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, odd) + BOUND)
    assert set(codes(found)) == {"unsupported_signature"}
    ignored = subpacket(kind, b"\x01")
    assert codes(judged(START + user_id(PRIMARY, ALICE, MADE, FLAGS_CERTIFY, ignored) + BOUND)) == ["usable"]


def test_subpackets_that_are_not_signed_are_not_believed() -> None:
    issuer = subpacket(33, b"\x04" + PRIMARY.fingerprint)
    bound = subkey(PRIMARY, SUB, MADE, seconds(9, 0), unhashed=issuer + FLAGS_ENCRYPT)
    assert codes(judged(START + NAMED + bound)) == ["no_key_flags"]


@pytest.mark.parametrize("salt_size", [0, 15, 17, 32])
def test_version_6_signature_with_a_salt_of_the_wrong_size_is_false(salt_size: int) -> None:
    main, sub = secret("ed25519", MADE, 6), secret("x25519", MADE, 6)
    named = user_id(main, ALICE, MADE, salt_size=salt_size)
    assert set(codes(judged(packet(6, main.body) + named + subkey(main, sub, MADE)))) == {"bad_signature"}


def test_version_6_key_with_a_wrong_length_field_is_malformed() -> None:
    body = secret("ed25519", MADE, 6).body
    assert codes(judged(packet(6, body[:9] + b"\x1f" + body[10:]))) == ["malformed"]


@pytest.mark.parametrize(
    "kind", ["rsa2048", "dsa", "eddsa", "ed25519", "ed448", "ecdsa-nistp256", "ecdsa-brainpoolP256r1"]
)
def test_false_signature_of_each_algorithm_is_found_out(kind: str) -> None:
    main = secret(kind, MADE)
    raw = packet(6, main.body) + user_id(main, ALICE, MADE, spoil=True) + subkey(main, SUB, MADE)
    assert set(codes(judged(raw))) == {"bad_signature"}


def test_signature_that_names_another_algorithm_than_its_key_is_false() -> None:
    main = secret("rsa2048", MADE)
    start = packet(6, main.body)
    main.algorithm = 3
    assert set(codes(judged(start + user_id(main, ALICE, MADE) + subkey(main, SUB, MADE)))) == {"bad_signature"}


# --- all reasons, and whatever comes


def test_all_reasons_are_collected() -> None:
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, subpacket(29, b"\x01"))
    named = user_id(PRIMARY, "bob@example.org", MADE, FLAGS_CERTIFY, seconds(9, DAY))
    bound = subkey(PRIMARY, secret("rsa1024", MADE), MADE, FLAGS_ENCRYPT, seconds(9, 2 * DAY))
    found = judged(START + revocation + named + bound)
    assert codes(found) == ["revoked", "expired", "other_address", "expired", "weak_key"]


def test_reasons_hold_no_control_characters() -> None:
    found = judged(START + user_id(PRIMARY, "evil\r\nfake: log \x1b[2J <bob@example.org>", MADE) + BOUND)
    text = "".join(r.text for r in found.reasons) + "".join(found.facts.values())
    assert text.isprintable()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_octets_give_an_assessment(raw: bytes) -> None:
    assert judged(raw).key is None
    assert judged(START + raw).key is None


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(GOOD) * 8 - 1))
def test_any_flipped_bit_gives_an_assessment_and_no_other_key(bit: int) -> None:
    raw = bytearray(GOOD)
    raw[bit // 8] ^= 1 << bit % 8
    found = judged(bytes(raw))
    if found.key is not None:
        assert found.facts["subkey"] == SUB.fingerprint.hex().upper()
        assert found.facts["fingerprint"] == PRIMARY.fingerprint.hex().upper()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([p.raw for p in packets(GOOD)] * 3 + [packet(2, b"\x04" + bytes(40))]), max_size=12))
def test_any_order_of_packets_gives_an_assessment(parts: list[bytes]) -> None:
    judged(START + b"".join(parts))


@pytest.mark.parametrize(
    "raw",
    [
        packet(10, b"PGP") * 20_001 + GOOD,
        GOOD + packet(60, b"x" * 3_000_000),
        START + packet(13, b"") + signature(PRIMARY, 0x13, b"", MADE, spoil=True) * 600 + BOUND,
    ],
)
def test_certificate_that_is_too_much_work_is_refused_with_words(raw: bytes) -> None:
    assert codes(judged(raw)) == ["too_complex"]


_FALSE = signature(PRIMARY, 0x13, PRIMARY.signed + b"\xb4\0\0\0\0", MADE, FLAGS_CERTIFY)


@pytest.mark.parametrize(
    "raw",
    [
        START + packet(13, b"") + _FALSE * (65536 // len(_FALSE)),
        START + packet(13, b"") * 30000,
        START + packet(14, SUB.body) * 1000,
        START + NAMED * 300,
        START + (packet(13, ALICE.encode() * 70) + signature(PRIMARY, 0x13, b"", MADE)) * 500,
        packet(10, b"PGP") * 200_000,
        packet(6, b"\x04" + bytes(4) + b"\x01" + b"\xff\xff" + b"\xff" * 8192 + b"\xff\xff" + b"\xff" * 8192)
        + packet(13, b"x")
        + signature(secret("rsa2048", MADE), 0x13, b"", MADE, unhashed=b"") * 100,
    ],
)
def test_record_made_to_be_slow_is_judged_in_a_second(raw: bytes) -> None:
    found = judged(raw)
    assert found.key is None or raw.startswith(START + NAMED)
    assert idle_seconds(lambda: judged(raw), 1) < 1


def rsa_with_signatures(bits: int, exponent: int, count: int) -> bytes:
    """A key with that many self-signatures that look right until the number is raised to the exponent."""
    main = secret("rsa2048", MADE)
    main = Secret(1, mpi(1 << (bits - 1) | 12345) + mpi(exponent), MADE, 4, main.private)
    return packet(6, main.body) + user_id(main, ALICE, MADE) + signature(main, 0x13, named(main), MADE) * count


def named(main: Secret) -> bytes:
    return main.signed + b"\xb4" + len(ALICE).to_bytes(4, "big") + ALICE.encode()


@pytest.mark.parametrize(
    ("bits", "exponent", "code"),
    [
        (8192, 65537, "bad_signature"),
        (8192, (1 << 32) - 1, "bad_signature"),
        (8193, 65537, "unsupported_signature"),
        (16384, (1 << 64) - 1, "unsupported_signature"),
        (2048, (1 << 32) + 1, "unsupported_signature"),
    ],
)
def test_rsa_of_an_unheard_of_size_is_not_calculated_with(
    bits: int, exponent: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calculated = []
    numbers = rsa.RSAPublicNumbers

    def counted(e: int, n: int) -> rsa.RSAPublicNumbers:
        calculated.append(n)
        return numbers(e, n)

    monkeypatch.setattr(rsa, "RSAPublicNumbers", counted)
    found = judged(rsa_with_signatures(bits, exponent, 3))
    assert found.key is None
    assert code in codes(found)
    assert bool(calculated) == (code == "bad_signature")


def test_no_more_than_a_hundred_signatures_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []

    def counted(signed: Signature, signer: Key, octets: bytes) -> pgp_signatures.Verdict:
        verified.append(signed)
        return pgp_signatures.verify(signed, signer, octets)

    monkeypatch.setattr(pgp_certificate, "verify", counted)
    assert codes(judged(rsa_with_signatures(2048, 65537, 490))) == ["too_complex"]
    assert len(verified) == 100
    del verified[:]
    newer = b"".join(signature(PRIMARY, 0x13, named(PRIMARY), LATER + n, spoil=True) for n in range(98))
    assert codes(judged(START + NAMED + newer + BOUND)) == ["usable"]
    assert len(verified) == 100


_STRANGERS = """
from datetime import UTC, datetime
import smilla.keys.lookup
from smilla.address import parse
from smilla.model import Candidate, DNSSECStatus, Format
from smilla.keys.validity import x509
from tests.certificates import make_certificate

_, raw = make_certificate("p256", email="hugh@example.org", serial=5)
raw = raw.replace(b"\\x55\\x04\\x03", b"\\x55\\x04\\x06")  # the common name as a country of four letters
raw = raw.replace(b"\\x02\\x01\\x05", b"\\x02\\x01\\xf5")  # a negative serial number
candidate = Candidate("directory", "x", Format.SMIME, raw, DNSSECStatus.SECURE)
print(x509.assess(candidate, parse("hugh@example.org"), datetime(2026, 11, 20, tzinfo=UTC), require_address=True).facts)
"""


def test_a_strangers_key_or_certificate_warns_nobody_on_stderr() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", _STRANGERS], capture_output=True, text=True, check=True
    )
    assert "C=Hugh" in ran.stdout
    assert ran.stderr == ""
