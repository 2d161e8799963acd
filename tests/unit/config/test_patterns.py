"""Patterns that can never match are faults with their line; patterns that may match are none."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla import config, policy
from smilla.config import patterns
from smilla.errors import ConfigError
from smilla.model import Client
from smilla.policy import Circumstances, rules
from smilla.session import Session

NEVER_AN_ADDRESS = [
    "@partner.example",
    ".partner.example",
    "partner.example",
    "*@.partner.example",
    "alice@x.org, bob@y.org",
    "alice@x.org,bob@y.org",
    "<*@x.org>",
    "Bob <bob@x.org>",
    "mailto:bob@x.org",
    " *@x.org",
    "*@x.org ",
    "bob @x.org",
    "bob@ x.org",
    "/.*@x\\.org/",
    "bob@",
    "*@x..org",
    "*@x.org/y",
    "*@-x.org",
    "*@x-.org",
    "*@[192.0.2.1]",
    "*@[%].test",
    "*@[z-a].test",
    "*@[!a-z0-9._-].test",
    "*@" + "a" * 64 + ".test",
    "[^a]*@x.org",
    "*@[^x]y.org",
    "[[:alpha:]]*@x.org",
    "*@[[:alpha:]]x.org",
    "b[ob@x.org",
    "[*@x.org",
    '"b[ob"@x.org',
    "\\b*@x.org",
    "\\*@x.org",
    "(bob|joe)@x.org",
    "bob|joe@x.org",
    ".+@x.org",
    ".*@x.org",
    "bob.+@x.org",
    "^bob@x.org",
    "bob@x.org$",
    "[z-a]ob@x.org",
    "bob]@x.org",
    "*@*[.test",
    "*@*!ü(.test",
    "bob",
    "",
]
MAYBE_AN_ADDRESS = [
    "*",
    "*@*",
    "*@example.org",
    "*@*.example.org",
    "*@EXAMPLE.org.",
    "[ab]*@x.test",
    "bob+*@x.org",
    '"john smith"@x.org',
    '"a,b@c"@x.org',
    "john smith@x.org",
    "*@bücher.example",
    "*@*.bücher.example",
    "*@[a-c].example.org",
    "*@x[!0-9].org",
    "*@partner",
    "*@_x.example",
    "*@[[]192.0.2.1]",
    "o'brien/x=y@x.org",
    "bob.*@x.org",
    "[!^]*@x.org",
    '"[[]x]"@x.org',
    '"(bob|joe)"@x.org',
    '"b\\ob"@x.org',
    "[ä-ö]*@x.org",
    "*@b?cher.test",
    "*@*ücher.test",
    "*@b[üu]cher.test",
]
NEVER_A_DOMAIN = [
    "@x.org",
    ".x.org",
    "a.org,b.org",
    "a.org b.org",
    "x.org ",
    " x.org",
    "/x/",
    "x..org",
    "<x.org>",
    "-x.org",
    "[^x]y.org",
    "[[:alpha:]].org",
    "x[.org",
    "(a|b).org",
    "a\\.org",
    "[z-a].org",
    ".+",
]
MAYBE_A_DOMAIN = [
    "x.org",
    "*.x.org",
    "X.org.",
    "*",
    "mail?.x.org",
    "bücher.example",
    "*.bücher.example",
    "localhost",
    "*ücher.test",
]


@pytest.mark.parametrize("name", ["recipient", "sender"])
@pytest.mark.parametrize("pattern", [pattern for pattern in NEVER_AN_ADDRESS if pattern])
def test_pattern_that_no_address_can_match_is_a_fault_with_its_line(name: str, pattern: str) -> None:
    text = f"[[rule]]\nuser = 'x'\n\n[[rule]]\nno_key = 'refuse'\n{name} = {toml(pattern)}\n"
    with pytest.raises(ConfigError) as error:
        config.parse(text, "smilla.toml")
    (fault,) = error.value.faults
    assert fault.startswith(f"smilla.toml:6: [rule] {name} is {pattern!r}")


@pytest.mark.parametrize("name", ["recipient", "sender"])
@pytest.mark.parametrize("pattern", MAYBE_AN_ADDRESS)
def test_pattern_that_an_address_may_match_is_none(name: str, pattern: str) -> None:
    config.parse(f"[[rule]]\n{name} = {toml(pattern)}\n")


@pytest.mark.parametrize("place", ["local_domains = [{}]\n", "[[rule]]\nno_key = 'hold'\ndomain = ['a.org', {}]\n"])
@pytest.mark.parametrize("pattern", NEVER_A_DOMAIN)
def test_pattern_that_no_domain_can_match_is_a_fault_with_its_line(place: str, pattern: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.parse("\n" + place.format(toml(pattern)), "smilla.toml")
    (fault,) = error.value.faults
    assert fault.startswith(f"smilla.toml:{1 + place.count(chr(10))}: ")
    assert repr(pattern) in fault


@pytest.mark.parametrize("place", ["local_domains = [{}]\n", "[[rule]]\ndomain = [{}]\n"])
@pytest.mark.parametrize("pattern", MAYBE_A_DOMAIN)
def test_pattern_that_a_domain_may_match_is_none(place: str, pattern: str) -> None:
    config.parse(place.format(toml(pattern)))


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        ("@x.org", "write *@x.org"),
        (".x.org", "write *@x.org"),
        ("x.org", "write *@x.org"),
        ("*@.x.org", "write *.x.org"),
    ],
)
def test_fault_says_what_to_write(pattern: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(instead)):
        config.parse(f"[[rule]]\nrecipient = {toml(pattern)}\n")


@pytest.mark.parametrize("user", [" bob", "bob ", "/bob/"])
def test_user_that_nobody_has_is_a_fault(user: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("smilla.toml:2: [rule] user")):
        config.parse(f"[[rule]]\nuser = {toml(user)}\n", "smilla.toml")


@pytest.mark.parametrize("user", ["[^a]*", "[[:alpha:]]*", "bo[b", "[z-a]"])
def test_set_of_characters_that_says_something_else_is_a_fault_for_a_user_too(user: str) -> None:
    with pytest.raises(ConfigError, match="a pattern for user names"):
        config.parse(f"[[rule]]\nuser = {toml(user)}\n")
    config.parse("[[rule]]\nuser = 'DOMAIN\\b[!a]*'\n")


@pytest.mark.parametrize("domain", ["bücher.test", "BÜCHER.test", "xn--bcher-kva.test", "bu\u0308cher.test"])
@pytest.mark.parametrize(
    "pattern",
    ["bücher.test", "b?cher.test", "b*cher.test", "*cher.test", "b*.test", "*ücher.test", "B?CHER.test",
     "b[üu]cher.test", "*ÜCHER.*", "*bu\u0308cher.test", "xn--bcher-kva.test", "xn--*.test", "?????r.test"],
)  # fmt: skip
def test_wildcard_stands_for_what_people_see_of_a_domain(pattern: str, domain: str) -> None:
    recipient = Session(Client(), "").recipient(f"<a@{domain}>")
    for condition in (f"recipient = '*@{pattern}'", f"domain = ['{pattern}']"):
        wish = policy.wanted(recipient, Circumstances("", Client()), config.parse(f"[[rule]]\n{condition}\n"))
        assert wish.number == 1, condition
    settings = config.parse(f"local_domains = ['{pattern}']\n")
    assert not policy.wanted(recipient, Circumstances("", Client()), settings).wanted


@pytest.mark.parametrize("pattern", ["b?cher.test", "*.bücher.test", "[!b]*cher.test"])
def test_wildcard_stands_for_no_other_domain(pattern: str) -> None:
    for domain in ("xn--bcher-kva.other.test", "xn--bchr-0ra.test", "xn--99.test"):
        assert not rules.is_in(domain, (pattern,))


@pytest.mark.parametrize("network", ["192.0.2.0/24 ", "192.0.2.0/24,192.0.2.1", "192.0.2.*", "/192/", "lan.example"])
def test_network_that_no_client_is_in_is_a_fault(network: str) -> None:
    for place in ("internal_networks = [{}]\n", "[[rule]]\nclient = [{}]\n"):
        with pytest.raises(ConfigError, match="a list of networks"):
            config.parse(place.format(toml(network)))


def test_domains_are_compared_in_lower_case_a_labels() -> None:
    assert patterns.domain_pattern("*.Bücher.EXAMPLE") == "*.xn--bcher-kva.example"
    assert patterns.domain_pattern("Example.ORG.") == "example.org"


def toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@given(
    st.text("ab.-[]!*?", max_size=9) | st.sampled_from(["[.a]", "[a.b]", "[!.]", "[a-b]?*", "[!a]*", "[!]]", "[]a]*"]),
    st.sampled_from(["a", "b.a", "ab.ba", "a-b.a", "aa.b.a"]),
)
def test_pattern_that_matches_a_domain_is_no_fault(pattern: str, domain: str) -> None:
    if fnmatchcase(domain, patterns.domain_pattern(pattern)):
        assert patterns.domain_problem(pattern) == ""
        assert patterns.address_problem(f"*@{pattern}") == ""
