"""The screen: it fits in 80 columns and 24 lines, whatever is wrong, and has colours on terminals only."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from smilla.cli import panel
from smilla.metrics.attention import Cause, Finding, findings
from smilla.metrics.snapshot import Cache, Count, Expiring, Latency, Slot, Snapshot, Stage
from tests.unit.metrics.test_attention import WELL

FATES = ("encrypted", "unchanged", "plain", "deferred", "refused", "held", "sealed")
BUSY = replace(
    WELL,
    cache=Cache(10**9, 10**8, 10**6, 10**9),
    stage=Stage(True, "x" * 200, 12, 10.0),
    latencies=tuple(Latency(kind, 10**6, 1.0, 0.0025, 30.0) for kind in ("message", "encryption", "lookup")),
    expiring=tuple(Expiring(day, 12345) for day in range(30)),
    replies=tuple((str(code), 10**8) for code in range(250, 260)),
    minutes=tuple(Slot(n * 60, tuple(Count(fate, "r" * 40, 10**7) for fate in FATES)) for n in range(60)),
    tens=tuple(Slot(n * 600, tuple(Count(fate, "r" * 40, 10**7) for fate in FATES)) for n in range(144)),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(found: Snapshot, *, coloured: bool = False) -> list[str]:
    return panel.lines(found, findings(found), coloured=coloured)


@pytest.mark.parametrize("found", [WELL, BUSY, replace(BUSY, observing=True)])
def test_the_screen_fits_in_80_columns_and_what_matters_in_24_lines(found: Snapshot) -> None:
    lines = shown(found)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24 + 2 * len(findings(found))


def test_an_ordinary_screen_fits_as_a_whole() -> None:
    assert len(shown(replace(WELL, tens=WELL.minutes))) <= 23


def test_a_long_problem_and_its_mend_are_wrapped_and_nothing_is_cut_off() -> None:
    problem = f"/etc/postfix/main.cf was changed; {' '.join(['postfix -c /etc/postfix reload'] * 4)}, the end"
    hint = "smilla config check --postfix --config /etc/smilla/smilla.toml says what is missing, and how to mend-it"
    lines = panel.lines(WELL, [Finding(Cause.WORKERS, problem, *hint.split(" ", 1))], coloured=False)
    told = lines[lines.index(next(line for line in lines if line.startswith("! "))) :]
    assert max(map(len, told)) <= 80
    assert " ".join(line.strip() for line in told) == f"! {problem} {hint}"
    assert all(line.startswith("  ") for line in told[1:])


def test_a_proof_is_not_shown_alone_beside_mail_that_waits_for_the_resolver() -> None:
    failed = Slot(0, (Count("deferred", "resolver_down", 2),))
    text = "\n".join(shown(replace(WELL, minutes=(failed,))))
    assert re.search(r"^resolver +2 of 2 proven, does not answer", text, re.MULTILINE)
    assert "all is well" not in text


def test_the_numbers_stand_where_they_belong() -> None:
    text = "\n".join(shown(replace(WELL, tens=WELL.minutes)))
    assert re.search(r"^workers +2 of 2 run, 5 died", text, re.MULTILINE)
    assert re.search(r"^resolver +2 of 2 proven", text, re.MULTILINE)
    assert re.search(r"^journal +1 unfinished, 1 owed", text, re.MULTILINE)
    assert re.search(r"^encrypted +90 +90$", text, re.MULTILINE)
    assert re.search(r"^deferred +10 +10$", text, re.MULTILINE)
    assert re.search(r"^share +100\.0% +100\.0%", text, re.MULTILINE)
    assert "deferred bogus: 10" in text
    assert "3 in 14 d" in text
    assert text.endswith("all is well")


def test_while_observing_it_says_so_and_shows_what_would_happen() -> None:
    would = (Slot(0, (Count("encrypted", "usable", 3, observed=True), Count("plain", "never", 7))),)
    text = "\n".join(shown(replace(WELL, observing=True, minutes=would, tens=would)))
    assert "observing: mail goes on as it came" in text
    assert re.search(r"^encrypted +3 +3$", text, re.MULTILINE)
    assert re.search(r"^plain +0 +0$", text, re.MULTILINE)


def test_a_problem_comes_with_what_to_do() -> None:
    lines = panel.lines(WELL, (Finding(Cause.WORKERS, "it burns", "call", "somebody"),), coloured=False)
    assert lines[-2:] == ["! it burns", "  call somebody"]
    assert "all is well" not in lines


def test_text_from_outside_cannot_control_the_terminal() -> None:
    assert "\x1b" not in "".join(
        panel.lines(WELL, (Finding(Cause.WORKERS, "a\x1b[2J", "b\x1b[2J", "c\x1b[2J"),), coloured=False)
    )


def test_colours_are_asked_for_and_change_no_word() -> None:
    plain, coloured = shown(WELL), shown(WELL, coloured=True)
    assert any("\x1b[" in line for line in coloured)
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain


def test_colours_are_for_terminals_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert panel.is_coloured(Terminal())
    assert not panel.is_coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not panel.is_coloured(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not panel.is_coloured(Terminal())
