"""Postfix's lines to the relay and back, as smilla-relay(8) has them, and each one left out or wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import postfix_relay
from smilla.doctor.attached import Attached
from smilla.doctor.finding import Finding
from tests.lab.documents import all_blocks

RELAY = '[relay]\nprotocol = "lmtp"\nnext_hop = "127.0.0.1:10025"\n'
DEFAULTS = {
    "queue_directory": "/var/spool/postfix",
    "smtpd_milters": "unix:/run/smilla/smilla.sock",
    "content_filter": "smilla-relay:inet:127.0.0.1:10026",
    "lmtp_send_xforward_command": "no",
    "smtp_send_xforward_command": "no",
}


def of_manual() -> dict[str, dict[str, str]]:
    """The options of both services in the manual, by service."""
    [text] = [block.text for block in all_blocks() if block.page == "smilla-relay.8" and block.what == "master.cf"]
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r" +-o (\w+)=(.*)", line):
            list(found.values())[-1][match[1]] = match[2]
        elif not line.startswith("#"):
            found[line.split()[0]] = {}
    return found


@pytest.fixture(autouse=True)
def listens(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Does somebody listen at the relay's socket?"""
    answers = [True]
    monkeypatch.setattr("smilla.server.listener.can_connect", lambda _: answers[0])
    return answers


def told(text: str = RELAY, main: Mapping[str, str] = {}, **changed: Mapping[str, str] | None) -> list[Finding]:
    """``changed`` are options of the services back and there, None to take one away."""
    lines = of_manual()
    services = [
        Service("smtp", "inet", "smtpd", "n", {"smtpd_milters": ""}),
        Service("pickup", "unix", "pickup", "n", {}),
    ]
    for short, name, kind, program in (
        ("there", "smilla-relay", "unix", "lmtp"),
        ("back", "127.0.0.1:10025", "inet", "smtpd"),
    ):
        other = changed.get(short, {})
        if other is not None:
            services.append(Service(name, kind, other.get("program", program), "n", {**lines[name], **other}))
    settings = Settings({**DEFAULTS, **main}, tuple(services))
    return list(postfix_relay.of_lines(Attached(parse(text), settings)))


def words(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.severity, each.text, each.mend) for each in found]


def test_lines_of_the_manual_are_in_order() -> None:
    assert told() == []
    assert told('mode = "auto"\nlocal_domains = ["example.org"]\n' + RELAY) == []


@pytest.mark.parametrize(
    "way",
    [
        "smilla-relay:inet:localhost:10026",
        "smilla-relay:[127.0.0.1]:10026",
        "smilla-relay:inet:[127.0.0.1]:10026",
        "smilla-relay:127.0.0.1:10026",
    ],
)
def test_relay_is_recognised_however_it_is_written(way: str) -> None:
    [found] = told(main={"content_filter": way}, back={"content_filter": way})
    assert "a loop" in found.text


@pytest.mark.parametrize("way", ["", "scan:inet:127.0.0.1:10024", "smilla-relay:inet:192.0.2.1:10026"])
def test_postfix_that_does_not_lead_there_may_have_nothing_to_do_with_it(way: str) -> None:
    [found] = told(main={"content_filter": way})
    assert words([found]) == [
        ("hint", "no line leads to the relay", "content_filter = smilla-relay:inet:127.0.0.1:10026")
    ]


def test_listener_for_what_comes_back_that_leads_to_the_relay_is_a_loop() -> None:
    [found] = told(back={"content_filter": DEFAULTS["content_filter"]})
    assert words([found]) == [
        (
            "error",
            "127.0.0.1:10025: a loop: what comes back from the relay would go to it again",
            "-o content_filter=",
        )
    ]


@pytest.mark.parametrize("name", ["relayhost", "default_transport"])
def test_way_of_all_mail_that_leads_to_the_relay_is_a_loop(name: str) -> None:
    way = "[127.0.0.1]:10026" if name == "relayhost" else "smtp:[127.0.0.1]:10026"
    [found] = told(main={"content_filter": "", name: way})
    assert (found.severity, found.text[: len(name) + 28]) == ("error", f"{name} leads to the relay: a loop:")


@pytest.mark.parametrize("missing", ["no_address_mappings", "no_header_body_checks", "no_unknown_recipient_checks"])
def test_override_that_is_missing_where_copies_come_back_is_named(missing: str) -> None:
    line = of_manual()["127.0.0.1:10025"]["receive_override_options"]
    [found] = told(back={"receive_override_options": ",".join(w for w in line.split(",") if w != missing)})
    assert found.severity == "warning"
    assert found.text.endswith(f"lacks {missing}")
    assert found.why


def test_address_mappings_left_out_before_the_relay_hide_whom_an_alias_leads_to() -> None:
    found = told(main={"receive_override_options": "no_address_mappings"})
    assert [(each.severity, each.text.partition(":")[0]) for each in found] == [
        ("warning", "smtp"),
        ("warning", "pickup"),
    ]


def test_copies_that_would_come_to_the_filter_are_an_error() -> None:
    [found] = told(back={"smtpd_milters": "unix:/run/smilla/smilla.sock"})
    assert (found.severity, found.mend) == ("error", "-o smtpd_milters=")


def test_without_the_listener_copies_go_to_whoever_listens_there() -> None:
    [found] = told(back=None)
    assert found.severity == "warning"
    assert "no listener at 127.0.0.1:10025" in found.text
    remote = RELAY.replace("127.0.0.1:10025", "mail.example.org:587") + 'tls = "starttls"\n'
    assert told(remote, back=None) == []


def test_fallback_relay_would_get_plaintext() -> None:
    [found] = told(there={"lmtp_fallback_relay": "[mx.example.org]"})
    assert (found.severity, found.mend) == ("error", "-o lmtp_fallback_relay=")


def test_service_of_the_other_protocol_and_none_at_all_are_errors() -> None:
    found: list[Any] = told(there={"program": "smtp"})
    assert (found[0].severity, "speaks smtp, but [relay] protocol is lmtp" in found[0].text) == ("error", True)
    [found_none] = told(there=None)
    assert (found_none.severity, "no service smilla-relay" in found_none.text) == ("error", True)


def test_client_that_the_service_does_not_name_counts_in_mode_auto() -> None:
    assert told(there={"lmtp_send_xforward_command": "no"}) == []
    auto = 'mode = "auto"\nlocal_domains = ["example.org"]\n' + RELAY
    [found] = told(auto, there={"lmtp_send_xforward_command": "no"})
    assert (found.severity, found.mend) == ("warning", "-o lmtp_send_xforward_command=yes")
    [found] = told(auto, back={"smtpd_authorized_xforward_hosts": ""})
    assert (found.severity, found.mend) == ("warning", "-o smtpd_authorized_xforward_hosts=127.0.0.0/8")


def test_mail_that_is_led_to_nobody_waits(listens: list[bool]) -> None:
    listens[0] = False
    [found] = told()
    assert (found.kind.value, found.severity, found.mend) == ("not-running", "error", "systemctl start smilla-relay")
