"""Cases of records and keys, in zones that are in order: what is published can be used, or cannot, or is no key."""

from __future__ import annotations

import hashlib
from typing import Any

import dns.flags
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from cryptography import x509

from smilla.formats.openpgp import packets
from smilla.model import KeyVerdict
from tests.lab.dns import Kind, Zone, smimea_owner
from tests.lab.servers import Ask, rewriting
from tests.live.dnssec import tamper
from tests.live.dnssec.bench import (
    BOUND,
    DAY,
    INSECURE,
    MADE,
    NO_KEY,
    NOT_PROVEN,
    NOW,
    PRIMARY,
    SECURE,
    START,
    UNUSABLE,
    USABLE,
    Bench,
    Case,
    Put,
    case,
    certificate,
    pgp_key,
)
from tests.openpgp_maker import FLAGS_CERTIFY, FLAGS_SIGN, armoured, packet, seconds, secret, signature, subkey, user_id

Record = tuple[int, int, int, bytes]  # usage, selector, matching type, data
_PAST: dict[str, Any] = {"not_before": NOW - 60 * DAY, "not_after": NOW - DAY}


def _smimea(name: str, *records: Record) -> Put:
    """Puts SMIMEA records (usage, selector, matching type, data) for the local part on the bench."""

    def put(bench: Bench) -> None:
        for usage, selector, matching_type, data in records:
            bench.zone("keys.test").add_smimea(
                f"{name}@keys.test", data, usage=usage, selector=selector, matching_type=matching_type
            )

    return put


def _key(name: str, *keys: bytes) -> Put:
    def put(bench: Bench) -> None:
        for raw in keys:
            bench.zone("keys.test").add_openpgpkey(f"{name}@keys.test", raw)

    return put


def _for(name: str, **options: Any) -> bytes:
    return certificate(f"{name}@keys.test", **options)


def _spki(der: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = x509.load_der_x509_certificate(der).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _record(says: str, name: str, verdict: KeyVerdict, *records: Record, reason: str = "") -> Case:
    return case(says, f"{name}@keys.test", SECURE, verdict, _smimea(name, *records), reason=reason)


def _pgp(says: str, name: str, verdict: KeyVerdict, *keys: bytes, reason: str = "") -> Case:
    return case(says, f"{name}@keys.test", SECURE, verdict, _key(name, *keys), reason=reason)


SMIMEA = [
    _record("usage 3: a P-256 certificate", "ec", USABLE, (3, 0, 0, _for("ec"))),
    _record("usage 3: a P-384 certificate", "ec384", USABLE, (3, 0, 0, _for("ec384", kind="p384"))),
    _record("usage 3: an RSA-2048 certificate", "rsa", USABLE, (3, 0, 0, _for("rsa", kind="rsa2048"))),
    _record("usage 3: a certificate without an address", "anonymous", USABLE, (3, 0, 0, certificate())),
    _record(
        "usage 3: the address in another case (RFC 8550)", "case", USABLE, (3, 0, 0, certificate("Case@KEYS.test"))
    ),
    _record("usage 3: CA:TRUE alone refuses nothing", "reqx509", USABLE, (3, 0, 0, _for("reqx509", ca=True))),
    _record(
        "a hash only",
        "hash",
        NO_KEY,
        (3, 0, 1, hashlib.sha256(_for("hash")).digest()),
        reason="not meant for encryption",
    ),
    _record("a bare public key", "spki", NO_KEY, (3, 1, 0, _spki(_for("spki"))), reason="not meant for encryption"),
    _record("a CA's certificate only (usage 2)", "ca", NO_KEY, (2, 0, 0, certificate(ca=True)), reason="usage 2"),
    _record("usage 1 without ca_file", "pkix", UNUSABLE, (1, 0, 0, _for("pkix")), reason="ca_file"),
    _record("an unknown usage", "usage9", NO_KEY, (9, 0, 0, _for("usage9")), reason="usage 9"),
    _record("an unknown selector", "selector9", NO_KEY, (3, 9, 0, _for("selector9")), reason="selector 9"),
    _record("an unknown matching type", "matching9", NO_KEY, (3, 0, 9, _for("matching9")), reason="matching type 9"),
    _record("a certificate for signing only", "sign", NO_KEY, (3, 0, 0, _for("sign", usages=["digital_signature"]))),
    _record(
        "a signing and an encryption certificate",
        "both",
        USABLE,
        (3, 0, 0, _for("both", usages=["digital_signature"])),
        (3, 0, 0, _for("both", usages=["key_agreement"], number=1)),
    ),
    _record("an expired certificate", "expired", UNUSABLE, (3, 0, 0, _for("expired", **_PAST)), reason="expired on"),
    _record(
        "a certificate that is not valid yet",
        "early",
        UNUSABLE,
        (3, 0, 0, _for("early", not_before=NOW + DAY)),
        reason="not valid before",
    ),
    _record(
        "an expired certificate beside a good one",
        "renewed",
        USABLE,
        (3, 0, 0, _for("renewed", **_PAST)),
        (3, 0, 0, _for("renewed", number=1)),
    ),
    _record(
        "another person's certificate",
        "other",
        UNUSABLE,
        (3, 0, 0, certificate("someone@else.test")),
        reason="not for this address",
    ),
    _record("an RSA key of 1024 bits", "weak", UNUSABLE, (3, 0, 0, _for("weak", kind="rsa1024")), reason="1024"),
    _record("a key that can sign only (Ed25519)", "ed", NO_KEY, (3, 0, 0, _for("ed", kind="ed25519"))),
    _record("octets that are no certificate", "garbage", UNUSABLE, (3, 0, 0, b"\x30\x82garbage"), reason="malformed"),
    _record("a certificate with octets after it", "trailing", UNUSABLE, (3, 0, 0, _for("trailing") + b"\0")),
    case(
        "an SMIMEA record of two octets is no absence",
        "alice@short.test",
        SECURE,
        UNUSABLE,
        lambda b: _short(b, "short.test", Kind.SECURE),
    ),
    case(
        "a malformed SMIMEA record in an unsigned zone",
        "alice@open-short.test",
        INSECURE,
        NOT_PROVEN,
        lambda b: _short(b, "open-short.test", Kind.INSECURE),
    ),
    case(
        "a malformed SMIMEA record, a good OPENPGPKEY",
        "alice@rescued.test",
        SECURE,
        USABLE,
        lambda b: _short(b, "rescued.test", Kind.SECURE).add_openpgpkey(
            "alice@rescued.test", pgp_key("alice@rescued.test")
        ),
    ),
]


def _short(bench: Bench, name: str, kind: Kind) -> Zone:
    """A zone in which alice's SMIMEA record has two octets.  nsd does not load such a record, so it is kept aside
    with its signature and served by a server in front."""
    owner = smimea_owner(f"alice@{name}")
    short = dns.rrset.from_rdata(owner, 60, dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.SMIMEA, b"\3\0"))
    aside = [short]

    def keep_aside(lines: list[str]) -> list[str]:
        signature = next(line for line in lines if line.startswith(owner) and "RRSIG\tSMIMEA" in line)
        aside[1:] = [dns.rrset.from_text(owner, 60, "IN", "RRSIG", signature.split(None, 4)[4].partition(";")[0])]
        return tamper.without("SMIMEA")(lines)

    def rewrite(query: dns.message.Message, ask: Ask) -> dns.message.Message:
        if query.question[0].rdtype != dns.rdatatype.SMIMEA:
            return ask(query)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        response.answer = list(aside)
        return response

    zone = bench.served(name, rewriting(bench.lab.authority_port, rewrite), kind=kind)
    if kind is Kind.SECURE:
        zone.add(owner, "TYPE53", b"\3\0").after_signing = keep_aside
    return zone


def _expired_key() -> bytes:
    soon = seconds(9, 86400)
    return START + user_id(PRIMARY, "old@keys.test", MADE, FLAGS_CERTIFY, soon) + BOUND


def _renewed_key() -> bytes:
    """The same primary key, certified for its owner's address after the expired record was made."""
    return START + user_id(PRIMARY, "renewed-key@keys.test", MADE + 60) + BOUND


def _revoked_key() -> bytes:
    revocation = signature(PRIMARY, 0x20, PRIMARY.signed, MADE + 60)
    return START + revocation + user_id(PRIMARY, "revoked@keys.test", MADE) + BOUND


def _signing_key() -> bytes:
    return (
        START + user_id(PRIMARY, "signer@keys.test", MADE) + subkey(PRIMARY, secret("ed25519", MADE), MADE, FLAGS_SIGN)
    )


def _secret_key() -> bytes:
    key = pgp_key("secret@keys.test")
    bodies = {6: 5, 14: 7}
    return b"".join(
        packet(bodies[p.tag], p.body + b"\0" + bytes(34)) if p.tag in bodies else p.raw for p in packets(key)
    )


OPENPGPKEY = [
    _pgp("a key in order", "bob", USABLE, pgp_key("Bob <bob@keys.test>")),
    _pgp(
        "armour where binary is due (RFC 7929 section 2.3)",
        "armour",
        UNUSABLE,
        armoured(pgp_key("armour@keys.test"), "PGP PUBLIC KEY BLOCK"),
    ),
    _pgp("octets that are no packets", "noise", UNUSABLE, b"\xff\x00noise" * 9),
    _pgp("two keys in one record", "two", UNUSABLE, pgp_key("two@keys.test") * 2),
    _pgp("a secret key", "secret", UNUSABLE, _secret_key()),
    _pgp("an expired key", "old", UNUSABLE, _expired_key(), reason="expired"),
    _pgp("a revoked key", "revoked", UNUSABLE, _revoked_key(), reason="revoked"),
    _pgp("another person's user ID", "stranger", UNUSABLE, pgp_key("someone@else.test")),
    _pgp("a user ID of the whole domain", "whole", USABLE, pgp_key("*@keys.test")),
    _pgp("a user ID of another whole domain", "half", UNUSABLE, pgp_key("*@else.test")),
    _pgp("a wildcard within a local part is none", "part", UNUSABLE, pgp_key("p*@keys.test")),
    _pgp("a key for signing only", "signer", NO_KEY, _signing_key()),
    _pgp("two records, one of them expired", "renewed-key", USABLE, _expired_key(), _renewed_key()),
    case(
        "an expired certificate, a usable key: the later source is used",
        "later@keys.test",
        SECURE,
        USABLE,
        lambda b: (
            _smimea("later", (3, 0, 0, _for("later", **_PAST)))(b),
            _key("later", pgp_key("later@keys.test"))(b),
        ),
    ),
]

CASES = [*SMIMEA, *OPENPGPKEY]
