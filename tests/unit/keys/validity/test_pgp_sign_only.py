"""What is for signing alone is no key; what was not understood may have been for encryption, and is never "no key"."""

from __future__ import annotations

import pytest

from smilla.model import Assessment
from tests.openpgp_maker import (
    FLAGS_ENCRYPT,
    FLAGS_SIGN,
    Secret,
    mpi,
    packet,
    seconds,
    secret,
    signature,
    subkey,
    subpacket,
    user_id,
)
from tests.unit.keys.validity.test_pgp import ALICE, BOUND, GOOD, LATER, MADE, NAMED, PRIMARY, START, SUB, codes, judged

FLAGS_AUTHENTICATE = subpacket(27, b"\x20")
SIGNER = secret("ecdsa-nistp256", MADE)
RSA = secret("rsa2048", MADE)
SIGN_ONLY = START + NAMED + subkey(PRIMARY, SIGNER, MADE, FLAGS_SIGN)


def with_body(made: Secret, body: bytes) -> Secret:
    """The same key with other octets, which a binding can be made over."""
    changed = Secret(made.algorithm, made.material, made.created, made.version, made.private)
    changed.body = body
    return changed


def unreadable() -> dict[str, bytes]:
    """Encryption subkeys that this program cannot read, each bound and flagged as it must be."""
    kdf = SUB.body[:-4]
    bodies = {
        "other derivation parameters": kdf + b"\x04\x01\x08\x07\x00",
        "derivation of another version": kdf + b"\x03\x02\x08\x07",
        "no derivation parameters": kdf,
        "cut off": SUB.body[:20],
        "longer than it says": SUB.body + b"\0",
        "empty": b"",
        "version 2": b"\x02" + SUB.body[1:],
        "version 3": b"\x03" + SUB.body[1:],
        "version 5": b"\x05" + SUB.body[1:],
        "version 7": b"\x07" + SUB.body[1:],
        "unknown algorithm": Secret(99, bytes(32), MADE, 4).body,
        "private algorithm": Secret(100, bytes(32), MADE, 4).body,
        "post-quantum, of another version": Secret(35, bytes(1216), MADE, 4).body,
        "unknown curve": b"\x04" + MADE.to_bytes(4) + b"\x12\x03\x2b\x01\x01" + mpi(b"\x40" + bytes(32)) + b"\3\1\10\7",
        "unknown curve id length": b"\x04" + MADE.to_bytes(4) + b"\x12\x00" + mpi(7) + b"\3\1\10\7",
    }
    return {name: subkey(PRIMARY, with_body(SUB, body), MADE) for name, body in bodies.items()}


def is_meant_and_unusable(found: Assessment) -> bool:
    return found.key is None and found.meant_for_encryption and "sign_only" not in [r.code for r in found.reasons]


@pytest.mark.parametrize("name", unreadable())
def test_encryption_subkey_that_cannot_be_read_was_meant_for_encryption(name: str) -> None:
    for beside in (b"", subkey(PRIMARY, SIGNER, MADE, FLAGS_SIGN)):
        assert is_meant_and_unusable(judged(START + NAMED + unreadable()[name] + beside))


@pytest.mark.parametrize("name", unreadable())
def test_subkey_that_cannot_be_read_does_not_harm_a_good_one(name: str) -> None:
    assert codes(judged(GOOD + unreadable()[name])) == ["usable"]
    assert codes(judged(START + NAMED + unreadable()[name] + BOUND)) == ["usable"]


@pytest.mark.parametrize("tag", [40, 59, 60, 63])
def test_packet_of_an_unknown_kind_may_have_been_for_encryption(tag: int) -> None:
    found = judged(SIGN_ONLY + packet(tag, SUB.body))
    assert is_meant_and_unusable(found)
    assert f"the unknown tag {tag}" in found.reasons[0].text
    assert codes(judged(GOOD + packet(tag, SUB.body))) == ["usable"]


@pytest.mark.parametrize(
    "between", [packet(10, b"PGP"), packet(12, b"\x06"), packet(21, bytes(8)), packet(17, b"\x02\x01")], ids=str
)
def test_known_packets_that_say_nothing_leave_a_signing_key_one(between: bytes) -> None:
    raw = START + between + NAMED + between + subkey(PRIMARY, SIGNER, MADE, FLAGS_SIGN) + between
    found = judged(raw)
    assert (codes(found), found.meant_for_encryption) == (["sign_only"], False)


@pytest.mark.parametrize(
    "raw",
    [packet(5, PRIMARY.body + b"\0"), packet(7, SUB.body + b"\0"), packet(34, b"x"), START],
    ids=["secret key", "secret subkey", "padding", "second key"],  # the octets differ in each process
)
def test_what_is_no_single_public_key_was_meant_for_encryption(raw: bytes) -> None:
    assert is_meant_and_unusable(judged(SIGN_ONLY + raw))


@pytest.mark.parametrize("flags", [FLAGS_SIGN, FLAGS_AUTHENTICATE, subpacket(27, b"\x01")])
def test_rsa_subkey_with_genuine_flags_for_something_else_is_no_encryption_key(flags: bytes) -> None:
    found = judged(START + NAMED + subkey(PRIMARY, RSA, MADE, flags))
    assert (codes(found), found.meant_for_encryption) == (["sign_only"], False)


@pytest.mark.parametrize(
    "flags",
    [
        subpacket(27, b""),
        subpacket(27, b"\0"),
        subpacket(27, b"\0\x04"),  # an additional decryption subkey, as gpg has it
        subpacket(27, b"\x10"),
        FLAGS_SIGN + FLAGS_ENCRYPT,
        FLAGS_ENCRYPT + FLAGS_SIGN,
        FLAGS_SIGN + subpacket(27, b""),
    ],
)
def test_flags_that_say_nothing_or_two_things_make_an_encryption_algorithm_meant_and_unusable(flags: bytes) -> None:
    for key in (RSA, SUB):
        found = judged(START + NAMED + subkey(PRIMARY, key, MADE, flags))
        assert codes(found) == ["no_key_flags"]
        assert found.meant_for_encryption


@pytest.mark.parametrize("flags", [FLAGS_SIGN, FLAGS_AUTHENTICATE])
@pytest.mark.parametrize("kind", ["cv25519", "ecdh-nistp256", "x25519", "x448", "elgamal"])
def test_algorithm_that_can_only_encrypt_is_not_for_signing_whatever_its_flags(kind: str, flags: bytes) -> None:
    assert is_meant_and_unusable(judged(START + NAMED + subkey(PRIMARY, secret(kind, MADE), MADE, flags)))


@pytest.mark.parametrize("key", [RSA, SUB], ids=["rsa", "ecdh"])
@pytest.mark.parametrize(
    "bound", ["not", "falsely", "by a hash that is not known", "anew by a hash that is not known", "anew, unreadably"]
)
def test_subkey_whose_flags_cannot_be_believed_was_meant_for_encryption(key: Secret, bound: str) -> None:
    octets = PRIMARY.signed + key.signed
    unknown = signature(PRIMARY, 0x18, octets, LATER, FLAGS_ENCRYPT, hash_algorithm=99)
    raw = {
        "not": packet(14, key.body),
        "falsely": subkey(PRIMARY, key, MADE, FLAGS_SIGN, spoil=True),
        "by a hash that is not known": packet(14, key.body) + unknown,
        "anew by a hash that is not known": subkey(PRIMARY, key, MADE, FLAGS_SIGN) + unknown,
        "anew, unreadably": subkey(PRIMARY, key, MADE, FLAGS_SIGN) + packet(2, b"\x05\x18" + bytes(60)),
    }[bound]
    assert is_meant_and_unusable(judged(START + NAMED + raw))


@pytest.mark.parametrize(("hash_algorithm", "more"), [(2, []), (8, [seconds(3, 1)])], ids=["weak", "expired"])
def test_newer_flags_that_prove_nothing_do_not_make_an_encryption_subkey_one_for_signing(
    hash_algorithm: int, more: list[bytes]
) -> None:
    octets = PRIMARY.signed + RSA.signed
    newer = signature(PRIMARY, 0x18, octets, LATER, FLAGS_SIGN, *more, hash_algorithm=hash_algorithm)
    assert codes(judged(START + NAMED + subkey(PRIMARY, RSA, MADE) + newer)) == ["usable"]
    assert codes(judged(START + NAMED + packet(14, RSA.body) + newer)) == ["sign_only"]


def test_signing_algorithm_is_for_signing_however_it_is_bound() -> None:
    found = judged(START + NAMED + packet(14, SIGNER.body))
    assert (codes(found), found.meant_for_encryption) == (["sign_only"], False)


def test_primary_key_that_an_older_user_id_lets_encrypt_was_meant_for_it() -> None:
    start = packet(6, RSA.body)
    old, new = user_id(RSA, ALICE, MADE, FLAGS_ENCRYPT), user_id(RSA, "alice@example.org", LATER, FLAGS_SIGN)
    assert codes(judged(start + new)) == ["sign_only"]
    assert codes(judged(start + old)) == ["usable"]
    assert codes(judged(start + old + new)) == ["no_key_flags"]


def test_primary_key_with_a_self_signature_of_an_unknown_kind_may_have_been_for_encryption() -> None:
    octets = RSA.signed + b"\xb4" + len(ALICE).to_bytes(4) + ALICE.encode()
    unknown = signature(RSA, 0x13, octets, LATER, FLAGS_ENCRYPT, hash_algorithm=99)
    raw = packet(6, RSA.body) + user_id(RSA, ALICE, MADE, FLAGS_SIGN)
    assert codes(judged(raw)) == ["sign_only"]
    assert is_meant_and_unusable(judged(raw + unknown))


def test_primary_key_with_a_self_signature_that_cannot_be_read_may_have_been_for_encryption() -> None:
    start, named = packet(6, RSA.body), user_id(RSA, ALICE, MADE, FLAGS_SIGN)
    assert codes(judged(start + named)) == ["sign_only"]
    assert is_meant_and_unusable(judged(start + named + packet(2, b"\x05\x13" + bytes(60))))
    assert is_meant_and_unusable(judged(start + packet(2, b"\x05\x1f" + bytes(60)) + named))


# --- what stands twice


REVOKED = signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, LATER, subpacket(29, b"\x02"))


@pytest.mark.parametrize(
    "raw",
    [
        GOOD + packet(14, SUB.body) + REVOKED,
        START + NAMED + packet(14, SUB.body) + REVOKED + BOUND,
        GOOD + packet(17, b"\x02\x01") + REVOKED,
        START + NAMED + REVOKED + BOUND,
        START + REVOKED + NAMED + BOUND,
        GOOD + subkey(PRIMARY, SIGNER, MADE, FLAGS_SIGN) + REVOKED,
        GOOD + packet(60, b"x") + REVOKED,
    ],
    ids=["again", "before", "attribute", "user ID", "primary key", "another subkey", "unknown packet"],
)
def test_revocation_of_a_subkey_counts_wherever_it_stands(raw: bytes) -> None:
    assert codes(judged(raw))[0] == "revoked"


@pytest.mark.parametrize("kind", [b"\x20", b"\x28"])
@pytest.mark.parametrize("version", [b"\x04", b"\x05", b"\x06", b"\x07"])
def test_revocation_that_cannot_be_read_counts(kind: bytes, version: bytes) -> None:
    """Another program may read it."""
    revocation = packet(2, version + kind + b"\x16\x08\xff\xff")
    assert codes(judged(GOOD + revocation)) == ["revoked"]
    third_party = packet(2, version + b"\x10\x16\x08\xff\xff")
    assert codes(judged(START + NAMED + third_party + BOUND)) == ["usable"]


@pytest.mark.parametrize("body", [b"", b"\x04", b"\x20", b"\x28"])
def test_signature_of_an_octet_or_none_is_no_revocation(body: bytes) -> None:
    assert codes(judged(GOOD + packet(2, body))) == ["usable"]


@pytest.mark.parametrize("kind", [b"\x20", b"\x28"])
def test_revocation_that_ends_with_its_kind_counts(kind: bytes) -> None:
    assert codes(judged(GOOD + packet(2, b"\x04" + kind))) == ["revoked"]


def test_signature_that_cannot_be_read_and_follows_nothing_does_no_harm() -> None:
    assert codes(judged(GOOD + packet(17, b"\x02\x01") + packet(2, b"\x05\x10" + bytes(60)))) == ["usable"]


def test_revocation_of_the_key_that_cannot_be_read_counts_for_every_subkey() -> None:
    revocation = packet(2, b"\x05\x20" + bytes(60))
    other = subkey(PRIMARY, secret("ecdh-nistp256", LATER), LATER)
    for raw in (GOOD + revocation + other, GOOD + other + revocation, GOOD + packet(17, b"\x02\x01") + revocation):
        assert codes(judged(raw)) == ["revoked"]


@pytest.mark.parametrize("kind", [0x20, 0x28])
def test_false_revocation_does_not_hide_a_true_one(kind: int) -> None:
    octets = PRIMARY.signed + (SUB.signed if kind == 0x28 else b"")
    false, true = (signature(PRIMARY, kind, octets, LATER, spoil=spoil) for spoil in (True, False))
    for revocations in (false + true, true + false):
        assert codes(judged(GOOD + revocations)) == ["revoked"]


def test_revocation_of_a_user_id_that_was_lifted_does_not_hide_a_newer_one() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4) + ALICE.encode()
    lifted, newer = (signature(PRIMARY, 0x30, octets, when) for when in (MADE, LATER + 1))
    bob = user_id(PRIMARY, "bob@example.org", MADE)
    assert codes(judged(START + bob + user_id(PRIMARY, ALICE, LATER) + lifted + BOUND)) == ["usable"]
    for revocations in (lifted + newer, newer + lifted):
        assert codes(judged(START + bob + user_id(PRIMARY, ALICE, LATER) + revocations + BOUND)) == ["revoked"]


def test_revocation_of_a_user_id_counts_though_the_user_id_stands_twice() -> None:
    octets = PRIMARY.signed + b"\xb4" + len(ALICE).to_bytes(4) + ALICE.encode()
    revocation = signature(PRIMARY, 0x30, octets, LATER)
    assert "revoked" in codes(judged(GOOD + packet(13, ALICE.encode()) + revocation))


def test_revocation_of_one_subkey_says_nothing_of_another() -> None:
    other = secret("ecdh-nistp256", LATER)
    assert codes(judged(GOOD + subkey(PRIMARY, other, LATER) + REVOKED)) == ["usable"]


def test_crowd_of_subkeys_and_misplaced_revocations_is_too_complex() -> None:
    subkeys = b"".join(packet(14, secret("cv25519", MADE + i).body) for i in range(50))
    strays = b"".join(signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, LATER, seconds(9, i)) for i in range(20))
    assert codes(judged(START + NAMED + strays + subkeys)) == ["too_complex"]


def test_signing_key_that_nothing_is_signed_about_may_have_lost_its_subkey() -> None:
    for raw in (START, START + packet(13, b"Alice <alice@example.org>")):
        assert is_meant_and_unusable(judged(raw))
