"""smilla init --apply starts the filter before Postfix asks it, and leaves Postfix alone if it does not start."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from smilla import config
from smilla.adapters import service_manager
from smilla.adapters.as_user import User
from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.unit_file import Unit
from smilla.cli import init_look, init_next, init_start
from smilla.errors import ServiceFailed

SETTINGS = config.parse("")
UNIT = Unit("/usr/lib/systemd/system/smilla.service", User("smilla"), ())


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that were started; the machine has systemd, the unit and all that it needs."""
    found: list[str] = []
    monkeypatch.setattr("smilla.adapters.unit_file.has_systemd", lambda: True)
    monkeypatch.setattr("smilla.adapters.unit_file.unit_for", lambda *_: UNIT)
    monkeypatch.setattr(init_look, "missing", lambda *_: iter(()))
    monkeypatch.setattr(init_look, "group_of_postfix", lambda _: "postfix")
    monkeypatch.setattr(service_manager, "restart", found.append)
    return found


def answers(monkeypatch: pytest.MonkeyPatch, who: Who) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(who))


def ask(*, is_written: bool) -> bool:
    options = argparse.Namespace(output="/etc/smilla/smilla.toml", postfix_config=None)
    return init_start.filter_answers(options, SETTINGS, {}, is_written=is_written)


def test_filter_is_started_with_a_configuration_that_was_written_now(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    answers(monkeypatch, Who.SMILLA)
    assert ask(is_written=True)
    assert started == ["smilla.service"]


def test_filter_that_answers_already_is_left_alone(monkeypatch: pytest.MonkeyPatch, started: list[str]) -> None:
    answers(monkeypatch, Who.SMILLA)
    assert ask(is_written=False)
    assert started == []


@pytest.mark.parametrize("who", [Who.NOBODY, Who.FILTER, Who.OTHER])
def test_start_after_which_no_filter_answers_has_failed(
    monkeypatch: pytest.MonkeyPatch, started: list[str], who: Who
) -> None:
    answers(monkeypatch, who)
    with pytest.raises(ServiceFailed, match="no filter answers"):
        ask(is_written=False)
    assert started == ["smilla.service"]


@pytest.mark.parametrize("lacks", ["systemd", "unit", "folders"])
def test_where_it_cannot_be_started_only_an_unchanged_one_that_answers_will_do(
    monkeypatch: pytest.MonkeyPatch, started: list[str], lacks: str
) -> None:
    if lacks == "systemd":
        monkeypatch.setattr("smilla.adapters.unit_file.has_systemd", lambda: False)
    elif lacks == "unit":
        monkeypatch.setattr("smilla.adapters.unit_file.unit_for", lambda *_: None)
    else:
        monkeypatch.setattr(init_look, "missing", lambda *_: iter(["install -d /x"]))
    for who, is_written, expected in (
        (Who.SMILLA, False, True),
        (Who.SMILLA, True, False),
        (Who.NOBODY, False, False),
    ):
        answers(monkeypatch, who)
        assert ask(is_written=is_written) is expected
    assert started == []


def test_what_systemctl_says_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    program.chmod(0o755)
    service_manager.restart("smilla.service")
    assert (tmp_path / "asked").read_text() == "--quiet enable smilla.service\n--quiet restart smilla.service\n"
    program.write_text('#!/bin/sh\n[ "$2" = enable ] || { echo "Job failed." >&2; exit 1; }\n')
    with pytest.raises(ServiceFailed, match=r"^systemctl restart smilla.service: Job failed\.$"):
        service_manager.restart("smilla.service")


@pytest.mark.parametrize(("text", "told"), [("observe = true\n", True), ("", False)])
def test_end_says_how_to_encrypt(capsys: pytest.CaptureFixture[str], text: str, told: bool) -> None:
    options = argparse.Namespace(output="/etc/smilla/smilla.toml", postfix_config=None)
    init_next.tell_attached(options, config.parse(text), {}, is_well=True)
    said = capsys.readouterr().out
    assert "Postfix asks it" in said
    assert ("set observe = false in /etc/smilla/smilla.toml" in said) is told
