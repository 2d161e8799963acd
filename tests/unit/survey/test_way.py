"""How smilla would send: every way, and what is published and fails is never a lesser one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.address import parse
from smilla.hops.mx import State
from smilla.model import Format, Hop, HopVerdict, HopWay, KeyLookup, KeyVerdict, PGPKey, Reason, X509Key
from smilla.survey import way
from smilla.survey.found import Found, Host, Names, Result, Way
from tests.unit.survey.samples import CLEAR, FOUND, HOST, MISMATCH, SERVER, SILENT, UNTRUSTED, at

NO_HOP = Hop("example.org", HopVerdict.NONE, Reason("no_secure_hop", "neither"))
DANE = Hop("example.org", HopVerdict.VERIFIED, Reason("dane", "d"), HopWay.DANE, ("mx.example.org",))
STS = Hop("example.org", HopVerdict.VERIFIED, Reason("mta_sts", "s"), HopWay.MTA_STS, ("mx.example.org",))
POLICY = {"no_key": "plain", "insecure": "plain", "bogus": "defer", "unreachable": "defer", "unusable_key": "refuse"}
TWO = replace(FOUND, hosts=(replace(HOST, name="a.example.org", servers=(CLEAR,)), HOST))


def judged(found: Found, hop: Hop) -> Way:
    return way.judged(found, hop, None, ("smimea", "openpgpkey"), POLICY).way


def no_key(found: Found) -> Found:
    """Without TLSA records on the servers."""
    none = Result(State.ABSENT, "none")
    hosts = tuple(
        replace(host, servers=tuple(replace(one, tlsa=none) if one.tlsa else one for one in host.servers))
        for host in found.hosts
    )
    return replace(found, hosts=hosts)


@pytest.mark.parametrize(
    ("found", "hop", "expected"),
    [
        (FOUND, DANE, Way.DANE),
        (at(SILENT, SERVER), DANE, Way.DANE),
        (TWO, DANE, Way.DANE),
        (at(MISMATCH), DANE, Way.NOT_NOW),
        (at(CLEAR), DANE, Way.NOT_NOW),
        (at(SILENT), DANE, Way.UNKNOWN),
        (FOUND, STS, Way.MTA_STS),
        (at(UNTRUSTED), STS, Way.NOT_NOW),
        (at(CLEAR), STS, Way.NOT_NOW),
        (at(SILENT), STS, Way.UNKNOWN),
        (no_key(FOUND), NO_HOP, Way.OPPORTUNISTIC),
        (at(UNTRUSTED), NO_HOP, Way.OPPORTUNISTIC),
        (at(CLEAR, UNTRUSTED), NO_HOP, Way.OPPORTUNISTIC),
        (at(CLEAR), NO_HOP, Way.PLAIN),
        (at(CLEAR, SILENT), NO_HOP, Way.PLAIN),
        (at(SILENT), NO_HOP, Way.UNKNOWN),
        (replace(FOUND, hosts=()), NO_HOP, Way.NO_MAIL),
        (replace(FOUND, hosts=(Host("mx", Result(State.MISSING, "no address")),)), NO_HOP, Way.NO_MAIL),
        (replace(FOUND, hosts=(Host("mx", Result(State.UNREACHABLE, "late")),)), NO_HOP, Way.UNKNOWN),
        (replace(FOUND, hosts=(Host("mx", Result(State.BOGUS, "forged")),)), NO_HOP, Way.UNKNOWN),
    ],
)
def test_way_without_a_key(found: Found, hop: Hop, expected: Way) -> None:
    assert judged(found, hop) is expected


@pytest.mark.parametrize(
    ("state", "expected"), [("bogus", Way.NOT_NOW), ("unreachable", Way.UNKNOWN), ("unclear", Way.UNKNOWN)]
)
def test_mx_records_that_say_nothing_are_never_taken_for_no_mail(state: str, expected: Way) -> None:
    found = replace(FOUND, hosts=(), mx=Result(State(state), "text"))
    assert judged(found, replace(NO_HOP, verdict=HopVerdict.UNREACHABLE)) is expected


@pytest.mark.parametrize("code", ["tlsa_bogus", "tlsa_unreachable", "tlsa_unclear"])
def test_tlsa_records_that_nobody_can_judge_defer_though_tls_is_offered(code: str) -> None:
    verdict = HopVerdict(code.removeprefix("tlsa_"))
    assert judged(FOUND, replace(NO_HOP, verdict=verdict, reason=Reason(code, "text"))) is Way.NOT_NOW


def test_policy_in_enforce_that_allows_no_host_is_not_opportunistic() -> None:
    hop = replace(NO_HOP, reason=Reason("mta_sts_mismatch", "no MX host is allowed"))
    assert judged(replace(at(UNTRUSTED), mta_sts_mode="enforce"), hop) is Way.NOT_NOW
    assert judged(replace(at(UNTRUSTED), mta_sts_mode="testing"), hop) is Way.OPPORTUNISTIC


@pytest.mark.parametrize(
    ("found", "expected", "why"),
    [
        (FOUND, Way.CIRCLE, "in the circle c; its certificate is valid for the host at mx.example.org"),
        (TWO, Way.CIRCLE, "in the circle c; its certificate is valid for the host at mx.example.org (1 of 2 MX hosts)"),
        (at(UNTRUSTED), Way.NOT_NOW, "in the circle c, and at mx.example.org: self-signed"),
        (at(CLEAR), Way.NOT_NOW, "in the circle c, and mx.example.org offers no STARTTLS"),
        (at(SILENT), Way.UNKNOWN, "in the circle c, and no server could be asked: timed out"),
        (replace(FOUND, hosts=(), mx=Result(State.BOGUS, "forged")), Way.NOT_NOW, "MX: forged"),
    ],
)
def test_server_of_a_circle_has_the_circles_certificate_or_gets_nothing(found: Found, expected: Way, why: str) -> None:
    hop = Hop("example.org", HopVerdict.VERIFIED, Reason("circle", "in the circle c"), HopWay.CIRCLE, circle="c")
    result = way.judged(no_key(found), hop, None, (), POLICY)
    assert (result.way, result.why) == (expected, why)


def test_unverified_way_says_what_nobody_finds_or_proves() -> None:
    gone = replace(at(UNTRUSTED), mta_sts=Result(State.UNREACHABLE, "refused"))
    assert "no sender finds the MTA-STS policy: refused" in way.judged(gone, NO_HOP, None, (), POLICY).why
    assert "the MX records are not signed" in way.judged(FOUND, NO_HOP, None, (), POLICY).why
    for state, why in ((State.INSECURE, "in a zone that is not signed"), (State.UNUSABLE, "no sender can use one")):
        server = replace(UNTRUSTED, tlsa=Result(state, "x"))
        assert why in way.judged(at(server), NO_HOP, None, (), POLICY).why
    assert "1 of 2 servers offer no STARTTLS" in way.judged(at(CLEAR, UNTRUSTED), NO_HOP, None, (), POLICY).why


@pytest.mark.parametrize(
    ("zones", "sources", "expected"),
    [
        ({"smimea": Names.HAS_NAMES}, ("smimea", "openpgpkey"), Way.SMIME),
        ({"openpgpkey": Names.HAS_NAMES}, ("smimea", "openpgpkey"), Way.OPENPGP),
        ({"smimea": Names.HAS_NAMES, "openpgpkey": Names.HAS_NAMES}, ("openpgpkey", "smimea"), Way.OPENPGP),
        ({"smimea": Names.HAS_NAMES}, ("openpgpkey",), Way.DANE),
        ({"smimea": Names.ANY_NAME, "openpgpkey": Names.UNKNOWN}, ("smimea", "openpgpkey"), Way.DANE),
        ({"smimea": Names.HAS_NAMES, "zone": "insecure"}, ("smimea",), Way.DANE),
    ],
)
def test_zone_of_keys_counts_if_it_has_names_is_signed_and_a_source(
    zones: dict[str, str], sources: tuple[str, ...], expected: Way
) -> None:
    found = replace(FOUND, **zones)  # type: ignore[arg-type]
    assert way.judged(found, DANE, None, sources, POLICY).way is expected


def lookup(verdict: KeyVerdict, key: X509Key | PGPKey | None = None) -> KeyLookup:
    return KeyLookup(parse("ann@example.org"), verdict, Reason("code", "text"), key, "smimea", None)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("no_key", Way.DANE),
        ("insecure", Way.DANE),
        ("bogus", Way.NOT_NOW),
        ("unreachable", Way.NOT_NOW),
        ("unusable_key", Way.NOT_NOW),
        ("unclear", Way.NOT_NOW),
    ],
)
def test_key_of_an_address_counts_before_the_zone_and_as_the_configuration_says(verdict: str, expected: Way) -> None:
    found = replace(FOUND, smimea=Names.HAS_NAMES)
    assert way.judged(found, DANE, lookup(KeyVerdict(verdict)), ("smimea",), POLICY).way is expected


@pytest.mark.parametrize(("form", "expected"), [(Format.SMIME, Way.SMIME), (Format.OPENPGP, Way.OPENPGP)])
def test_usable_key_is_the_way(form: Format, expected: Way) -> None:
    class Key:
        format = form

    found = way.judged(FOUND, NO_HOP, lookup(KeyVerdict.USABLE, Key()), (), POLICY)  # type: ignore[arg-type]
    assert found.way is expected
