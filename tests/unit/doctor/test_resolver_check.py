"""The clock beside a signature; resolvers that run are asked in tests/live/test_doctor.py."""

from __future__ import annotations

import pytest

from smilla.config import Config
from smilla.doctor.resolver_check import _of_server, advice, clock


@pytest.mark.parametrize(
    ("signed", "is_kept", "told"),
    [
        (None, True, []),
        (None, None, []),
        (None, False, ["hint"]),
        ((900, 1100), True, []),
        ((900, 1100), False, ["hint"]),
        ((900, 1000), True, []),
        ((900, 999), True, ["error"]),
        ((1001, 1100), False, ["error"]),
    ],
)
def test_clock_is_judged_by_the_signature_first(
    signed: tuple[int, int] | None, is_kept: bool | None, told: list[str]
) -> None:
    assert [each.severity for each in clock(1000.0, signed, is_kept)] == told


def test_both_times_are_said() -> None:
    (told,) = clock(1000.0, (2_000_000, 3_000_000), None)
    assert told.text.startswith("says 1970-01-01 00:16 UTC, but the signature of the probe holds from 1970-01-24 03:33")


def test_a_resolver_that_answers_servfail_runs_and_is_asked_about_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "the resolver 127.0.0.1@53 does not prove that it validates: no AD bit on the probe . (SERVFAIL)"
    for listens, kind in ((True, "resolver-not-validating"), (False, "resolver-down")):
        monkeypatch.setattr("smilla.server.listener.can_connect", lambda _, listens=listens: listens)
        found = _of_server("", "127.0.0.1@53", problem, Config())
        assert found.kind == kind
    monkeypatch.setattr("smilla.server.listener.can_connect", lambda _: True)
    found = _of_server("", "127.0.0.1@53", problem, Config())
    assert found.line.startswith('127.0.0.1@53 answers SERVFAIL: it runs, but cannot prove "."; can it reach the root')
    assert "forward-zone" in found.line
    assert "AD bit" in _of_server("", "127.0.0.1@53", problem.replace("SERVFAIL", "NOERROR"), Config()).text


@pytest.mark.parametrize("observe", [False, True])
def test_while_observing_no_mail_is_deferred(monkeypatch: pytest.MonkeyPatch, observe: bool) -> None:
    monkeypatch.setattr("smilla.server.listener.can_connect", lambda _: False)
    found = _of_server("", "127.0.0.1@53", "no answer", Config(observe=observe))
    then = "mail would be deferred if smilla did more than observe" if observe else "mail is deferred"
    assert found.why == f"smilla cannot ask for any key, so {then}"


@pytest.mark.parametrize("is_installed", [False, True])
def test_what_is_installed_is_not_to_be_installed_again(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    monkeypatch.setattr("smilla.adapters.unbound.is_installed", lambda: is_installed)
    assert ("apt-get install unbound" in advice("127.0.0.1@53: no answer")) != is_installed
    assert "port 53" in advice("no AD bit on the probe . (SERVFAIL)")
