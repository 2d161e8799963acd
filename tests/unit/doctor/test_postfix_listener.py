"""Is the listener for copies among Postfix's services?  What it must have is looked at in
tests/live/test_postfix_check.py."""

from __future__ import annotations

import pytest

from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import postfix_listener
from smilla.doctor.attached import Attached
from smilla.doctor.finding import Finding


def found(*names: str, text: str = "", **options: str) -> list[Finding]:
    services = tuple(Service(name, "inet", "smtpd", "n", options) for name in names)
    return list(postfix_listener.absent(Attached(parse(text), Settings({}, services))))


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.port_holder.holder", lambda port: f"nc (process {port})")


@pytest.mark.parametrize("name", ["127.0.0.1:10025", "10025", "localhost:10025", "0.0.0.0:10025", "[::]:10025"])
def test_a_listener_at_that_address_is_in_order(name: str) -> None:
    assert found("smtp", name) == []


@pytest.mark.parametrize("name", ["smtp", "127.0.0.1:10026", "[::1]:10025", "127.0.0.2:10025", "192.0.2.1:10025"])
def test_without_a_listener_there_a_stranger_would_get_the_copies(name: str) -> None:
    (told,) = found(name)
    assert (told.kind, told.severity) == ("listener", "error")
    what = "master.cf has no listener at 127.0.0.1:10025 ([reinject] smtp), so copies would go to whoever listens there"
    assert told.text == f"{what}; nc (process 10025) listens there"
    assert "add 127.0.0.1:10025 inet n - y - - smtpd" in told.mend


def test_the_listener_for_copies_that_master_cf_has_is_named() -> None:
    (told,) = found("127.0.0.1:10026", syslog_name="postfix/reinject")
    assert told.mend.startswith('[reinject] smtp = "127.0.0.1:10026", which master.cf has, or add 127.0.0.1:10025')
    (told,) = found("[::1]:10025")
    assert told.mend.startswith('[reinject] smtp = "[::1]:10025", which master.cf has, or ')


def test_a_service_by_name_is_the_one_of_its_port() -> None:
    assert found("submission", text='[reinject]\nsmtp = "127.0.0.1:587"\n') == []


@pytest.mark.parametrize(
    "text", ["[stage]\ncheck = false\n", '[reinject]\nsmtp = "192.0.2.1:25"\n[stage]\ncheck = true\n']
)
def test_nothing_is_said_of_a_postfix_on_another_machine(text: str) -> None:
    assert found("smtp", text=text) == []
