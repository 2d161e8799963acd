"""Minimal keys: what stays is copied octet for octet, and what goes is not needed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from smilla.address import parse
from smilla.errors import ParseError
from smilla.formats.openpgp import packets
from smilla.model import Assessment
from smilla.records.minimal import left_out, minimal_key
from smilla.records.record import assess, openpgpkey_record
from tests.openpgp_maker import (
    FLAGS_CERTIFY,
    FLAGS_ENCRYPT,
    FLAGS_SIGN,
    packet,
    seconds,
    secret,
    signature,
    subkey,
    subpacket,
    user_id,
    user_id_octets,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MADE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
LATER = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
DAY = 86400
ALICE, WORK = "Alice <alice@example.org>", "Alice <alice@work.example>"
ADDRESS = parse("alice@example.org")

PRIMARY, SUB = secret("eddsa", MADE), secret("cv25519", MADE)
STRANGER = secret("rsa2048", MADE)
START = packet(6, PRIMARY.body)
NAMED = user_id(PRIMARY, ALICE, MADE)
BOUND = subkey(PRIMARY, SUB, MADE)
GOOD = START + NAMED + BOUND


def small(raw: bytes, address: str = "alice@example.org") -> bytes:
    return minimal_key(raw, parse(address), NOW)


def judged(raw: bytes) -> Assessment:
    return assess(openpgpkey_record(ADDRESS, raw), ADDRESS, NOW)


def by_stranger(text: str) -> bytes:
    return signature(STRANGER, 0x10, PRIMARY.signed + user_id_octets(text.encode()), LATER)


def test_small_key_stays_as_it_is() -> None:
    assert small(GOOD) == GOOD
    assert judged(GOOD).key is not None


def test_packets_in_the_old_form_are_copied_not_made_anew() -> None:
    old = b"".join(packet(p.tag, p.body, old=True) for p in packets(GOOD))
    assert old != GOOD
    assert small(old) == old


def test_other_user_ids_go() -> None:
    for whole in (
        START + NAMED + user_id(PRIMARY, WORK, MADE) + BOUND,
        START + user_id(PRIMARY, WORK, MADE) + NAMED + BOUND,
    ):
        assert small(whole) == GOOD
        assert small(whole, "alice@work.example") == START + user_id(PRIMARY, WORK, MADE) + BOUND


def test_signatures_of_others_go() -> None:
    assert small(START + NAMED + by_stranger(ALICE) + BOUND + signature(STRANGER, 0x18, b"x", LATER)) == GOOD


def test_photos_go_with_their_signatures() -> None:
    photo = packet(17, b"\x10" * 5000) + signature(PRIMARY, 0x13, b"photo", MADE)
    assert small(START + NAMED + photo + BOUND) == GOOD


def test_of_several_self_signatures_the_newest_valid_one_stays() -> None:
    newer = signature(PRIMARY, 0x13, PRIMARY.signed + user_id_octets(ALICE.encode()), LATER, FLAGS_CERTIFY)
    false = signature(PRIMARY, 0x13, PRIMARY.signed + b"else", LATER + 1, FLAGS_CERTIFY)
    (name, _) = packets(NAMED)
    assert small(START + NAMED + newer + false + BOUND) == START + name.raw + newer + BOUND


def test_direct_key_signature_stays() -> None:
    direct = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, seconds(9, 5000 * DAY))
    assert small(START + direct + NAMED + BOUND) == START + direct + NAMED + BOUND


def test_current_signing_subkey_stays() -> None:
    signing = subkey(PRIMARY, secret("rsa2048", MADE), MADE, FLAGS_SIGN)
    assert small(START + NAMED + signing + BOUND) == START + NAMED + signing + BOUND


def test_expired_and_revoked_subkeys_go() -> None:
    expired = subkey(PRIMARY, secret("rsa2048", MADE), MADE, FLAGS_ENCRYPT, seconds(9, DAY))
    other = secret("ecdh-nistp256", MADE)
    revoked = subkey(PRIMARY, other, MADE) + signature(PRIMARY, 0x28, PRIMARY.signed + other.signed, LATER)
    assert small(START + NAMED + expired + revoked + BOUND) == GOOD


def test_subkey_whose_revocation_stands_elsewhere_goes() -> None:
    other = secret("ecdh-nistp256", MADE)
    revocation = signature(PRIMARY, 0x28, PRIMARY.signed + other.signed, LATER)
    assert small(START + NAMED + subkey(PRIMARY, other, MADE) + BOUND + revocation) == GOOD


def test_revocation_of_the_key_always_stays() -> None:
    """A revoked key must not become a good one by being made smaller."""
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, LATER)
    by_another = signature(STRANGER, 0x20, PRIMARY.signed, LATER)
    unverifiable = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, hash_algorithm=99)
    for kept in (revocation, by_another, unverifiable):
        assert small(START + kept + NAMED + BOUND) == START + kept + NAMED + BOUND
    assert [r.code for r in judged(small(START + revocation + NAMED + BOUND)).reasons] == ["revoked"]


def test_false_revocation_goes() -> None:
    false = signature(PRIMARY, 0x20, PRIMARY.signed, LATER, spoil=True)
    assert small(START + false + NAMED + BOUND) == GOOD


def test_revoked_user_id_names_nobody() -> None:
    revocation = signature(PRIMARY, 0x30, PRIMARY.signed + user_id_octets(ALICE.encode()), LATER)
    with pytest.raises(ParseError, match=r"no user ID that holds names alice@example\.org"):
        small(START + NAMED + revocation + BOUND)


def test_key_for_somebody_else_is_refused_and_says_for_whom() -> None:
    with pytest.raises(ParseError, match=r"the key is for Alice <alice@work\.example>"):
        small(START + user_id(PRIMARY, WORK, MADE) + BOUND)


def test_revocation_that_cannot_be_read_is_no_small_key() -> None:
    with pytest.raises(ParseError, match="cannot be made smaller"):
        small(START + packet(2, b"\x04\x20") + NAMED + BOUND)


def test_part_that_cannot_be_read_is_named() -> None:
    broken = START + NAMED + BOUND + packet(14, b"\x04abc")
    assert small(broken) == GOOD
    assert "a subkey that cannot be read" in left_out(broken, ADDRESS)
    assert left_out(GOOD, ADDRESS) == ""


def test_who_may_revoke_the_key_stays_known() -> None:
    """Without that signature, a revocation by the other key would count for nobody."""
    names = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, subpacket(12, b"\x80\x01" + STRANGER.fingerprint))
    newer = signature(PRIMARY, 0x1F, PRIMARY.signed, LATER, seconds(9, 5000 * DAY))
    by_another = signature(STRANGER, 0x20, PRIMARY.signed, LATER)
    assert (
        small(START + by_another + names + newer + NAMED + BOUND) == START + by_another + names + newer + NAMED + BOUND
    )
    false = signature(PRIMARY, 0x1F, PRIMARY.signed, MADE, subpacket(12, b"\x80\x01" + bytes(20)), spoil=True)
    assert small(START + false + newer + NAMED + BOUND) == START + newer + NAMED + BOUND
