"""When keys end, and what takes over: by the gate itself, as of a later instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from smilla.address import parse
from smilla.config import Config
from smilla.keys import lookup
from smilla.keys.ending import Ending, Standing, Successor, examine
from tests.certificates import key_usage, make_certificate, to_pem
from tests.openpgp_maker import FLAGS_CERTIFY, FLAGS_ENCRYPT, packet, seconds, secret, subkey, user_id
from tests.vectors.memory import NOW, TableResolver, make_ports

WHO = "hugh@example.org"
SOON, LATER = NOW + timedelta(days=10), NOW + timedelta(days=400)
BEGAN = NOW - timedelta(days=90)
MADE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())


def certificate(until: datetime, number: int = 0, since: datetime = BEGAN) -> bytes:
    return make_certificate("p256", email=WHO, not_before=since, not_after=until, number=number)[1]


def record(raw: bytes, usage: int = 3) -> bytes:
    return bytes([usage, 0, 0]) + raw


def examined(*rdata: bytes, kind: str = "smimea", status: str = "secure", trusted: bytes = b"") -> Ending:
    resolver = TableResolver().publish(WHO, kind, status, *rdata)
    ports = make_ports(resolver, raw_trust_store=trusted)
    pending = lookup.begin(parse(WHO), ports, Config())
    return examine(pending, 2000.0, NOW, NOW + timedelta(days=30), ports)


def test_certificate_that_ends_within_the_days_has_no_successor() -> None:
    found = examined(record(certificate(SOON)))
    assert (found.standing, found.ends_at, found.successor) == (Standing.ENDS, SOON, Successor.NO)


def test_certificate_that_ends_later_lasts() -> None:
    found = examined(record(certificate(LATER)))
    assert (found.standing, found.ends_at, found.successor) == (Standing.LASTS, None, None)


def test_certificate_without_a_well_defined_end_lasts() -> None:
    resolver = TableResolver().publish(
        WHO, "smimea", "secure", record(certificate(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)))
    )
    ports = make_ports(resolver)
    pending = lookup.begin(parse(WHO), ports, Config())
    found = examine(pending, 2000.0, NOW, datetime.max.replace(tzinfo=UTC), ports)
    assert found.standing is Standing.LASTS


def test_second_certificate_takes_over_even_if_it_is_not_valid_yet() -> None:
    newer = certificate(LATER, number=1, since=NOW + timedelta(days=5))
    found = examined(record(certificate(SOON)), record(newer))
    assert (found.standing, found.ends_at, found.successor) == (Standing.ENDS, SOON, Successor.YES)


def test_second_certificate_that_begins_after_a_gap_does_not_take_over() -> None:
    newer = certificate(LATER, number=1, since=SOON + timedelta(days=1))
    assert examined(record(certificate(SOON)), record(newer)).successor is Successor.NO


def test_expired_certificate_has_ended_and_is_not_mere_absence() -> None:
    assert examined(record(certificate(NOW - timedelta(days=1)))).standing is Standing.ENDED
    assert examined().standing is Standing.NO_USABLE_KEY


def test_key_with_more_against_it_than_its_end_has_not_merely_ended() -> None:
    _, raw = make_certificate("p256", email="eve@example.org", not_before=BEGAN, not_after=NOW - timedelta(days=1))
    assert examined(record(raw)).standing is Standing.NO_USABLE_KEY


def test_bogus_and_unreachable_cannot_be_told() -> None:
    assert examined(status="bogus").standing is Standing.UNTOLD
    assert examined(record(certificate(SOON)), status="unreachable").standing is Standing.UNTOLD


def test_certificate_ends_with_the_authority_above_it() -> None:
    signs = [(key_usage("key_cert_sign"), True)]
    root = make_certificate("p256", common_name="Root", ca=True, not_before=BEGAN, not_after=SOON, extensions=signs)
    _, raw = make_certificate("p256", email=WHO, not_before=BEGAN, not_after=LATER, number=1, issuer=root)
    found = examined(record(raw, usage=1), trusted=to_pem(root[1]))
    assert (found.standing, found.ends_at) == (Standing.ENDS, SOON)
    assert found.successor is Successor.NO
    assert examined(record(raw, usage=3), trusted=to_pem(root[1])).standing is Standing.LASTS


PRIMARY = secret("eddsa", MADE)


def openpgp(*subkeys: tuple[int, datetime | None], primary_until: datetime | None = None) -> bytes:
    """A key whose encryption subkeys were made so many seconds after the primary key, and end then."""
    ends = [seconds(9, int(primary_until.timestamp()) - MADE)] if primary_until else []
    raw = packet(6, PRIMARY.body) + user_id(PRIMARY, f"Hugh <{WHO}>", MADE, FLAGS_CERTIFY, *ends)
    for later, until in subkeys:
        made = MADE + later
        until_s = [seconds(9, int(until.timestamp()) - made)] if until else []
        raw += subkey(PRIMARY, secret("cv25519", made), made, FLAGS_ENCRYPT, *until_s)
    return raw


def test_openpgp_key_without_an_end_lasts() -> None:
    assert examined(openpgp((0, None)), kind="openpgpkey").standing is Standing.LASTS


def test_openpgp_key_ends_with_its_only_subkey() -> None:
    found = examined(openpgp((0, SOON)), kind="openpgpkey")
    assert (found.standing, found.ends_at, found.successor) == (Standing.ENDS, SOON, Successor.NO)


def test_openpgp_key_ends_with_its_primary_key() -> None:
    found = examined(openpgp((0, LATER), primary_until=SOON), kind="openpgpkey")
    assert (found.standing, found.ends_at) == (Standing.ENDS, SOON)


def test_openpgp_key_goes_on_by_its_other_subkey() -> None:
    assert examined(openpgp((0, LATER), (9, SOON)), kind="openpgpkey").standing is Standing.LASTS


def test_openpgp_key_ends_with_the_last_of_its_subkeys() -> None:
    last = SOON + timedelta(days=7)
    found = examined(openpgp((0, last), (9, SOON)), kind="openpgpkey")
    assert (found.standing, found.ends_at, found.successor) == (Standing.ENDS, last, Successor.NO)
