"""Which key of which file is published for which address, and that no copy hides what another one revokes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from smilla.address import parse
from smilla.errors import ParseError
from smilla.keys.discovery import wkd
from smilla.keys.discovery.wkd import hashed
from smilla.keys.validity import pgp
from smilla.model import Candidate, Format
from smilla.records import openpgp_key, web_directory
from smilla.records.wanted import Wanted
from smilla.records.web_directory import Entry, Held, State
from tests.openpgp_maker import armoured, packet, seconds, secret, signature, subkey, user_id, user_id_octets
from tests.vectors.memory import raw_key

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
MADE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
LATER = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
DAY = 86400
PRIMARY, SUB = secret("eddsa", MADE), secret("cv25519", MADE)
START, BOUND = packet(6, PRIMARY.body), subkey(PRIMARY, SUB, MADE)
ALICE, WORK = "Alice <alice@example.org>", "Alice <a.work@example.net>"
GOOD = START + user_id(PRIMARY, ALICE, MADE) + BOUND
TWO = START + user_id(PRIMARY, ALICE, MADE) + user_id(PRIMARY, WORK, MADE) + BOUND
REVOCATION = signature(PRIMARY, 0x20, PRIMARY.signed, LATER)
USER_REVOCATION = signature(PRIMARY, 0x30, PRIMARY.signed + user_id_octets(ALICE.encode()), LATER)
REVOKED = START + REVOCATION + user_id(PRIMARY, ALICE, MADE) + BOUND
USER_REVOKED = START + user_id(PRIMARY, ALICE, MADE) + USER_REVOCATION + BOUND


def key_of(address: str, days: int = 700) -> bytes:
    """A new key for one address.  By the tests' own clock: by the machine's, it would be from their future one day."""
    return openpgp_key.make(Wanted(parse(address), "", NOW - timedelta(days=1), days), b"password").public


def entries(*keys: bytes, domains: Sequence[str] = ("example.org",)) -> list[Entry]:
    held = [Held(f"{number}.pgp", key) for number, key in enumerate(keys)]
    return list(web_directory.entries(held, domains, NOW))


def only(*keys: bytes) -> Entry:
    (entry,) = entries(*keys)
    return entry


def test_a_key_goes_to_the_file_of_each_address_that_it_names_cut_down_to_that() -> None:
    found = entries(TWO, domains=("example.org", "example.net"))
    assert [(one.address, one.domain, one.name) for one in found] == [
        ("a.work@example.net", "example.net", hashed("a.work")),
        ("alice@example.org", "example.org", hashed("alice")),
    ]
    assert ALICE.encode() in found[1].raw
    assert WORK.encode() not in found[1].raw


def test_addresses_of_other_domains_and_of_whole_domains_are_left_out() -> None:
    assert entries(TWO, domains=("example.com",)) == []
    assert [one.address for one in entries(TWO)] == ["alice@example.org"]
    assert entries(raw_key("pgp-wildcard.pgp")) == []


def test_two_spellings_of_one_name_share_a_file() -> None:
    other = START + user_id(PRIMARY, "Alice <Alice@example.org>", MADE) + BOUND
    assert only(GOOD, other).name == hashed("alice")


def test_what_is_published_is_what_a_sender_can_use() -> None:
    entry = only(GOOD)
    found = pgp.assess(Candidate("wkd", "", Format.OPENPGP, entry.raw), parse("alice@example.org"), NOW)
    assert found.key is not None
    assert (entry.state, entry.fingerprint, entry.ends_at) == (State.PUBLISHED, found.key.fingerprint, None)


def test_of_two_keys_the_stronger_one_is_published() -> None:
    weaker, stronger = secret("rsa2048", MADE), secret("rsa4096", MADE)
    keys = [
        packet(6, primary.body) + user_id(primary, ALICE, MADE) + subkey(primary, primary, MADE)
        for primary in (weaker, stronger)
    ]
    assert only(*keys).text == only(*keys[::-1]).text.replace("0.pgp", "1.pgp") == "from 1.pgp"


def test_of_two_copies_of_a_key_the_one_that_lasts_longest_is_published() -> None:
    short = START + user_id(PRIMARY, ALICE, MADE, seconds(9, 1100 * DAY)) + BOUND
    longer = START + user_id(PRIMARY, ALICE, LATER, seconds(9, 2000 * DAY)) + BOUND
    for keys in ((short, longer), (longer, short)):
        entry = only(*keys)
        assert entry.state is State.PUBLISHED
        assert entry.ends_at is not None
        assert entry.ends_at.year == 2029


NEWER = secret("cv25519", LATER)
SUBKEY_REVOCATION = signature(PRIMARY, 0x28, PRIMARY.signed + SUB.signed, LATER)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_copy_with_a_subkey_that_another_copy_revokes_is_not_published(order: tuple[int, int]) -> None:
    named = START + user_id(PRIMARY, ALICE, MADE)
    copies = (named + BOUND, named + BOUND + SUBKEY_REVOCATION + subkey(PRIMARY, NEWER, LATER))
    entry = only(*(copies[place] for place in order))
    assert entry.state is State.PUBLISHED
    assert packet(14, NEWER.body) in entry.raw
    assert packet(14, SUB.body) not in entry.raw


def test_a_copy_that_names_nobody_may_revoke_a_subkey_all_the_same() -> None:
    entry = only(GOOD, START + BOUND + SUBKEY_REVOCATION)
    assert (entry.state, entry.raw) == (State.UNUSABLE, b"")
    assert "revoked" in entry.text


def test_copies_that_only_together_lead_senders_to_the_right_key_are_not_published() -> None:
    """One has the address and the old subkey, the other the new subkey and no address."""
    named = START + user_id(PRIMARY, ALICE, MADE)
    entry = only(named + BOUND, START + subkey(PRIMARY, NEWER, LATER))
    assert (entry.state, entry.raw) == (State.UNUSABLE, b"")


def test_a_revoked_key_is_published_as_such() -> None:
    entry = only(REVOKED)
    assert entry.state is State.REVOKED
    assert REVOCATION in entry.raw


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_copy_that_is_not_revoked_hides_no_revocation(order: tuple[int, int]) -> None:
    copies = (GOOD, REVOKED)
    entry = only(*(copies[place] for place in order))
    assert entry.state is State.REVOKED
    assert REVOCATION in entry.raw


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_copy_whose_user_id_is_not_revoked_hides_no_revocation_either(order: tuple[int, int]) -> None:
    copies = (GOOD, USER_REVOKED)
    entry = only(*(copies[place] for place in order))
    assert (entry.state, entry.raw) == (State.UNUSABLE, b"")
    assert "revoked" in entry.text


def test_a_good_key_is_published_beside_a_revoked_one() -> None:
    entry = only(REVOKED, key_of("alice@example.org"))
    assert entry.state is State.PUBLISHED
    assert entry.text == "from 1.pgp"


@pytest.mark.parametrize("name", ["pgp-expired.pgp", "pgp-sign-only.pgp"])
def test_a_key_that_nobody_could_use_is_not_published_and_says_why(name: str) -> None:
    (entry,) = entries(raw_key(name))
    assert (entry.state, entry.raw) == (State.UNUSABLE, b"")
    assert entry.text.startswith("0.pgp: ")


def test_a_key_larger_than_smilla_reads_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wkd, "LARGEST", 100)
    assert (only(GOOD).state, only(GOOD).raw) == (State.UNUSABLE, b"")


def test_a_file_may_be_armoured_and_hold_several_keys() -> None:
    raw = armoured(GOOD, "PGP PUBLIC KEY BLOCK") + b"\r\n" + armoured(raw_key("pia.pgp"), "PGP PUBLIC KEY BLOCK")
    assert [key.raw for key in web_directory.held("all.asc", raw)] == [GOOD, raw_key("pia.pgp")]
    assert [key.raw for key in web_directory.held("all.pgp", GOOD + raw_key("pia.pgp"))] == [GOOD, raw_key("pia.pgp")]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (raw_key("pia.secret"), "secret"),
        (GOOD + raw_key("pia.secret"), "secret"),
        (b"", "no OpenPGP key"),
        (b"hello", "no OpenPGP key"),
        (raw_key("hugh.crt"), "no OpenPGP key"),
        (GOOD * 201, "more than 200"),
    ],
)
def test_a_file_that_cannot_be_published_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        web_directory.held("x", raw)


def test_an_entry_is_a_value() -> None:
    assert replace(only(GOOD), text="") == replace(only(GOOD), text="")
