"""What Postfix's settings mean for the filter; a real Postfix is judged in tests/live/test_doctor.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from smilla.adapters.milter_client import Answer, Who
from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import postfix_settings
from smilla.doctor.finding import Finding
from tests.unit.doctor.told import Told

OURS = "/q/smilla/smilla.sock"
MAIN = {
    "queue_directory": "/q",
    "milter_default_action": "tempfail",
    "milter_connect_timeout": "30s",
    "milter_command_timeout": "30s",
    "milter_content_timeout": "300s",
    "message_size_limit": "10240000",
    "append_dot_mydomain": "no",
    "append_at_myorigin": "yes",
    "mydomain": "x.test",
    "myorigin": "mta.x.test",
}


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.NOBODY))


def found(
    text: str = "",
    also: Mapping[str, str] = {},
    *,
    chroot: str = "y",
    options: Mapping[str, str] | None = None,
    options_in: Mapping[str, str] | None = None,
    **main: str,
) -> list[Finding]:
    """The findings that are not in order, with smilla's socket at OURS and a listener that asks ``smtpd_milters``."""
    if "[milter]" not in text:
        text += f'\n[milter]\nsocket = "unix:{OURS}"\n'
    if "mixed" not in text:
        text += '[policy]\nmixed = "defer"\n'
    smtpd = Service("smtp", "inet", "smtpd", chroot, {"smtpd_milters": "unix:smilla/smilla.sock", **(options or {})})
    plain = Service("127.0.0.1:10025", "inet", "smtpd", chroot, {"smtpd_milters": main.pop("plain", "")})
    looped = Service("[::1]:10024", "inet", "smtpd", chroot, {"smtpd_milters": "unix:smilla/smilla.sock"})
    smilla_in = Service("smilla-in", "unix", "smtp", chroot, dict(options_in or {}))
    pickup = Service(
        "pickup", "unix", "pickup", "y", {"content_filter": main.pop("of_pickup", "smilla-in:[::1]:10024")}
    )
    told = Told(
        Settings(
            {**MAIN, **also, **main}, (smtpd, plain, *([looped, smilla_in] if options_in is not None else []), pickup)
        )
    )
    return [each for each in postfix_settings.problems(parse(text), told) if each.severity]  # type: ignore[arg-type]


def test_usual_settings_are_in_order() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("action", "severity"), [("accept", "error"), ("quarantine", "warning"), ("reject", "warning"), ("tempfail", "")]
)
def test_what_happens_while_the_filter_is_away(action: str, severity: str) -> None:
    alone = {"smtpd_milters": f"{{ unix:smilla/smilla.sock, default_action={action} }}"}
    for told in (found(milter_default_action=action), found(options=alone)):
        assert [(each.kind, each.severity) for each in told] == [("default-action", severity)] * bool(severity)


@pytest.mark.parametrize(("own", "is_told"), [({}, True), ({"smtp_fallback_relay": ""}, False)])
def test_fallback_relay_would_get_what_smilla_defers_of_this_machine(own: dict[str, str], is_told: bool) -> None:
    told = found(options_in=own, smtp_fallback_relay="[relay.test]")
    assert [(each.kind, each.severity) for each in told] == [("default-action", "error")] * is_told
    assert not found(smtp_fallback_relay="[relay.test]")


@pytest.mark.parametrize("own", [True, False])
def test_an_action_in_braces_is_mended_by_the_whole_value(own: bool) -> None:
    ours = "{{ unix:smilla/smilla.sock, connect_timeout=9s, default_action={} }}"
    value = f"inet:h:1, {ours}, {{{{ inet:h:2, default_action=accept }}}}"
    before, after = value.format("accept"), value.format("tempfail")
    smtpd = Service("smtp", "inet", "smtpd", "y", {"smtpd_milters": before} if own else {})
    main = {**MAIN, "smtpd_milters": before, "config_directory": "/etc/postfix"}
    config = parse(f'[milter]\nsocket = "unix:{OURS}"\n[policy]\nmixed = "defer"\n')
    told = postfix_settings.problems(config, Told(Settings(main, (smtpd,))))  # type: ignore[arg-type]
    (mend,) = [each.mend for each in told if each.kind == "default-action"]
    packed = after.replace(", ", ",").replace("{ ", "{").replace(" }", "}")
    where = f"-P 'smtp/inet/smtpd_milters={packed}'" if own else f"-e 'smtpd_milters = {after}'"
    assert mend == f"postconf {where}"


def test_an_action_of_one_service_alone_is_mended_there() -> None:
    (told,) = found(options={"milter_default_action": "accept"}, config_directory="/etc/other")
    assert told.mend == "postconf -c /etc/other -P smtp/inet/milter_default_action=tempfail"


@pytest.mark.parametrize(
    ("name", "mode", "severity"),
    [
        ("submission", "outbound", "warning"),
        ("465", "auto", "warning"),
        ("192.0.2.1:submissions", "outbound", "warning"),
        ("submission", "inbound", ""),
        ("smtp", "outbound", "hint"),
        ("smtp", "inbound", "warning"),
        ("smtpd", "auto", "warning"),
        ("127.0.0.1:10025", "auto", ""),
    ],
)
def test_a_service_that_takes_mail_with_no_milters_goes_past_smilla(name: str, mode: str, severity: str) -> None:
    ours = Service("2525", "inet", "smtpd", "y", {"smtpd_milters": "unix:smilla/smilla.sock"})
    other = Service(name, "inet", "smtpd", "y", {"smtpd_milters": ""})
    config = parse(
        f'mode = "{mode}"\nlocal_domains = ["x.test"]\n[milter]\nsocket = "unix:{OURS}"\n[policy]\nmixed = "defer"\n'
    )
    told = [
        each
        for each in postfix_settings.problems(config, Told(Settings(MAIN, (ours, other))))  # type: ignore[arg-type]
        if each.kind == "not-attached"
    ]
    assert [each.severity for each in told] == [severity] * bool(severity)
    assert [each.mend for each in told] == [f"postconf -PX {name}/inet/smtpd_milters"] * bool(severity)


def test_another_milters_action_is_its_own_matter() -> None:
    assert found(options={"smtpd_milters": "unix:smilla/smilla.sock, { inet:h:1, default_action=accept }"}) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unix:smilla/smila.sock", "not-attached"),
        ("unix:other/smilla.sock", "other-socket"),
        ("unix:/q/smilla/smilla.sock", "chroot"),
        ("inet:127.0.0.1:8891", "not-attached"),
        ("", "not-attached"),
    ],
)
def test_a_name_that_is_not_our_socket(name: str, kind: str) -> None:
    told = found(options={"smtpd_milters": name})
    assert told[0].kind == kind
    assert told[0].severity == "error"


@pytest.mark.parametrize("text", ["observe = true\n", '[milter]\nsocket = "inet:8890@192.0.2.1"\n'])
def test_nobody_asks_a_filter_that_observes_or_one_for_another_machine(text: str) -> None:
    (told,) = found(text, options={"smtpd_milters": ""})
    assert (told.kind, told.severity) == ("not-attached", "warning")


def test_a_name_where_nobody_listens_while_smilla_listens_elsewhere_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(place: str, _: float) -> Answer:
        return Answer(Who.SMILLA if place == f"unix:{OURS}" else Who.NOBODY)

    monkeypatch.setattr("smilla.adapters.milter_client.ask", ask)
    first = found(options={"smtpd_milters": "unix:smilla/smila.sock"})[0]
    assert (first.kind, first.mend) == ("other-socket", "smtpd_milters = unix:smilla/smilla.sock")
    monkeypatch.setattr("smilla.adapters.milter_client.ask", lambda *_: Answer(Who.SMILLA))  # HAProxy, perhaps
    assert [each.kind for each in found(options={"smtpd_milters": "unix:smilla/haproxy.sock"})] == ["not-attached"]


def test_a_slip_beside_our_socket_is_an_error_and_the_mend_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All mail waits for it."""
    silent = {"unix:/q/smilla/smila.sock"}

    def ask(place: str, _: float) -> Answer:
        return Answer(Who.NOBODY if place in silent else Who.SMILLA)

    monkeypatch.setattr("smilla.adapters.milter_client.ask", ask)
    milters = "unix:smilla/smila.sock, { unix:smilla/smilla.sock, default_action=tempfail }"
    told = [each for each in found(options={"smtpd_milters": milters}) if each.kind == "other-socket"]
    assert [(each.severity, each.mend) for each in told] == [
        (
            "error",
            "start what should listen there; if the name is a slip: "
            "postconf -P 'smtp/inet/smtpd_milters={unix:smilla/smilla.sock,default_action=tempfail}' && postfix reload",
        )
    ]
    silent.clear()
    assert [each for each in found(options={"smtpd_milters": milters}) if each.kind == "other-socket"] == []


def test_a_socket_out_of_reach_is_told_before_anybody_asks_it() -> None:
    text = '[milter]\nsocket = "unix:/run/smilla/smilla.sock"\n'
    (told,) = found(text, options={"smtpd_milters": ""})
    assert (told.kind, told.severity) == ("chroot", "error")
    assert '"unix:/q/smilla/smilla.sock", and smtpd_milters = unix:smilla/smilla.sock' in told.mend
    (told,) = found(f"observe = true\n{text}", options={"smtpd_milters": ""})
    assert (told.kind, told.severity) == ("chroot", "warning")
    (told,) = found(text, options={"smtpd_milters": ""}, chroot="n")
    assert (told.kind, told.mend) == ("not-attached", "smtpd_milters = unix:/run/smilla/smilla.sock")


@pytest.mark.parametrize(
    ("milters", "kinds"),
    [
        ("inet:127.0.0.1:8891, unix:smilla/smilla.sock", ["unseen-mail", "milter-order"]),
        ("unix:smilla/smilla.sock, inet:127.0.0.1:8892", []),
        ("unix:clamav/clamav.sock, unix:smilla/smilla.sock", ["unseen-mail"]),
        ("unix:smilla/smilla.sock, unix:opendmarc/opendmarc.sock", ["milter-order"]),
    ],
)
def test_order_of_verifiers_and_signers(milters: str, kinds: list[str]) -> None:
    assert [each.kind for each in found(options={"smtpd_milters": milters})] == kinds


def test_mail_unseen_is_no_matter_with_the_lines_that_keep_it() -> None:
    guard = {"smtpd_data_restrictions": "check_client_access static:{PREPEND X-Smilla: pending 1}"}
    assert found(options={"smtpd_milters": "unix:clamav.sock, unix:smilla/smilla.sock", **guard}) == []


@pytest.mark.parametrize(
    ("name", "value", "rule", "count"),
    [
        ("milter_content_timeout", "10s", False, 0),
        ("milter_content_timeout", "9s", False, 1),
        ("milter_content_timeout", "1m", False, 0),
        ("milter_content_timeout", "9", False, 1),
        ("milter_command_timeout", "9s", False, 0),
        ("milter_command_timeout", "9s", True, 1),
        ("milter_connect_timeout", "4s", False, 1),
    ],
)
def test_a_time_out_that_is_shorter_than_our_look_ups(name: str, value: str, rule: bool, count: int) -> None:
    text = '[[rule]]\nrecipient = "*"\nat_rcpt = true\n' * rule
    told = found(f"[dns]\ntimeout_s = 5\n{text}", {name: value})
    assert [each.kind for each in told] == ["timeout"] * count


def test_mail_of_sendmail_1_in_non_smtpd_milters() -> None:
    (told,) = found(non_smtpd_milters="unix:smilla/smilla.sock")
    assert (told.kind, told.severity) == ("non-smtpd-milters", "warning")
    assert found('mode = "inbound"\nlocal_domains = ["x.test"]\nappend_origin = "mta.x.test"\n',
                 non_smtpd_milters="unix:smilla/smilla.sock") == []  # fmt: skip
    assert found(non_smtpd_milters="inet:127.0.0.1:8891") == []


def test_mail_of_sendmail_1_that_skips_smilla_is_told() -> None:
    (told,) = found(of_pickup="")
    assert (told.kind, told.severity) == ("non-smtpd-milters", "hint")
    assert "mail from sendmail(1)" in told.text
    assert found(of_pickup="", non_smtpd_milters="inet:127.0.0.1:8891") == []


def test_listener_for_copies_in_reinject_mode() -> None:
    text = '[policy]\nmixed = "reinject"\n'
    assert [each.kind for each in found(text)] == []
    told = found(text, plain="unix:smilla/smilla.sock", receive_override_options="no_address_mappings")
    assert [(each.kind, each.severity) for each in told] == [("listener", "error"), ("listener", "warning")]
    (told_of,) = found(text, local_header_rewrite_clients="permit_inet_interfaces")
    assert (told_of.kind, told_of.severity) == ("rewriting", "hint")
    assert found(local_header_rewrite_clients="permit_inet_interfaces") == []


def test_a_size_beyond_postfix_own() -> None:
    (told,) = found("[stage]\nmessage_size_limit = 10240001\n")
    assert (told.kind, told.mend) == ("size", "[stage] message_size_limit = 10240000, or 0")
    assert found("[stage]\nmessage_size_limit = 10240000\n") == []
    assert found("[stage]\nmessage_size_limit = 10240001\n", message_size_limit="0") == []


@pytest.mark.parametrize(
    ("text", "main", "severity"),
    [
        ("", {"append_dot_mydomain": "yes"}, "warning"),
        ('append_domain = "y.test"', {"append_dot_mydomain": "yes"}, "error"),
        ('append_domain = "x.test"', {"append_dot_mydomain": "yes"}, ""),
        ('append_domain = "x.test"', {}, "warning"),
        ('append_origin = "x.test"', {}, "warning"),
        ('append_origin = "mta.x.test"', {}, ""),
        ('append_origin = "x.test"', {"append_at_myorigin": "no"}, ""),
    ],
)
def test_an_incomplete_address_is_completed_alike(text: str, main: dict[str, str], severity: str) -> None:
    told = found(f"{text}\n", main)
    assert [(each.kind, each.severity) for each in told] == [("rewriting", severity)] * bool(severity)


def test_postfix_that_does_not_answer_is_a_warning() -> None:
    (told,) = postfix_settings.problems(parse(""), Told(None))  # type: ignore[arg-type]
    assert (told.kind, told.severity) == ("postfix-unseen", "warning")


def test_an_origin_in_a_file_is_the_first_line_of_it(tmp_path: Path) -> None:
    """Debian has myorigin = /etc/mailname."""
    name = tmp_path / "mailname"
    name.write_text("corp.test\nother.test\n")
    text = 'local_domains = ["x.test"]\nappend_origin = "{}"\n'
    assert found(text.format("corp.test"), myorigin=str(name)) == []
    told = found(text.format("x.test"), myorigin=str(name))
    assert [each.mend for each in told] == ['append_origin = "corp.test"']
    assert found(text.format("corp.test"), myorigin=str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("unix:smilla/smilla.sock smtpd_tls_chain_files = /etc/x.pem smtpd_tls_security_level = may", "chain_files"),
        ("unix:smilla/smilla.sock smtpd_data_restrictions =", "smtpd_data_restrictions"),
        ("unix:smilla/smilla.sock, { inet:h:1, default_action = accept }", ""),
        ("unix:smilla/smilla.sock", ""),
    ],
)
def test_value_that_has_swallowed_the_next_line_is_told(value: str, line: str) -> None:
    """Postfix then answers 451 to everybody: "Milter service needs transport:endpoint"."""
    told = [each for each in found(smtpd_milters=value) if each.kind == "swallowed-line"]
    assert [(each.severity, line in each.mend) for each in told] == [("error", True)] * bool(line)
