"""Cases of DNSSEC itself: chains of trust, signatures, denials, wildcards."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.name

from tests.lab.dns import Kind, Zone, openpgpkey_owner, smimea_owner
from tests.lab.servers import Ask, rewriting
from tests.live.dnssec import tamper
from tests.live.dnssec.bench import (
    BAD,
    BOGUS,
    INDETERMINATE,
    INSECURE,
    NO_KEY,
    NOT_PROVEN,
    SECURE,
    USABLE,
    Bench,
    Put,
    PutZone,
    case,
    certificate,
    pgp_key,
)

NSEC3 = ["-n", "-s", "beef"]
OPT_OUT = [*NSEC3, "-p"]


def alice(zone: Zone, *addresses: str) -> Zone:
    """alice's certificate in the zone; it names ``addresses`` too."""
    address = f"alice@{zone.name}"
    return zone.add_smimea(address, certificate([address, *addresses]))


def signed(name: str, **traits: Any) -> PutZone:
    """Puts a signed zone with alice's certificate on the bench."""
    return lambda bench: alice(bench.zone(name, **traits))


def nothing(bench: Bench) -> None:
    """What the case needs is there already."""


# --- plain proofs


def _names(name: str, nsec3: list[str]) -> Put:
    def put(bench: Bench) -> None:
        zone = alice(bench.zone(name, nsec3=nsec3))
        zone.add(smimea_owner(f"nodata@{name}"), "TXT", '"another type"')
        zone.add(f"x.{smimea_owner(f'empty@{name}')}", "TXT", '"below an empty non-terminal"')
        zone.add_openpgpkey(f"bob@{name}", pgp_key(f"bob@{name}"))

    return put


def _child(parent: str, name: str, nsec3: list[str]) -> Put:
    def put(bench: Bench) -> None:
        bench.zone(parent, nsec3=nsec3)
        alice(bench.zone(name, Kind.INSECURE))

    return put


PROOFS = [
    case("a record in a zone signed with NSEC", "alice@nsec.test", SECURE, USABLE, _names("nsec.test", [])),
    case("an OPENPGPKEY record where SMIMEA is denied", "bob@nsec.test", SECURE, USABLE, nothing),
    case("NXDOMAIN proven by NSEC", "nobody@nsec.test", SECURE, NO_KEY, nothing, reason="NXDOMAIN"),
    case("NODATA proven by NSEC: the name has another type", "nodata@nsec.test", SECURE, NO_KEY, nothing),
    case("an empty non-terminal, by NSEC", "empty@nsec.test", SECURE, NO_KEY, nothing),
    case("a record in a zone signed with NSEC3", "alice@nsec3.test", SECURE, USABLE, _names("nsec3.test", NSEC3)),
    case("an OPENPGPKEY record where NSEC3 denies SMIMEA", "bob@nsec3.test", SECURE, USABLE, nothing),
    case("NXDOMAIN proven by NSEC3", "nobody@nsec3.test", SECURE, NO_KEY, nothing, reason="NXDOMAIN"),
    case("NODATA proven by NSEC3", "nodata@nsec3.test", SECURE, NO_KEY, nothing),
    case("an empty non-terminal, by NSEC3", "empty@nsec3.test", SECURE, NO_KEY, nothing),
    case("a record in an opt-out zone", "alice@optout.test", SECURE, USABLE, _names("optout.test", OPT_OUT)),
    case("NXDOMAIN in an opt-out span proves no absence", "nobody@optout.test", INSECURE, NO_KEY, nothing),
    case("NODATA in an opt-out zone is proven", "nodata@optout.test", SECURE, NO_KEY, nothing),
    case(
        "an unsigned delegation in an opt-out span",
        "alice@child.optout.test",
        INSECURE,
        NOT_PROVEN,
        _child("optout.test", "child.optout.test", OPT_OUT),
    ),
    case(
        "an unsigned child of a signed zone with NSEC",
        "alice@child.parent.test",
        INSECURE,
        NOT_PROVEN,
        _child("parent.test", "child.parent.test", []),
    ),
    case(
        "an unsigned child of a signed zone with NSEC3",
        "alice@child.parent3.test",
        INSECURE,
        NOT_PROVEN,
        _child("parent3.test", "child.parent3.test", NSEC3),
    ),
    case(
        "a signed grandchild under an unsigned zone is an island",
        "alice@deep.child.parent.test",
        INSECURE,
        NOT_PROVEN,
        signed("deep.child.parent.test"),
    ),
    case(
        "a record in an unsigned zone",
        "alice@open.test",
        INSECURE,
        NOT_PROVEN,
        lambda b: alice(b.zone("open.test", Kind.INSECURE)),
    ),
    case("no record in an unsigned zone", "nobody@open.test", INSECURE, NO_KEY, nothing),
    case(
        "a signed zone without DS is an island",
        "alice@island.test",
        INSECURE,
        NOT_PROVEN,
        signed("island.test", delegation=lambda right: []),
    ),
    case(
        "a name under no trust anchor",
        "alice@elsewhere.example",
        INDETERMINATE,
        BAD,
        signed("elsewhere.example"),
    ),
    case(
        "no record under no trust anchor",
        "nobody@elsewhere.example",
        INDETERMINATE,
        BAD,
        nothing,
    ),
]

# --- broken chains and signatures

CHAINS = [
    case(
        "a DS record, but the zone is not signed",
        "alice@unsigned-ds.test",
        BOGUS,
        BAD,
        lambda b: alice(b.zone("unsigned-ds.test", Kind.INSECURE, delegation=lambda right: [right])),
    ),
    case(
        "a DS record for another key",
        "alice@wrong-ds.test",
        BOGUS,
        BAD,
        lambda b: alice(b.zone("wrong-ds.test", Kind.WRONG_DS)),
    ),
    case("absence under a DS record for another key", "nobody@wrong-ds.test", BOGUS, BAD, nothing),
    case(
        "a wrong and a right DS record: the right one counts",
        "alice@two-ds.test",
        SECURE,
        USABLE,
        signed("two-ds.test", delegation=lambda right: [right, right[:-4] + "0000"]),
    ),
    case(
        "expired signatures",
        "alice@expired.test",
        BOGUS,
        BAD,
        signed("expired.test", signed_from_s=-864000, signed_to_s=-86400),
    ),
    case("absence with expired signatures", "nobody@expired.test", BOGUS, BAD, nothing),
    case(
        "signatures from the future",
        "alice@future.test",
        BOGUS,
        BAD,
        signed("future.test", signed_from_s=86400, signed_to_s=864000),
    ),
    case(
        "a broken signature over the record",
        "alice@broken.test",
        BOGUS,
        BAD,
        signed("broken.test", after_signing=tamper.broken_signatures("SMIMEA")),
    ),
    case(
        "a broken signature over the DNSKEY records",
        "alice@broken-key.test",
        BOGUS,
        BAD,
        signed("broken-key.test", after_signing=tamper.broken_signatures("DNSKEY")),
    ),
    case(
        "a record replaced under its signature",
        "alice@forged.test",
        BOGUS,
        BAD,
        signed(
            "forged.test",
            after_signing=tamper.replaced(
                smimea_owner("alice@forged.test"), "SMIMEA", b"\3\0\0" + certificate("alice@forged.test", number=1)
            ),
        ),
    ),
    case("absence beside a forged record is proven", "nobody@forged.test", SECURE, NO_KEY, nothing),
    case(
        "a stripped RRSIG over the record",
        "alice@stripped.test",
        BOGUS,
        BAD,
        signed("stripped.test", after_signing=tamper.without_signatures("SMIMEA")),
    ),
    case(
        "stripped RRSIGs over the DNSKEY records",
        "alice@stripped-key.test",
        BOGUS,
        BAD,
        signed("stripped-key.test", after_signing=tamper.without_signatures("DNSKEY")),
    ),
    case(
        "every RRSIG stripped",
        "alice@all-stripped.test",
        BOGUS,
        BAD,
        signed("all-stripped.test", after_signing=tamper.without("RRSIG")),
    ),
    case(
        "no DNSKEY records",
        "alice@keyless.test",
        BOGUS,
        BAD,
        signed("keyless.test", after_signing=tamper.without("DNSKEY")),
    ),
    case(
        "an unknown signing algorithm is as good as no signature (RFC 4035 section 5.2)",
        "alice@algorithm.test",
        INSECURE,
        NOT_PROVEN,
        signed("algorithm.test", delegation=lambda right: [right.replace(" 13 ", " 200 ", 1)]),
    ),
    case(
        "an unknown DS digest is as good as none",
        "alice@digest.test",
        INSECURE,
        NOT_PROVEN,
        signed("digest.test", delegation=lambda right: [right.replace(" 13 2 ", " 13 99 ", 1)]),
    ),
    case(
        "an unknown algorithm beside a known one",
        "alice@algorithms.test",
        SECURE,
        USABLE,
        signed("algorithms.test", delegation=lambda right: [right, right.replace(" 13 ", " 200 ", 1)]),
    ),
    case("a zone signed with RSASHA256", "alice@rsa.test", SECURE, USABLE, signed("rsa.test", algorithm="RSASHA256")),
    case(
        "a zone signed with ED25519", "alice@ed25519.test", SECURE, USABLE, signed("ed25519.test", algorithm="ED25519")
    ),
    case(
        "a zone signed with ECDSAP384SHA384",
        "alice@p384.test",
        SECURE,
        USABLE,
        signed("p384.test", algorithm="ECDSAP384SHA384"),
    ),
    case(
        "SMIMEA forged, OPENPGPKEY proven: the proven key of the later source is used",
        "alice@half.test",
        SECURE,
        USABLE,
        lambda b: signed(
            "half.test",
            after_signing=tamper.replaced(smimea_owner("alice@half.test"), "SMIMEA", b"\3\0\0forged"),
        )(b).add_openpgpkey("alice@half.test", pgp_key("alice@half.test")),
    ),
    case(
        "SMIMEA proven absent, OPENPGPKEY forged: bogus decides",
        "bob@half3.test",
        BOGUS,
        BAD,
        lambda b: b.zone(
            "half3.test",
            after_signing=tamper.replaced(
                openpgpkey_owner("bob@half3.test"), "OPENPGPKEY", pgp_key("bob@half3.test")[:-9]
            ),
        ).add_openpgpkey("bob@half3.test", pgp_key("bob@half3.test")),
    ),
]

# --- denials and wildcards


def _removed(name: str, nsec3: list[str], other: bool) -> Put:
    """alice's record is gone from the served zone; with ``other`` her owner name has a TXT record too."""

    def put(bench: Bench) -> None:
        owner = smimea_owner(f"alice@{name}")
        zone = signed(name, nsec3=nsec3, after_signing=tamper.without("SMIMEA", owner=owner))(bench)
        if other:
            zone.add(owner, "TXT", '"another type"')

    return put


def _replayed_wildcard(name: str, nsec3: list[str], victims_own: bool) -> Put:
    """mallory owns a wildcard in the zone; its expansion is replayed for alice, who has a record (or has none)."""

    def put(bench: Bench) -> None:
        zone = bench.zone(name, nsec3=nsec3)
        if victims_own:
            alice(zone)
        forged = b"\3\0\0" + certificate(f"alice@{name}", number=1)
        zone.add(f"*._smimecert.{name}.", "SMIMEA", forged)
        victim = smimea_owner(f"alice@{name}")
        zone.after_signing = tamper.copied("SMIMEA", f"*._smimecert.{name}.", victim)

    return put


def _wildcard(name: str, nsec3: list[str]) -> Put:
    def put(bench: Bench) -> None:
        zone = bench.zone(name, nsec3=nsec3)
        zone.add(f"*._smimecert.{name}.", "SMIMEA", b"\3\0\0" + certificate(f"anybody@{name}"))
        zone.add(f"*._openpgpkey.{name}.", "OPENPGPKEY", pgp_key(f"*@{name}"))

    return put


def _replayed_denial(name: str, nsec3: list[str], other: str) -> Put:
    """The denial of another name (``other``, under test.) is given for alice, who has a record."""

    def rewrite(query: dns.message.Message, ask: Ask) -> dns.message.Message:
        question = query.question[0]
        if not str(question.name).startswith(smimea_owner(f"alice@{name}").split(".")[0]):
            return ask(query)
        elsewhere = dns.message.make_query(dns.name.from_text(other), question.rdtype, want_dnssec=True)
        proof = ask(elsewhere)
        response = dns.message.make_response(query)
        response.set_rcode(proof.rcode())
        response.flags |= dns.flags.AA
        response.authority = proof.authority
        return response

    def put(bench: Bench) -> None:
        zone = bench.served(name, rewriting(bench.lab.authority_port, rewrite), kind=Kind.SECURE)
        alice(zone).nsec3 = nsec3

    return put


DENIALS = [
    case(
        "a record taken out of an NSEC zone: the denial names it",
        "alice@removed.test",
        BOGUS,
        BAD,
        _removed("removed.test", [], other=False),
    ),
    case(
        "a record taken out: the NSEC's types name it",
        "alice@removed-type.test",
        BOGUS,
        BAD,
        _removed("removed-type.test", [], other=True),
    ),
    case(
        "a record taken out: the NSEC3's types name it",
        "alice@removed3.test",
        BOGUS,
        BAD,
        _removed("removed3.test", NSEC3, other=True),
    ),
    case(
        "a denial without NSEC records",
        "nobody@no-proof.test",
        BOGUS,
        BAD,
        signed("no-proof.test", after_signing=tamper.without("NSEC")),
    ),
    case(
        "a record beside stripped NSEC records is proven all the same", "alice@no-proof.test", SECURE, USABLE, nothing
    ),
    case(
        "a denial without NSEC3 records",
        "nobody@no-proof3.test",
        BOGUS,
        BAD,
        signed("no-proof3.test", nsec3=NSEC3, after_signing=tamper.without("NSEC3")),
    ),
    case(
        "a denial with unsigned NSEC records",
        "nobody@bare-proof.test",
        BOGUS,
        BAD,
        signed("bare-proof.test", after_signing=tamper.without_signatures("NSEC")),
    ),
    case(
        "a denial with broken signatures",
        "nobody@broken-proof.test",
        BOGUS,
        BAD,
        signed("broken-proof.test", nsec3=NSEC3, after_signing=tamper.broken_signatures("NSEC3")),
    ),
    case(
        "the denial of another name in the zone, replayed",
        "alice@replay.test",
        BOGUS,
        BAD,
        _replayed_denial("replay.test", [], "zzz.replay.test."),
    ),
    case(
        "the NSEC3 denial of another name in the zone, replayed",
        "alice@replay3.test",
        BOGUS,
        BAD,
        _replayed_denial("replay3.test", NSEC3, "deep.down.zzz.replay3.test."),
    ),
    case(
        "the denial from another zone, replayed",
        "alice@replay-far.test",
        BOGUS,
        BAD,
        _replayed_denial("replay-far.test", [], smimea_owner("nobody@nsec.test")),
    ),
    case(
        "the parent's NSEC at the zone cut, replayed as a denial (RFC 6840 section 4.1)",
        "alice@replay-cut.test",
        BOGUS,
        BAD,
        _replayed_denial("replay-cut.test", [], "zzz-not-there.test."),
    ),
    case(
        "more NSEC3 iterations than are computed count as unsigned (RFC 9276 section 3.2)",
        "nobody@iterations.test",
        INSECURE,
        NO_KEY,
        signed("iterations.test", nsec3=["-n", "-t", "500"]),
    ),
    case(
        "a wildcard of another person replayed over a record, NSEC",
        "alice@wild-replay.test",
        BOGUS,
        BAD,
        _replayed_wildcard("wild-replay.test", [], victims_own=True),
    ),
    case(
        "a wildcard of another person replayed over a record, NSEC3",
        "alice@wild-replay3.test",
        BOGUS,
        BAD,
        _replayed_wildcard("wild-replay3.test", NSEC3, victims_own=True),
    ),
    case(
        "an expanded wildcard without the proof that nothing closer exists",
        "alice@wild-bare.test",
        BOGUS,
        BAD,
        _replayed_wildcard("wild-bare.test", [], victims_own=False),
    ),
    case("a wildcard with its proof, NSEC", "anybody@wild.test", SECURE, USABLE, _wildcard("wild.test", [])),
    case("a wildcard with its proof, NSEC3", "anybody@wild3.test", SECURE, USABLE, _wildcard("wild3.test", NSEC3)),
    case(
        "a wildcard with an opt-out proof is not secure",
        "anybody@wild-out.test",
        INSECURE,
        NOT_PROVEN,
        _wildcard("wild-out.test", OPT_OUT),
    ),
    case(
        "a wildcard certificate of another address, a wildcard key with user ID *@domain",
        "else@wild.test",
        SECURE,
        USABLE,
        nothing,
    ),
    case(
        "NODATA at a wildcard",
        "nobody@wild-txt.test",
        SECURE,
        NO_KEY,
        lambda b: b.zone("wild-txt.test").add("*._smimecert.wild-txt.test.", "TXT", '"x"'),
    ),
]

CASES = [*PROOFS, *CHAINS, *DENIALS]
