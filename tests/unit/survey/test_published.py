"""SPF, DMARC, TLSRPT and zones of keys, from answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.hops.mx import State
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.survey import published
from smilla.survey.found import Names

SECURE = DNSSECStatus.SECURE


def txt(*texts: str, status: DNSSECStatus = SECURE) -> DNSAnswer:
    return DNSAnswer("x.", "TXT", status, tuple(bytes([len(text)]) + text.encode() for text in texts))


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("v=spf1 mx -all", "-all"),
        ("v=spf1 mx ~all", "~all"),
        ("V=SPF1 a ?ALL", "?all"),
        ("v=spf1 all", "+all"),
        ("v=spf1 include:all.example.org redirect=example.net", "redirect"),
        ("v=spf1 redirect=example.net -all", "-all"),
        ("v=spf1", "?all"),
        ("v=spf1 ip4:192.0.2.1", "?all"),
    ],
)
def test_spf_says_what_of_all_others(text: str, rest: str) -> None:
    result, said = published.spf(txt("unrelated", text))
    assert (result.state, said) == (State.OK, rest)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (txt("v=spf10 -all", "spf1"), State.ABSENT),
        (txt(status=DNSSECStatus.INSECURE), State.UNSIGNED),
        (txt("v=spf1 -all", "v=spf1 ~all"), State.UNUSABLE),
        (txt(status=DNSSECStatus.BOGUS), State.BOGUS),
        (txt(status=DNSSECStatus.UNREACHABLE), State.UNREACHABLE),
        (replace(txt(), malformed=1), State.UNCLEAR),
        (replace(txt(), raw_rdata=(b"\x05ab",)), State.UNCLEAR),
    ],
)
def test_what_is_no_single_spf_record_has_a_state_of_its_own(answer: DNSAnswer, state: State) -> None:
    result, said = published.spf(answer)
    assert (result.state, said) == (state, "")


def test_dmarc_names_go_up_and_never_to_the_top() -> None:
    assert published.dmarc_names("a.b.example.org") == (
        "_dmarc.a.b.example.org.",
        "_dmarc.b.example.org.",
        "_dmarc.example.org.",
    )
    assert published.dmarc_names("org") == ("_dmarc.org.",)
    assert len(published.dmarc_names("a.b.c.d.e.f.g.h.example.org")) == 5


@pytest.mark.parametrize(
    ("answers", "policy", "state"),
    [
        ([txt("v=DMARC1; p=reject; sp=none"), txt("v=DMARC1; p=none")], "reject", State.OK),
        ([txt(), txt("v=DMARC1;p=reject;sp=quarantine")], "quarantine", State.OK),
        ([txt(), txt("v=DMARC1; p=reject")], "reject", State.OK),
        ([txt("v=DMARC1; p=perhaps")], "none", State.OK),
        ([txt("v=DMARC1")], "none", State.OK),
        ([txt(), txt()], "", State.ABSENT),
        ([txt("v=DMARC1; p=none", "v=DMARC1; p=reject"), txt("v=DMARC1; p=reject")], "", State.UNUSABLE),
        ([txt(status=DNSSECStatus.UNREACHABLE), txt("v=DMARC1; p=reject")], "", State.UNREACHABLE),
    ],
)
def test_nearest_dmarc_record_counts(answers: list[DNSAnswer], policy: str, state: State) -> None:
    result, said = published.dmarc("a.example.org", answers)
    assert (result.state, said) == (state, policy)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("v=TLSRPTv1; rua=mailto:t@example.org", State.OK),
        ("v=TLSRPTv1;rua = https://example.org/r", State.OK),
        ("v=TLSRPTv1; ruf=mailto:t@example.org", State.UNUSABLE),
        ("v=TLSRPTv1", State.ABSENT),
        ("v=TLSRPTv2; rua=mailto:t@example.org", State.ABSENT),
    ],
)
def test_tlsrpt_record_must_say_who_takes_reports(text: str, state: State) -> None:
    assert published.tlsrpt(txt(text)).state is state


DENIED = DNSAnswer("x.", "SMIMEA", SECURE, is_denied=True)
THERE = DNSAnswer("x.", "SMIMEA", SECURE)
LATE = DNSAnswer("x.", "SMIMEA", DNSSECStatus.UNREACHABLE)


@pytest.mark.parametrize(
    ("answer", "nobody", "names"),
    [
        (THERE, DENIED, Names.HAS_NAMES),
        (DENIED, DENIED, Names.NONE),
        (DENIED, THERE, Names.NONE),
        (THERE, THERE, Names.ANY_NAME),
        (LATE, DENIED, Names.UNKNOWN),
        (THERE, LATE, Names.UNKNOWN),
    ],
)
def test_zone_of_keys_has_names_only_where_others_are_denied(
    answer: DNSAnswer, nobody: DNSAnswer, names: Names
) -> None:
    assert published.key_zone(answer, nobody) is names
