"""Many things are looked at together, and a slow domain delays nothing but its own."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from smilla.cli import together
from smilla.cli.progress import Progress
from tests.unit.cli.conftest import CommandLine

NOBODY_WAITS_FOR_EVER_S = 60


def domain_of(address: str) -> str:
    return address.partition("@")[2]


def looked(addresses: list[str], look: object = str.upper) -> list[str]:
    assert callable(look)
    return together.each(addresses, look, domain_of, Progress(is_wanted=False))


def test_results_stand_in_the_given_order() -> None:
    given = [f"{number}@{number % 7}.test" for number in range(50)]
    assert looked(given) == [one.upper() for one in given]
    assert looked([]) == []
    assert looked(["a@b.test", "a@b.test"]) == ["A@B.TEST"] * 2


def test_eight_are_looked_at_at_a_time() -> None:
    """Of one domain, too; a ninth would come to a barrier for eight alone, and break it."""
    barrier = threading.Barrier(together.AT_ONCE)

    def look(address: str) -> str:
        barrier.wait(NOBODY_WAITS_FOR_EVER_S)
        return address

    given = [f"{number}@one.test" for number in range(2 * together.AT_ONCE)]
    assert looked(given, look) == given


@pytest.mark.parametrize("order", [1, -1], ids=["slow first", "slow last"])
def test_silent_domain_does_not_hold_up_the_others(order: int) -> None:
    """The slow domain answers only once all others are done."""
    slow = [f"{number}@slow.test" for number in range(40)]
    fast = [f"{number}@{number % 3}.test" for number in range(40)]
    left, all_done = set(fast), threading.Event()

    def look(address: str) -> str:
        if address in left:
            left.remove(address)
            if not left:
                all_done.set()
        elif not all_done.wait(NOBODY_WAITS_FOR_EVER_S):
            return "held up"
        return address

    given = (slow + fast)[::order]
    assert looked(given, look) == given


def test_first_failure_ends_it_and_is_raised() -> None:
    begun = []

    def look(address: str) -> str:
        begun.append(address)
        raise ValueError(address)

    with pytest.raises(ValueError, match=r"@b\.test"):
        looked([f"{number}@b.test" for number in range(100)], look)
    assert len(begun) <= 2 * together.AT_ONCE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_wanted", [True, False])
def test_bar_is_shown_on_a_terminal_unless_it_is_not_wanted_and_goes_away(
    monkeypatch: pytest.MonkeyPatch, is_wanted: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    together.each(["a@b.test", "c@d.test"], str.upper, domain_of, Progress(is_wanted=is_wanted))
    shown = terminal.getvalue()
    assert ("[##########..........] 1 of 2" in shown) is is_wanted
    assert shown.endswith("\r\x1b[K") is is_wanted
    assert bool(shown) is is_wanted


@pytest.mark.parametrize("command", ["watch", "expiring"])
@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_commands_show_the_bar_unless_they_are_to_be_quiet(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, quiet: list[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    config = commands.config('[keys]\ndirectory = "/keys"\n')
    assert commands.run(command, "--config", config, *quiet, "hugh@example.org").code in (0, 1)
    assert ("] 1 of 1" in terminal.getvalue()) is (not quiet)


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    together.each(["a@b.test"], str.upper, domain_of, Progress(is_wanted=True))
    assert file.getvalue() == ""


def test_line_of_progress_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Progress(is_wanted=True).show("an\nswer\x1b[2J")
    assert terminal.getvalue() == "\r\x1b[Kan?swer?[2J"
