"""Ports as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smilla.adapters.journal import SQLiteJournal
from tests.vectors.memory import make_ports


def test_ports_without_handover_have_neither_journal_nor_mailer_and_keep_the_rest(tmp_path: Path) -> None:
    none = make_ports()
    assert none.without_handover() is none
    some = replace(none, journal=SQLiteJournal(str(tmp_path), 60))
    assert some.without_handover() == none
