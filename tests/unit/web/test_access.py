"""Who may see the status page."""

from __future__ import annotations

from smilla.web.access import SESSION_S, Rate, Sessions

TOKEN = "correct horse"


class Clock:
    """A time that stands still until told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_only_the_token_is_the_token() -> None:
    sessions = Sessions(TOKEN, Clock())
    assert sessions.is_token(TOKEN)
    for wrong in ("", "correct", TOKEN + " ", TOKEN.upper(), "\udcff"):
        assert not sessions.is_token(wrong)


def test_session_ends_after_its_time() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, clock)
    cookie = sessions.begin()
    clock.now += SESSION_S - 2
    assert sessions.is_valid(cookie)
    clock.now += 3
    assert not sessions.is_valid(cookie)


def test_nobody_makes_or_lengthens_a_session() -> None:
    sessions = Sessions(TOKEN, Clock())
    name, until, signature = sessions.begin().split(".")
    forged = [
        "",
        ".",
        "..",
        name,
        f"{name}.{until}.",
        f"{name}.{int(until) + 1}.{signature}",
        f"{'0' * 32}.{until}.{signature}",
        f"{name}.{until}.{'0' * 64}",
        f"{name}.{until}.{signature}x",
        f"{name}.later.{signature}",
        "\udcff.1.2",
    ]
    assert [cookie for cookie in forged if sessions.is_valid(cookie)] == []


def test_another_token_ends_all_sessions() -> None:
    cookie = Sessions(TOKEN, Clock()).begin()
    assert not Sessions("another", Clock()).is_valid(cookie)


def test_left_session_is_over_and_others_are_not() -> None:
    sessions = Sessions(TOKEN, Clock())
    left, kept = sessions.begin(), sessions.begin()
    sessions.end(left)
    assert not sessions.is_valid(left)
    assert sessions.is_valid(kept)


def test_mark_of_a_form_is_that_of_its_session_only() -> None:
    sessions = Sessions(TOKEN, Clock())
    mine, theirs = sessions.begin(), sessions.begin()
    assert sessions.is_mark(mine, sessions.mark(mine))
    assert not sessions.is_mark(mine, sessions.mark(theirs))
    assert not sessions.is_mark(mine, mine.rpartition(".")[2])
    assert not sessions.is_mark(mine, "\udcff")


def test_rate_counts_within_its_window() -> None:
    clock = Clock()
    rate = Rate(2, 60.0, clock)
    assert [rate.take() for _ in range(3)] == [True, True, False]
    clock.now += 61
    assert rate.take()


def test_each_event_leaves_the_window_by_itself() -> None:
    clock = Clock()
    rate = Rate(2, 60.0, clock)
    taken = []
    for pause in (0, 50, 10, 0, 49, 1):
        clock.now += pause
        taken.append(rate.take())
    assert taken == [True, True, True, False, False, True]


def test_session_is_over_at_its_end_and_lasts_a_working_day() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, clock)
    cookie = sessions.begin()
    clock.now += 8 * 3600 - 1
    assert sessions.is_valid(cookie)
    clock.now += 1
    assert not sessions.is_valid(cookie)
