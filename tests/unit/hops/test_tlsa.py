"""TLSA records against chains."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smilla.hops.tlsa import Judgement, Verdict, association, judge, read
from smilla.model import DNSAnswer, DNSSECStatus
from tests.certificates import NOW, key_usage, make_certificate

MX = "mx.example.org"
SIGNS = [(key_usage("key_cert_sign"), True)]
ROOT = make_certificate("p256", common_name="Root", ca=True, number=1, extensions=SIGNS)
MIDDLE = make_certificate("p256", common_name="Middle", ca=True, number=2, extensions=SIGNS, issuer=ROOT)
NAMED = [x509.DNSName(MX)]
LEAF = make_certificate("p256", other_names=NAMED, number=3, issuer=MIDDLE)[1]
CHAIN = (LEAF, MIDDLE[1], ROOT[1])
NEXT = make_certificate("p256", other_names=NAMED, number=4)[1]


def spki(raw: bytes) -> bytes:
    key = x509.load_der_x509_certificate(raw).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tlsa(usage: int, selector: int, matching_type: int, raw: bytes = LEAF) -> bytes:
    octets = spki(raw) if selector else raw
    octets = {0: octets, 1: hashlib.sha256(octets).digest(), 2: hashlib.sha512(octets).digest()}[matching_type]
    return bytes([usage, selector, matching_type]) + octets


def judged(
    *raw: bytes, chain: tuple[bytes, ...] = CHAIN, status: str = "secure", name: str = MX, malformed: int = 0
) -> Judgement:
    answer = DNSAnswer(f"_25._tcp.{MX}.", "TLSA", DNSSECStatus(status), raw, malformed)
    return judge(answer, chain, [name], NOW)


def codes(found: Judgement) -> list[str]:
    return [reason.code for finding in found.findings for reason in finding.reasons]


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching_type", [0, 1, 2])
@pytest.mark.parametrize(("usage", "raw"), [(3, LEAF), (2, MIDDLE[1]), (2, ROOT[1])], ids=["own", "middle", "root"])
def test_record_of_each_selector_and_matching_type_matches(
    usage: int, selector: int, matching_type: int, raw: bytes
) -> None:
    assert judged(tlsa(usage, selector, matching_type, raw)).verdict is Verdict.MATCH
    assert association(raw, selector, matching_type) == tlsa(usage, selector, matching_type, raw)[3:]


@pytest.mark.parametrize("usage", [2, 3])
def test_record_of_another_certificate_does_not_match(usage: int) -> None:
    found = judged(tlsa(usage, 1, 1, NEXT))
    assert found.verdict is Verdict.MISMATCH
    assert codes(found) == [{2: "no_anchor", 3: "other_certificate"}[usage]]


def test_next_key_stands_beside_the_one_that_matches() -> None:
    found = judged(tlsa(3, 1, 1), tlsa(3, 1, 1, NEXT))
    assert found.verdict is Verdict.MATCH
    assert [record.raw for record in found.others] == [hashlib.sha256(spki(NEXT)).digest()]
    assert judged(tlsa(3, 1, 1), tlsa(3, 1, 1, NEXT), chain=(NEXT,)).verdict is Verdict.MATCH
    assert judged(tlsa(3, 1, 1)).others == ()


def test_own_certificate_needs_neither_name_nor_dates_and_an_authority_needs_both() -> None:
    old = make_certificate("p256", other_names=[x509.DNSName("other.example")], number=5, issuer=MIDDLE)[1]
    late = make_certificate("p256", other_names=NAMED, number=6, issuer=MIDDLE, not_after=NOW - timedelta(days=1))[1]
    for raw, code in ((old, "other_name"), (late, "expired")):
        chain = (raw, *CHAIN[1:])
        assert judged(tlsa(3, 1, 1, raw), chain=chain).verdict is Verdict.MATCH
        found = judged(tlsa(2, 1, 1, ROOT[1]), chain=chain)
        assert (found.verdict, codes(found)) == (Verdict.MISMATCH, [code])


def test_authority_that_has_ended_is_no_anchor() -> None:
    ends = NOW - timedelta(days=1)
    root = make_certificate("p256", common_name="Root", ca=True, number=7, extensions=SIGNS, not_after=ends)
    leaf = make_certificate("p256", other_names=NAMED, number=8, issuer=root)[1]
    assert codes(judged(tlsa(2, 0, 1, root[1]), chain=(leaf, root[1]))) == ["expired"]


def test_authority_must_be_in_the_chain_that_the_server_presents() -> None:
    assert codes(judged(tlsa(2, 0, 0, ROOT[1]), chain=CHAIN[:2])) == ["no_anchor"]
    assert judged(tlsa(2, 0, 1, ROOT[1]), chain=(LEAF, ROOT[1], MIDDLE[1])).verdict is Verdict.MATCH


def test_path_is_worked_out_once_however_many_records_and_certificates_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verifying signatures is what a stranger's server can make dear."""
    verified: list[object] = []

    def is_issued(below: x509.Certificate, above: x509.Certificate) -> bool:
        verified.append(above)
        return False

    others = [make_certificate("p256", common_name="Middle", ca=True, number=n)[1] for n in range(300, 340)]
    monkeypatch.setattr("smilla.hops.tlsa._is_issued", is_issued)
    found = judged(*(tlsa(2, 0, 1, raw) for raw in others), chain=(LEAF, *others))
    assert set(codes(found)) == {"no_anchor"}
    assert len(verified) < 40


def test_longest_path_has_eight_certificates_above_the_servers_own() -> None:
    above = [make_certificate("p256", common_name="0", ca=True, number=20, extensions=SIGNS)]
    for number in range(1, 10):
        above.append(
            make_certificate(
                "p256", common_name=str(number), ca=True, number=20 + number, issuer=above[-1], extensions=SIGNS
            )
        )
    leaf = make_certificate("p256", other_names=NAMED, number=40, issuer=above[-1])[1]
    chain = (leaf, *(raw for _, raw in reversed(above)))
    assert judged(tlsa(2, 0, 1, chain[8]), chain=chain).verdict is Verdict.MATCH
    too_far = judged(tlsa(2, 0, 1, chain[9]), chain=chain)
    assert codes(too_far) == ["no_anchor"]
    assert "more than 8" in too_far.text


def test_certificate_of_no_authority_signs_nothing() -> None:
    mere = make_certificate("p256", common_name="Mere", ca=False, number=9)
    leaf = make_certificate("p256", other_names=NAMED, number=10, issuer=mere)[1]
    assert codes(judged(tlsa(2, 0, 1, mere[1]), chain=(leaf, mere[1]))) == ["no_anchor"]


def test_authority_of_the_same_name_with_another_key_signed_nothing() -> None:
    namesake = make_certificate("p256", common_name="Middle", ca=True, number=11, extensions=SIGNS)[1]
    assert codes(judged(tlsa(2, 0, 1, namesake), chain=(LEAF, namesake))) == ["no_anchor"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (tlsa(0, 0, 1, ROOT[1]), "unusable_usage"),
        (tlsa(1, 1, 1), "unusable_usage"),
        (bytes([255, 1, 1]) + bytes(32), "unusable_usage"),
        (bytes([3, 7, 1]) + bytes(32), "unknown_type"),
        (bytes([3, 1, 7]) + bytes(32), "unknown_type"),
        (bytes([3, 1, 1]) + bytes(31), "malformed"),
        (b"\3\1\1", "malformed"),
    ],
    ids=["pkix-ta", "pkix-ee", "private", "selector", "matching", "digest", "short"],
)
def test_record_that_no_client_can_use_is_no_absence(raw: bytes, code: str) -> None:
    found = judged(raw)
    assert (found.verdict, codes(found), found.others) == (Verdict.UNUSABLE, [code], ())
    assert judged(raw, tlsa(3, 1, 1)).verdict is Verdict.MATCH
    assert judged(raw, tlsa(3, 1, 1, NEXT)).verdict is Verdict.MISMATCH


def test_record_that_the_resolver_could_not_read_is_no_absence() -> None:
    assert judged(malformed=1).verdict is Verdict.UNUSABLE


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("secure", Verdict.ABSENT),
        ("insecure", Verdict.INSECURE),
        ("bogus", Verdict.BOGUS),
        ("indeterminate", Verdict.BOGUS),
        ("unreachable", Verdict.UNREACHABLE),
    ],
)
def test_absence_is_what_is_proven_and_nothing_else(status: str, verdict: Verdict) -> None:
    assert judged(status=status).verdict is verdict
    if status != "secure":
        assert judged(tlsa(3, 1, 1), status=status).verdict is verdict


def test_certificate_that_cannot_be_read_is_unclear() -> None:
    assert judged(tlsa(3, 1, 1), chain=(b"no certificate",)).verdict is Verdict.UNCLEAR
    assert judged(tlsa(3, 1, 1), chain=()).verdict is Verdict.UNCLEAR


def test_record_is_shown_as_in_a_zone_file() -> None:
    assert read(b"\3\1\1" + bytes(32)).shown == "3 1 1 0000000000000000"
