"""What a resolver's response is taken for.  No socket: responses are read from octets."""

from __future__ import annotations

from itertools import pairwise

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.adapters import dns_response, proof, resolver
from smilla.adapters.pending import Pending
from smilla.adapters.resolver import LoopbackResolver
from smilla.model import DNSAnswer, DNSSECStatus

OWNER = "hash._smimecert.example.org."
SOA = dns.rrset.from_text("example.org.", 300, "IN", "SOA", "ns. hostmaster. 1 2 3 4 60")
RECORD = dns.rrset.from_text(OWNER, 120, "IN", "SMIMEA", "3 0 0 3003020101")
RAW = bytes.fromhex("0300003003020101")


def response(
    *answer: dns.rrset.RRset,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    flags: int = dns.flags.AD,
    authority: tuple[dns.rrset.RRset, ...] = (),
    errors: tuple[int, ...] = (),
) -> dns.message.Message:
    made = dns.message.make_response(dns.message.make_query(OWNER, "SMIMEA", use_edns=0), recursion_available=True)
    made.set_rcode(rcode)
    made.flags |= flags
    made.answer, made.authority = list(answer), list(authority)
    if errors:
        made.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.make(code), "in words") for code in errors])
    return made


def read(made: dns.message.Message | bytes) -> DNSAnswer:
    raw = made if isinstance(made, bytes) else made.to_wire()
    return dns_response.read(dns.message.from_wire(raw, continue_on_error=True), OWNER, 53)


# --- status


def test_ad_bit_alone_makes_an_answer_secure() -> None:
    assert read(response(RECORD)).status is DNSSECStatus.SECURE
    assert read(response(RECORD, flags=0)).status is DNSSECStatus.INSECURE


def test_records_come_octet_for_octet_with_their_ttl() -> None:
    found = read(response(RECORD))
    assert (found.raw_rdata, found.ttl_s, found.malformed, found.detail) == ((RAW,), 120, 0, "")


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_absence_says_how_and_has_the_soa_s_ttl(rcode: dns.rcode.Rcode) -> None:
    found = read(response(rcode=rcode, authority=(SOA,)))
    assert (found.status, found.raw_rdata, found.ttl_s) == (DNSSECStatus.SECURE, (), 60)
    assert found.detail == f"no SMIMEA record ({dns.rcode.to_text(rcode)})"


@pytest.mark.parametrize(("rcode", "is_denied"), [(dns.rcode.NOERROR, False), (dns.rcode.NXDOMAIN, True)])
def test_name_that_does_not_exist_is_told_from_one_without_such_a_record(
    rcode: dns.rcode.Rcode, is_denied: bool
) -> None:
    assert read(response(rcode=rcode, authority=(SOA,))).is_denied is is_denied


def test_absence_without_a_soa_is_not_to_be_kept() -> None:
    assert read(response()).ttl_s == 0


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 9, 16, 23])
def test_every_other_response_code_is_unreachable(rcode: int) -> None:
    found = read(response(RECORD, rcode=dns.rcode.Rcode(rcode)))
    assert (found.status, found.raw_rdata) == (DNSSECStatus.UNREACHABLE, ())
    assert dns.rcode.to_text(dns.rcode.Rcode(rcode)) in found.detail


@pytest.mark.parametrize("error", [5, 6, 7, 8, 9, 10, 11, 12])
def test_servfail_with_an_error_of_validation_is_bogus(error: int) -> None:
    found = read(response(rcode=dns.rcode.SERVFAIL, errors=(22, error)))
    assert found.status is DNSSECStatus.BOGUS
    assert f"EDE {error} in words" in found.detail


@pytest.mark.parametrize("error", [0, 1, 2, 3, 4, 13, 15, 20, 21, 22, 23, 999])
def test_servfail_with_another_error_is_unreachable(error: int) -> None:
    assert read(response(rcode=dns.rcode.SERVFAIL, errors=(error,))).status is DNSSECStatus.UNREACHABLE


@pytest.mark.parametrize("error", [1, 2, 6])
def test_extended_error_beside_an_answer_is_shown_and_changes_nothing(error: int) -> None:
    found = read(response(RECORD, errors=(error,)))
    assert (found.status, found.detail) == (DNSSECStatus.SECURE, f"EDE {error} in words")


@pytest.mark.parametrize("error", [0, 3, 4, 13, 15, 16, 17, 18, 19, 22, 27, 999])
@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_answer_that_the_resolver_made_up_proves_no_absence(error: int, rcode: dns.rcode.Rcode) -> None:
    found = read(response(rcode=rcode, flags=0, errors=(error,)))
    assert (found.status, found.raw_rdata) == (DNSSECStatus.INDETERMINATE, ())
    assert f"EDE {error} in words" in found.detail


@pytest.mark.parametrize("error", [5, 6, 7, 8, 9, 10, 11, 12])
def test_answer_that_is_passed_on_though_it_is_not_valid_is_bogus(error: int) -> None:
    assert read(response(RECORD, flags=0, errors=(1, error))).status is DNSSECStatus.BOGUS


@pytest.mark.parametrize("error", [1, 2])
def test_zone_with_algorithms_that_are_not_supported_is_unsigned(error: int) -> None:
    assert read(response(RECORD, flags=0, errors=(error,))).status is DNSSECStatus.INSECURE


@pytest.mark.parametrize(
    ("ds", "flags", "proven"),
    [
        ("1 13 2 " + "00" * 32, dns.flags.AD, False),
        ("1 13 2 " + "00" * 32, 0, True),  # an island: no anchor leads to it
        ("1 1 2 " + "00" * 32, dns.flags.AD, True),
        ("1 13 3 " + "00" * 32, dns.flags.AD, True),
        ("", dns.flags.AD, True),
        ("", 0, True),  # opt-out (RFC 5155 section 9.2)
        ("", dns.flags.AA, False),
        ("", dns.flags.AA | dns.flags.AD, True),
    ],
)
def test_what_the_parent_says_of_ds_proves_a_zone_unsigned(ds: str, flags: int, proven: bool) -> None:
    records = (dns.rrset.from_text("example.org.", 60, "IN", "DS", ds),) if ds else ()
    assert dns_response.proves_unsigned(response(*records, flags=flags)) is proven


# --- what answers nothing


@pytest.mark.parametrize(
    "made",
    [
        response(RECORD, flags=dns.flags.AD | dns.flags.TC),
        response(RECORD, rcode=dns.rcode.NXDOMAIN),
        dns.message.make_response(dns.message.make_query("example.org.", "SOA")),
    ],
    ids=["truncated", "NXDOMAIN with an answer", "no question asked for"],
)
def test_contradiction_is_no_answer(made: dns.message.Message) -> None:
    if made.question[0].rdtype == dns.rdatatype.SOA:
        made.question = []
    with pytest.raises((OSError, dns.exception.DNSException)):
        read(made)


# --- malformed records


@pytest.mark.parametrize("rdata", [b"", b"\3", b"\3\0"])
def test_record_that_is_too_short_is_counted_and_is_no_absence(rdata: bytes) -> None:
    raw = response(RECORD).to_wire()
    short = raw.replace(len(RAW).to_bytes(2) + RAW, len(rdata).to_bytes(2) + rdata)
    assert short != raw
    found = read(short)
    assert (found.status, found.raw_rdata, found.malformed, found.detail) == (DNSSECStatus.SECURE, (), 1, "")


def test_malformed_record_leaves_the_good_one() -> None:
    other = dns.rrset.from_text(OWNER, 120, "IN", "SMIMEA", "3 0 0 3003020101", "3 1 0 aabbccdd")
    raw = response(other).to_wire()
    broken = raw.replace(b"\x00\x07\x03\x01\x00\xaa\xbb\xcc\xdd", b"\x00\x02\x03\x01")
    assert broken != raw
    found = read(broken)
    assert (found.raw_rdata, found.malformed) == ((RAW,), 1)


# --- aliases


def _chain(length: int, end: dns.rrset.RRset | None) -> list[dns.rrset.RRset]:
    names = [OWNER, *(f"c{number}.example.org." for number in range(length))]
    links = [dns.rrset.from_text(a, 30, "IN", "CNAME", b) for a, b in pairwise(names)]
    if end is not None:
        links.append(dns.rrset.from_text(names[-1], end.ttl, "IN", "SMIMEA", end[0].to_text()))
    return links


@pytest.mark.parametrize("length", [1, 2, 9])
def test_alias_is_followed_and_the_shortest_ttl_counts(length: int) -> None:
    found = read(response(*_chain(length, RECORD)))
    assert (found.owner, found.raw_rdata, found.ttl_s) == (OWNER, (RAW,), 30)


def test_alias_of_nothing_is_absence() -> None:
    found = read(response(*_chain(2, None), rcode=dns.rcode.NXDOMAIN, authority=(SOA,)))
    assert (found.status, found.raw_rdata, found.ttl_s) == (DNSSECStatus.SECURE, (), 30)


def test_record_of_another_name_is_not_taken() -> None:
    other = dns.rrset.from_text("other._smimecert.example.org.", 120, "IN", "SMIMEA", "3 0 0 3003020101")
    assert read(response(other, authority=(SOA,))).raw_rdata == ()


def test_loop_of_aliases_is_no_answer() -> None:
    a = dns.rrset.from_text(OWNER, 30, "IN", "CNAME", "b.example.org.")
    b = dns.rrset.from_text("b.example.org.", 30, "IN", "CNAME", OWNER)
    with pytest.raises(dns.exception.DNSException):
        read(response(a, b))


# --- any octets


def answer_to(raw: bytes) -> DNSAnswer | None:
    """What is made of these octets; None where they are no answer, which makes the question UNREACHABLE."""
    query = dns.message.make_query(OWNER, "SMIMEA", use_edns=0, id=0x4242)
    try:
        return dns_response.read(dns_response.parsed(raw, query), OWNER, 53)
    except proof.FAILURES:
        return None


@given(st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_octets_give_an_answer_with_a_status(raw: bytes) -> None:
    found = answer_to(b"\x42\x42" + raw)
    assert found is None or found.status is DNSSECStatus.UNREACHABLE


_GOOD = response(*_chain(2, RECORD), authority=(SOA,), errors=(6,))
_GOOD.id = 0x4242


@pytest.mark.parametrize("most", [1, 2, 4, 6])
@given(
    st.lists(st.tuples(st.integers(4, len(_GOOD.to_wire()) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 80)
)
@settings(max_examples=375, deadline=None)
def test_any_change_to_a_response_gives_an_answer_with_a_status(
    most: int, changes: list[tuple[int, int]], cut: int
) -> None:
    raw = bytearray(_GOOD.to_wire())
    for place, octet in changes[:most]:
        raw[place] = octet
    found = answer_to(bytes(raw[: len(raw) - cut if cut < 40 else len(raw)]))
    if found is not None and found.status in (DNSSECStatus.BOGUS, DNSSECStatus.UNREACHABLE):
        assert not found.raw_rdata


# --- who is believed


@pytest.mark.parametrize("server", ["192.0.2.1", "2001:db8::1@53", "10.0.0.1@5353"])
def test_nameserver_that_is_not_on_loopback_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        LoopbackResolver([server], ".")


def test_making_a_resolver_starts_no_thread() -> None:
    import threading

    before = threading.active_count()
    LoopbackResolver(["127.0.0.1", "127.0.0.53@53"], ".")
    assert threading.active_count() <= before


def test_question_that_was_cancelled_is_unreachable() -> None:
    from concurrent.futures import Future

    future: Future[DNSAnswer] = Future()
    future.cancel()
    found = Pending(OWNER, "SMIMEA", future).result(0.0)
    assert (found.status, found.owner, found.rdtype) == (DNSSECStatus.UNREACHABLE, OWNER, "SMIMEA")


def test_of_several_resolvers_the_one_that_was_asked_tells_why() -> None:
    """One that is down says nothing about the domain, whatever the order."""
    down = DNSAnswer(OWNER, "SMIMEA", DNSSECStatus.UNREACHABLE, detail="refused", is_ours=True)
    theirs = DNSAnswer(OWNER, "SMIMEA", DNSSECStatus.UNREACHABLE, detail="SERVFAIL")
    doubt = DNSAnswer(OWNER, "SMIMEA", DNSSECStatus.INDETERMINATE, detail="no AD bit")
    assert max(down, theirs, key=resolver._telling) is max(theirs, down, key=resolver._telling) is theirs
    assert max(theirs, down, doubt, key=resolver._telling) is doubt
