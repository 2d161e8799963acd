"""What becomes of a set of records in a look-up: the directory's certificates, the choice, a list out of date."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.keys import lookup
from smilla.model import KeyLookup, KeyVerdict
from smilla.ports import Ports
from tests.certificates import NOW, association_data, make_certificate, make_crl, to_pem
from tests.vectors.memory import MemoryFolder, NoEngine, StillClock, TableResolver

if TYPE_CHECKING:
    from collections.abc import Mapping

EMAIL = "hugh@example.org"
FILE = f"{EMAIL}.crt"
ROOT = make_certificate("p256", number=20, ca=True, usages=["key_cert_sign", "crl_sign"], common_name="CA")
HUGH = make_certificate("p256", email=EMAIL, issuer=ROOT)[1]
HASH = bytes((3, 1, 1)) + association_data(HUGH, 1, 1)


def look_up(
    *rdata: bytes,
    files: Mapping[str, bytes | None] | None = None,
    sources: tuple[str, ...] = ("smimea", "directory"),
    status: str = "secure",
    crls: bytes = b"",
) -> KeyLookup:
    resolver = TableResolver().publish(EMAIL, "smimea", status, *rdata)
    ports = Ports(StillClock(NOW), resolver, MemoryFolder(files or {}), NoEngine(), to_pem(ROOT[1]), crls)
    pending = lookup.begin(parse(EMAIL), ports, Config(keys=KeysOptions(sources=sources)))
    return lookup.finish(pending, pending.asked_at + 5, NOW, ports)


def held(raw: bytes, usage: int = 3) -> bytes:
    return bytes((usage, 0, 0)) + raw


# --- the directory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [("smimea", "directory"), ("smimea", "openpgpkey", "directory")])
def test_a_hash_in_dns_names_the_certificate_of_the_directory(sources: tuple[str, ...]) -> None:
    found = look_up(HASH, files={FILE: to_pem(HUGH)}, sources=sources)
    assert (found.verdict, found.source) == (KeyVerdict.USABLE, "smimea")
    assert found.key is not None
    assert found.key.raw == HUGH


def test_a_directory_that_is_no_source_is_not_read() -> None:
    found = look_up(HASH, files={FILE: to_pem(HUGH)}, sources=("smimea",))
    assert found.verdict is KeyVerdict.NO_KEY


def test_a_hash_of_an_unsigned_zone_names_nothing() -> None:
    """The directory's word still counts by itself."""
    found = look_up(HASH, files={FILE: to_pem(HUGH)}, status="insecure")
    assert (found.verdict, found.source) == (KeyVerdict.USABLE, "directory")
    assert found.findings[0].verdict is KeyVerdict.INSECURE


def test_a_file_that_cannot_be_read_leaves_the_hash_without_its_certificate() -> None:
    found = look_up(HASH, files={FILE: None})
    assert [finding.verdict for finding in found.findings] == [KeyVerdict.NO_KEY, KeyVerdict.UNREACHABLE]


def test_an_openpgp_file_is_no_certificate() -> None:
    found = look_up(HASH, files={f"{EMAIL}.asc": b"-----BEGIN PGP PUBLIC KEY BLOCK-----"})
    assert found.findings[0].verdict is KeyVerdict.NO_KEY


# --- the choice --------------------------------------------------------------------------------------------


def certificate(kind: str, days: int = 0, number: int = 0, lasts: int = 30, **more: object) -> bytes:
    start, end = NOW + timedelta(days=days - 10), NOW + timedelta(days=lasts)
    return make_certificate(kind, email=EMAIL, not_before=start, not_after=end, number=number, **more)[1]  # type: ignore[arg-type]


def chosen(*certificates: bytes) -> tuple[int, str]:
    """Which one, and why; the order of the answer does not matter."""
    found = [look_up(*map(held, order)) for order in (certificates, certificates[::-1])]
    assert found[0].key is not None
    assert found[0].key == found[1].key
    return certificates.index(found[0].key.raw), found[0].reason.text.partition(", ")[2]


def test_one_key_needs_no_choice() -> None:
    assert chosen(certificate("p256")) == (0, "")
    assert chosen(certificate("p256"), certificate("p256", usages=["digital_signature"])) == (0, "")


def test_of_several_usable_certificates_the_strongest_is_chosen_and_the_choice_explained() -> None:
    assert chosen(certificate("p384", -5), certificate("p256"), certificate("rsa2048")) == (
        0,
        "the strongest of 3 usable ones",
    )


def test_of_equally_strong_ones_the_newest_is_chosen_whatever_its_end() -> None:
    old, new, weak = certificate("p256", -5, lasts=300), certificate("p256", number=1), certificate("rsa2048", 1)
    assert chosen(old, new, weak) == (1, "the newest of the 2 strongest among 3 usable ones")


def test_of_equally_new_ones_the_one_that_lasts_longest_is_chosen() -> None:
    assert chosen(certificate("p256"), certificate("p256", lasts=300))[0] == 1


def test_strength_does_not_make_up_for_a_certificate_that_is_unusable() -> None:
    assert chosen(certificate("p521", lasts=-1), certificate("rsa2048")) == (1, "")


def test_a_certificate_that_two_records_name_is_one() -> None:
    found = look_up(held(HUGH), HASH)
    assert found.verdict is KeyVerdict.USABLE
    assert ", " not in found.reason.text


# --- revocation --------------------------------------------------------------------------------------------


def test_a_revoked_certificate_is_unusable() -> None:
    found = look_up(held(HUGH, 1), crls=make_crl(ROOT, {HUGH: None}))
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNUSABLE_KEY, "revoked")


def test_a_list_out_of_date_cannot_be_told_now_and_passes() -> None:
    """A list that the administrator forgot to renew must neither free a revoked key nor bounce mail."""
    found = look_up(held(HUGH, 1), crls=make_crl(ROOT, expires_at=NOW - timedelta(hours=1)))
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNREACHABLE, "stale_crl")
    assert look_up(held(HUGH, 1), crls=make_crl(ROOT)).verdict is KeyVerdict.USABLE


def test_a_list_out_of_date_does_not_excuse_another_fault() -> None:
    stale = make_crl(ROOT, expires_at=NOW - timedelta(hours=1))
    other = make_certificate("p256", email="x@example.org", issuer=ROOT)[1]
    assert look_up(held(other, 1), crls=stale).verdict is KeyVerdict.UNUSABLE_KEY
    assert look_up(held(other, 1), held(HUGH, 1), crls=stale).verdict is KeyVerdict.UNREACHABLE
    assert look_up(held(HUGH, 3), crls=stale).verdict is KeyVerdict.USABLE
