"""Of the keys in one file: which are a CA's, which are somebody else's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from smilla.address import parse
from smilla.formats.openpgp import PUBLIC_KEY, USER_ID
from smilla.keys.validity import pgp, whose
from smilla.keys.validity.x509 import assess
from smilla.model import Assessment, Candidate, Format
from tests.certificates import NOW, make_certificate, to_pem
from tests.openpgp_maker import packet

HUGH = parse("hugh@example.org")
ROOT = make_certificate("p256", number=1, ca=True, common_name="Root")
MIDDLE = make_certificate("p256", number=2, ca=True, common_name="Middle", issuer=ROOT)
LEAF = make_certificate("p256", email="hugh@example.org", issuer=MIDDLE)[1]
ALONE = make_certificate("p256", number=3, ca=True, email="hugh@example.org")[1]
EVE = make_certificate("p256", number=4, email="eve@example.org")[1]
NOBODY = make_certificate("p256", number=5)[1]
EXPIRED = make_certificate(
    "p256", number=6, email="hugh@example.org", not_before=NOW - timedelta(9), not_after=NOW - timedelta(1)
)[1]
SIGNING = make_certificate("p256", number=7, email="hugh@example.org", usages=["digital_signature"])[1]


def judged(*raws: bytes, source: str = "directory", where: str = "file") -> list[Assessment]:
    candidates = [Candidate(source, where, Format.SMIME, raw) for raw in raws]
    return [assess(candidate, HUGH, NOW, require_address=False) for candidate in candidates]


def reasons(found: tuple[Assessment, ...]) -> list[str]:
    return [a.reasons[0].code if a.reasons else "" for a in found]


@pytest.mark.parametrize(("source", "form"), [("directory", bytes), ("directory", to_pem), ("smimea", bytes)])
def test_each_ca_above_a_certificate_is_dropped_and_no_other(source: str, form: type[bytes]) -> None:
    raws = [form(raw) for raw in (ROOT[1], MIDDLE[1], LEAF, ALONE)]
    assert reasons(whose.without_issuers(judged(*raws, source=source))) == ["issuer", "issuer", "", ""]
    assert reasons(whose.without_issuers(judged(form(ALONE), source=source))) == [""]
    assert reasons(whose.without_issuers(judged(form(ROOT[1]), form(ALONE), source=source))) == ["", ""]


def test_key_of_another_person_is_dropped_where_one_of_the_same_file_names_the_address() -> None:
    found = judged(EVE, LEAF, NOBODY)
    assert reasons(whose.without_others(found, HUGH)) == ["other_address", "", ""]
    assert reasons(whose.without_others(judged(EVE, NOBODY), HUGH)) == ["", ""]
    assert reasons(whose.without_others(judged(EVE), HUGH)) == [""]
    assert reasons(whose.without_others(judged(EVE, LEAF[:-40]), HUGH)) == ["other_address", "malformed"]
    assert reasons(whose.without_others(judged(EVE, NOBODY, b"\x30"), HUGH)) == ["other_address", "", "malformed"]
    apart = judged(EVE) + judged(LEAF, where="another file")
    assert reasons(whose.without_others(apart, HUGH)) == ["", ""]


@pytest.mark.parametrize("own", [EXPIRED, SIGNING, LEAF[:-40]])
def test_a_ca_that_issued_nothing_here_is_no_mailbox_where_a_key_beside_it_may_name_the_address(own: bytes) -> None:
    found = whose.without_others(judged(ROOT[1], own), HUGH)
    assert found[0].reasons[0].code == "issuer"
    assert (found[0].key, found[0].meant_for_encryption) == (None, False)
    assert found[1].key is None
    assert reasons(whose.without_others(judged(ROOT[1], NOBODY), HUGH)) == ["", ""]
    assert reasons(whose.without_others(judged(ALONE, own), HUGH))[0] == ""


def test_a_root_that_cannot_be_read_is_told_by_what_it_issued() -> None:
    gateway = make_certificate("p256", number=2, email="gateway@example.org", issuer=ROOT)[1]
    version_4 = ROOT[1].replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
    assert reasons(whose.without_others(judged(gateway, version_4), HUGH)) == ["", "malformed"]
    assert reasons(whose.without_others(judged(EVE, version_4), HUGH)) == ["other_address", "malformed"]


@pytest.mark.parametrize(("name", "dropped"), [(b"Hugh <hugh@example.org>", True), (b"Ann <ann@example.org>", False)])
@pytest.mark.parametrize("end", [b"", b"\xc2"])
def test_a_key_that_cannot_be_read_names_whom_its_user_ids_name(name: bytes, end: bytes, dropped: bool) -> None:
    raw = packet(PUBLIC_KEY, b"\x04") + packet(USER_ID, name) + end
    beside = pgp.assess(Candidate("directory", "file", Format.OPENPGP, raw), HUGH, NOW)
    assert beside.reasons[0].code == "malformed"
    found = whose.without_others([*judged(EVE), beside], HUGH)
    assert reasons(found)[0] == ("other_address" if dropped or end else "")
