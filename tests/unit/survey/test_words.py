"""A result in words."""

from __future__ import annotations

from dataclasses import replace

from smilla.hops.mx import State
from smilla.survey import words
from smilla.survey.found import Names, Result, Way
from tests.unit.survey.samples import CLEAR, FOUND, SERVER, at


def test_one_line_says_how_and_why() -> None:
    assert words.line(FOUND) == ("example.org: smilla would send: DANE: TLSA 3 1 1 0707 matches at mx.example.org")


def test_in_full_it_says_all_that_was_found() -> None:
    found = at(replace(SERVER, names=("a", "b", "c", "d")), CLEAR, key=Result(State.ABSENT, "no record"))
    text = "\n".join(words.in_full(replace(found, openpgpkey=Names.HAS_NAMES)))
    for part in (
        "key: absent, no record",
        "_smimecert no names; _openpgpkey has names",
        "mx.example.org: ok, 192.0.2.1; DNSSEC secure",
        "TLSA (secure): 3 1 1 0707",
        "next key: absent, no other",
        "192.0.2.1: TLSv1.3 TLS_AES_256_GCM_SHA384, REQUIRETLS",
        "certificate: ok, 89 days left; for a, b, c and 1 more; by CN=Root",
        "chain: ok, valid for the host",
        "192.0.2.2: missing, no STARTTLS",
        "DMARC: ok, v=DMARC1; p=reject (policy reject)",
    ):
        assert part in text


def test_sum_has_only_the_ways_that_there_are_and_a_share_of_each() -> None:
    plain = replace(FOUND, way=Way.PLAIN)
    assert [line.split() for line in words.summary([FOUND, plain, plain, plain])] == [
        ["DANE", "1", "25.0", "%"],
        ["plain", "3", "75.0", "%"],
    ]
