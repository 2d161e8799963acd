"""Where the TLSA records of an MX host are that is an alias."""

from __future__ import annotations

from itertools import pairwise

import pytest

from smilla.hops import rdata, tlsa_base
from smilla.hops.tlsa_base import Located, locate
from smilla.model import DNSAnswer, DNSSECStatus

SECURE, INSECURE = DNSSECStatus.SECURE, DNSSECStatus.INSECURE
BOGUS, UNREACHABLE = DNSSECStatus.BOGUS, DNSSECStatus.UNREACHABLE
HOST, MIDDLE, END = "mx.example.org", "mail.example.net", "mail7.example.com"
RECORD = b"\3\1\1" + bytes(32)
IP = bytes([192, 0, 2, 1])
NOBODY = (SECURE, ())


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0"


def alias(name: str, status: DNSSECStatus = SECURE) -> tuple[DNSSECStatus, tuple[bytes, ...]]:
    return status, (wire(name),)


class Zones:
    """Answers by name and type; what is not named is proven to be absent.  Notes what was asked."""

    def __init__(self, answers: dict[str, tuple[DNSSECStatus, tuple[bytes, ...]]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def __call__(self, owner: str, rdtype: int) -> DNSAnswer:
        kind = {rdata.CNAME: "CNAME", rdata.TLSA: "TLSA"}[rdtype]
        name = owner.removesuffix(".")
        if kind == "TLSA":
            self.asked.append(name)
        status, raw = self._answers.get(f"{name} {kind}", NOBODY)
        return DNSAnswer(owner, kind, status, raw)

    def located(self, status: DNSSECStatus = SECURE, host: str = HOST) -> Located:
        return locate(host, 25, [DNSAnswer(f"{HOST}.", "A", status, (IP,))], self)


def published(*names: str) -> dict[str, tuple[DNSSECStatus, tuple[bytes, ...]]]:
    return {f"_25._tcp.{name} TLSA": (SECURE, (RECORD,)) for name in names}


CHAIN = {f"{HOST} CNAME": alias(MIDDLE), f"{MIDDLE} CNAME": alias(END)}


def test_host_that_is_no_alias_is_its_own_base() -> None:
    zones = Zones(published(HOST))
    found = zones.located(host="MX.Example.ORG.")
    assert (found.base, found.answer.raw_rdata, found.aliases, found.was_asked) == (HOST, (RECORD,), (), True)
    assert zones.asked == [f"_25._tcp.{HOST}"]


def test_secure_chain_leads_to_the_records_of_the_name_at_its_end() -> None:
    zones = Zones(CHAIN | published(HOST, END))
    found = zones.located()
    assert (found.base, found.answer.owner, found.aliases) == (END, f"_25._tcp.{END}.", (MIDDLE, END))
    assert zones.asked == [f"_25._tcp.{END}"]


def test_without_records_at_the_end_of_a_secure_chain_those_of_the_host_count() -> None:
    zones = Zones(CHAIN | published(HOST, MIDDLE))
    found = zones.located()
    assert (found.base, found.answer.raw_rdata) == (HOST, (RECORD,))
    assert zones.asked == [f"_25._tcp.{END}", f"_25._tcp.{HOST}"]


def test_secure_chain_without_any_records_is_proven_absence_at_the_host() -> None:
    found = Zones(CHAIN).located()
    assert (found.base, found.answer.status, found.answer.raw_rdata, found.was_asked) == (HOST, SECURE, (), True)


def test_records_at_the_end_in_an_unsigned_zone_below_do_not_count() -> None:
    found = Zones(CHAIN | {f"_25._tcp.{END} TLSA": (INSECURE, (RECORD,))} | published(HOST)).located()
    assert (found.base, found.answer.status) == (HOST, SECURE)


@pytest.mark.parametrize(
    ("chain", "addresses", "aliases"),
    [
        ({f"{HOST} CNAME": alias(MIDDLE), f"{MIDDLE} CNAME": alias(END, INSECURE)}, INSECURE, (MIDDLE,)),
        ({f"{HOST} CNAME": alias(MIDDLE), f"{MIDDLE} CNAME": (INSECURE, ())}, INSECURE, (MIDDLE,)),
        (CHAIN, INSECURE, (MIDDLE, END)),
    ],
    ids=["second step", "end of the chain", "addresses"],
)
def test_chain_that_leaves_the_signed_zones_leaves_the_hosts_own_records_alone(
    chain: dict[str, tuple[DNSSECStatus, tuple[bytes, ...]]], addresses: DNSSECStatus, aliases: tuple[str, ...]
) -> None:
    zones = Zones(chain | published(HOST, MIDDLE, END))
    found = zones.located(addresses)
    assert (found.base, found.answer.status, found.aliases) == (HOST, SECURE, aliases)
    assert zones.asked == [f"_25._tcp.{HOST}"]


@pytest.mark.parametrize(
    ("first", "addresses"),
    [(alias(END, INSECURE), INSECURE), ((INSECURE, ()), INSECURE), ((SECURE, ()), INSECURE), ((INSECURE, ()), SECURE)],
    ids=["alias", "no alias", "addresses alone", "alias alone"],
)
def test_host_in_an_unsigned_zone_is_not_asked_for_records(
    first: tuple[DNSSECStatus, tuple[bytes, ...]], addresses: DNSSECStatus
) -> None:
    zones = Zones({f"{HOST} CNAME": first} | published(HOST, END))
    found = zones.located(addresses)
    assert (found.base, found.answer.status, found.answer.raw_rdata) == (HOST, INSECURE, ())
    assert (zones.asked, found.was_asked) == ([], False)


@pytest.mark.parametrize("status", [BOGUS, DNSSECStatus.INDETERMINATE, UNREACHABLE])
@pytest.mark.parametrize("broken", [f"{HOST} CNAME", f"{MIDDLE} CNAME"])
def test_step_that_nothing_proves_is_neither_the_end_of_the_chain_nor_insecure(
    status: DNSSECStatus, broken: str
) -> None:
    zones = Zones(CHAIN | {broken: (status, ())} | published(HOST, END))
    found = zones.located()
    assert (found.base, found.answer.status, found.answer.rdtype, found.was_asked) == (HOST, status, "TLSA", False)
    assert zones.asked == []


@pytest.mark.parametrize("status", [BOGUS, UNREACHABLE])
def test_records_that_are_withheld_at_the_end_are_not_replaced_by_those_of_the_host(status: DNSSECStatus) -> None:
    zones = Zones(CHAIN | {f"_25._tcp.{END} TLSA": (status, ())} | published(HOST))
    found = zones.located()
    assert (found.base, found.answer.status) == (END, status)
    assert zones.asked == [f"_25._tcp.{END}"]


def test_records_that_cannot_be_read_at_the_end_are_no_absence() -> None:
    def ask(owner: str, rdtype: int) -> DNSAnswer:
        if owner == f"_25._tcp.{END}.":
            return DNSAnswer(owner, "TLSA", SECURE, malformed=1)
        return Zones(CHAIN | published(HOST))(owner, rdtype)

    found = locate(HOST, 25, [], ask)
    assert (found.base, found.answer.malformed) == (END, 1)


@pytest.mark.parametrize("raw", [(wire(END), wire(MIDDLE)), (b"\5mx",), (b"",)], ids=["two", "cut off", "empty"])
def test_alias_that_cannot_be_read_is_no_absence(raw: tuple[bytes, ...]) -> None:
    found = Zones({f"{HOST} CNAME": (SECURE, raw)}).located()
    assert (found.answer.malformed, found.answer.raw_rdata, found.was_asked) == (1, (), False)
    assert found.answer.detail.startswith(f"the CNAME record of {HOST} cannot be read: ")


@pytest.mark.parametrize("length", [7, 8])
def test_chain_ends_after_eight_questions(length: int) -> None:
    names = [HOST, *(f"a{number}.example.org" for number in range(length))]
    chain = {f"{name} CNAME": alias(following) for name, following in pairwise(names)}
    found = Zones(chain | published(names[-1])).located()
    assert found.base == (names[-1] if length == 7 else HOST)
    assert found.answer.status is (SECURE if length == 7 else DNSSECStatus.INDETERMINATE)


def test_aliases_in_a_circle_prove_nothing() -> None:
    found = Zones({f"{HOST} CNAME": alias(MIDDLE), f"{MIDDLE} CNAME": alias(HOST)}).located()
    assert (found.answer.status, found.was_asked) == (DNSSECStatus.INDETERMINATE, False)


def test_one_kind_of_address_without_an_answer_does_not_hide_the_other() -> None:
    good = DNSAnswer(f"{HOST}.", "A", SECURE, (IP,))
    for bad in (DNSAnswer(f"{HOST}.", "AAAA", BOGUS), DNSAnswer(f"{HOST}.", "AAAA", SECURE, malformed=1)):
        assert locate(HOST, 25, [good, bad], Zones(published(HOST))).answer.raw_rdata == (RECORD,)
        nothing = DNSAnswer(f"{HOST}.", "A", SECURE)
        found = locate(HOST, 25, [nothing, bad], Zones(published(HOST)))
        assert (found.answer.status, found.answer.malformed) == (bad.status, bad.malformed)
        assert (found.answer.raw_rdata, found.was_asked) == ((), False)


def test_records_stand_below_the_port_of_the_server() -> None:
    zones = Zones({})
    locate(HOST, 2525, [], zones)
    assert zones.asked == [f"_2525._tcp.{HOST}"]


def test_records_in_an_unsigned_zone_are_shown_and_stay_insecure() -> None:
    """Even where the resolver says of them alone that they are secure."""
    zones = Zones(published(HOST) | {f"{HOST} CNAME": (INSECURE, ())})
    located = zones.located(INSECURE)
    assert (zones.asked, located.answer.raw_rdata) == ([], ())
    answer = tlsa_base.published(HOST, 25, located, zones)
    assert (answer.status, answer.raw_rdata) == (INSECURE, (RECORD,))


@pytest.mark.parametrize("status", [SECURE, BOGUS, UNREACHABLE])
def test_what_a_sender_was_told_is_not_asked_again(status: DNSSECStatus) -> None:
    zones = Zones({f"{HOST} CNAME": (status, ())})
    located = zones.located()
    before = list(zones.asked)
    assert tlsa_base.published(HOST, 25, located, zones) == located.answer
    assert zones.asked == before
