"""Who asks smilla decrypt, and whether each recipient comes alone; the real Postfix is in
tests/live/test_decrypt_mixed.py."""

from __future__ import annotations

import pytest

from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import decrypt_check
from tests.unit.doctor.told import Told

RULE = '[decrypt]\nsocket = "unix:/q/d/d.sock"\n[[decrypt_rule]]\nrecipient = "*"\nkey_files = ["/k"]\n'
LIMIT = "smilla-decrypt_destination_recipient_limit"
ASKS = {"smtpd_milters": "unix:d/d.sock"}
TRANSPORT = Service("smilla-decrypt", "unix", "smtp", "y", {})


def found(*services: Service, text: str = RULE, **main: str) -> list[tuple[str, str]]:
    usual = {"queue_directory": "/q", "milter_default_action": "tempfail", "smtpd_milters": ""}
    told = Told(Settings({**usual, **main}, services))
    problems = decrypt_check.problems(parse(text), told)  # type: ignore[arg-type]
    return [(each.severity, each.line) for each in problems]


def listener(name: str, **options: str) -> Service:
    return Service(name, "inet", "smtpd", "y", options)


def test_nothing_is_said_where_nobody_has_a_rule_or_all_is_well() -> None:
    assert found(text="") == []
    assert found(listener("smtp"), listener("10028", **ASKS), TRANSPORT, **{LIMIT: "1"}) == []


@pytest.mark.parametrize(
    ("services", "main", "severity", "said"),
    [
        ([listener("smtp")], {}, "hint", "smtpd_milters = unix:/q/d/d.sock"),
        ([listener("smtp", **ASKS)], {}, "hint", "MAIL THAT IS ALSO FOR OTHERS"),
        ([listener("10028", **ASKS), TRANSPORT], {}, "warning", f"{LIMIT} = 1"),
        ([listener("10028", **ASKS), TRANSPORT], {LIMIT: "50"}, "warning", f"{LIMIT} = 1"),
        ([listener("smtp", **ASKS), listener("10028", **ASKS), TRANSPORT], {LIMIT: "1"}, "warning", "twice"),
        (
            [listener("10028", milter_default_action="accept", **ASKS), TRANSPORT],
            {LIMIT: "1"},
            "warning",
            "milter_default_action = tempfail",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_line(
    services: list[Service], main: dict[str, str], severity: str, said: str
) -> None:
    [(told, line)] = found(*services, **main)
    assert (told, said in line) == (severity, True), line


def test_postfix_that_cannot_be_asked_is_a_hint() -> None:
    [each] = decrypt_check.problems(parse(RULE), Told(None))  # type: ignore[arg-type]
    assert (each.severity, "postconf: no" in each.text) == ("hint", True)
