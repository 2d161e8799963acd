"""What is remembered is bounded, and never makes a key live longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from smilla.address import EmailAddress, parse
from smilla.keys.validity import pgp
from smilla.keys.validity.memory import Memory
from smilla.model import Assessment, Candidate, Format


def test_least_recently_used_goes_first() -> None:
    memory: Memory[str, int] = Memory(entries=2, octets=100)
    memory.remember("a", 1, 10)
    memory.remember("b", 2, 10)
    assert memory.recall("a") == 1
    memory.remember("c", 3, 10)
    assert (memory.recall("a"), memory.recall("b"), memory.recall("c")) == (1, None, 3)
    assert (len(memory), memory.size) == (2, 20)


def test_octets_are_bounded_and_an_older_value_gives_its_place() -> None:
    memory: Memory[str, int] = Memory(entries=10, octets=100)
    for number in range(5):
        memory.remember("a", number, 60)
    assert (memory.recall("a"), memory.size) == (4, 60)
    memory.remember("b", 0, 60)
    assert (memory.recall("a"), memory.size) == (None, 60)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    tsk = pysequoia.Tsk.generate(user_id="<a@x.test>", profile=pysequoia.Profile.RFC4880, validity_seconds=3600)
    return Candidate("openpgpkey", "x", Format.OPENPGP, bytes(tsk.extract_certificate()))


def test_key_is_judged_once_a_minute_and_not_once_a_message(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[datetime] = []
    original = pgp._judged

    def counted(one: Candidate, address: EmailAddress, at: datetime, terms: pgp.Terms) -> Assessment:
        judged.append(at)
        return original(one, address, at, terms)

    monkeypatch.setattr(pgp, "_judged", counted)
    now = datetime.now(UTC)
    for seconds in (0, 1, 59, 61, 62, -10):
        assert pgp.assess(candidate, parse("a@x.test"), now + timedelta(seconds=seconds)).key
    assert judged == [now, now + timedelta(seconds=61), now + timedelta(seconds=-10)]


def test_judgement_never_outlives_the_key(candidate: Candidate) -> None:
    now = datetime.now(UTC)
    key = pgp.assess(candidate, parse("a@x.test"), now).key
    assert key is not None
    assert key.expires_at is not None
    assert pgp.assess(candidate, parse("a@x.test"), key.expires_at - timedelta(seconds=1)).key
    assert pgp.assess(candidate, parse("a@x.test"), key.expires_at).key is None


def test_another_address_is_another_question(candidate: Candidate) -> None:
    now = datetime.now(UTC)
    assert pgp.assess(candidate, parse("a@x.test"), now).key
    assert pgp.assess(candidate, parse("b@x.test"), now).key is None
    assert pgp.assess(candidate, parse("b@x.test"), now, require_user_id=False).key
