"""Postfix asks a filter that does not run; with a real Postfix in tests/live/test_doctor_table.py."""

from __future__ import annotations

import pytest

from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import postfix_waiting
from smilla.errors import PostfixUnclear

CONFIG = parse('[milter]\nsocket = "unix:/q/s.sock"\n')
MAIN = {"queue_directory": "/q", "milter_default_action": "tempfail"}


class Told:
    def __init__(self, *services: Service) -> None:
        self._services = services

    def settings(self, _: object) -> Settings:
        if not self._services:
            raise PostfixUnclear("postconf: no")
        return Settings(MAIN, self._services)


def smtpd(name: str, milters: str) -> Service:
    return Service(name, "inet", "smtpd", "n", {"smtpd_milters": milters})


def found(*services: Service) -> list[tuple[str, str, str]]:
    told = postfix_waiting.problems(CONFIG, Told(*services))  # type: ignore[arg-type]
    return [(each.severity, each.text, each.why) for each in told]


@pytest.mark.parametrize("who", Who)
def test_only_if_nobody_listens_is_smilla_not_running(monkeypatch: pytest.MonkeyPatch, who: Who) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(who, "Connection refused"))
    told = found(smtpd("smtp", "unix:/q/s.sock"), smtpd("submission", "unix:/q/s.sock"), smtpd("10025", ""))
    what = "smilla is not running, but smtp, submission of Postfix ask it: nobody listens (connection refused)"
    expected = ("error", what, "until then mail is deferred")
    assert told == [expected] * (who is Who.NOBODY)


def test_what_happens_to_mail_meanwhile_is_told_for_each_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    told = found(
        smtpd("smtp", "{ unix:/q/s.sock, default_action=accept }"),
        smtpd("587", "unix:/q/s.sock"),
        smtpd("465", "{ unix:/q/s.sock, default_action=reject }"),
    )
    assert [why for _, _, why in told] == [
        "until then mail passes in plaintext",
        "until then mail is deferred",
        "until then mail is refused for good",
    ]


def test_who_is_not_asked_may_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    assert found(smtpd("smtp", "unix:/q/other.sock")) == []
    assert found() == []
