"""The mail of smilla watch, as a server gets it."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from smilla import cli
from smilla.cli import watch_mail
from smilla.config import parse
from tests.certificates import make_certificate
from tests.lab.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        yield server


def send(place: Path, sink: Sink, lines: list[str], days: int = 0, about: watch_mail.About = watch_mail.KEYS) -> bool:
    """Watches ``days`` after the first time, finds what is to be done, and mails."""
    given = {"mail": "root@example.org", "sender": "", "smtp": f"127.0.0.1:{sink.port}", "repeat": 7}
    options = argparse.Namespace(**given, state="")
    summary = watch_mail.Summary(about, lines, lines)
    return watch_mail.send(summary, options, parse(f'[reinject]\nspool = "{place}"\n'), NOW + timedelta(days=days))


def test_mail_is_sent_when_what_is_to_be_done_changes_or_still_waits_after_the_days(tmp_path: Path, sink: Sink) -> None:
    sent = []
    steps = [([], 0), (["ann"], 0), (["ann"], 6), (["ann", "bob"], 6), (["ann"], 7), (["ann"], 15), ([], 16), ([], 40)]
    for lines, days in steps:
        assert send(tmp_path, sink, lines, days)
        sent.append(len(sink.messages))
    assert sent == [0, 1, 1, 2, 3, 4, 5, 5]
    assert b"bob" in sink.messages[1].raw
    assert b"Subject: smilla watch: all is well again" in sink.messages[-1].raw_header
    assert {mail.rcpt_to for mail in sink.messages} == {("root@example.org",)}


def test_mail_about_keys_and_mail_about_mail_servers_do_not_replace_each_other(tmp_path: Path, sink: Sink) -> None:
    for day in (0, 2, 4):
        assert send(tmp_path, sink, ["ann"], day)
        assert send(tmp_path, sink, ["mx"], day + 1, watch_mail.MX)
    assert [mail.raw_header.count(b"Subject: smilla watch --mx: 1 to look at") for mail in sink.messages] == [0, 1]


def test_mail_that_was_not_accepted_is_sent_the_next_time(tmp_path: Path, sink: Sink) -> None:
    sink.answer = lambda line: b"451 4.3.0 not now" if line == b"." else None
    assert not send(tmp_path, sink, ["ann"])
    sink.answer = lambda line: None
    assert send(tmp_path, sink, ["ann"])
    assert len(sink.messages) == 1


def test_command_mails_through_the_listener_of_the_configuration(tmp_path: Path, sink: Sink) -> None:
    (tmp_path / "keys").mkdir()
    begins_at, ends_at = datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) + timedelta(days=99)
    _, raw = make_certificate("p256", email="ann@example.org", not_before=begins_at, not_after=ends_at)
    (tmp_path / "keys" / "ann@example.org.cer").write_bytes(raw)
    config = tmp_path / "smilla.toml"
    config.write_text(
        f'[keys]\ndirectory = "{tmp_path}/keys"\n[dns]\nnameservers = ["127.0.0.1@1"]\n'
        f'[reinject]\nspool = "{tmp_path}/spool"\nsmtp = "127.0.0.1:{sink.port}"\n'
    )
    for _ in range(2):
        assert cli.main(["watch", "--config", str(config), "--mail", "root@example.org", "--from", "a@b.test"]) == 75
    (mail,) = sink.messages
    assert mail.mail_from == "a@b.test"
    assert b"ann@example.org: smime unreachable:" in mail.raw
    assert cli.main(["watch", "--config", str(config), "--mail", "root"]) == 2
