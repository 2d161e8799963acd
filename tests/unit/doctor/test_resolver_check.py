"""The clock beside a signature; resolvers that run are asked in tests/live/test_doctor.py."""

from __future__ import annotations

import pytest

from smilla.doctor.resolver_check import clock


@pytest.mark.parametrize(
    ("signed", "is_kept", "told"),
    [
        (None, True, []),
        (None, None, []),
        (None, False, ["hint"]),
        ((900, 1100), True, []),
        ((900, 1100), False, ["hint"]),
        ((900, 1000), True, []),
        ((900, 999), True, ["error"]),
        ((1001, 1100), False, ["error"]),
    ],
)
def test_clock_is_judged_by_the_signature_first(
    signed: tuple[int, int] | None, is_kept: bool | None, told: list[str]
) -> None:
    assert [each.severity for each in clock(1000.0, signed, is_kept)] == told


def test_both_times_are_said() -> None:
    (told,) = clock(1000.0, (2_000_000, 3_000_000), None)
    assert told.text.startswith("says 1970-01-01 00:16 UTC, but the signature of the probe holds from 1970-01-24 03:33")
