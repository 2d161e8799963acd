"""A line carries its priority and its fields wherever the log has a place for them."""

from __future__ import annotations

import os

import pytest

from smilla import log
from smilla.adapters import log_frame, log_target
from smilla.cli import say
from smilla.log_line import Line

DECIDED = Line(20, b"4Xq encrypted rcpt=a@b.test reason=usable\n", "encrypted", "4Xq", {"rcpt": "a@b.test", "via": ""})
FAILED = Line(40, b'- reload-failed fault="a\\nb"\n', "reload-failed", "", {"fault": "a\nb"})


def fields(raw: bytes) -> dict[str, str]:
    """Reads a datagram of journald's protocol."""
    found = {}
    while raw:
        name, raw = raw.split(b"\n", 1)
        if b"=" in name:
            name, _, value = name.partition(b"=")
        else:
            size = int.from_bytes(raw[:8], "little")
            value, raw = raw[8 : 8 + size], raw[8 + size :]
            assert raw[:1] == b"\n"
            raw = raw[1:]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


def test_journald_gets_a_field_for_queue_id_recipient_and_action() -> None:
    assert fields(log_frame.for_journal(DECIDED)) == {
        "MESSAGE": "4Xq encrypted rcpt=a@b.test reason=usable",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "smilla",
        "SYSLOG_FACILITY": "2",
        "SMILLA_EVENT": "encrypted",
        "SMILLA_QUEUE_ID": "4Xq",
        "SMILLA_ACTION": "encrypted",
        "SMILLA_RECIPIENT": "a@b.test",
    }


def test_text_from_outside_makes_no_field_of_its_own() -> None:
    found = fields(log_frame.for_journal(FAILED))
    assert (found["SMILLA_FAULT"], found["PRIORITY"]) == ("a\nb", "3")
    assert "SMILLA_ACTION" not in found


def test_a_line_of_what_would_have_happened_claims_no_action() -> None:
    found = fields(log_frame.for_journal(DECIDED._replace(event="observed", fields={"would": "encrypted"})))
    assert (found["SMILLA_EVENT"], found["SMILLA_WOULD"]) == ("observed", "encrypted")
    assert "SMILLA_ACTION" not in found


def test_what_is_long_or_no_text_still_fits_into_one_datagram() -> None:
    line = DECIDED._replace(queue_id="q" * 9999, fields={str(n): "\U0001f600" * 99999 for n in range(10)})
    assert len(log_frame.for_journal(line)) < 100_000
    assert fields(log_frame.for_journal(DECIDED._replace(fields={"x-y": "\udcff"})))["SMILLA_X_Y"] == "\\udcff"


@pytest.mark.parametrize(("level", "priority"), [(10, 7), (20, 6), (30, 4), (40, 3)])
def test_each_level_has_its_priority(level: int, priority: int) -> None:
    line = FAILED._replace(level=level)
    assert log_frame.with_priority(line) == b"<%d>" % priority + FAILED.raw
    assert log_frame.for_syslog(line) == b"<%d>smilla: " % (16 + priority) + FAILED.raw[:-1] + b"\0"


def test_each_of_several_lines_in_one_write_has_its_own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    class Sink:
        def send(self, raw: bytes) -> int:
            written.append(raw)
            return len(raw)

        push = send

    monkeypatch.setattr(log, "_output", None)
    log.configure("info", "text", log_target.Target(Sink(), joins=True, frame=log_frame.with_priority))
    with log.together():
        log.reload_failed("x")
        log.reloaded()
    assert written == [b"<3>- reload-failed fault=x severity=error\n<6>- reloaded\n"]


def test_stderr_is_journalds_only_where_the_service_manager_names_this_very_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = os.fstat(2)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    say("error", "one")
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    say("error", "two")
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    say("error", "three")
    assert capfd.readouterr().err == "error: one\nerror: two\n<3>error: three\n"
