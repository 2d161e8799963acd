"""Sendmail's lines for the filter itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.config import parse
from smilla.doctor.sendmail_check import problems

LISTED = "O InputMailFilters=smilla\n"
RULE = '[[rule]]\nrecipient = "*"\nat_rcpt = true\n'


def found(folder: Path, text: str, more: str = "") -> list[tuple[str, str]]:
    file = folder / "sendmail.cf"
    file.write_text(text)
    told = problems(parse(f'[milter]\nsocket = "unix:/run/s.sock"\n{more}'), file)
    return [(each.kind.value, each.severity) for each in told if each.severity]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"Xsmilla, S=unix:/run/s.sock, F=T, T=C:30s;S:60s;R:120s;E:300s\n{LISTED}", []),
        (f"Xsmilla, S=local:/run/s.sock, F=4\n{LISTED}", []),
        ("Xsmilla, S=unix:/run/s.sock, F=T\nO DaemonPortOptions=Name=MTA, InputMailFilters=x;smilla\n", []),
        (f"Xsmilla, S=unix:/run/s.sock, F=, T=E:5m\n{LISTED}", [("default-action", "error")]),
        (f"Xsmilla, S=unix:/run/s.sock\n{LISTED}", [("default-action", "error")]),
        (f"Xsmilla, S=unix:/run/s.sock, F=R\n{LISTED}", [("default-action", "warning")]),
        (f"Xsmilla, S=unix:/run/s.sock, F=T, T=E:9s\n{LISTED}", [("timeout", "warning")]),
        ("Xsmilla, S=unix:/run/s.sock, F=T\n", [("not-attached", "error")]),
        (f"Xsmilla, S=unix:/run/other.sock, F=T\n{LISTED}", [("other-socket", "error")]),
        ("Xclamav, S=unix:/run/clamav.sock\nO InputMailFilters=clamav\n", [("not-attached", "warning")]),
        ("O InputMailFilters=\n", [("not-attached", "error")]),
        ("", []),
    ],
)
def test_each_line_that_is_wrong_is_named(tmp_path: Path, text: str, told: list[tuple[str, str]]) -> None:
    assert found(tmp_path, text) == told


def test_nobody_asks_a_filter_that_only_observes_or_one_for_another_machine(tmp_path: Path) -> None:
    file = tmp_path / "sendmail.cf"
    file.write_text("O InputMailFilters=\n")
    for text in ("observe = true\n", '[milter]\nsocket = "inet:8890@192.0.2.1"\n'):
        assert [each.severity for each in problems(parse(text), file)] == ["warning"]


def test_a_reply_at_rcpt_needs_time_where_a_rule_waits_there(tmp_path: Path) -> None:
    for times, told in (("T=R:60s", []), ("T=R:9s", [("timeout", "warning")]), ("T=E:5m", [])):
        assert found(tmp_path, f"Xsmilla, S=unix:/run/s.sock, F=T, {times}\n{LISTED}", RULE) == told
    assert found(tmp_path, f"Xsmilla, S=unix:/run/s.sock, F=T, T=R:9s\n{LISTED}") == []


def test_loopback_has_two_names(tmp_path: Path) -> None:
    file = tmp_path / "sendmail.cf"
    file.write_text(f"Xsmilla, S=inet:8895@localhost, F=T\n{LISTED}")
    (told,) = problems(parse('[milter]\nsocket = "inet:8895@127.0.0.1"\n'), file)
    assert told.severity == ""
