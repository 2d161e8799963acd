"""The notices of smilla expiring, as a server gets them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from smilla import cli
from tests.certificates import make_certificate
from tests.lab.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, sink: Sink) -> Path:
    """A folder in which ann's key ends in five days."""
    keys, now = tmp_path / "keys", datetime.now(UTC)
    keys.mkdir()
    ends_at = now + timedelta(days=5)
    _, raw = make_certificate("p256", email="ann@example.org", not_before=now - timedelta(days=9), not_after=ends_at)
    (keys / "ann@example.org.cer").write_bytes(raw)
    path = tmp_path / "smilla.toml"
    spool = tmp_path / "spool"
    path.write_text(
        f'[keys]\nsources = ["directory"]\ndirectory = "{keys}"\n[reinject]\nspool = "{spool}"\n'
        f'smtp = "127.0.0.1:{sink.port}"\n'
    )
    return path


def mail(config: Path, *more: str) -> int:
    return cli.main(["expiring", "--config", str(config), "--mail", "--from", "postmaster@example.org", *more])


def test_owner_gets_one_notice_and_no_second_one_within_the_days(config: Path, sink: Sink) -> None:
    assert mail(config) == 1
    assert mail(config) == 1
    (notice,) = sink.messages
    assert (notice.mail_from, notice.rcpt_to) == ("postmaster@example.org", ("ann@example.org",))
    assert b"Auto-Submitted: auto-generated" in notice.raw_header
    assert mail(config, "--repeat", "0") == 1
    assert len(sink.messages) == 2


def test_notice_that_was_not_accepted_is_sent_the_next_time(config: Path, sink: Sink) -> None:
    sink.answer = lambda line: b"451 4.3.0 not now" if line == b"." else None
    assert mail(config) == 75
    sink.answer = lambda line: b"550 5.1.1 nobody" if line.startswith(b"RCPT") else None
    assert mail(config) == 75
    assert sink.messages == []
    sink.answer = lambda line: None
    assert mail(config) == 1
    assert len(sink.messages) == 1


def test_listener_that_is_down_is_an_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mail(config, "--smtp", "127.0.0.1:1") == 75
    assert "error: no notice to ann@example.org" in capsys.readouterr().err
