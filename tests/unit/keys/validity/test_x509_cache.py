"""Certificates are read once; what depends on the time or the address is judged each time."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from smilla.address import parse
from smilla.keys.validity import certificate
from smilla.keys.validity.certificate import Reading, Readings
from smilla.keys.validity.x509 import assess
from smilla.model import Candidate, Format
from tests.certificates import NOW, make_certificate, to_pem


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Readings:
    readings = Readings(entries=3, octets=1 << 20)
    monkeypatch.setattr(certificate, "_readings", readings)
    return readings


def codes(raw: bytes, *, days: int = 0, address: str = "hugh@example.org") -> list[str]:
    candidate = Candidate("smimea", "x", Format.SMIME, raw)
    found = assess(candidate, parse(address), NOW + timedelta(days=days), require_address=True)
    return [reason.code for reason in found.reasons]


def test_a_certificate_is_parsed_once(fresh: Readings, monkeypatch: pytest.MonkeyPatch) -> None:
    _, raw = make_certificate("p256", email="hugh@example.org")
    assert codes(raw) == []
    monkeypatch.setattr(certificate, "_read", pytest.fail)
    assert codes(bytes(bytearray(raw))) == []


def test_what_is_malformed_is_remembered_too(fresh: Readings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert codes(b"\x30\x03abc") == ["malformed"]
    assert certificate.read(b"\x30\x03abc", pem=True).fault == "the element at octet 2 is longer than what holds it"
    monkeypatch.setattr(certificate, "_read", pytest.fail)
    assert codes(b"\x30\x03abc") == ["malformed"]


def test_time_and_address_are_judged_anew(fresh: Readings) -> None:
    _, raw = make_certificate("p256", email="hugh@example.org")
    assert [codes(raw), codes(raw, days=31), codes(raw, days=-31), codes(raw)] == [
        [],
        ["expired"],
        ["not_yet_valid"],
        [],
    ]
    assert [codes(raw, address="x@example.org"), codes(raw)] == [["other_address"], []]


def test_pem_from_a_file_and_der_from_dns_are_kept_apart(fresh: Readings) -> None:
    pem = to_pem(make_certificate("p256")[1])
    assert certificate.read(pem, pem=True).certificate is not None
    assert certificate.read(pem, pem=False).certificate is None
    assert certificate.read(pem, pem=True).certificate is not None


def test_facts_cannot_be_changed_through_an_assessment(fresh: Readings) -> None:
    raw = make_certificate("p256")[1]
    found = assess(Candidate("x", "x", Format.SMIME, raw), parse("h@example.org"), NOW, require_address=True)
    assert isinstance(found.facts, dict)
    found.facts["subject"] = "somebody else"
    assert certificate.read(raw, pem=True).facts["subject"] == "CN=Hugh"
    with pytest.raises(TypeError):
        certificate.read(raw, pem=True).facts["subject"] = "x"  # type: ignore[index]


def test_entries_are_bounded_and_the_least_recently_used_goes_first() -> None:
    readings = Readings(entries=2, octets=1 << 20)
    for name in (b"a", b"b"):
        readings.keep(name, False, Reading(None))
    assert readings.find(b"a", False)
    readings.keep(b"c", False, Reading(None))
    assert [bool(readings.find(name, False)) for name in (b"a", b"b", b"c")] == [True, False, True]


def test_octets_are_bounded() -> None:
    readings = Readings(entries=1000, octets=100_000)
    for number in range(100):
        readings.keep(bytes([number]) * 1000, False, Reading(None))
        assert readings.size <= 100_000
    assert len(readings) == 6
    readings.keep(bytes(100_000), False, Reading(None))
    assert not readings.find(bytes(100_000), False)


def test_a_file_larger_than_any_certificate_is_not_kept() -> None:
    readings = Readings(entries=10, octets=16 << 20)
    for size, kept in ((65_536, True), (65_537, False)):
        readings.keep(bytes(size), True, Reading(None))
        assert bool(readings.find(bytes(size), True)) == kept


def test_the_same_octets_are_counted_once() -> None:
    readings = Readings(entries=10, octets=1 << 20)
    for _ in range(3):
        readings.keep(b"a", False, Reading(None))
    size = readings.size
    readings.keep(b"b", False, Reading(None))
    assert (len(readings), readings.size) == (2, 2 * size)


def test_threads_may_share_it() -> None:
    readings, failed = Readings(entries=5, octets=1 << 20), []

    def work(seed: int) -> None:
        try:
            for number in range(3000):
                name = bytes([(number * seed) % 23])
                if not readings.find(name, False):
                    readings.keep(name, False, Reading(None))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(readings) == 5
