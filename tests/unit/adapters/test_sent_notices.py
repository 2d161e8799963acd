"""The list of notices that were sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.sent_notices import opened
from smilla.errors import FileProblem

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEEP = timedelta(days=14)


def test_notice_is_remembered_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sent.json"
    with opened(path) as sent:
        assert not sent.was_sent_since("bob", NOW - KEEP)
        sent.remember("bob", NOW, KEEP)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with opened(path) as sent:
        assert sent.was_sent_since("bob", NOW - KEEP)
        assert not sent.was_sent_since("bob", NOW + timedelta(seconds=1))
        assert not sent.was_sent_since("eve", NOW - KEEP)


def test_what_is_older_than_needed_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    with opened(path) as sent:
        sent.remember("bob", NOW - timedelta(days=15), KEEP)
        sent.remember("eve", NOW, KEEP)
    assert "bob" not in path.read_text()
    assert "eve" in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"bob": 3}', '{"bob": "yesterday"}'])
def test_list_that_cannot_be_read_is_an_error_and_not_an_empty_list(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sent.json"
    path.write_text(text)
    with pytest.raises(FileProblem, match="remove it"), opened(path):
        pass
