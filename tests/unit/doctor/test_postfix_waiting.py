"""Postfix asks a filter that does not run; with a real Postfix in tests/live/test_doctor_table.py."""

from __future__ import annotations

import pytest

from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import postfix_waiting
from smilla.errors import PostfixUnclear, SmillaError

CONFIG = parse('[milter]\nsocket = "unix:/q/s.sock"\n')
LOG = "if it does not stay up, its log says why (journalctl -u smilla)"
MAIN = {"queue_directory": "/q", "milter_default_action": "tempfail"}


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at the status socket."""

    def refused(path: str) -> None:
        raise SmillaError(f"{path}: nobody answers there")

    monkeypatch.setattr("smilla.adapters.status.ask", refused)


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
    expected = ("error", what, f"until then mail is deferred; {LOG}")
    assert told == [expected] * (who is Who.NOBODY)


def test_what_happens_to_mail_meanwhile_is_told_for_each_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    told = found(
        smtpd("smtp", "{ unix:/q/s.sock, default_action=accept }"),
        smtpd("587", "unix:/q/s.sock"),
        smtpd("465", "{ unix:/q/s.sock, default_action=reject }"),
    )
    assert [why for _, _, why in told] == [
        f"until then mail passes in plaintext; {LOG}",
        f"until then mail is deferred; {LOG}",
        f"until then mail is refused for good; {LOG}",
    ]


def test_who_is_not_asked_may_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    assert found(smtpd("smtp", "unix:/q/other.sock")) == []
    assert found() == []


@pytest.mark.parametrize("has_systemd", [False, True])
@pytest.mark.parametrize("runs", [False, True])
def test_one_that_runs_with_another_socket_is_restarted(
    monkeypatch: pytest.MonkeyPatch, runs: bool, has_systemd: bool
) -> None:
    asked: list[str] = []

    def ask(path: str) -> None:
        asked.append(path)
        if not runs:
            raise SmillaError("nobody answers there")

    monkeypatch.setattr("smilla.adapters.status.ask", ask)
    monkeypatch.setattr("smilla.adapters.unit_file.has_systemd", lambda: has_systemd)
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))
    (told,) = postfix_waiting.problems(CONFIG, Told(smtpd("smtp", "unix:/q/s.sock")))  # type: ignore[arg-type]
    assert asked == [CONFIG.status_socket]
    assert told.text.startswith("smilla runs, but does not listen there" if runs else "smilla is not running")
    assert ("a changed [milter] socket needs a restart" in told.why) == runs
    by_hand = "start smilla, or restart it if it runs: a changed socket needs a restart"
    assert told.mend == ("systemctl restart smilla" if has_systemd else by_hand)
