"""The recent past in slots: without gaps, of bounded length, whatever the clock does."""

from __future__ import annotations

from smilla.metrics.ring import Ring


def test_counts_are_kept_by_slot_the_oldest_first_and_empty_ones_too() -> None:
    ring: Ring[str] = Ring(60, 4)
    ring.add(60.0, "a", 1)
    ring.add(119.9, "a", 2)
    ring.add(181.0, "b", 5)
    assert list(ring.slots(200.0)) == [(0, {}), (60, {"a": 3}), (120, {}), (180, {"b": 5})]


def test_what_is_older_than_the_ring_is_forgotten() -> None:
    ring: Ring[str] = Ring(60, 2)
    for minute in range(5):
        ring.add(minute * 60.0, "a", minute)
    assert list(ring.slots(240.0)) == [(180, {"a": 3}), (240, {"a": 4})]
    assert list(ring.slots(1000.0)) == [(900, {}), (960, {})]


def test_a_clock_that_goes_back_counts_into_the_newest_slot() -> None:
    ring: Ring[str] = Ring(60, 2)
    ring.add(600.0, "a", 1)
    ring.add(30.0, "a", 1)
    assert list(ring.slots(30.0)) == [(540, {}), (600, {"a": 2})]


def test_one_slot_has_a_bounded_number_of_keys() -> None:
    ring: Ring[int] = Ring(60, 1)
    for key in range(5000):
        ring.add(0.0, key, 1)
    ring.add(0.0, 0, 1)
    ((_, counts),) = ring.slots(0.0)
    assert (len(counts), counts[0]) == (2000, 2)
