"""smilla expiring --used: counts of the keys that the running filter used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.adapters import status
from smilla.cli.expiring_used import MOST_DAYS
from smilla.errors import SmillaError
from smilla.metrics import totals
from smilla.metrics.snapshot import Expiring, Snapshot
from tests.unit.cli.conftest import CommandLine, Done

FOUND = Snapshot("1.0.0", 1764374400.0, 1763942400.0, observing=False, expiring=(Expiring(3, 2), Expiring(20, 1)))


def used(commands: CommandLine, *arguments: str) -> Done:
    return commands.run("expiring", "--config", commands.config(), "--used", *arguments)


@pytest.fixture(autouse=True)
def _running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ask", lambda _: FOUND)


@pytest.mark.parametrize(
    ("days", "code", "text"),
    [
        ("30", 1, "3 keys end within 30 days, the first in 3, "),
        ("20", 1, "2 keys end within 20 days, the first in 3, "),
        ("3", 0, "no key ends within 3 days "),
    ],
)
def test_keys_that_end_within_the_days_are_counted(commands: CommandLine, days: str, code: int, text: str) -> None:
    done = used(commands, "--days", days)
    tail = "of the keys that were used within a week (the filter runs since 2025-11-24 00:00 UTC)\n"
    assert (done.code, done.out.decode(), done.err) == (code, text + tail, "")
    assert used(commands, "--days", days, "--quiet").out == b""
    assert commands.resolver.asked == []


def test_one_key_is_one(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ask", lambda _: replace(FOUND, expiring=(Expiring(0, 1),)))
    assert used(commands, "--days", "1").out.startswith(b"1 key ends within 1 days, the first in 0, ")


def test_json_has_the_days_and_the_counts(commands: CommandLine) -> None:
    done = used(commands, "--json")
    assert done.code == 1
    assert done.json["ends"] == [{"days_left": 3, "keys": 2}, {"days_left": 20, "keys": 1}]
    assert done.json["taken_at"] == "2025-11-29T00:00:00+00:00"
    assert used(commands, "--json", "--days", "1").json["ends"] == []


def test_filter_that_cannot_be_asked_is_told_and_is_no_absence_of_keys(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: str) -> Snapshot:
        raise SmillaError(f"{path}: nobody answers there")

    monkeypatch.setattr(status, "ask", ask)
    done = used(commands)
    assert (done.code, done.out) == (75, b"")
    assert "only the running filter knows which keys it used: " in done.err
    assert "nobody answers there" in done.err


@pytest.mark.parametrize("more", [["a@b.test"], ["-f", "-"], ["--directory"], ["--all"], ["--mail"], ["--days", "31"]])
def test_what_the_filter_does_not_keep_is_refused(commands: CommandLine, more: list[str]) -> None:
    assert used(commands, *more).code == 2


def test_days_are_those_that_the_filter_keeps() -> None:
    assert MOST_DAYS == totals._EXPIRES_DAYS
