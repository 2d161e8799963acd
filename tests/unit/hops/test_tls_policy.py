"""What Postfix is told, octet for octet."""

from __future__ import annotations

import pytest

from smilla.config.options import HopOptions
from smilla.hops import tls_policy
from smilla.model import Hop, HopVerdict, HopWay, Reason

OPTIONS = HopOptions()
OPPORTUNISTIC = HopOptions(unknown="opportunistic")
LINES = ("version: STSv1", "mode: enforce", "mx: *.example.org", "mx: mx.test", "max_age: 86400")


def _verified(way: HopWay, **more: object) -> Hop:
    return Hop("example.org", HopVerdict.VERIFIED, Reason("dane", "x"), way, **more)  # type: ignore[arg-type]


DANE = _verified(HopWay.DANE, names=("mx.example.org",))
STS = _verified(HopWay.MTA_STS, names=("mx.example.org", "mx.test"), policy_lines=LINES)
CIRCLE = _verified(HopWay.CIRCLE, names=("mx.test", ".example.org"), ca_file="/etc/ca.pem", circle="ours")


def _not(verdict: HopVerdict, code: str = "no_secure_hop", mode: str = "", *, wants_tls: bool = False) -> Hop:
    return Hop("example.org", verdict, Reason(code, "because"), mode=mode, wants_tls=wants_tls)


@pytest.mark.parametrize("answer", [tls_policy.secure, tls_policy.policy])
def test_verified_hop_is_the_level_that_enforces_it(answer: object) -> None:
    assert callable(answer)
    assert answer(DANE, OPTIONS) == "OK dane-only"
    assert answer(STS, OPTIONS) == "OK secure match=mx.example.org:mx.test servername=hostname"
    assert answer(CIRCLE, OPTIONS) == "OK secure match=mx.test:.example.org tafile=/etc/ca.pem"


def test_circle_without_names_takes_the_domain_and_all_below_it() -> None:
    circle = _verified(HopWay.CIRCLE, ca_file="/etc/ca.pem", circle="ours")
    assert tls_policy.secure(circle, OPTIONS) == "OK secure match=nexthop:dot-nexthop tafile=/etc/ca.pem"


@pytest.mark.parametrize("path", ["/etc/my ca.pem", "/etc/a,b.pem", "/etc/{ca}.pem", "/etc/a\nb", "/etc/\0", "/etc/ü"])
def test_file_that_postfix_would_misread_is_temporary(path: str) -> None:
    assert tls_policy.secure(_verified(HopWay.CIRCLE, ca_file=path), OPTIONS).startswith("TEMP ")


@pytest.mark.parametrize("name", ["mx.test tafile=/tmp/x", "mx.test,mx2.test", "{mx.test}", "bücher.test"])
def test_name_that_postfix_would_misread_is_temporary(name: str) -> None:
    hop = _verified(HopWay.CIRCLE, names=(name,), ca_file="/etc/ca.pem")
    assert tls_policy.secure(hop, OPTIONS).startswith("TEMP ")


def test_strangers_words_come_to_postfix_short_and_on_one_line() -> None:
    hop = Hop("example.org", HopVerdict.NONE, Reason("mta_sts_mismatch", "a\r\nOK may\0\x1b[2Jü" + "é" * 90_000))
    answer = tls_policy.secure(hop, OPTIONS)
    assert answer.startswith("TEMP mta_sts_mismatch: example.org: a??OK may??[2J??")
    assert answer.isascii()
    assert answer.isprintable()
    assert len(answer) < 1000


@pytest.mark.parametrize("verdict", [one for one in HopVerdict if one is not HopVerdict.VERIFIED])
def test_transport_that_knows_no_clear_text_waits_for_whatever_is_not_verified(verdict: HopVerdict) -> None:
    for options in (OPTIONS, OPPORTUNISTIC):
        for code in ("no_secure_hop", "unusable_tlsa", "mta_sts_mismatch"):
            assert tls_policy.secure(_not(verdict, code), options).startswith(f"TEMP {code}: example.org: because")


def test_verified_without_a_way_is_not_believed() -> None:
    hop = Hop("example.org", HopVerdict.VERIFIED, Reason("dane", "x"))
    assert tls_policy.secure(hop, OPTIONS).startswith("TEMP ")
    assert tls_policy.policy(hop, OPTIONS).startswith("TEMP ")


def test_all_mail_goes_as_before_where_it_is_proven_that_there_is_no_policy() -> None:
    assert tls_policy.policy(_not(HopVerdict.NONE), OPTIONS) == "NOTFOUND "


@pytest.mark.parametrize("verdict", [HopVerdict.BOGUS, HopVerdict.UNREACHABLE, HopVerdict.UNCLEAR])
def test_all_mail_waits_where_nobody_knows_unless_the_option_says_otherwise(verdict: HopVerdict) -> None:
    assert tls_policy.policy(_not(verdict), OPTIONS).startswith("TEMP ")
    assert tls_policy.policy(_not(verdict), OPPORTUNISTIC) == "NOTFOUND "


def test_enforced_policy_that_allows_no_mx_host_holds_mail_and_one_in_testing_does_not() -> None:
    for options in (OPTIONS, OPPORTUNISTIC):
        assert tls_policy.policy(_not(HopVerdict.NONE, "mta_sts_mismatch", "enforce"), options).startswith("TEMP ")
    assert tls_policy.policy(_not(HopVerdict.NONE, "mta_sts_mismatch", "testing"), OPTIONS) == "NOTFOUND "


def test_records_that_nobody_can_use_still_ask_for_tls() -> None:
    for code in ("unusable_tlsa", "mta_sts_testing", "mta_sts_none"):
        assert tls_policy.policy(_not(HopVerdict.NONE, code, wants_tls=True), OPTIONS) == "OK dane"
    unknown = _not(HopVerdict.UNREACHABLE, "mta_sts_unreachable", wants_tls=True)
    assert tls_policy.policy(unknown, OPTIONS).startswith("TEMP ")
    assert tls_policy.policy(unknown, OPPORTUNISTIC) == "OK dane"
    mismatch = _not(HopVerdict.UNCLEAR, "mta_sts_mismatch", "enforce", wants_tls=True)
    assert tls_policy.policy(mismatch, OPPORTUNISTIC).startswith("TEMP ")


def test_attributes_are_as_postfix_3_10_takes_them() -> None:
    assert tls_policy.policy(STS, HopOptions(attributes=True)) == (
        "OK secure match=mx.example.org:mx.test servername=hostname policy_type=sts policy_domain=example.org"
        " policy_ttl=86400 mx_host_pattern=*.example.org mx_host_pattern=mx.test { policy_string = version: STSv1 }"
        " { policy_string = mode: enforce } { policy_string = mx: *.example.org } { policy_string = mx: mx.test }"
        " { policy_string = max_age: 86400 }"
    )


def test_pattern_in_other_letters_leaves_all_attributes_out() -> None:
    hop = _verified(HopWay.MTA_STS, names=("mx.test",), policy_lines=(*LINES[:3], "mx: a\0b", LINES[4]))
    assert tls_policy.policy(hop, HopOptions(attributes=True)) == "OK secure match=mx.test servername=hostname"


@pytest.mark.parametrize("line", ["x: } tafile=/tmp/x {", "x: \x07", "x: é"])
def test_line_of_a_policy_that_could_say_something_else_to_postfix_is_left_out(line: str) -> None:
    hop = _verified(HopWay.MTA_STS, names=("mx.test",), policy_lines=(*LINES, line))
    assert line not in tls_policy.policy(hop, HopOptions(attributes=True))


def test_pattern_with_a_blank_leaves_all_attributes_out() -> None:
    lines = (*LINES[:3], "mx: a b", LINES[4])
    hop = _verified(HopWay.MTA_STS, names=("mx.test",), policy_lines=lines)
    assert tls_policy.policy(hop, HopOptions(attributes=True)) == "OK secure match=mx.test servername=hostname"


def test_policy_whose_text_is_not_kept_has_no_attributes() -> None:
    hop = _verified(HopWay.MTA_STS, names=("mx.test",), policy_lines=())
    assert tls_policy.policy(hop, HopOptions(attributes=True)) == "OK secure match=mx.test servername=hostname"


def test_very_long_policy_leaves_its_attributes_out() -> None:
    lines = (*LINES, *(f"x{number}: {'y' * 90}" for number in range(600)))
    hop = _verified(HopWay.MTA_STS, names=("mx.test",), policy_lines=lines)
    assert tls_policy.policy(hop, HopOptions(attributes=True)) == "OK secure match=mx.test servername=hostname"


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (".example.org", ""),
        ("[example.org]", ""),
        ("[example.org]:587", ""),
        ("example.org:587", ""),
        ("[192.0.2.1]", ""),
        ("192.0.2.1", ""),
        ("[IPv6:2001:db8::1]", ""),
        ("2001:db8::1", ""),
        ("localhost", ""),
        ("", ""),
        ("a b.test", ""),
        ("*", ""),
        ("a..test", ""),
        ("\udcff.test", ""),
        ("x" * 300 + ".test", ""),
    ],
)
def test_only_a_domain_is_looked_up(key: str, domain: str) -> None:
    assert tls_policy.domain_of(key) == domain
