"""A domain from the questions to the result, with DNS and servers in memory; many domains share one server."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509

from smilla.address import EmailAddress, parse
from smilla.config.options import Circle
from smilla.errors import FetchError, HopError
from smilla.hops import rdata
from smilla.hops.mx import State
from smilla.hops.pkix import Authorities
from smilla.hops.policies import Fetched
from smilla.hops.tlsa import association
from smilla.model import DNSAnswer, DNSSECStatus, KeyLookup, KeyVerdict, Reason
from smilla.survey.crew import Crew
from smilla.survey.found import Found, Names, Result, Way
from smilla.survey.look import Asked, Survey
from smilla.survey.outside import Outside
from tests.certificates import NOW, key_usage, make_certificate, to_pem
from tests.unit.hops.world import DOMAIN, World, mx, name, text

PATIENT = 60.0
HOST = "mx.example.org"
SIGNS = [(key_usage("key_cert_sign"), True)]
ROOT = make_certificate("p256", common_name="Root", ca=True, number=931, extensions=SIGNS)
LEAF = make_certificate("p256", other_names=[x509.DNSName(HOST)], number=932, issuer=ROOT)[1]


@dataclass(frozen=True)
class Presented:
    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_256_GCM_SHA384"
    raw_chain: tuple[bytes, ...] = (LEAF, ROOT[1])
    offered: tuple[str, ...] | None = ("REQUIRETLS", "8BITMIME")


@dataclass
class Outdoors:
    """A world, and the servers in it by address."""

    world: World = field(default_factory=World)
    servers: dict[str, Presented | HopError] = field(default_factory=lambda: {"192.0.2.1": Presented()})
    web: dict[str, Fetched | FetchError] = field(default_factory=dict)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)

    def present(self, address: str, server_name: str) -> Presented:
        self.met[server_name, address] += 1
        found = self.servers.get(address, HopError("timed out", code="no_connection"))
        if isinstance(found, HopError):
            raise found
        return found

    def fetch(self, host: str, address: str) -> Fetched:
        assert host == f"mta-sts.{DOMAIN}"
        found = self.web.get(address, FetchError("refused", temporary=True))
        if isinstance(found, FetchError):
            raise found
        return found

    def look_up(self, one: EmailAddress) -> KeyLookup:
        return KeyLookup(one, KeyVerdict.BOGUS, Reason("bogus", "forged"), None, "smimea", None)

    def all_found(self, *asked: Asked, **changes: object) -> list[Found]:
        outside = Outside(
            resolver=self.world,
            present=self.present,
            fetch=self.fetch,
            look_up=self.look_up,
            authorities=Authorities(to_pem(ROOT[1])),
            now=NOW,
            monotonic=time.monotonic,
            wait_s=PATIENT,
            sources=("smimea", "openpgpkey"),
            policy={"no_key": "plain", "bogus": "defer"},
        )
        came: queue.SimpleQueue[Found] = queue.SimpleQueue()
        crews = Crew(4), Crew(4)
        survey = Survey(replace(outside, **changes), *crews, came.put)  # type: ignore[arg-type]
        try:
            for one in asked:
                survey.begin(one)
            return [came.get(timeout=PATIENT) for _ in asked]
        finally:
            for crew in crews:
                crew.end()

    def found(self, **changes: object) -> Found:
        (found,) = self.all_found(Asked(DOMAIN, DOMAIN), **changes)
        return found


@pytest.fixture
def outdoors() -> Outdoors:
    """example.org with one MX host and a matching TLSA record."""
    found = Outdoors()
    found.world.add(DOMAIN, rdata.MX, *mx(HOST))
    found.world.host(HOST, bytes([3, 1, 1]) + association(LEAF, 1, 1))
    for label in ("_smimecert", "_openpgpkey", "_smilla-survey-nobody"):
        deny(found, f"{label}.{DOMAIN}")
    return found


def deny(outdoors: Outdoors, owner: str) -> None:
    for rdtype in (16, 53, 61):
        absent = DNSAnswer(owner, str(rdtype), DNSSECStatus.SECURE, is_denied=True)
        outdoors.world.answers[f"{owner}.", rdtype] = absent


def test_everything_about_a_server_is_found(outdoors: Outdoors) -> None:
    found = outdoors.found()
    assert (found.way, found.zone, found.mx_dnssec, found.smimea) == (Way.DANE, "secure", "secure", Names.NONE)
    (host,) = found.hosts
    assert (host.name, host.address.state, host.address_dnssec, host.tlsa_dnssec) == (HOST, "ok", "secure", "secure")
    (server,) = host.servers
    assert (server.version, server.requiretls, server.days_left, server.issuer) == ("TLSv1.3", True, 30, "CN=Root")
    assert server.tlsa is not None
    assert server.chain is not None
    assert (server.tlsa.state, server.chain.state, server.names) == ("ok", "ok", (HOST,))


def test_zone_of_keys_counts_first(outdoors: Outdoors) -> None:
    outdoors.world.add(f"_smimecert.{DOMAIN}", 53)
    assert outdoors.found().way is Way.SMIME


def test_address_is_looked_up_and_its_domain_is_looked_at_all_the_same(outdoors: Outdoors) -> None:
    (found,) = outdoors.all_found(Asked(f"ann@{DOMAIN}", DOMAIN, parse(f"ann@{DOMAIN}")))
    assert (found.asked, found.domain, found.way) == (f"ann@{DOMAIN}", DOMAIN, Way.NOT_NOW)
    assert found.key is not None
    assert found.key.state is State.BOGUS
    assert found.hosts[0].servers


def test_domains_that_share_a_server_ask_it_once(outdoors: Outdoors) -> None:
    domains = [f"d{number}.example" for number in range(50)]
    for domain in domains:
        outdoors.world.add(domain, rdata.MX, *mx(HOST))
    found = outdoors.all_found(*(Asked(domain, domain) for domain in domains))
    assert sorted(one.domain for one in found) == sorted(domains)
    assert all(one.way is Way.DANE for one in found)
    assert outdoors.met == {(HOST, "192.0.2.1"): 1}


def test_every_address_of_every_host_is_asked_and_silence_is_told(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.MX, *mx(HOST, "mx2.example.org"))
    addresses = [ip_address(text).packed for text in ("192.0.2.2", "192.0.2.3")]
    outdoors.world.add("mx2.example.org", rdata.A, *addresses)
    outdoors.servers["192.0.2.2"] = HopError("no STARTTLS", code="no_starttls")
    found = outdoors.found()
    assert found.why.endswith("at mx.example.org (1 of 2 MX hosts)")
    seen = [(server.starttls.state, server.is_connected) for server in found.hosts[1].servers]
    assert seen == [(State.MISSING, True), (State.UNREACHABLE, False)]


def test_only_the_first_hosts_and_addresses_are_asked(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.MX, *mx(*(f"mx{number}.example.org" for number in range(30))))
    for number in range(30):
        addresses = [ip_address(f"198.51.100.{place}").packed for place in range(100)]
        outdoors.world.add(f"mx{number}.example.org", rdata.A, *addresses)
    found = outdoors.found()
    assert len(found.hosts) == 8
    assert {len(host.servers) for host in found.hosts} == {8}
    assert "only the first 8 hosts were asked" in found.mx.text
    assert found.way is not Way.NOT_NOW  # nothing is published, whatever the others have


@pytest.mark.parametrize(
    ("answer", "way", "state"),
    [
        (
            Fetched(200, "text/plain", b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 1\n"),
            Way.MTA_STS,
            "ok",
        ),
        (
            Fetched(200, "text/plain", b"version: STSv1\nmode: testing\nmx: mx.example.org\nmax_age: 1\n"),
            Way.OPPORTUNISTIC,
            "ok",
        ),
        (
            Fetched(200, "text/plain", b"version: STSv1\nmode: enforce\nmx: elsewhere.example\nmax_age: 1\n"),
            Way.NOT_NOW,
            "mismatch",
        ),
        (Fetched(301, "text/plain", b""), Way.OPPORTUNISTIC, "unusable"),
        (FetchError("refused", temporary=True), Way.OPPORTUNISTIC, "unreachable"),
        (FetchError("its certificate is not valid", temporary=False), Way.OPPORTUNISTIC, "unusable"),
    ],
)
def test_policy_of_mta_sts_counts_without_tlsa_records(
    outdoors: Outdoors, answer: Fetched | FetchError, way: Way, state: str
) -> None:
    outdoors.world.host(HOST)
    del outdoors.world.answers[f"_25._tcp.{HOST}.", rdata.TLSA]
    outdoors.world.policy()
    outdoors.web["192.0.2.80"] = answer
    found = outdoors.found()
    assert (found.way, found.mta_sts.state) == (way, state)


def test_next_address_of_the_policy_s_server_is_asked_if_the_first_is_silent(outdoors: Outdoors) -> None:
    outdoors.world.policy()
    addresses = [ip_address(text).packed for text in ("192.0.2.80", "192.0.2.81")]
    outdoors.world.add(f"mta-sts.{DOMAIN}", rdata.A, *addresses)
    outdoors.web["192.0.2.81"] = Fetched(
        200, "text/plain", b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 1\n"
    )
    assert outdoors.found().mta_sts_mode == "enforce"


def test_circle_and_mta_sts_are_those_of_the_configuration(outdoors: Outdoors) -> None:
    circle = Circle(name="friends", domains=(DOMAIN,), ca_file="/ca.pem")
    found = outdoors.found(circles=(circle,), in_circles={"/ca.pem": Authorities(to_pem(ROOT[1]))})
    assert (found.way, found.hosts[0].servers[0].chain) == (Way.CIRCLE, Result(State.OK, "valid for the host"))
    outdoors.world.add(DOMAIN, rdata.MX, *mx(HOST), status=DNSSECStatus.INSECURE)
    outdoors.world.policy()
    outdoors.web["192.0.2.80"] = Fetched(
        200, "text/plain", b"version: STSv1\nmode: testing\nmx: mx.example.org\nmax_age: 1\n"
    )
    assert outdoors.found(mta_sts="testing").way is Way.MTA_STS
    assert outdoors.found().way is Way.OPPORTUNISTIC


def test_tlsa_records_are_listed_and_the_next_key_is_seen(outdoors: Outdoors) -> None:
    today, later = (bytes([3, 1, 1]) + association(raw, 1, 1) for raw in (LEAF, ROOT[1]))
    outdoors.world.host(HOST, today, later, b"\3\1")
    (host,) = outdoors.found().hosts
    assert host.tlsa == (f"3 1 1 {today[3:].hex()}", f"3 1 1 {later[3:].hex()}", "malformed 0301")
    assert host.next_key is not None
    assert host.next_key.state is State.OK
    outdoors.world.host(HOST, today)
    (host,) = outdoors.found().hosts
    assert host.next_key is not None
    assert host.next_key.state is State.ABSENT


OTHER_ROOT = make_certificate("p256", common_name="Other root", ca=True, number=933, extensions=SIGNS)
ELSEWHERE = make_certificate("p256", other_names=[x509.DNSName("mx.example.net")], number=934, issuer=ROOT)[1]
BELOW = make_certificate("p256", other_names=[x509.DNSName(f"any.{DOMAIN}")], number=935, issuer=ROOT)[1]


@pytest.mark.parametrize(
    ("leaf", "match", "root", "expected"),
    [
        (BELOW, (), ROOT, Way.CIRCLE),
        (LEAF, (f".{DOMAIN}",), ROOT, Way.CIRCLE),
        (LEAF, ("mx.example.net",), ROOT, Way.NOT_NOW),
        (ELSEWHERE, (), ROOT, Way.NOT_NOW),
        (ELSEWHERE, ("mx.example.net",), ROOT, Way.CIRCLE),
        (LEAF, (), OTHER_ROOT, Way.NOT_NOW),
    ],
)
def test_servers_of_a_circle_are_judged_by_its_authorities_and_names(
    outdoors: Outdoors, leaf: bytes, match: tuple[str, ...], root: tuple[object, bytes], expected: Way
) -> None:
    """Public authorities do not count there, nor does what is published."""
    outdoors.servers["192.0.2.1"] = Presented(raw_chain=(leaf, ROOT[1]))
    circle = Circle(name="friends", domains=(DOMAIN,), ca_file="/ca.pem", match=match)
    assert outdoors.found(circles=(circle,), in_circles={"/ca.pem": Authorities(to_pem(root[1]))}).way is expected


def test_domain_that_does_not_exist_or_takes_no_mail_is_not_asked_further(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.MX, b"\0\0" + name(""))
    assert (outdoors.found().way, outdoors.met) == (Way.NO_MAIL, {})
    outdoors.world.answers[f"{DOMAIN}.", rdata.MX] = DNSAnswer(DOMAIN, "MX", DNSSECStatus.SECURE, is_denied=True)
    found = outdoors.found()
    assert (found.way, found.why, found.hosts) == (Way.NO_MAIL, "there is no such domain", ())


def test_answers_that_say_nothing_are_never_absence(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.MX, status=DNSSECStatus.UNREACHABLE)
    assert outdoors.found().way is Way.UNKNOWN
    outdoors.world.add(DOMAIN, rdata.MX, status=DNSSECStatus.BOGUS)
    assert outdoors.found().way is Way.NOT_NOW
    outdoors.world.add(DOMAIN, rdata.MX, b"\0", malformed=0)
    assert outdoors.found().way is Way.UNKNOWN


def test_host_that_no_host_can_be_called_is_not_asked(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.MX, *mx("mx host.example.org", HOST))
    assert [host.name for host in outdoors.found().hosts] == [HOST]
    outdoors.world.add(DOMAIN, rdata.MX, *mx("mx host.example.org", "b\\d.example.org"))
    found = outdoors.found()
    assert (found.way, found.hosts) == (Way.UNKNOWN, ())
    assert all(" " not in owner and "\\" not in owner for owner, _ in outdoors.world.asked)


def test_name_that_is_too_long_for_dns_is_asked_of_nobody(outdoors: Outdoors) -> None:
    domain = ".".join(["a" * 60] * 4) + ".example"
    (found,) = outdoors.all_found(Asked(domain, domain))
    assert found.smimea is Names.NONE
    assert all(len(owner) <= 254 for owner, _ in outdoors.world.asked)


def test_domain_at_which_we_fail_is_unknown_and_the_others_go_on(outdoors: Outdoors) -> None:
    outdoors.world.add("bad.example", rdata.MX, *mx("mx.bad.example"))
    outdoors.world.add("mx.bad.example", rdata.A, b"three octets")
    outdoors.servers["192.0.2.1"] = Presented(raw_chain=(b"no certificate",))
    bad, good = sorted(
        outdoors.all_found(Asked("bad.example", "bad.example"), Asked(DOMAIN, DOMAIN)), key=lambda one: one.domain
    )
    assert (bad.way, good.way) == (Way.UNKNOWN, Way.NOT_NOW)
    assert bad.why.startswith("smilla failed: ")


def test_server_at_which_we_fail_could_not_be_asked(outdoors: Outdoors) -> None:
    def present(address: str, server_name: str) -> Presented:
        raise ValueError("nobody thought of this")

    found = outdoors.found(present=present)
    assert found.way is Way.UNKNOWN
    assert "nobody thought of this" in found.why


def test_published_records_are_those_of_the_domain(outdoors: Outdoors) -> None:
    outdoors.world.add(DOMAIN, rdata.TXT, text("v=spf1 -all"))
    outdoors.world.add(f"_dmarc.{DOMAIN}", rdata.TXT, text("v=DMARC1; p=quarantine"))
    outdoors.world.add(f"_smtp._tls.{DOMAIN}", rdata.TXT, text("v=TLSRPTv1; rua=mailto:a@example.org"))
    found = outdoors.found()
    assert (found.spf_all, found.dmarc_policy, found.tlsrpt.state) == ("-all", "quarantine", "ok")


def test_certificate_that_ends_soon_is_told_by_the_days_that_were_asked_for(outdoors: Outdoors) -> None:
    states = [outdoors.found(days=days, now=NOW + timedelta(days=10)) for days in (10, 25)]
    assert [one.hosts[0].servers[0].certificate.state for one in states if one.hosts[0].servers[0].certificate] == [
        State.OK,
        State.EXPIRING,
    ]


def test_silent_servers_keep_no_other_domain_waiting(outdoors: Outdoors) -> None:
    """More of them than there are callers."""
    released, stuck = threading.Event(), threading.Semaphore(0)
    usual = outdoors.present

    def present(address: str, server_name: str) -> Presented:
        if address != "192.0.2.1":
            stuck.release()
            released.wait()
        return usual(address, server_name)

    for number in range(20):
        outdoors.world.add(f"s{number}.example", rdata.MX, *mx(f"mx.s{number}.example"))
        outdoors.world.add(f"mx.s{number}.example", rdata.A, ip_address(f"198.51.{number}.1").packed)
    outdoors.world.add("null.example", rdata.MX, b"\0\0" + name(""))
    order: list[str] = []
    came = threading.Event()

    def deliver(found: Found) -> None:
        order.append(found.domain)
        came.set()

    crews = Crew(2), Crew(4)
    outside = Outside(
        resolver=outdoors.world,
        present=present,
        fetch=outdoors.fetch,
        look_up=outdoors.look_up,
        authorities=Authorities(to_pem(ROOT[1])),
        now=NOW,
        monotonic=time.monotonic,
        wait_s=PATIENT,
    )
    survey = Survey(outside, *crews, deliver)
    for domain in [f"s{number}.example" for number in range(20)]:
        survey.begin(Asked(domain, domain))
    assert all(stuck.acquire(timeout=PATIENT) for _ in range(4))
    survey.begin(Asked("null.example", "null.example"))
    assert came.wait(PATIENT)
    assert order == ["null.example"]
    released.set()
    for crew in crews:
        crew.end()
