"""The records of one answer, together: every usage, selector and matching type, and what they say of each other."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.address import parse
from smilla.formats import der
from smilla.keys.discovery.smimea import candidates
from smilla.keys.validity import x509_paths
from smilla.keys.validity.smimea import RecordSet
from smilla.keys.validity.x509 import TrustStore, assess_all, load_trust_store, names_another
from smilla.model import Assessment, DNSAnswer, DNSSECStatus, Format, SMIMEACandidate, X509Key
from tests.certificates import NOW, association_data, make_certificate, to_pem
from tests.unit.timing import idle_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import verification

EMAIL = "hugh@example.org"
CA_USAGES = ["key_cert_sign", "crl_sign"]
Pair = tuple["PrivateKeyTypes", bytes]
Record = tuple[int, int, int, bytes]


def ca(number: int, issuer: Pair | None = None, **more: object) -> Pair:
    name = f"CA {number}"
    return make_certificate("p256", number=number, ca=True, usages=CA_USAGES, common_name=name, issuer=issuer, **more)  # type: ignore[arg-type]


def leaf(issuer: Pair | None, number: int = 0, **more: object) -> bytes:
    return make_certificate("p256", number=number, email=EMAIL, issuer=issuer, **more)[1]  # type: ignore[arg-type]


ROOT, OTHER = ca(20), ca(21)
MIDDLE = ca(22, ROOT)
HUGH = leaf(ROOT)


def store(*certificates: bytes) -> TrustStore:
    return load_trust_store(b"".join(map(to_pem, certificates)))


def record(raw: bytes, usage: int, selector: int = 0, matching_type: int = 0) -> Record:
    return usage, selector, matching_type, association_data(raw, selector, matching_type)


def judged(
    *records: Record, trusted: TrustStore | None = None, others: Sequence[bytes] = (), now: datetime = NOW
) -> tuple[Assessment, ...]:
    answer = [
        SMIMEACandidate("smimea", "x", Format.SMIME, raw, DNSSECStatus.SECURE, usage, selector, matching_type)
        for usage, selector, matching_type, raw in records
    ]
    return assess_all(answer, parse(EMAIL), now, trusted, others)


def codes(found: Assessment) -> list[str]:
    assert (found.key is None) == bool(found.reasons)
    return [reason.code for reason in found.reasons]


def used(found: Assessment) -> bytes:
    assert isinstance(found.key, X509Key)
    return found.key.raw


# --- one record of each kind -------------------------------------------------------------------------------

KINDS = [(s, m) for s in (0, 1) for m in (0, 1, 2)]
ALL = [(u, s, m) for u in range(4) for s, m in KINDS]
NOT_HELD = {(1, 0): "bare_key"} | {kind: "hash_only" for kind in KINDS if kind[1]}


@pytest.mark.parametrize(("usage", "selector", "matching_type"), ALL)
@pytest.mark.parametrize("trusting", [False, True])
def test_each_kind_of_record_alone(usage: int, selector: int, matching_type: int, trusting: bool) -> None:
    (found,) = judged(record(HUGH, usage, selector, matching_type), trusted=store(ROOT[1]) if trusting else None)
    held = [] if usage == 3 or trusting else ["no_trust_store"]
    expected = held if (selector, matching_type) == (0, 0) else [NOT_HELD[selector, matching_type]]
    if usage == 2:
        expected = ["ca_only"] + [code for code in expected if code != "no_trust_store"]
    assert codes(found) == expected
    assert found.meant_for_encryption == (usage != 2 and (selector, matching_type) == (0, 0))


@pytest.mark.parametrize(("usage", "selector", "matching_type"), ALL)
@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("form", [bytes, to_pem])
def test_each_kind_of_record_with_the_certificate_in_the_directory(
    usage: int, selector: int, matching_type: int, trusting: bool, form: type[bytes]
) -> None:
    (found,) = judged(
        record(HUGH, usage, selector, matching_type),
        trusted=store(ROOT[1]) if trusting else None,
        others=[form(leaf(OTHER, 1)), form(HUGH)],
    )
    expected = {0: ["no_trust_store"], 1: ["no_trust_store"], 2: ["ca_only"], 3: []}[usage]
    assert codes(found) == ([] if trusting and usage != 2 else expected)
    assert found.meant_for_encryption == (usage != 2)
    if found.key:
        assert used(found) == HUGH


@pytest.mark.parametrize(("selector", "matching_type"), KINDS)
@pytest.mark.parametrize("usage", [1, 3])
def test_each_kind_of_record_with_the_certificate_in_another_one(usage: int, selector: int, matching_type: int) -> None:
    """Usage 1 would not do by itself here, and what names it under usage 3 makes up for that."""
    held, named = judged(record(HUGH, 1), record(HUGH, usage, selector, matching_type))
    assert codes(held) == ["no_trust_store"]
    assert codes(named) == (["no_trust_store"] if usage == 1 else [])


@pytest.mark.parametrize(("selector", "matching_type"), KINDS)
def test_each_kind_of_record_that_names_a_ca_under_usage_2(selector: int, matching_type: int) -> None:
    anchor = record(ROOT[1], 2, selector, matching_type)
    assert [codes(a) for a in judged(record(HUGH, 1), anchor, others=[ROOT[1]])] == [[], ["ca_only"]]
    known = (selector, matching_type) == (0, 0)
    assert codes(judged(record(HUGH, 1), anchor)[0]) == ([] if known else ["no_trust_store"])


@pytest.mark.parametrize(("selector", "matching_type"), KINDS)
def test_each_kind_of_record_that_names_a_ca_under_usage_0(selector: int, matching_type: int) -> None:
    """Its certificate need not be published: what is in ca_file is compared too."""
    trusted = store(ROOT[1], OTHER[1])
    within = judged(record(HUGH, 1), record(ROOT[1], 0, selector, matching_type), trusted=trusted)
    without = judged(record(HUGH, 1), record(OTHER[1], 0, selector, matching_type), trusted=trusted)
    assert (codes(within[0]), codes(without[0])) == ([], ["other_ca"])
    assert not within[1].meant_for_encryption


@pytest.mark.parametrize(
    ("usage", "selector", "matching_type", "expected"),
    [
        (4, 0, 0, ["unknown_usage"]),
        (3, 2, 0, ["unknown_selector"]),
        (3, 0, 3, ["unknown_matching_type"]),
        (9, 9, 9, ["unknown_usage", "unknown_selector", "unknown_matching_type"]),
    ],
)
def test_unknown_kinds_are_all_named_and_mean_nothing_for_the_others(
    usage: int, selector: int, matching_type: int, expected: list[str]
) -> None:
    strange, held = judged((usage, selector, matching_type, HUGH), record(HUGH, 3))
    assert (codes(strange), strange.meant_for_encryption) == (expected, False)
    assert codes(held) == []


def test_the_names_of_records_that_need_a_certificate_from_elsewhere() -> None:
    def named(usage: int, selector: int, matching_type: int) -> bool:
        return names_another(SMIMEACandidate("smimea", "x", Format.SMIME, b"", None, usage, selector, matching_type))

    assert [kind for kind in KINDS if not named(3, *kind)] == [(0, 0)]
    assert not named(4, 1, 1)
    assert not named(3, 2, 1)


# --- named certificates ------------------------------------------------------------------------------------


def test_a_named_certificate_is_described_with_its_origin() -> None:
    (found,) = judged(record(HUGH, 3, 1, 1), others=[HUGH])
    assert found.facts["certificate_from"] == "the directory"
    assert found.facts["subject"] == "CN=Hugh"
    _, found = judged(record(HUGH, 1), record(HUGH, 3, 1, 1), others=[HUGH])
    assert found.facts["certificate_from"] == "another record of the answer"


def test_a_hash_of_another_certificate_names_nothing() -> None:
    (found,) = judged(record(HUGH, 3, 0, 1), others=[leaf(ROOT, 1)])
    assert codes(found) == ["hash_only"]


def test_a_truncated_hash_names_nothing() -> None:
    (found,) = judged((3, 1, 1, record(HUGH, 3, 1, 1)[3][:31]), others=[HUGH])
    assert codes(found) == ["malformed"]
    assert found.meant_for_encryption


@pytest.mark.parametrize("usage", [0, 1, 3])
@pytest.mark.parametrize(("selector", "matching_type"), [(1, 0), (0, 1), (1, 1), (0, 2), (1, 2)])
def test_a_certificate_under_the_wrong_numbers_was_meant_for_encryption(
    usage: int, selector: int, matching_type: int
) -> None:
    """Nobody can tell what its publisher meant, save that it is not nothing."""
    for raw in (HUGH, b"", HUGH[:40]):
        (found,) = judged((usage, selector, matching_type, raw))
        assert (codes(found), found.meant_for_encryption) == (["malformed"], True)


_ALGORITHM, _BITS = der.sequence(der.oid("1.2.3")), der.bit_string(b"key")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (der.sequence(_ALGORITHM, _BITS), "bare_key"),
        (der.sequence(_ALGORITHM, _BITS) + b"\0", "malformed"),
        (der.sequence(_ALGORITHM, _BITS, der.null()), "malformed"),
        (der.sequence(_ALGORITHM), "malformed"),
        (der.sequence(_BITS, _ALGORITHM), "malformed"),
        (der.sequence(_ALGORITHM, der.octet_string(b"key")), "malformed"),
        (der.tlv(0x31, _ALGORITHM + _BITS), "malformed"),
    ],
    ids=["key", "trailing", "three parts", "one part", "other order", "octets", "set"],
)
def test_only_a_public_key_is_one_without_its_certificate(raw: bytes, code: str) -> None:
    (found,) = judged((3, 1, 0, raw))
    assert (codes(found), found.meant_for_encryption) == ([code], code == "malformed")


def test_of_certificates_with_a_named_key_one_that_was_meant_for_encryption_decides() -> None:
    signing = leaf(ROOT, usages=["digital_signature"], not_before=NOW - timedelta(days=1))
    old = leaf(ROOT, not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=2))
    assert [codes(a) for a in judged(record(old, 3, 1, 1), others=[signing])] == [["signing_only"]]
    for others in ([signing, old], [old, signing]):
        (found,) = judged(record(old, 3, 1, 1), others=others)
        assert (codes(found), found.meant_for_encryption) == (["expired"], True)


def test_a_hash_of_the_key_is_no_hash_of_the_certificate() -> None:
    (found,) = judged((3, 0, 1, record(HUGH, 3, 1, 1)[3]), others=[HUGH])
    assert codes(found) == ["hash_only"]


def test_a_named_certificate_that_has_expired_is_unusable_and_meant_for_encryption() -> None:
    old = leaf(ROOT, not_after=NOW - timedelta(days=1))
    (found,) = judged(record(old, 3, 1, 1), others=[old])
    assert (codes(found), found.meant_for_encryption) == (["expired"], True)


def test_a_named_certificate_is_for_the_address_that_was_asked_for() -> None:
    """The directory's file would do without; what a record in DNS names must fit as one that it holds."""
    other = make_certificate("p256", email="x@example.org")[1]
    (found,) = judged(record(other, 3, 1, 1), others=[other])
    assert codes(found) == ["other_address"]


def test_of_several_certificates_with_the_named_key_the_newest_usable_one_counts() -> None:
    old, new, future = (
        leaf(ROOT, not_before=NOW + timedelta(days=days), not_after=NOW + timedelta(days=200)) for days in (-90, -1, 9)
    )
    for others in ([old, new, future], [future, new, old]):
        assert used(judged(record(old, 3, 1, 2), others=others)[0]) == new


# --- anchors -----------------------------------------------------------------------------------------------


def test_usage_2_alone_gives_nothing_to_encrypt_to() -> None:
    (found,) = judged(record(ROOT[1], 2))
    assert (codes(found), found.meant_for_encryption) == (["ca_only"], False)
    assert found.facts["subject"] == "CN=CA 20"


def test_usage_2_with_an_end_entitys_certificate_is_no_anchor() -> None:
    """Not for itself either: that would be usage 3 without saying so."""
    anchor, held = judged(record(HUGH, 2), record(HUGH, 1))
    assert codes(anchor) == ["ca_only"]
    assert "no trust anchor" in anchor.reasons[0].text
    assert codes(held) == ["no_trust_store"]


def test_usage_2_vouches_for_no_certificate_of_another_ca() -> None:
    anchor, held = judged(record(OTHER[1], 2), record(HUGH, 1))
    assert codes(anchor) == ["ca_only"]
    assert codes(held) == ["untrusted"]


def test_usage_2_vouches_for_nobody_after_its_end_and_says_so() -> None:
    old = ca(23, not_after=NOW - timedelta(days=1))
    anchor, held = judged(record(old[1], 2), record(leaf(old), 1))
    assert codes(anchor) == ["ca_only", "expired"]
    assert codes(held) == ["untrusted"]


def test_usage_2_with_text_in_place_of_a_certificate_is_no_anchor() -> None:
    """PEM is for files."""
    held, _ = judged(record(HUGH, 1), (2, 0, 0, to_pem(ROOT[1])))
    assert codes(held) == ["no_trust_store"]
    held, _ = judged(record(leaf(MIDDLE), 1), (0, 0, 0, to_pem(MIDDLE[1])), trusted=store(ROOT[1]))
    assert codes(held) == ["untrusted"]
    named, _ = judged(record(HUGH, 3, 0, 1), (3, 0, 0, to_pem(HUGH)))
    assert codes(named) == ["hash_only"]


def test_usage_2_with_a_renewed_ca_counts_however_many_old_ones_stand_beside_it() -> None:
    old = [record(ca(24, not_after=NOW - timedelta(days=days))[1], 2) for days in range(1, 4)]
    new = ca(24, not_after=NOW + timedelta(days=99))
    for anchors in ([*old, record(new[1], 2)], [record(new[1], 2), *old]):
        assert codes(judged(record(leaf(new), 1), *anchors)[0]) == []


def test_usage_2_with_an_intermediate_ca_needs_no_root() -> None:
    assert codes(judged(record(MIDDLE[1], 2), record(leaf(MIDDLE), 1))[1]) == []


def test_usage_2_does_not_make_up_for_an_expired_certificate() -> None:
    held, _ = judged(record(HUGH, 1), record(ROOT[1], 2), now=NOW + timedelta(days=31))
    assert codes(held) == ["expired"]


def test_usage_2_and_the_trust_store_stand_side_by_side() -> None:
    found = judged(record(HUGH, 1), record(leaf(OTHER, 1), 1), record(OTHER[1], 2), trusted=store(ROOT[1]))
    assert [codes(a) for a in found] == [[], [], ["ca_only"]]


# --- intermediates and paths -------------------------------------------------------------------------------


def test_an_intermediate_ca_may_come_from_the_answer() -> None:
    held, middle = judged(record(leaf(MIDDLE), 1), record(MIDDLE[1], 0), trusted=store(ROOT[1]))
    assert codes(held) == []
    assert held.facts["path"] == "CN=Hugh < CN=CA 22 < CN=CA 20"
    assert codes(middle) == ["ca_only"]
    assert codes(judged(record(leaf(MIDDLE), 1), trusted=store(ROOT[1]))[0]) == ["untrusted"]


def test_an_intermediate_ca_may_come_from_the_trust_store() -> None:
    (held,) = judged(record(leaf(MIDDLE), 1), trusted=store(ROOT[1], MIDDLE[1]))
    assert held.facts["path"] == "CN=Hugh < CN=CA 22 < CN=CA 20"


def test_an_intermediate_ca_may_be_trusted_without_its_root() -> None:
    assert codes(judged(record(leaf(MIDDLE), 1), trusted=store(MIDDLE[1]))[0]) == []
    assert codes(judged(record(leaf(MIDDLE), 1), trusted=store(MIDDLE[1], OTHER[1]))[0]) == []


def test_a_path_that_is_too_long_is_refused() -> None:
    cas = [ROOT]
    for number in range(30, 35):
        cas.append(ca(number, cas[-1]))
    for long, expected in ((5, []), (6, ["untrusted"])):
        records = [record(leaf(cas[long - 1]), 1), *(record(pair[1], 0) for pair in cas[1:long])]
        assert codes(judged(*records, trusted=store(ROOT[1]))[0]) == expected


# --- constraints -------------------------------------------------------------------------------------------


def test_usage_0_restricts_usage_1_to_its_ca() -> None:
    trusted = store(ROOT[1], OTHER[1])
    mine, others, _ = judged(record(HUGH, 1), record(leaf(OTHER, 1), 1), record(ROOT[1], 0), trusted=trusted)
    assert (codes(mine), codes(others)) == ([], ["other_ca"])
    assert others.meant_for_encryption


def test_usage_0_may_name_an_intermediate_ca_whose_root_is_trusted() -> None:
    trusted = store(ROOT[1], MIDDLE[1])
    assert codes(judged(record(leaf(MIDDLE), 1), record(MIDDLE[1], 0, 1, 1), trusted=trusted)[0]) == []
    assert codes(judged(record(HUGH, 1), record(MIDDLE[1], 0, 1, 1), trusted=trusted)[0]) == ["other_ca"]


def test_usage_0_may_name_the_root_above_an_intermediate_ca_that_is_trusted_too() -> None:
    trusted = store(MIDDLE[1], ROOT[1])
    assert codes(judged(record(leaf(MIDDLE), 1), record(ROOT[1], 0, 0, 1), trusted=trusted)[0]) == []


def test_one_of_several_cas_of_usage_0_is_enough() -> None:
    cas = record(ROOT[1], 0, 1, 1), record(OTHER[1], 0, 1, 1)
    assert codes(judged(record(HUGH, 1), *cas, trusted=store(ROOT[1]))[0]) == []


def test_usage_0_does_not_trust_its_ca() -> None:
    held, _ = judged(record(HUGH, 1), record(ROOT[1], 0))
    assert codes(held) == ["no_trust_store"]
    held, _ = judged(record(HUGH, 1), record(ROOT[1], 0), trusted=store(OTHER[1]))
    assert codes(held) == ["untrusted"]


def test_usage_0_restricts_what_usage_2_vouches_for() -> None:
    held, *_ = judged(record(HUGH, 1), record(ROOT[1], 2), record(OTHER[1], 0, 0, 1))
    assert codes(held) == ["other_ca"]


def test_usage_0_says_nothing_of_usage_3() -> None:
    held, _ = judged(record(HUGH, 3), record(OTHER[1], 0))
    assert codes(held) == []


def test_end_entity_under_usage_0_restricts_nobody_else() -> None:
    found = judged(record(HUGH, 0), record(leaf(OTHER, 1), 1), trusted=store(ROOT[1], OTHER[1]))
    assert [codes(a) for a in found] == [[], []]


def test_malformed_certificate_under_usage_0_restricts_nobody_else() -> None:
    malformed, held = judged((0, 0, 0, b"garbage"), record(HUGH, 1), trusted=store(ROOT[1]))
    assert (codes(malformed), malformed.meant_for_encryption) == (["malformed"], True)
    assert codes(held) == []


# --- several records ---------------------------------------------------------------------------------------


def test_records_that_name_different_certificates_each_stand_alone() -> None:
    other = leaf(OTHER, 1)
    found = judged(record(HUGH, 3), record(other, 3, 1, 1))
    assert [codes(a) for a in found] == [[], ["hash_only"]]
    found = judged(record(HUGH, 3), record(other, 3, 1, 1), others=[other])
    assert [used(a) for a in found] == [HUGH, other]


def test_of_separate_certificates_the_one_for_encryption_is_usable() -> None:
    signing = leaf(ROOT, 1, usages=["digital_signature"])
    encryption = leaf(ROOT, 2, usages=["key_agreement"])
    found = judged(record(signing, 3), record(encryption, 3), record(signing, 3, 1, 1), record(encryption, 3, 1, 1))
    assert [codes(a) for a in found] == [["signing_only"], [], ["signing_only"], []]


def test_the_time_is_judged_anew_each_time() -> None:
    after = NOW + timedelta(days=31)
    for now, expected in ((NOW, []), (after, ["expired"]), (NOW, [])):
        assert codes(judged(record(HUGH, 1), trusted=store(ROOT[1]), now=now)[0]) == expected
        assert codes(judged(record(HUGH, 3), now=now)[0]) == expected


def test_a_path_is_validated_as_of_the_given_time() -> None:
    then = NOW + timedelta(days=9000)
    start, end = then - timedelta(days=1), then + timedelta(days=1)
    root = ca(60, not_before=start, not_after=end)
    raw = leaf(root, not_before=start, not_after=end)
    assert codes(judged(record(raw, 1), trusted=store(root[1]), now=then)[0]) == []


def test_paths_are_looked_for_a_limited_number_of_times() -> None:
    found = judged(*(record(leaf(ROOT, serial=serial + 1), 1) for serial in range(20)), trusted=store(ROOT[1]))
    left = [one for one in found if one.key is None]
    assert len(left) == 4
    assert all(codes(one) == ["too_many_candidates"] and "more than 16" in one.reasons[0].text for one in left)


@pytest.mark.parametrize(
    ("kind", "searched"), [("one key", 5), ("each its key", 2), ("cross-signed", 2), ("large curve", 1)]
)
def test_searches_that_fail_are_bounded_together(kind: str, searched: int, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = "p521" if kind == "large curve" else "p256"

    def alike(number: int, issuer: Pair | None = None) -> Pair:
        return make_certificate(
            curve, number=70 + number, ca=True, usages=CA_USAGES, common_name="Alike", issuer=issuer
        )

    cas = [alike(0 if kind == "one key" else number) for number in range(4)]
    if kind == "cross-signed":
        cas += [alike(one, cas[other]) for one in range(3) for other in range(3) if one != other]
    answer = [record(raw, 0) for _, raw in cas] + [record(leaf(cas[0], number), 1) for number in range(16)]
    searches: list[None] = []
    real = x509_paths._verifier

    def counted(anchors: verification.Store, now: datetime) -> verification.ClientVerifier:
        searches.append(None)
        return real(anchors, now)

    monkeypatch.setattr(x509_paths, "_verifier", counted)
    found = judged(*answer, trusted=store(ROOT[1]))
    assert len(searches) == searched
    assert {code for one in found for code in codes(one)} <= {"untrusted", "too_many_candidates", "ca_only"}
    assert ["too_many_candidates"] in [codes(one) for one in found]


def test_a_path_that_only_a_ca_left_out_could_make_is_not_called_untrusted() -> None:
    cas = [ca(50, ROOT)[1] for _ in range(5)]
    stranger = leaf(OTHER)
    (*_, found) = judged(*(record(raw, 0) for raw in cas), record(stranger, 1), trusted=store(ROOT[1]))
    assert codes(found) == ["too_many_candidates"]
    (*_, found) = judged(record(cas[0], 0), record(stranger, 1), trusted=store(ROOT[1]))
    assert codes(found) == ["untrusted"]


def test_of_hundreds_of_records_the_same_are_judged_in_any_order() -> None:
    answer = [record(HUGH, 3), *((3, 1, 1, number.to_bytes(32)) for number in range(300))]
    expected = dict(zip(answer, map(codes, judged(*answer)), strict=True))
    assert sum(found == ["too_many_candidates"] for found in expected.values()) == 301 - 64
    assert expected[answer[0]] == []
    backwards = answer[::-1]
    assert dict(zip(backwards, map(codes, judged(*backwards)), strict=True)) == expected


def test_of_too_many_records_those_that_need_no_path_are_looked_at_first() -> None:
    others = [record(leaf(ROOT, serial=serial + 1), usage) for serial, usage in enumerate([0, 1] * 40)]
    found = judged(*others, record(HUGH, 3))
    assert codes(found[-1]) == []
    assert sum(one.key is None and codes(one) == ["too_many_candidates"] for one in found) == 81 - 64


# --- any octets --------------------------------------------------------------------------------------------

_MATERIAL = [HUGH, ROOT[1], OTHER[1], MIDDLE[1], leaf(MIDDLE), b"", b"\x30\x80", bytes(32)]
_DATA = st.one_of(
    st.binary(max_size=60),
    st.builds(association_data, st.sampled_from(_MATERIAL[:5]), st.integers(0, 1), st.integers(0, 2)),
    st.sampled_from(_MATERIAL),
    st.builds(lambda raw, at: raw[: at % len(raw)] + b"\0" + raw[at % len(raw) :], st.just(HUGH), st.integers(0, 500)),
)
_RDATA = st.one_of(
    st.binary(max_size=5),
    st.builds(lambda u, s, m, raw: bytes((u, s, m)) + raw, *[st.integers(0, 4)] * 2, st.integers(0, 3), _DATA),
)
_TRUSTED = store(ROOT[1])


@given(st.lists(_RDATA, max_size=12), st.lists(_DATA, max_size=3), st.booleans())
@settings(max_examples=300)
def test_any_records_give_one_assessment_each(rdata: list[bytes], others: list[bytes], trusting: bool) -> None:
    found = candidates(DNSAnswer("x", "SMIMEA", DNSSECStatus.SECURE, tuple(rdata)))
    assessments = assess_all(found, parse(EMAIL), NOW, _TRUSTED if trusting else None, others)
    assert [a.candidate for a in assessments] == list(found)
    for one in assessments:
        assert (one.key is None) == bool(one.reasons)
        assert one.key is None or one.key.raw in _MATERIAL


def answer_of(*records: Record) -> float:
    """Seconds that 64 KiB of records take, as much as a DNS answer holds."""
    size, kept = 0, []
    for one in records * 5000:
        size += len(one[3]) + 15
        if size > 65535:
            break
        kept.append(one)
    return idle_seconds(lambda: judged(*kept, trusted=store(OTHER[1])), 2)


def test_an_answer_full_of_hashes_is_judged_soon() -> None:
    assert answer_of(record(HUGH, 3), *(record(HUGH, 3, 1, 1) for _ in range(100))) < 2


def test_an_answer_full_of_certificates_with_one_key_and_of_its_hashes_is_judged_soon() -> None:
    """Each hash names all of them; only a few are looked at."""
    same = [record(leaf(ROOT, serial=serial + 1), 3) for serial in range(80)]
    (found,) = judged(record(HUGH, 3, 1, 1), others=[raw for *_, raw in same])
    assert codes(found) == []
    assert answer_of(*same, *(record(HUGH, 3, 1, 1) for _ in range(5000))) < 2


def test_authorities_and_named_certificates_of_an_answer_are_bounded() -> None:
    """cryptography bounds the search for a path too, but has not always done so."""
    cas = [ca(50, ROOT)[1] for _ in range(30)] + [ca(number, ROOT)[1] for number in range(51, 59)]
    held = [SMIMEACandidate("x", "x", Format.SMIME, raw, None, usage, 0, 0) for raw in cas for usage in (0, 2)]
    named = SMIMEACandidate("x", "x", Format.SMIME, association_data(cas[0], 1, 1), None, 3, 1, 1)
    records = RecordSet([*held, named])
    assert [len(found) for found in (records.anchors, records.intermediates, records.named_by(named))] == [8, 8, 4]


def test_an_answer_full_of_nothing_is_judged_soon() -> None:
    assert answer_of((3, 0, 0, b""), (1, 1, 2, b"")) < 2


def test_an_answer_full_of_cas_that_certify_each_other_is_judged_soon() -> None:
    """Without bounds the paths to try would be without number."""
    names: dict[str, object] = {"ca": True, "usages": CA_USAGES, "common_name": "CA"}
    first = make_certificate("p256", number=40, **names)  # type: ignore[arg-type]
    cas = [make_certificate("p256", number=40, issuer=first, **names) for _ in range(60)]  # type: ignore[arg-type]
    leaves = [record(leaf(first, serial=serial + 1), 1) for serial in range(60)]
    assert answer_of(*(record(pair[1], 0) for pair in cas), *leaves) < 3
    assert answer_of(*(record(pair[1], 2) for pair in cas), *leaves) < 3
