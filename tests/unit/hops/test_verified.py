"""Every situation of a domain, and the Hop that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smilla.config import Config
from smilla.config.options import Circle, HopOptions
from smilla.errors import FetchError
from smilla.hops import rdata, verified
from smilla.hops.policies import Fetched
from smilla.model import DNSSECStatus, Hop
from tests.unit.hops.world import BOGUS, DOMAIN, INSECURE, SECURE, UNREACHABLE, World, mx, name, text, tlsa

HOST, OTHER = "mx.example.org", "mx2.example.org"
TESTING = replace(Config(), hop=HopOptions(mta_sts="testing"))
OFF = replace(Config(), hop=HopOptions(mta_sts="off"))
CIRCLE = replace(
    Config(), circle=(Circle("ours", ("example.org", "*.inside.test"), "/etc/ca.pem", (".example.org", "mx.test")),)
)
Situation = Callable[[World], object]


def hosts(*names: str, status: DNSSECStatus = SECURE) -> Situation:
    """MX records, and hosts with addresses and no TLSA records."""

    def make(world: World) -> None:
        world.add(DOMAIN, rdata.MX, *mx(*names), status=status)
        for host in names:
            world.host(host)

    return make


def with_tlsa(*records: bytes, status: DNSSECStatus = SECURE, at: DNSSECStatus = SECURE, host: str = HOST) -> Situation:
    return lambda world: world.host(host, *records, status=status, at=at)


def policy(mode: str = "enforce", mx: str = HOST, max_age: int = 86400) -> Situation:
    return lambda world: world.policy(mode, mx, max_age)


def answer(owner: str, rdtype: int, *raw: bytes, status: DNSSECStatus = SECURE, malformed: int = 0) -> Situation:
    return lambda world: world.add(owner, rdtype, *raw, status=status, malformed=malformed)


def web(found: Fetched | FetchError) -> Situation:
    return lambda world: world.web.update({f"mta-sts.{DOMAIN}": found})


def of(*situations: Situation, config: Config | None = None) -> Hop:
    world = World()
    for situation in situations:
        situation(world)
    return world.found(config)


ONE, TWO = hosts(HOST), hosts(HOST, OTHER)
UNSIGNED = hosts(HOST, status=INSECURE)
GOOD = with_tlsa(tlsa())
REFUSED = FetchError("connection refused", temporary=True)
UNTRUSTED = FetchError("its certificate is not valid", temporary=False)
ENFORCED = b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n"


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        # DANE
        ((ONE, GOOD), "verified dane dane"),
        ((ONE, with_tlsa(tlsa(2, 0, 2)[:3] + b"\x07" * 64)), "verified dane dane"),
        ((ONE, with_tlsa(tlsa(), tlsa(3, 1, 2)[:3] + b"\x09" * 64)), "verified dane dane"),  # rolling over
        ((ONE, with_tlsa(tlsa(1))), "none - unusable_tlsa"),
        ((ONE, with_tlsa(tlsa(0), tlsa(3, 7))), "none - unusable_tlsa"),
        ((ONE, with_tlsa(tlsa(1), tlsa(3))), "verified dane dane"),
        ((ONE, with_tlsa(b"\x03\x01")), "none - unusable_tlsa"),
        ((ONE, with_tlsa(status=BOGUS)), "bogus - tlsa_bogus"),
        ((ONE, with_tlsa(status=DNSSECStatus.INDETERMINATE)), "bogus - tlsa_bogus"),
        ((ONE, with_tlsa(status=UNREACHABLE)), "unreachable - tlsa_unreachable"),
        ((ONE, with_tlsa(tlsa(), status=INSECURE)), "none - no_secure_hop"),
        ((ONE, with_tlsa(tlsa(), at=INSECURE)), "none - no_secure_hop"),
        ((ONE, answer(f"_25._tcp.{HOST}", rdata.TLSA, malformed=1)), "unclear - tlsa_unclear"),
        ((ONE,), "none - no_secure_hop"),
        ((UNSIGNED, GOOD), "none - no_secure_hop"),
        ((TWO, with_tlsa(tlsa(), host=OTHER)), "verified dane dane mx2.example.org"),
        ((TWO, with_tlsa(status=BOGUS), with_tlsa(tlsa(), host=OTHER)), "verified dane dane mx2.example.org"),
        ((TWO, with_tlsa(status=UNREACHABLE), with_tlsa(host=OTHER, status=BOGUS)), "bogus - tlsa_bogus"),
        ((ONE, answer(HOST, rdata.A, status=BOGUS)), "bogus - tlsa_bogus"),
        ((ONE, answer(HOST, rdata.A, status=UNREACHABLE)), "unreachable - tlsa_unreachable"),
        # The MX records themselves
        ((answer(DOMAIN, rdata.MX, b"\0\0\0"),), "none - null_mx"),
        ((answer(DOMAIN, rdata.MX, status=BOGUS), policy()), "bogus - mx_bogus"),
        ((answer(DOMAIN, rdata.MX, status=UNREACHABLE), policy()), "unreachable - mx_unreachable"),
        ((answer(DOMAIN, rdata.MX, malformed=1), policy()), "unclear - mx_unclear"),
        ((answer(DOMAIN, rdata.MX, b"\0\x0a\x03"), policy()), "unclear - mx_unclear"),
        ((answer(DOMAIN, rdata.MX), with_tlsa(tlsa(), host=DOMAIN)), "verified dane dane example.org"),
        ((answer(DOMAIN, rdata.MX, status=INSECURE), with_tlsa(tlsa(), host=DOMAIN)), "none - no_secure_hop"),
        ((answer(DOMAIN, rdata.MX, status=INSECURE), policy(mx=DOMAIN)), "verified mta-sts mta_sts example.org"),
        # MTA-STS
        ((UNSIGNED, policy()), "verified mta-sts mta_sts mx.example.org"),
        ((ONE, policy()), "verified mta-sts mta_sts mx.example.org"),
        ((TWO, policy(mx="*.example.org")), "verified mta-sts mta_sts mx.example.org mx2.example.org"),
        ((TWO, policy()), "verified mta-sts mta_sts mx.example.org"),
        ((ONE, policy(mx="mx.elsewhere.test")), "none - mta_sts_mismatch"),
        ((hosts("a.b.example.org"), policy(mx="*.example.org")), "none - mta_sts_mismatch"),
        ((hosts("a.b.example.org"), policy(mx="*.b.example.org")), "verified mta-sts mta_sts a.b.example.org"),
        # Nobody has signed the MX records: they may be a forger's, so nothing is refused for good.
        ((UNSIGNED, policy(mx="mx.elsewhere.test")), "unclear - mta_sts_mismatch"),
        ((UNSIGNED, policy("testing", mx="mx.elsewhere.test")), "none - mta_sts_testing"),
        ((UNSIGNED, policy("testing")), "none - mta_sts_testing"),
        ((UNSIGNED, policy("none", mx="")), "none - mta_sts_none"),
        ((UNSIGNED, policy(max_age=0)), "verified mta-sts mta_sts mx.example.org"),
        ((UNSIGNED, policy(), web(REFUSED)), "unreachable - mta_sts_unreachable"),
        ((UNSIGNED, policy(), web(UNTRUSTED)), "unreachable - mta_sts_unreachable"),
        ((UNSIGNED, policy(), web(Fetched(503, "text/plain", ENFORCED))), "unreachable - mta_sts_unreachable"),
        ((UNSIGNED, policy(), web(Fetched(301, "text/plain", ENFORCED))), "unclear - mta_sts_unclear"),
        ((UNSIGNED, policy(), web(Fetched(404, "text/plain", b""))), "unclear - mta_sts_unclear"),
        ((UNSIGNED, policy(), web(Fetched(200, "text/html", ENFORCED))), "unclear - mta_sts_unclear"),
        ((UNSIGNED, policy(), web(Fetched(200, "text/plain", b"mode: enforce"))), "unclear - mta_sts_unclear"),
        ((UNSIGNED, policy(), answer(f"mta-sts.{DOMAIN}", rdata.A)), "unreachable - mta_sts_unreachable"),
        ((UNSIGNED, answer(f"_mta-sts.{DOMAIN}", rdata.TXT, status=BOGUS)), "bogus - mta_sts_bogus"),
        ((UNSIGNED, answer(f"_mta-sts.{DOMAIN}", rdata.TXT, status=UNREACHABLE)), "unreachable - mta_sts_unreachable"),
        ((UNSIGNED, answer(f"_mta-sts.{DOMAIN}", rdata.TXT, malformed=1)), "unclear - mta_sts_unclear"),
        ((UNSIGNED, answer(f"_mta-sts.{DOMAIN}", rdata.TXT, text("v=STSv1; id=!"))), "none - no_secure_hop"),
        ((UNSIGNED, answer(f"_mta-sts.{DOMAIN}", rdata.TXT, text("v=spf1"))), "none - no_secure_hop"),
        # Both: DANE goes first, and a policy is no way around it
        ((ONE, GOOD, policy(mx="mx.elsewhere.test")), "verified dane dane"),
        ((ONE, with_tlsa(status=BOGUS), policy()), "bogus - tlsa_bogus"),
        ((ONE, with_tlsa(status=UNREACHABLE), policy()), "unreachable - tlsa_unreachable"),
        ((ONE, with_tlsa(tlsa(1)), policy()), "verified mta-sts mta_sts mx.example.org"),
        ((ONE, with_tlsa(tlsa(1)), policy("testing")), "none - mta_sts_testing"),
    ],
)
def test_situation_gives_the_hop(situation: tuple[Situation, ...], expected: str) -> None:
    hop = of(*situation)
    verdict, way, reason, *names = expected.split()
    names = names or ([HOST] if way == "dane" else [])
    assert (hop.verdict, hop.way or "-", hop.reason.code, hop.names) == (verdict, way, reason, tuple(names))
    assert hop.is_verified == (verdict == "verified")
    assert hop.steps


def test_mail_for_a_circle_goes_over_no_other_hop_and_nothing_is_asked() -> None:
    world = World()
    hop = world.found(CIRCLE)
    assert (hop.is_verified, hop.way, hop.circle, hop.ca_file) == (True, "circle", "ours", "/etc/ca.pem")
    assert hop.names == (".example.org", "mx.test")
    assert world.asked == []
    assert world.found(CIRCLE, "a.inside.test").way == "circle"
    assert world.found(CIRCLE, "inside.test").way is None
    assert world.found(CIRCLE, "sub.example.org").way is None


def test_policy_in_mode_testing_verifies_where_the_option_says_so() -> None:
    hop = of(UNSIGNED, policy("testing"), config=TESTING)
    assert (hop.is_verified, hop.mode) == (True, "testing")


def test_without_mta_sts_nobody_asks_for_a_policy() -> None:
    world = World()
    UNSIGNED(world)
    world.policy()
    assert world.found(OFF).reason.code == "no_secure_hop"
    assert world.fetched == []
    assert not [owner for owner, _ in world.asked if "mta-sts" in owner]


def test_host_behind_an_alias_has_its_tlsa_records_at_the_end_of_the_chain() -> None:
    hop = of(
        ONE,
        answer(HOST, rdata.CNAME, name("real.example.org")),
        with_tlsa(tlsa(), host="real.example.org"),
    )
    assert (hop.is_verified, hop.names) == (True, (HOST,))


def test_alias_out_of_the_signed_zones_has_no_dane() -> None:
    hop = of(
        ONE,
        with_tlsa(tlsa(), host="real.test", status=INSECURE, at=INSECURE),
        answer(HOST, rdata.CNAME, name("real.test")),
        answer(HOST, rdata.A, b"\xc0\0\2\1", status=INSECURE),
    )
    assert hop.reason.code == "no_secure_hop"


def test_name_that_postfix_would_read_as_something_else_is_never_given() -> None:
    """Postfix knows words such as hostname in match=, and white space begins another attribute."""
    evil = "a match=x.example.org"
    hop = of(hosts(evil, "hostname", status=INSECURE), policy(mx="*.example.org\nmx: hostname"))
    assert (hop.reason.code, hop.names) == ("mta_sts_mismatch", ())


def test_of_very_many_mx_hosts_those_after_the_first_stay_unclear() -> None:
    names = [f"mx{number}.example.org" for number in range(verified.MOST_HOSTS + 1)]
    hop = of(hosts(*names), with_tlsa(tlsa(), host=names[-1]), policy(mx="*.example.org"))
    assert (hop.verdict, hop.reason.code) == ("unclear", "tlsa_unclear")
    assert of(hosts(*names), with_tlsa(tlsa(), host=names[3])).names == (names[3],)


def test_hop_holds_no_longer_than_what_it_rests_on() -> None:
    def short(world: World) -> None:
        world.add(f"_25._tcp.{HOST}", rdata.TLSA, tlsa(), ttl_s=7)

    world = World()
    for situation in (ONE, GOOD, short):
        situation(world)
    assert world.found().ttl_s == 7
    assert of(UNSIGNED, policy(max_age=40)).ttl_s == 40


@pytest.mark.parametrize(
    "also",
    [(), (policy("testing"),), (policy("none", mx=""),), (policy(), web(REFUSED)), (policy(mx="mx.elsewhere.test"),)],
)
def test_records_that_no_client_can_use_ask_for_tls_whatever_the_policy_is(also: tuple[Situation, ...]) -> None:
    assert of(ONE, with_tlsa(tlsa(1)), *also).wants_tls
    assert not of(ONE, *also).wants_tls


def test_of_very_many_hosts_that_a_policy_allows_the_best_are_named() -> None:
    names = [f"mx{number}.example.org" for number in range(verified.MOST_NAMES + 9)]
    hop = of(hosts(*names, status=INSECURE), policy(mx="*.example.org"))
    assert hop.names == tuple(names[: verified.MOST_NAMES])


def test_name_of_a_circles_server_is_told_in_a_labels() -> None:
    circle = Circle("ours", ("example.org",), "/etc/ca.pem", ("mx.bücher.example", ".bücher.example"))
    hop = World().found(replace(Config(), circle=(circle,)))
    assert hop.names == ("mx.xn--bcher-kva.example", ".xn--bcher-kva.example")


def test_address_literal_is_no_domain() -> None:
    assert World().found(domain="[192.0.2.1]").reason.code == "address_literal"


def test_mx_host_that_is_no_name_is_passed_over_as_postfix_does() -> None:
    hop = of(hosts("a b", "x\\300.test", HOST), GOOD)
    assert (hop.is_verified, hop.names, hop.hosts) == (True, (HOST,), (HOST,))
    assert of(hosts("a b", "x\\300.test"), policy(mx="*.test")).reason.code == "mx_unclear"


@pytest.mark.parametrize("domain", ["", "a b.test", "a\\.test", "a..test", "x" * 64 + ".test", "a." * 130 + "test"])
def test_what_is_no_domain_name_is_unclear_and_nobody_is_asked(domain: str) -> None:
    world = World()
    assert world.found(domain=domain).verdict == "unclear"
    assert world.asked == []


def test_name_that_is_too_long_for_dns_has_no_records() -> None:
    label = "x" * 60
    domain = f"{label}.{label}.{label}.{label}.test"
    world = World()
    world.add(domain, rdata.MX, *mx(domain))
    world.host(domain)
    assert world.found(domain=domain).reason.code == "no_secure_hop"
    assert max(len(owner) for owner, _ in world.asked) <= 254
