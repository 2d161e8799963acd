"""What a domain counts as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smilla.hops.mx import State
from smilla.survey import totals
from smilla.survey.found import Found, Names, Result, Way
from tests.unit.survey.samples import CLEAR, FOUND, HOST, MISMATCH, SERVER, SILENT, UNTRUSTED, at

OLD = replace(SERVER, version="TLSv1")
EXPIRED = replace(UNTRUSTED, certificate=Result(State.EXPIRED, "ended"))
NO_MAIL = replace(FOUND, way=Way.NO_MAIL, hosts=())
TWO = replace(FOUND, hosts=(HOST, replace(HOST, tlsa=(), servers=(UNTRUSTED,))))


@pytest.mark.parametrize(
    ("of", "found", "kind"),
    [
        (totals.starttls, FOUND, "every server"),
        (totals.starttls, at(SERVER, SILENT), "every server"),
        (totals.starttls, at(SERVER, CLEAR), "some servers"),
        (totals.starttls, at(CLEAR), "no server"),
        (totals.starttls, at(SILENT), "nobody can tell"),
        (totals.starttls, NO_MAIL, "takes no mail"),
        (totals.tls_version, at(SERVER, replace(SERVER, version="TLSv1.2")), "TLSv1.2"),
        (totals.tls_version, at(SERVER, OLD), "older"),
        (totals.tls_version, at(CLEAR), "no STARTTLS"),
        (totals.tls_version, at(SILENT), "nobody can tell"),
        (totals.certificate, FOUND, "valid for the host"),
        (totals.certificate, at(SERVER, UNTRUSTED), "not verified"),
        (totals.certificate, at(SERVER, EXPIRED), "expired"),
        (totals.certificate, at(CLEAR), "no STARTTLS"),
        (totals.dnssec, FOUND, "signed"),
        (totals.dnssec, replace(FOUND, mx_dnssec="insecure"), "not signed"),
        (totals.dnssec, replace(FOUND, mx_dnssec="bogus"), "bogus"),
        (totals.dnssec, replace(FOUND, zone="indeterminate"), "bogus"),
        (totals.dnssec, replace(FOUND, zone="unreachable"), "nobody can tell"),
        (totals.dane, FOUND, "matches"),
        (totals.dane, TWO, "matches in part"),
        (totals.dane, at(MISMATCH), "does not match"),
        (totals.dane, at(CLEAR), "does not match"),
        (totals.dane, at(SILENT), "nobody can tell"),
        (totals.dane, replace(FOUND, mx_dnssec="insecure"), "of no use"),
        (totals.dane, replace(FOUND, hosts=(replace(HOST, tlsa_dnssec="bogus", servers=(SERVER,)),)), "does not match"),
        (totals.dane, replace(FOUND, hosts=(replace(HOST, tlsa=(), servers=(UNTRUSTED,)),)), "none"),
        (totals.dane, NO_MAIL, "takes no mail"),
        (totals.sts, FOUND, "none"),
        (totals.sts, replace(FOUND, mta_sts=Result(State.OK), mta_sts_mode="testing"), "mode testing"),
        (totals.sts, replace(FOUND, mta_sts=Result(State.MISMATCH), mta_sts_mode="enforce"), "broken"),
        (totals.sts, replace(FOUND, mta_sts=Result(State.UNREACHABLE)), "nobody can tell"),
        (totals.keys, FOUND, "none"),
        (totals.keys, replace(FOUND, smimea=Names.HAS_NAMES), "S/MIME"),
        (totals.keys, replace(FOUND, smimea=Names.HAS_NAMES, openpgpkey=Names.HAS_NAMES), "S/MIME and OpenPGP"),
        (totals.keys, replace(FOUND, smimea=Names.ANY_NAME), "nobody can tell"),
    ],
)
def test_kind_of_a_domain(of: Callable[[Found], str], found: Found, kind: str) -> None:
    assert of(found) == kind


def test_every_domain_counts_once_in_every_table() -> None:
    """And every kind that a domain can be has a row."""
    all_found = [FOUND, NO_MAIL, TWO, at(CLEAR), at(SILENT), at(OLD), at(EXPIRED), at(SERVER, CLEAR)]
    all_found += [replace(FOUND, spf=Result(state), dmarc=Result(state), tlsrpt=Result(state)) for state in State]
    all_found += [replace(FOUND, mta_sts=Result(state), mta_sts_mode="none") for state in State]
    all_found += [replace(FOUND, way=way) for way in Way]
    assert [table.of for table in totals.tables(all_found)] == [len(all_found)] * len(totals.COLUMNS)
