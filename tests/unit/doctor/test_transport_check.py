"""What [transport] rests on in Postfix: TLS, trusted authorities, and verifiers that remove what is forged."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.postfix import Service, Settings
from smilla.config import parse
from smilla.doctor import idle, transport_check
from smilla.doctor.finding import Finding, Kind
from tests.certificates import make_certificate, to_pem
from tests.unit.doctor.told import Told

OPTION = '[transport]\nauthserv_id = "mx.example.org"\n'
INBOUND = 'mode = "inbound"\nlocal_domains = ["example.org"]\n[milter]\nsocket = "unix:/q/smilla.sock"\n'
OURS = "unix:/smilla.sock"
ALL = "Socket inet:8891@localhost\nRemoveARAll yes\nRemoveARFrom csl:mx.example.org\n"
DKIM = "Socket inet:8891@localhost\nAuthservID mx.example.org\n"


def found(root: Path, text: str = INBOUND + OPTION, **main: str) -> list[Finding]:
    usual = {"queue_directory": "/q", "smtpd_milters": OURS, "smtpd_tls_security_level": "may"}
    told = Told(Settings({**usual, **main}, (Service("smtp", "inet", "smtpd", "y", {}),)))
    return list(transport_check.problems(parse(text), told, root))  # type: ignore[arg-type]


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    assert all(each.kind is Kind.TRANSPORT for each in findings)
    return [(each.severity, each.text) for each in findings]


def opendkim(root: Path, text: str) -> None:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/opendkim.conf").write_text(text)


@pytest.mark.parametrize("text", [INBOUND, OPTION])
def test_nothing_is_said_without_the_option_or_where_no_mail_is_inbound(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


def test_a_verifier_that_removes_what_is_forged_is_in_order(tmp_path: Path) -> None:
    opendkim(tmp_path, ALL)
    ((severity, text),) = told(found(tmp_path, smtpd_milters=f"inet:localhost:8891, {OURS}"))
    assert (severity, text) == (
        "",
        "smtp: a verifier before smilla removes forged Authentication-Results fields of mx.example.org",
    )


@pytest.mark.parametrize(
    ("file", "milters", "stays"),
    [
        ("", OURS, "save those with x-tls"),
        (ALL, f"{OURS} inet:localhost:8891", "save those with x-tls"),
        (DKIM, f"inet:localhost:8891 {OURS}", "save those with x-tls or dkim results"),
        (DKIM + "KeepAuthResults yes\n", f"inet:localhost:8891 {OURS}", "save those with x-tls (OpenDKIM: KeepAuth"),
    ],
)
def test_what_nobody_before_smilla_removes_is_told_with_the_line_that_mends_it(
    tmp_path: Path, file: str, milters: str, stays: str
) -> None:
    if file:
        opendkim(tmp_path, file)
    (one,) = found(tmp_path, smtpd_milters=milters)
    assert (one.severity, one.kind) == ("warning", Kind.TRANSPORT)
    assert stays in one.text
    assert one.mend.endswith("RemoveARFrom csl:mx.example.org")


def test_a_verifier_that_could_not_be_seen_is_said_to_be_unseen(tmp_path: Path) -> None:
    ((severity, text),) = told(found(tmp_path, smtpd_milters=f"unix:/authmilter.sock {OURS}"))
    assert severity == "hint"
    assert text.startswith("smtp: could not see what unix:/authmilter.sock removes: ")


def test_a_listener_without_tls_is_told(tmp_path: Path) -> None:
    opendkim(tmp_path, ALL)
    milters = f"inet:localhost:8891 {OURS}"
    texts = [text for _, text in told(found(tmp_path, smtpd_milters=milters, smtpd_tls_security_level=""))]
    assert "smtp: offers no TLS, so all mail that comes here is told x-tls=none" in texts


def test_where_nobody_can_be_asked_that_is_said(tmp_path: Path) -> None:
    config = parse(INBOUND + OPTION + "circles = true\n")
    assert [each.severity for each in transport_check.problems(config, None)] == ["hint", "hint"]
    (one,) = transport_check.problems(config, Told(None), tmp_path)  # type: ignore[arg-type]
    assert (one.severity, "postconf: no" in one.text) == ("hint", True)
    ((severity, text),) = told(found(tmp_path, smtpd_milters="inet:elsewhere:1"))
    assert (severity, "no listener names smilla's socket" in text) == ("hint", True)


@pytest.mark.parametrize(
    ("trusted", "more", "expected"),
    [
        ("ours", {}, ""),
        ("ours others", {}, "has 1 authorities that are in no [[circle]]"),
        ("ours", {"smtpd_tls_CApath": "/etc/ssl/certs"}, "smtpd_tls_CApath = /etc/ssl/certs"),
        ("ours", {"tls_append_default_CA": "yes"}, "tls_append_default_CA = yes"),
        ("", {"smtpd_tls_CAfile": "/nonexistent"}, "could not be read"),
        ("ours", {"smtpd_tls_ask_ccert": "no"}, "asks no client for a certificate"),
    ],
)
def test_circles_are_told_only_if_postfix_trusts_nobody_else(
    tmp_path: Path, trusted: str, more: dict[str, str], expected: str
) -> None:
    opendkim(tmp_path, ALL)
    pems = {"ours": to_pem(make_certificate("p256")[1]), "others": to_pem(make_certificate("p256", number=1)[1])}
    (tmp_path / "ours.pem").write_bytes(pems["ours"])
    (tmp_path / "trusted.pem").write_bytes(b"".join(pems[name] for name in trusted.split()))
    circle = f'[[circle]]\nname = "ours"\ndomains = ["x.test"]\nca_file = "{tmp_path}/ours.pem"\n'
    main = {
        "smtpd_milters": f"inet:localhost:8891 {OURS}",
        "smtpd_tls_CAfile": str(tmp_path / "trusted.pem"),
        "smtpd_tls_ask_ccert": "yes",
        "tls_append_default_CA": "no",
        **more,
    }
    findings = [each for each in found(tmp_path, f"{INBOUND}{OPTION}circles = true\n{circle}", **main) if each.severity]
    assert [expected in each.text for each in findings] == [True] * bool(expected)
    assert all(each.severity == "error" for each in findings) or "could not" in expected or "asks no" in expected
    assert [each for each in found(tmp_path, INBOUND + OPTION, **main) if each.severity] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OPTION, "no mail is inbound"),
        ("[transport]\ncircles = true\n", "without authserv_id"),
        (INBOUND + OPTION + "circles = true\n", "there is no [[circle]]"),
        (INBOUND + OPTION, ""),
    ],
)
def test_what_has_no_effect_is_told(text: str, expected: str) -> None:
    texts = [each.text for each in idle.problems(parse(text))]
    assert any(expected in each for each in texts) if expected else not texts
