"""From an address to one verdict: which source decides, and that nothing unproven ever yields a key."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.keys import lookup
from smilla.model import DNSSECStatus, Format, KeyLookup, KeyVerdict, PGPKey, X509Key
from tests.certificates import make_certificate
from tests.openpgp_maker import FLAGS_CERTIFY, packet, secret, signature, subkey, user_id
from tests.vectors.memory import KEYS, NOW, TableResolver, make_ports, raw_key, smimea

HUGH, PIA = "hugh@example.org", "pia@example.org"
Answer = tuple[str, tuple[bytes, ...]]

# What the first source may say, and the verdict that it alone leads to.
TROUBLE: dict[str, tuple[Answer, KeyVerdict]] = {
    "bogus": (("bogus", ()), KeyVerdict.BOGUS),
    "indeterminate": (("indeterminate", ()), KeyVerdict.BOGUS),
    "unreachable": (("unreachable", ()), KeyVerdict.UNREACHABLE),
    "expired": (("secure", (smimea("expired.crt"),)), KeyVerdict.UNUSABLE_KEY),
    "malformed": (("secure", (b"\3\0\0not DER",)), KeyVerdict.UNUSABLE_KEY),
    "cut off": (("secure", (b"\3",)), KeyVerdict.UNUSABLE_KEY),
    "insecure": (("insecure", (smimea("hugh.crt"),)), KeyVerdict.INSECURE),
    "hash": (("secure", (b"\3\0\1" + bytes(32),)), KeyVerdict.NO_KEY),
    "sign only": (("secure", (smimea("sign-only.crt"),)), KeyVerdict.NO_KEY),
    "CA": (("secure", (smimea("ca.crt", 2),)), KeyVerdict.NO_KEY),
    "unsigned and empty": (("insecure", ()), KeyVerdict.NO_KEY),
    "absent": (("secure", ()), KeyVerdict.NO_KEY),
}
OPENPGP_TROUBLE: dict[str, tuple[Answer, KeyVerdict]] = {
    "bogus": (("bogus", ()), KeyVerdict.BOGUS),
    "indeterminate": (("indeterminate", ()), KeyVerdict.BOGUS),
    "unreachable": (("unreachable", ()), KeyVerdict.UNREACHABLE),
    "expired": (("secure", (raw_key("pgp-expired.pgp"),)), KeyVerdict.UNUSABLE_KEY),
    "insecure": (("insecure", (raw_key("pia.pgp"),)), KeyVerdict.INSECURE),
    "sign only": (("secure", (raw_key("pgp-sign-only.pgp"),)), KeyVerdict.NO_KEY),
    "absent": (("secure", ()), KeyVerdict.NO_KEY),
}
ORDER = [KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE, KeyVerdict.UNUSABLE_KEY, KeyVerdict.INSECURE, KeyVerdict.NO_KEY]


def look_up(
    mailbox: str,
    resolver: TableResolver,
    files: Mapping[str, bytes | None] | None = None,
    *sources: str,
    trust_store: bytes = b"",
    prefer: str = "compatible",
) -> KeyLookup:
    settings = Config(keys=KeysOptions(sources=sources or ("smimea", "openpgpkey", "directory"), prefer=prefer))
    ports = make_ports(resolver, files, NOW, trust_store)
    pending = lookup.begin(parse(mailbox), ports, settings)
    return lookup.finish(pending, pending.asked_at + 5, NOW, ports)


def published(smimea_answer: Answer, openpgp_answer: Answer = ("secure", ()), mailbox: str = PIA) -> TableResolver:
    resolver = TableResolver().publish(mailbox, "smimea", smimea_answer[0], *smimea_answer[1])
    return resolver.publish(mailbox, "openpgpkey", openpgp_answer[0], *openpgp_answer[1])


@pytest.mark.parametrize("name", TROUBLE)
def test_each_trouble_alone_has_its_verdict_and_no_key(name: str) -> None:
    answer, verdict = TROUBLE[name]
    found = look_up(HUGH, published(answer, mailbox=HUGH), None, "smimea")
    assert (found.verdict, found.key) == (verdict, None)
    assert found.reason.code
    assert found.reason.text


@pytest.mark.parametrize(("first", "second"), [*itertools.product(TROUBLE, OPENPGP_TROUBLE)])
def test_worse_trouble_decides_whatever_the_order_of_the_sources(first: str, second: str) -> None:
    resolver = published(TROUBLE[first][0], OPENPGP_TROUBLE[second][0])
    expected = min(TROUBLE[first][1], OPENPGP_TROUBLE[second][1], key=ORDER.index)
    for sources in (("smimea", "openpgpkey"), ("openpgpkey", "smimea")):
        found = look_up(PIA, resolver, None, *sources)
        assert (found.verdict, found.key) == (expected, None)
        assert len(found.findings) == 2


@pytest.mark.parametrize("name", TROUBLE)
def test_usable_key_of_a_later_source_wins_over_earlier_trouble(name: str) -> None:
    resolver = published(TROUBLE[name][0], ("secure", (raw_key("pia.pgp"),)))
    found = look_up(PIA, resolver)
    assert (found.verdict, found.source) == (KeyVerdict.USABLE, "openpgpkey")
    assert found.key is not None
    assert found.findings[0].verdict is not KeyVerdict.USABLE


@pytest.mark.parametrize("name", OPENPGP_TROUBLE)
def test_trouble_after_a_usable_key_is_not_even_looked_at(name: str) -> None:
    resolver = published(("secure", (smimea("hugh.crt"),)), OPENPGP_TROUBLE[name][0], HUGH)
    found = look_up(HUGH, resolver)
    assert (found.verdict, found.source, len(found.findings)) == (KeyVerdict.USABLE, "smimea", 1)


def test_insecure_never_yields_a_key_not_even_for_showing() -> None:
    resolver = published(("insecure", (smimea("hugh.crt"),)), ("insecure", (raw_key("pia.pgp"),)), HUGH)
    found = look_up(HUGH, resolver)
    assert (found.verdict, found.key) == (KeyVerdict.INSECURE, None)
    assert all(assessment.key is None for finding in found.findings for assessment in finding.assessments)


@pytest.mark.parametrize("status", ["bogus", "indeterminate", "unreachable"])
def test_records_beside_an_unproven_status_never_yield_a_key(status: str) -> None:
    found = look_up(HUGH, published((status, (smimea("hugh.crt"),)), mailbox=HUGH))
    assert found.key is None
    assert found.verdict in (KeyVerdict.BOGUS, KeyVerdict.UNREACHABLE)


def test_unreadable_record_beside_a_good_one_does_no_harm() -> None:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"), b"\3\0\0junk", malformed=1)
    assert look_up(HUGH, resolver).verdict is KeyVerdict.USABLE


@pytest.mark.parametrize(
    ("status", "verdict"), [("secure", KeyVerdict.UNUSABLE_KEY), ("insecure", KeyVerdict.INSECURE)]
)
def test_unreadable_record_alone_is_no_absence(status: str, verdict: KeyVerdict) -> None:
    resolver = TableResolver().publish(HUGH, "smimea", status, malformed=1)
    assert look_up(HUGH, resolver).verdict is verdict


def test_best_of_several_records_is_the_strongest() -> None:
    resolver = published(("secure", (smimea("eve.crt"), smimea("hugh.crt"), smimea("nobody.crt"))), mailbox=HUGH)
    found = look_up(HUGH, resolver)
    assert isinstance(found.key, X509Key)
    assert found.key.algorithm == "RSA-2048"
    resolver = published(("secure", (smimea("eve.crt"), smimea("nobody.crt"))), mailbox="eve@example.org")
    found = look_up("eve@example.org", resolver)
    assert found.key is not None
    assert found.key.algorithm == "EC P-256"


def smimea_of(kind: str, number: int = 0) -> bytes:
    return b"\3\0\0" + make_certificate(kind, email=HUGH, number=number)[1]


@pytest.mark.parametrize("other", ["x25519", "x448", "bp512", "mlkem1024"])
@pytest.mark.parametrize("common", ["rsa2048", "p256"])
def test_certificate_that_common_programs_open_comes_before_a_stronger_one(other: str, common: str) -> None:
    records = (smimea_of(other), smimea_of(common))
    found = look_up(HUGH, published(("secure", records), mailbox=HUGH))
    assert found.key is not None
    assert found.key.is_common
    assert found.reason.text.endswith("the only one of 2 usable ones that common programs open")
    strongest = look_up(HUGH, published(("secure", records), mailbox=HUGH), prefer="strongest")
    assert strongest.key is not None
    if (other, common) != ("x25519", "p256"):  # which are equally strong
        assert not strongest.key.is_common
        assert strongest.reason.text.endswith("the strongest of 2 usable ones")
    alone = look_up(HUGH, published(("secure", (smimea_of(other),)), mailbox=HUGH))
    assert alone.key is not None
    assert not alone.key.is_common


def test_strongest_of_those_that_common_programs_open_is_taken_and_explained() -> None:
    records = tuple(map(smimea_of, ("x448", "rsa2048", "p521", "p256")))
    found = look_up(HUGH, published(("secure", records), mailbox=HUGH))
    assert found.key is not None
    assert found.key.algorithm == "EC P-521"
    assert found.reason.text.endswith("the strongest of the 3 that common programs open, of 4 usable ones")
    twice = look_up(HUGH, published(("secure", (*records, smimea_of("p521", 1))), mailbox=HUGH))
    assert "of the 2 strongest among the 4 that common programs open, of 5 usable ones" in twice.reason.text


def test_openpgp_key_of_version_4_comes_before_one_of_version_6() -> None:
    made = int(NOW.timestamp()) - 86400
    main, sub = secret("ed448", made, 6), secret("x448", made, 6)
    direct = signature(main, 0x1F, main.signed, made, FLAGS_CERTIFY)
    version_6 = packet(6, main.body) + direct + user_id(main, PIA, made) + subkey(main, sub, made)
    resolver = published(("secure", ()), ("secure", (version_6, raw_key("pia.pgp"))))
    for prefer, version in (("compatible", 4), ("strongest", 6)):
        found = look_up(PIA, resolver, prefer=prefer)
        assert isinstance(found.key, PGPKey)
        assert found.key.version == version
    alone = look_up(PIA, published(("secure", ()), ("secure", (version_6,)))).key
    assert isinstance(alone, PGPKey)
    assert alone.version == 6


def test_signing_certificate_beside_an_encryption_certificate_is_passed_over() -> None:
    resolver = published(("secure", (smimea("sign-only.crt"), smimea("hugh.crt"), b"\3\0\1" + bytes(32))), mailbox=HUGH)
    found = look_up(HUGH, resolver)
    assert found.key is not None
    assert found.key.raw == raw_key("hugh.crt")


def test_usage_1_needs_a_path_to_a_trusted_ca() -> None:
    resolver = published(("secure", (smimea("issued.crt", 1),)), mailbox=HUGH)
    assert look_up(HUGH, resolver).verdict is KeyVerdict.UNUSABLE_KEY
    pem = (KEYS / "ca.crt").read_bytes()
    assert look_up(HUGH, resolver, trust_store=pem).verdict is KeyVerdict.USABLE
    self_signed = published(("secure", (smimea("hugh.crt", 1),)), mailbox=HUGH)
    assert look_up(HUGH, self_signed, trust_store=pem).verdict is KeyVerdict.UNUSABLE_KEY


# --- the directory -----------------------------------------------------------------------------------------


def test_certificate_in_the_directory_comes_before_a_stronger_openpgp_key() -> None:
    files = {"pia@example.org.asc": raw_key("pia.pgp"), "pia@example.org.crt": (KEYS / "hugh.crt").read_bytes()}
    found = look_up(PIA, TableResolver(), files, "directory")
    assert found.key is not None
    assert (found.key.format, found.status) == (Format.SMIME, None)


def test_openpgp_key_in_the_directory_serves_where_the_certificate_has_expired() -> None:
    files = {"pia@example.org.asc": raw_key("pia.pgp"), "pia@example.org.crt": (KEYS / "expired.crt").read_bytes()}
    found = look_up(PIA, TableResolver(), files, "directory")
    assert found.key is not None
    assert found.key.format is Format.OPENPGP


def test_file_name_is_the_administrators_word_for_the_address() -> None:
    files = {"pia@example.org.pgp": raw_key("pgp-other-address.pgp")}
    assert look_up(PIA, TableResolver(), files, "directory").verdict is KeyVerdict.USABLE
    resolver = published(("secure", ()), ("secure", (raw_key("pgp-other-address.pgp"),)))
    assert look_up(PIA, resolver).verdict is KeyVerdict.UNUSABLE_KEY


def test_directory_file_that_cannot_be_read_defers() -> None:
    found = look_up(PIA, TableResolver(), {"pia@example.org.crt": None}, "directory")
    assert (found.verdict, found.key) == (KeyVerdict.UNREACHABLE, None)


@pytest.mark.parametrize("raw", [b"x", b"-----BEGIN CERTIFICATE-----\n", b"\0" * 100])
@pytest.mark.parametrize("suffix", [".crt", ".pem", ".asc", ".pgp"])
def test_directory_file_that_is_no_key_is_unusable_and_no_absence(raw: bytes, suffix: str) -> None:
    found = look_up(PIA, TableResolver(), {f"pia@example.org{suffix}": raw}, "directory")
    assert (found.verdict, found.key) == (KeyVerdict.UNUSABLE_KEY, None)


def test_what_is_no_address_is_unclear() -> None:
    found = lookup.no_address("not an address")
    assert (found.verdict, found.key, found.reason.code) == (KeyVerdict.UNCLEAR, None, "not_an_address")


@pytest.mark.parametrize("mailbox", ["pia@[192.0.2.1]", "pia@a.onion", f"pia@{'a' * 60}.{'b' * 60}.{'c' * 60}.example"])
def test_what_dns_cannot_be_asked_about_is_unclear_but_for_a_file(mailbox: str) -> None:
    found = look_up(mailbox, TableResolver())
    assert (found.verdict, found.key) == (KeyVerdict.UNCLEAR, None)
    files = {f"{mailbox}.asc": raw_key("pia.pgp")}
    assert look_up(mailbox, TableResolver(), files).verdict is KeyVerdict.USABLE


def test_folder_without_a_file_proves_nothing_of_an_address_literal() -> None:
    found = look_up("pia@[192.0.2.1]", TableResolver(), {}, "directory")
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNCLEAR, "address_literal")
    assert look_up(PIA, TableResolver(), {}, "directory").verdict is KeyVerdict.NO_KEY


def test_unclear_decides_before_whatever_may_be_plain() -> None:
    files: dict[str, bytes | None] = {"pia@a.onion.asc": raw_key("pgp-expired.pgp")}
    assert look_up("pia@a.onion", TableResolver(), files).verdict is KeyVerdict.UNCLEAR
    files = {"pia@a.onion.asc": None}
    assert look_up("pia@a.onion", TableResolver(), files).verdict is KeyVerdict.UNREACHABLE


# --- formats -----------------------------------------------------------------------------------------------

BOTH = {"pia@example.org.asc": raw_key("pia.pgp"), "pia@example.org.crt": (KEYS / "hugh.crt").read_bytes()}


def look_up_for(resolver: TableResolver, formats: tuple[str, ...], *sources: str, files: Any = None) -> KeyLookup:
    settings = Config(keys=KeysOptions(sources=sources or ("smimea", "openpgpkey")))
    ports = make_ports(resolver, files, NOW)
    pending = lookup.begin(parse(PIA), ports, settings)
    return lookup.finish(pending, pending.asked_at + 5, NOW, ports, formats)


@pytest.mark.parametrize("sources", [*itertools.permutations(("smimea", "openpgpkey", "directory"))])
def test_preferred_format_wins_whatever_the_order_of_the_sources(sources: tuple[str, ...]) -> None:
    resolver = published(("secure", ()), ("secure", (raw_key("pia.pgp"),)))
    for formats in (("openpgp", "smime"), ("smime", "openpgp"), ("openpgp",), ("smime",)):
        found = look_up_for(resolver, formats, *sources, files=BOTH)
        assert found.key is not None
        assert found.key.format == formats[0]


def test_next_format_serves_where_the_preferred_one_has_no_usable_key() -> None:
    resolver = published(("secure", (smimea("expired.crt"),)), ("secure", (raw_key("pia.pgp"),)))
    found = look_up_for(resolver, ("smime", "openpgp"))
    assert (found.verdict, found.source) == (KeyVerdict.USABLE, "openpgpkey")
    assert [finding.verdict for finding in found.findings] == [KeyVerdict.UNUSABLE_KEY, KeyVerdict.USABLE]


def test_key_of_another_format_is_not_used_and_is_no_absence() -> None:
    resolver = published(("bogus", ()), ("secure", (raw_key("pia.pgp"),)))
    assert look_up_for(resolver, ("openpgp",)).verdict is KeyVerdict.USABLE
    unwanted = look_up_for(published(("secure", ()), ("secure", (raw_key("pia.pgp"),))), ("smime",))
    assert (unwanted.verdict, unwanted.reason.code, unwanted.key) == (KeyVerdict.UNUSABLE_KEY, "other_format", None)
    assert "openpgp, and smime is wanted" in unwanted.reason.text


@pytest.mark.parametrize(("status", "verdict"), [("bogus", KeyVerdict.BOGUS), ("unreachable", KeyVerdict.UNREACHABLE)])
def test_who_keeps_the_answer_about_another_format_away_makes_no_absence_of_it(
    status: str, verdict: KeyVerdict
) -> None:
    assert look_up_for(published(("secure", ()), (status, ())), ("smime",)).verdict is verdict


@pytest.mark.parametrize("answer", [("secure", ()), ("insecure", (raw_key("pia.pgp"),))])
def test_what_could_not_be_used_in_any_case_is_absence_of_the_format_that_is_wanted(answer: Any) -> None:
    assert look_up_for(published(("secure", ()), answer), ("smime",)).verdict is KeyVerdict.NO_KEY


@pytest.mark.parametrize("name", OPENPGP_TROUBLE)
def test_trouble_of_the_only_format_allowed_keeps_its_verdict(name: str) -> None:
    answer, verdict = OPENPGP_TROUBLE[name]
    found = look_up_for(published(("secure", (smimea("hugh.crt"),)), answer), ("openpgp",))
    assert (found.verdict, found.key) == (verdict, None)


def test_file_that_cannot_be_read_stays_unreachable_and_no_source_is_unclear() -> None:
    found = look_up_for(TableResolver(), ("openpgp",), "directory", files={"pia@example.org.crt": None})
    assert found.verdict is KeyVerdict.UNREACHABLE
    assert look_up_for(TableResolver(), ("openpgp",), "smimea").verdict is KeyVerdict.UNCLEAR


def test_more_records_than_are_looked_at_are_unclear_unless_one_that_was_is_usable() -> None:
    many = [b"\x03\x01\x01" + number.to_bytes(32) for number in range(70)]
    found = look_up("hugh@example.org", TableResolver().publish("hugh@example.org", "smimea", "secure", *many))
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNCLEAR, "too_many_candidates")
    many.append(smimea("hugh.crt"))
    found = look_up("hugh@example.org", TableResolver().publish("hugh@example.org", "smimea", "secure", *many))
    assert found.verdict is KeyVerdict.USABLE


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def test_first_of_two_files_of_a_format_is_taken_whichever_key_is_newer() -> None:
    for first, second in (("hugh.crt", "dana.crt"), ("dana.crt", "hugh.crt")):
        files = {
            "pia@example.org.crt": (KEYS / first).read_bytes(),
            "pia@example.org.der": (KEYS / second).read_bytes(),
        }
        found = look_up(PIA, TableResolver(), files, "directory")
        assert found.key is not None
        alone = look_up(PIA, TableResolver(), {"pia@example.org.crt": files["pia@example.org.crt"]}, "directory")
        assert found.key == alone.key, first


def test_certificate_that_names_nobody_comes_before_one_of_another_person_in_any_file() -> None:
    for first, second in (("hugh.crt", "nobody.crt"), ("nobody.crt", "hugh.crt")):
        files = {
            "pia@example.org.crt": (KEYS / first).read_bytes(),
            "pia@example.org.der": (KEYS / second).read_bytes(),
        }
        found = look_up(PIA, TableResolver(), files, "directory").key
        alone = look_up(PIA, TableResolver(), {"pia@example.org.crt": (KEYS / "nobody.crt").read_bytes()}, "directory")
        assert found is not None
        assert found == alone.key


def test_after_a_source_that_could_not_be_asked_the_next_one_is_looked_at_for_another_format() -> None:
    resolver = published(("unreachable", ()), ("secure", ()))
    found = look_up_for(resolver, ("openpgp",), "smimea", "openpgpkey", "directory", files={f"{PIA}.crt": b"x"})
    assert found.verdict is KeyVerdict.UNREACHABLE
    assert [finding.source for finding in found.findings].count("directory") == 2


def test_what_fails_here_has_a_reason_of_its_own() -> None:
    resolver = published(("unreachable", ()), mailbox=HUGH)
    ((question, answer),) = [item for item in resolver.table.items() if item[1].status is DNSSECStatus.UNREACHABLE]
    theirs = look_up(HUGH, resolver, None, "smimea")
    resolver.table[question] = replace(answer, is_ours=True, detail="127.0.0.1@53: refused")
    ours = look_up(HUGH, resolver, None, "smimea")
    folder = look_up(HUGH, TableResolver(), {f"{HUGH}.crt": None}, "directory")
    found = [(each.verdict, each.reason.code) for each in (theirs, ours, folder)]
    assert found == [(KeyVerdict.UNREACHABLE, code) for code in ("unreachable", "resolver_down", "key_folder")]
    assert ours.reason.text == "127.0.0.1@53: refused"
