"""Who does not answer leaves room for others, whatever names their zone has."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.adapters.places import _UNKNOWN, Places, Turn

A_ZONE = 24


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(clock: Clock) -> Places[int]:
    return Places(A_ZONE, clock)


def turn(domain: str, number: int = 0) -> Turn[int]:
    return Turn(f"{number}._smimecert.{domain}.", number)


def taken(places: Places[int], *domains: str) -> list[Turn[int]]:
    turns = [turn(domain, number) for number, domain in enumerate(domains)]
    return [each for each in turns if places.take(each)]


@pytest.mark.parametrize(
    "pattern",
    ["silent.test", "a{}.silent.test", "x.a{}.silent.test", "a{}.Silent.TEST", "a{}.silent.co.uk", "silent.com.au"],
)
def test_one_zone_has_so_many_places_whatever_its_names(places: Places[int], pattern: str) -> None:
    many = [pattern.format(number) for number in range(2000)]
    assert len(taken(places, *many)) == A_ZONE
    assert taken(places, "other.test", "other.co.uk", "other.com.au", "com.au", "co.uk")


@pytest.mark.parametrize("before", ["", "mx.", "_mta-sts.", "mta-sts.", "_25._tcp.mx."])
def test_questions_about_mail_servers_are_of_the_domain_too(places: Places[int], before: str) -> None:
    """As a question about example.org, which has no labels before it."""
    many = [Turn(f"{before}a{number}.silent.test.", number) for number in range(100)]
    many += [Turn(f"{before}silent.test.", 100)]
    assert len([each for each in many if places.take(each)]) == A_ZONE
    assert all(places.take(Turn(f"{before}other.{top}.", 1)) for top in ("test", "org", "example"))
    assert all(places.take(Turn(f"{before}d{number}.test.", number)) for number in range(2 * A_ZONE))


def test_what_only_looks_like_a_registry_has_four_times_the_places(places: Places[int]) -> None:
    assert len(taken(places, *(f"a{number}.bc.de" for number in range(2000)))) == 4 * A_ZONE


def test_any_number_of_silent_zones_leave_room_for_who_answered_lately(places: Places[int], clock: Clock) -> None:
    (first,) = taken(places, "good.test")
    places.free(first, answered=True)
    assert len(taken(places, *(f"silent{number}.test" for number in range(2000)))) == _UNKNOWN
    assert taken(places, "good.test")
    assert not taken(places, "stranger.test")
    clock.now = 301
    assert not taken(places, "good.test")


def test_zone_that_stopped_to_answer_is_unknown_again(places: Places[int]) -> None:
    for answered in (True, False):
        (each,) = taken(places, "good.test")
        places.free(each, answered=answered)
    taken(places, *(f"silent{number}.test" for number in range(2000)))
    assert not taken(places, "good.test")


def test_place_is_given_to_who_waited_longest(places: Places[int]) -> None:
    many = [turn("silent.test", number) for number in range(100)]
    sent = [each for each in many if places.take(each)]
    assert [following for each in sent for following in places.free(each, answered=False)] == many[A_ZONE : 2 * A_ZONE]


def test_who_waits_no_longer_gets_no_place(places: Places[int]) -> None:
    many = [turn("silent.test", number) for number in range(100)]
    sent = [each for each in many if places.take(each)]
    for each in many[A_ZONE:99]:
        each.gone = True
    assert places.free(sent[0], answered=False) == [many[99]]


def test_zone_that_waits_for_itself_takes_no_place_from_zones_behind_it(places: Places[int]) -> None:
    silent = taken(places, *["silent.test"] * 30)
    others = taken(places, *(f"silent{number}.test" for number in range(200)))
    assert len(silent) + len(others) == _UNKNOWN
    assert len(places.free(silent[0], answered=False)) == 1
    assert len(places.free(others[0], answered=False)) == 1


@given(st.lists(st.tuples(st.sampled_from(["a.test", "b.a.test", "c.co.uk", "d.co.uk", "e.f.g.de"]), st.booleans())))
def test_every_turn_comes_and_nothing_is_left_behind(script: list[tuple[str, bool]]) -> None:
    places: Places[int] = Places(2)
    turns = [turn(domain, number) for number, (domain, _) in enumerate(script)]
    under_way = [each for each in turns if places.take(each)]
    done = []
    while under_way:
        each = under_way.pop(0)
        done.append(each)
        under_way += places.free(each, answered=script[each.item][1])
        zones = Counter(other.held[0][0] for other in under_way)
        assert max(zones.values(), default=0) <= 2
    assert sorted(each.item for each in done) == list(range(len(turns)))
    assert (dict(places._taken), places._queues, places.drain()) == ({}, {}, [])
