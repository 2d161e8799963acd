"""How long it will take, as far as anybody can know."""

from __future__ import annotations

import pytest

from smilla.cli.progress import Estimate, in_words


def test_estimate_goes_by_how_fast_it_went_of_late() -> None:
    now = 100.0
    estimate = Estimate(lambda: now)
    assert estimate.left_s("INBOX", 0, 1000) is None
    for second in range(1, 41):
        now = 100.0 + second
        left_s = estimate.left_s("INBOX", 10 * second, 1000)
    assert left_s == pytest.approx(60)
    for second in range(41, 81):
        now = 100.0 + second
        left_s = estimate.left_s("INBOX", 400 + (second - 40), 1000)
    assert left_s == pytest.approx(560, rel=0.05)
    assert estimate.left_s("Sent", 0, 10) is None


def test_nobody_knows_while_nothing_is_done() -> None:
    now = 0.0
    estimate = Estimate(lambda: now)
    estimate.left_s("INBOX", 0, 10)
    now = 60.0
    assert estimate.left_s("INBOX", 0, 10) is None


@pytest.mark.parametrize(
    ("duration_s", "words"), [(0.1, "about 1 s"), (89, "about 89 s"), (600, "about 10 min"), (7200, "about 2.0 h")]
)
def test_duration_is_rounded(duration_s: float, words: str) -> None:
    assert in_words(duration_s) == words
