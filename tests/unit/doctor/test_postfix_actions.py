"""Tables that have HOLD, REDIRECT or FILTER; a real Postfix names them in tests/live/test_postfix_check.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.postfix import Service, Settings
from smilla.doctor import postfix_actions
from smilla.doctor.postfix_actions import verbs
from tests.unit.doctor.told import Told

INDEXED = "# HOLD\nbob@x.test\tHOLD too much\neve@x.test REJECT HOLD on\nann@x.test\n  filter a:b\n"
PATTERNS = "/a HOLD b/ REJECT\nif /x/\n!/^X: \\/ y/i redirect boss@x.test\nendif\n# /a/ FILTER x:\n"
OURS = "/^X-Smilla-Stage: [0-9a-f]{32} [0-9a-f]{16}$/ FILTER smilla:unix:smilla/stage.sock\n"


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("hash", INDEXED, {"HOLD", "FILTER"}),
        ("proxy:texthash", INDEXED, {"HOLD", "FILTER"}),
        ("proxywrite:texthash", INDEXED, {"HOLD", "FILTER"}),
        ("cidr", "10.0.0.0/8 HOLD\n", {"HOLD"}),
        ("regexp", PATTERNS, {"REDIRECT"}),
        ("pcre", "{^hold$} DUNNO\n|x|\tFILTER a:b\n", {"FILTER"}),
        ("regexp", OURS, set()),
        ("hash", "hold@x.test OK\nfilter REJECT\n", set()),
    ],
)
def test_actions_of_a_file(tmp_path: Path, kind: str, text: str, found: set[str]) -> None:
    (tmp_path / "table").write_text(text)
    assert verbs(f"{kind}:{tmp_path}/table") == found


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("static:HOLD", {"HOLD"}),
        ("static:{HOLD for a look}", {"HOLD"}),
        ("static:{PREPEND X-Hold: HOLD}", set()),
        ("inline:{a@x.test=OK, {b@x.test = FILTER a:b}}", {"FILTER"}),
        ("regexp:{{/x HOLD/ REJECT}, {/y/ hold}}", {"HOLD"}),
        ("pipemap:{static:a, inline:{{a=REDIRECT b@x.test}}}", {"REDIRECT"}),
        ("fail:HOLD", set()),
    ],
)
def test_actions_that_stand_in_main_cf(table: str, found: set[str]) -> None:
    assert verbs(table) == found


@pytest.mark.parametrize("table", ["hash:/nonexistent", "mysql:/etc/hosts", "unionmap:{static:a,ldap:x}"])
def test_what_cannot_be_read_is_told_from_what_has_nothing(table: str) -> None:
    with pytest.raises(OSError, match=r"No such|no file"):
        verbs(table)


def found(settings: Settings | None) -> list[str]:
    return [each.line for each in postfix_actions.problems(Told(settings))]  # type: ignore[arg-type]


def test_each_table_of_listeners_with_a_filter_is_named_once() -> None:
    main = {
        "smtpd_restriction_classes": "strict",
        "strict": "check_sender_access static:{FILTER a:b}",
        "smtpd_client_restrictions": "check_policy_service inet:hold:1, check_client_access static:HOLD,"
        "check_client_access static:OK permit",
        "smtpd_recipient_restrictions": "check_recipient_access static:HOLD, check_sender_access ldap:x",
        "body_checks": "regexp:{{/x/ REDIRECT boss@x.test}}",
        "cleanup_service_name": "cleanup",
    }
    services = (
        Service("cleanup", "unix", "cleanup", "n", {}),
        Service("25", "inet", "smtpd", "n", {"smtpd_data_restrictions": "check_client_access static:{FILTER x:}"}),
        Service("26", "inet", "smtpd", "n", {"smtpd_milters": "inet:127.0.0.1:1"}),
        Service("27", "inet", "smtpd", "n", {"smtpd_milters": "inet:127.0.0.1:1"}),
    )
    told = found(Settings(main, services))
    assert [text.partition(": ")[2].partition("; ")[0] for text in told] == [
        "smtpd_client_restrictions: static:HOLD has HOLD",
        "smtpd_recipient_restrictions: ldap:x could not be read (it is no file)",
        "strict: static:{FILTER a:b} has FILTER",
        "body_checks: regexp:{{/x/ REDIRECT boss@x.test}} has REDIRECT",
    ]


def test_postfix_that_does_not_answer_is_named() -> None:
    (told,) = found(None)
    assert told.endswith("could not be looked at: postconf: no")
