"""Cases of name servers that fail, and of answers that are large or odd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.rcode

from tests.lab import servers
from tests.lab.dns import Kind, smimea_owner
from tests.live.dnssec.bench import (
    BAD,
    BOGUS,
    BOUND,
    DAY,
    INDETERMINATE,
    INSECURE,
    MADE,
    NO_KEY,
    NOT_PROVEN,
    NOW,
    PRIMARY,
    SECURE,
    SILENCE,
    START,
    UNCLEAR,
    UNREACHABLE,
    USABLE,
    Bench,
    Put,
    case,
    certificate,
    padded_certificate,
    pgp_key,
)
from tests.live.dnssec.cases_proofs import alice
from tests.openpgp_maker import packet, user_id


def _served(name: str, behaviour: servers.Behaviour, *, tcp: bool = True) -> Put:
    return lambda bench: bench.served(name, behaviour, tcp=tcp)


def _passing(name: str, around: Callable[[servers.Behaviour], servers.Behaviour], kind: Kind = Kind.SECURE) -> Put:
    """A zone that nsd serves through a server that does something around each answer."""
    return lambda bench: alice(bench.served(name, around(servers.passing_to(bench.lab.authority_port)), kind=kind))


def _second_good(name: str, behaviour: servers.Behaviour) -> Put:
    """A signed zone with two servers, of which one behaves like that and the other is nsd."""

    def put(bench: Bench) -> None:
        zone = alice(bench.served(name, behaviour, kind=Kind.SECURE))
        zone.ports = (*zone.ports, bench.lab.authority_port)

    return put


SERVERS = [
    case("a dead server", "alice@dead.test", UNREACHABLE, SILENCE, lambda b: b.zone("dead.test", Kind.DEAD)),
    case("a silent server", "alice@silent.test", UNREACHABLE, SILENCE, lambda b: b.zone("silent.test", Kind.SILENT)),
    case(
        "a server that answers after 0.3 s",
        "alice@slow.test",
        SECURE,
        USABLE,
        _passing("slow.test", lambda b: servers.later(0.3, b)),
    ),
    case(
        "SERVFAIL",
        "alice@servfail.test",
        UNREACHABLE,
        SILENCE,
        _served("servfail.test", servers.says(dns.rcode.SERVFAIL)),
    ),
    case(
        "REFUSED", "alice@refused.test", UNREACHABLE, SILENCE, _served("refused.test", servers.says(dns.rcode.REFUSED))
    ),
    case("NOTIMP", "alice@notimp.test", UNREACHABLE, SILENCE, _served("notimp.test", servers.says(dns.rcode.NOTIMP))),
    case(
        "FORMERR", "alice@formerr.test", UNREACHABLE, SILENCE, _served("formerr.test", servers.says(dns.rcode.FORMERR))
    ),
    case(
        "a lame server: not authoritative, a referral to the root",
        "alice@lame.test",
        UNREACHABLE,
        SILENCE,
        _served("lame.test", servers.lame),
    ),
    case(
        "whatever an unsigned zone's server says is its word: an answer without anything",
        "alice@empty.test",
        INSECURE,
        NO_KEY,
        _served("empty.test", servers.empty),
    ),
    case(
        "an answer without anything in a signed zone is no denial",
        "alice@empty-signed.test",
        BOGUS,
        BAD,
        lambda b: b.served("empty-signed.test", servers.empty, kind=Kind.SECURE),
    ),
    case(
        "octets that are no DNS message",
        "alice@garbage.test",
        UNREACHABLE,
        SILENCE,
        _served("garbage.test", servers.garbage),
    ),
    case(
        "answers with another ID",
        "alice@other-id.test",
        UNREACHABLE,
        SILENCE,
        _served("other-id.test", servers.other_id),
    ),
    case(
        "answers to another question",
        "alice@other-question.test",
        UNREACHABLE,
        SILENCE,
        _served("other-question.test", servers.other_question),
    ),
    case(
        "truncated over UDP, TCP refused",
        "alice@tcp-refused.test",
        UNREACHABLE,
        SILENCE,
        _served("tcp-refused.test", servers.truncated, tcp=False),
    ),
    case(
        "truncated over UDP and TCP",
        "alice@truncated.test",
        UNREACHABLE,
        SILENCE,
        _served("truncated.test", servers.truncated),
    ),
    case(
        "truncated over UDP, whole over TCP",
        "alice@tcp.test",
        SECURE,
        USABLE,
        _passing("tcp.test", servers.over_tcp_only),
    ),
    case(
        "NXDOMAIN from nowhere in a signed zone",
        "alice@nxdomain.test",
        BOGUS,
        BAD,
        lambda b: b.served("nxdomain.test", servers.says(dns.rcode.NXDOMAIN), kind=Kind.SECURE),
    ),
    case(
        "two servers, the first says REFUSED",
        "alice@second.test",
        SECURE,
        USABLE,
        _second_good("second.test", servers.says(dns.rcode.REFUSED)),
    ),
    case(
        "two servers, the first is lame",
        "alice@second-lame.test",
        SECURE,
        USABLE,
        _second_good("second-lame.test", servers.lame),
    ),
    case(
        "two servers, the first sends garbage",
        "alice@second-garbage.test",
        SECURE,
        USABLE,
        _second_good("second-garbage.test", servers.garbage),
    ),
]


def _big(bench: Bench) -> None:
    address = "big@size.test"
    photograph = packet(17, b"\xff" + (24000).to_bytes(4, "big") + bytes(24000))
    key = START + user_id(PRIMARY, address, MADE) + photograph + BOUND
    bench.zone("size.test").add_openpgpkey(address, key)


def _many(bench: Bench) -> None:
    address = "many@size.test"
    zone = bench.zone("size.test")
    for number in range(30):
        expired: dict[str, Any] = {"not_before": NOW - 60 * DAY, "not_after": NOW - DAY}
        zone.add_smimea(address, certificate(address, number=number, **(expired if number else {})))


SIZES = [
    case("an OPENPGPKEY record of 24 KB", "big@size.test", SECURE, USABLE, _big),
    case("thirty SMIMEA records, one of them usable", "many@size.test", SECURE, USABLE, _many, reason="EC P-256"),
    case(
        "an SMIMEA record of 30 KB",
        "large@size.test",
        SECURE,
        USABLE,
        lambda b: b.zone("size.test").add_smimea("large@size.test", padded_certificate("large@size.test", 30000)),
    ),
    case(
        "a record of 24 KB in an unsigned zone",
        "large@open-size.test",
        INSECURE,
        NOT_PROVEN,
        lambda b: b.zone("open-size.test", Kind.INSECURE).add_smimea(
            "large@open-size.test", padded_certificate("large@open-size.test", 24000)
        ),
    ),
]

NAMES = [
    case(
        'a quoted local part: "hugh" is hugh (RFC 7929 section 3)',
        '"hugh"@names.test',
        SECURE,
        USABLE,
        lambda b: b.zone("names.test").add(
            "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.names.test.",
            "SMIMEA",
            b"\3\0\0" + certificate("hugh@names.test"),
        ),
    ),
    case('a quoted pair: "hu\\gh" is hugh', '"hu\\gh"@names.test', SECURE, USABLE, lambda b: None),
    case("Hugh is not hugh: nothing is mapped", "Hugh@names.test", SECURE, NO_KEY, lambda b: None),
    case(
        "Hugh has an owner name of his own",
        "Hugh@upper.test",
        SECURE,
        USABLE,
        lambda b: b.zone("upper.test").add(
            "7063a398942ba5c6125429518d0608563f3974bb48013ddf58fb01d4._smimecert.upper.test.",
            "SMIMEA",
            b"\3\0\0" + certificate("Hugh@upper.test"),
        ),
    ),
    case(
        'a blank in a quoted local part: "john smith"',
        '"john smith"@names.test',
        SECURE,
        USABLE,
        lambda b: b.zone("names.test").add(
            "32ddaf65cc3aa8d3e6eda3ca2da7c18b71e169e9aa444cccb479c9ca._openpgpkey.names.test.",
            "OPENPGPKEY",
            pgp_key('"john smith"@names.test'),
        ),
    ),
    case(
        "a composed umlaut in the local part",
        "d\u00f6rte@names.test",
        SECURE,
        USABLE,
        lambda b: b.zone("names.test").add(
            "7145ff3b5d1d440d5da25c27bb0e19663f14ae3f9eecb3b50eec6515._openpgpkey.names.test.",
            "OPENPGPKEY",
            pgp_key("d\u00f6rte@names.test"),
        ),
    ),
    case("the same umlaut decomposed", "do\u0308rte@names.test", SECURE, USABLE, lambda b: None),
    case(
        "a plus-address is not cut",
        "hugh+list@names.test",
        SECURE,
        NO_KEY,
        lambda b: None,
    ),
    case(
        "an internationalized domain is asked for as A-label",
        "alice@m\u00fcller.test",
        SECURE,
        USABLE,
        lambda b: b.zone("xn--mller-kva.test").add(
            smimea_owner("alice@xn--mller-kva.test"), "SMIMEA", b"\3\0\0" + certificate("alice@xn--mller-kva.test")
        ),
    ),
    case("the domain in upper case", "hugh@NAMES.TEST", SECURE, USABLE, lambda b: None),
    case("a single-label domain is never asked for", "alice@localhost", None, UNCLEAR, lambda b: None),
    case("an address literal is never asked for", "alice@[192.0.2.1]", None, UNCLEAR, lambda b: None),
    case("a special-use domain is never asked for", "alice@x.onion", None, UNCLEAR, lambda b: None),
    case("a signed zone of a private network", "alice@home.arpa", SECURE, USABLE, lambda b: alice(b.zone("home.arpa"))),
    case("its proven silence", "nobody@home.arpa", SECURE, NO_KEY, lambda b: None),
    case(
        "a signed zone that private DNS has", "alice@x.internal", SECURE, USABLE, lambda b: alice(b.zone("x.internal"))
    ),
    case(
        "the silence of a private zone that is not signed",
        "nobody@open.local",
        INDETERMINATE,  # as for all that lies under no anchor
        BAD,
        lambda b: b.zone("open.local", Kind.INSECURE),
    ),
]

CASES = [*SERVERS, *SIZES, *NAMES]
