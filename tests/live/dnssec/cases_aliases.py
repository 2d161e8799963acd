"""Cases of aliases: CNAME and DNAME within zones, between them, into nothing and in circles."""

from __future__ import annotations

from typing import Any

from tests.lab.dns import Kind, openpgpkey_owner, smimea_owner
from tests.live.dnssec import tamper
from tests.live.dnssec.bench import (
    BAD,
    BOGUS,
    INDETERMINATE,
    INSECURE,
    NO_KEY,
    NOT_PROVEN,
    SECURE,
    SILENCE,
    UNREACHABLE,
    UNUSABLE,
    USABLE,
    Bench,
    Expected,
    Put,
    case,
    certificate,
    pgp_key,
)
from tests.live.dnssec.cases_proofs import NSEC3


def _alias(name: str, target: str, rdtype: str = "CNAME", kind: Kind = Kind.SECURE, **traits: Any) -> Put:
    """alice's owner name is an alias of ``target``."""

    def put(bench: Bench) -> None:
        owner = smimea_owner(f"alice@{name}") if rdtype == "CNAME" else f"_smimecert.{name}."
        bench.zone(name, kind, **traits).add(owner, rdtype, target)

    return put


def _target(name: str, kind: Kind = Kind.SECURE, **traits: Any) -> Put:
    """A zone in which carol's record holds a certificate for every alias."""

    def put(bench: Bench) -> None:
        addresses = [f"carol@{name}", *(f"alice@{alias}" for alias in _ALIASES)]
        bench.zone(name, kind, **traits).add_smimea(f"carol@{name}", certificate(addresses))

    return put


_ALIASES = [f"alias{number}.test" for number in range(20)]
_CAROL = {name: smimea_owner(f"carol@{name}.test") for name in ("good", "plain", "bad", "gone")}


def _within(bench: Bench) -> None:
    zone = bench.zone("alias0.test")
    zone.add(smimea_owner("alice@alias0.test"), "CNAME", smimea_owner("carol@alias0.test"))
    zone.add_smimea("carol@alias0.test", certificate("alice@alias0.test"))


def _chain_of(length: int, name: str) -> Put:
    def put(bench: Bench) -> None:
        zone = bench.zone(name)
        owners = [smimea_owner(f"alice@{name}"), *(f"c{number}.{name}." for number in range(length - 1))]
        for owner, target in zip(owners, [*owners[1:], _CAROL["good"]], strict=True):
            zone.add(owner, "CNAME", target)

    return put


def _alias_of_a_key(bench: Bench) -> None:
    zone = bench.zone("alias14.test")
    zone.add(openpgpkey_owner("alice@alias14.test"), "CNAME", openpgpkey_owner("carol@alias14.test"))
    zone.add_openpgpkey("carol@alias14.test", pgp_key("carol@alias14.test"))


CASES = [
    case("a CNAME within a signed zone", "alice@alias0.test", SECURE, USABLE, _within),
    case(
        "the target of a CNAME, in a signed zone", "carol@good.test", SECURE, USABLE, _target("good.test", nsec3=NSEC3)
    ),
    case(
        "the target of a CNAME, in an unsigned zone",
        "carol@plain.test",
        INSECURE,
        NOT_PROVEN,
        _target("plain.test", Kind.INSECURE),
    ),
    case("the target of a CNAME, in a bogus zone", "carol@bad.test", BOGUS, BAD, _target("bad.test", Kind.WRONG_DS)),
    case(
        "the target of a CNAME, in a dead zone",
        "carol@gone.test",
        UNREACHABLE,
        SILENCE,
        lambda b: b.zone("gone.test", Kind.DEAD),
    ),
    case(
        "a CNAME into another signed zone", "alice@alias1.test", SECURE, USABLE, _alias("alias1.test", _CAROL["good"])
    ),
    case(
        "a CNAME from a signed into an unsigned zone",
        "alice@alias2.test",
        INSECURE,
        NOT_PROVEN,
        _alias("alias2.test", _CAROL["plain"]),
    ),
    case(
        "a CNAME from a signed into a bogus zone", "alice@alias3.test", BOGUS, BAD, _alias("alias3.test", _CAROL["bad"])
    ),
    case(
        "a CNAME from a signed into a dead zone",
        "alice@alias4.test",
        UNREACHABLE,
        SILENCE,
        _alias("alias4.test", _CAROL["gone"]),
    ),
    case(
        "a CNAME from an unsigned into a signed zone",
        "alice@alias5.test",
        INSECURE,
        NOT_PROVEN,
        _alias("alias5.test", _CAROL["good"], kind=Kind.INSECURE),
    ),
    case(
        "a DNAME into another signed zone; its target is not this person's",
        "carol@alias6.test",
        SECURE,
        UNUSABLE,
        _alias("alias6.test", "_smimecert.good.test.", "DNAME"),
        reason="not for this address",
    ),
    case(
        "a DNAME into a signed zone with this person's record",
        "alice@alias7.test",
        SECURE,
        USABLE,
        lambda b: (
            _alias("alias7.test", "_smimecert.dname.test.", "DNAME")(b),
            b.zone("dname.test").add_smimea("alice@dname.test", certificate("alice@alias7.test")),
        ),
    ),
    case(
        "a DNAME into an unsigned zone",
        "carol@alias8.test",
        INSECURE,
        NOT_PROVEN,
        _alias("alias8.test", "_smimecert.plain.test.", "DNAME"),
    ),
    case(
        "a CNAME loop is never taken for absence",
        "alice@alias9.test",
        UNREACHABLE,
        SILENCE,
        lambda b: (
            _alias("alias9.test", "loop.alias9.test.")(b),
            b.zone("alias9.test").add("loop.alias9.test.", "CNAME", smimea_owner("alice@alias9.test")),
        ),
    ),
    case(
        "a dangling CNAME into a signed zone",
        "alice@alias10.test",
        SECURE,
        NO_KEY,
        _alias("alias10.test", smimea_owner("nobody@good.test")),
    ),
    case(
        "a dangling CNAME into an unsigned zone",
        "alice@alias11.test",
        INSECURE,
        NO_KEY,
        _alias("alias11.test", smimea_owner("nobody@plain.test")),
    ),
    case(
        "a CNAME to a name under no trust anchor",
        "alice@alias12.test",
        INSECURE,
        NOT_PROVEN,
        _alias("alias12.test", smimea_owner("alice@elsewhere.example")),
        validate=Expected(INDETERMINATE, BAD),
    ),
    case(
        "a CNAME replaced under its signature",
        "alice@alias13.test",
        BOGUS,
        BAD,
        _alias("alias13.test", "target.alias13.test.", after_signing=tamper.broken_signatures("CNAME")),
    ),
    case(
        "a key behind a CNAME that names another person",
        "alice@alias14.test",
        SECURE,
        UNUSABLE,
        _alias_of_a_key,
    ),
    case(
        "a CNAME whose signature was stripped",
        "alice@alias15.test",
        BOGUS,
        BAD,
        _alias("alias15.test", _CAROL["good"], after_signing=tamper.without_signatures("CNAME")),
    ),
    case(
        "a wildcard CNAME with its proof",
        "alice@alias16.test",
        SECURE,
        USABLE,
        lambda b: b.zone("alias16.test").add("*._smimecert.alias16.test.", "CNAME", _CAROL["good"]),
    ),
    case("a chain of five CNAMEs", "alice@alias17.test", SECURE, USABLE, _chain_of(5, "alias17.test")),
    case(
        "a chain of forty CNAMEs is given up", "alice@alias18.test", UNREACHABLE, SILENCE, _chain_of(40, "alias18.test")
    ),
]
