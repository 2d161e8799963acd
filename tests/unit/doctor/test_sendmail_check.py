from __future__ import annotations

from pathlib import Path

import pytest

from smilla.doctor.sendmail_check import after

OURS = "Xsmilla, S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s\n"
OTHER = "Xclamav, S=local:/run/clamav.sock, F=, T=S:4m\n"


@pytest.mark.parametrize(
    ("lists", "count"),
    [
        ("O InputMailFilters=smilla\n", 0),
        ("O InputMailFilters=clamav,smilla\n", 0),
        ("O InputMailFilters=smilla,clamav\n", 1),
        ("O DaemonPortOptions=Name=MTA, Port=smtp, InputMailFilters=smilla;clamav\n", 1),
        ("O DaemonPortOptions=Name=MTA, Port=smtp, InputMailFilters=clamav;smilla\nO InputMailFilters=clamav\n", 0),
        ("", 0),
    ],
)
def test_a_filter_after_smilla_is_warned_of(tmp_path: Path, lists: str, count: int) -> None:
    file = tmp_path / "sendmail.cf"
    file.write_text(OTHER + OURS + lists)
    found = list(after("unix:/run/smilla/smilla.sock", file))
    assert len(found) == count
    assert all("clamav may refuse" in each.text for each in found)


def test_no_sendmail_is_no_problem(tmp_path: Path) -> None:
    assert list(after("unix:/run/smilla/smilla.sock", tmp_path / "none")) == []
