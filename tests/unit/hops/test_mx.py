"""What is said of a domain's mail servers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from smilla.hops import mx, tlsa
from smilla.hops.mx import State
from smilla.model import DNSAnswer, DNSSECStatus
from tests.certificates import NOW, make_certificate

LEAF = make_certificate("p256", number=3, not_after=NOW + timedelta(days=30))[1]
NEXT = make_certificate("p256", number=4)[1]
OWN, OTHER = (bytes([3, 1, 1]) + tlsa.association(raw, 1, 1) for raw in (LEAF, NEXT))
BOTH = (b"\0\x14\1b\4test\0", b"\0\x0a\1A\4test\0")


def answer(status: str, *raw: bytes, malformed: int = 0) -> DNSAnswer:
    return DNSAnswer("o.test.", "TLSA", DNSSECStatus(status), raw, malformed)


@pytest.mark.parametrize(
    ("given", "state", "hosts"),
    [
        (answer("secure", *BOTH), "ok", ("a.test", "b.test")),
        (answer("insecure", *BOTH), "ok", ("a.test", "b.test")),
        (answer("secure"), "absent", ("o.test",)),
        (answer("insecure"), "unsigned", ("o.test",)),
        (answer("secure", b"\0\0\0"), "absent", ()),
        (answer("bogus"), "bogus", ()),
        (answer("indeterminate"), "bogus", ()),
        (answer("unreachable"), "unreachable", ()),
        (answer("secure", b"\0"), "unclear", ()),
        (answer("secure", *BOTH, malformed=1), "unclear", ()),
    ],
)
def test_hosts_come_only_from_an_answer_that_says_something(
    given: DNSAnswer, state: str, hosts: tuple[str, ...]
) -> None:
    finding, found = mx.exchanges("o.test", given)
    assert (finding.state.value, found) == (state, hosts)


def test_of_very_many_mx_records_the_first_ones_are_told() -> None:
    many = [number.to_bytes(2) + b"\4m%03d\4test\0" % number for number in range(300)]
    finding, found = mx.exchanges("o.test", answer("secure", *many))
    assert len(found) == 300
    assert finding.text.endswith("19 m019.test. and 280 more (secure)")


def test_address_that_nobody_could_ask_for_is_no_absence() -> None:
    faults, found = mx.addresses("o.test", "a.test", [answer("secure", bytes(4)), answer("unreachable")])
    assert ([one.state for one in faults], found) == ([State.UNREACHABLE], ("0.0.0.0",))
    faults, found = mx.addresses("o.test", "a.test", [answer("secure"), answer("secure")])
    assert ([one.state for one in faults], found) == ([State.MISSING], ())


@pytest.mark.parametrize(
    ("after_days", "state"), [(-40, "not_yet_valid"), (0, "expiring"), (-1, "ok"), (29, "expiring"), (31, "expired")]
)
def test_days_left(after_days: int, state: str) -> None:
    found = mx.certificate("o.test", "a.test", [LEAF], NOW + timedelta(days=after_days), 30)
    assert found.state.value == state
    assert found.ends_at == NOW + timedelta(days=30)


@pytest.mark.parametrize("chain", [[], [b"no certificate"]])
def test_certificate_that_cannot_be_read_is_unclear(chain: list[bytes]) -> None:
    assert mx.certificate("o.test", "a.test", chain, NOW, 30).state is State.UNCLEAR


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (answer("secure", OWN), "ok"),
        (answer("secure", OTHER), "mismatch"),
        (answer("secure", b"\1" + OWN[1:]), "unusable"),
        (answer("secure"), "absent"),
        (answer("secure", malformed=1), "unusable"),
        (answer("insecure"), "unsigned"),
        (answer("insecure", OWN), "insecure"),
        (answer("insecure", malformed=1), "insecure"),
        (answer("bogus"), "bogus"),
        (answer("indeterminate"), "bogus"),
        (answer("unreachable"), "unreachable"),
    ],
)
def test_each_verdict_has_its_state(given: DNSAnswer, state: str) -> None:
    judgement = tlsa.judge(given, [LEAF], ["a.test"], NOW)
    assert mx.tlsa("o.test", "a.test", given, judgement).state.value == state


def test_record_that_is_live_at_another_address_is_no_next_key() -> None:
    given = answer("secure", OWN, OTHER)
    at_one, at_other = (tlsa.judge(given, [raw], ["a.test"], NOW) for raw in (LEAF, NEXT))
    found = mx.next_key("o.test", "a.test", [at_one])
    assert found is not None and found.state is State.OK
    found = mx.next_key("o.test", "a.test", [at_one, at_other])
    assert found is not None and found.state is State.ABSENT
    assert mx.next_key("o.test", "a.test", [tlsa.judge(answer("secure"), [LEAF], ["a.test"], NOW)]) is None


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (answer("insecure", b"\x10v=STSv1; id=2026"), None),
        (answer("secure"), "absent"),
        (answer("insecure"), "unsigned"),
        (answer("secure", b"\x08v=STSv1;"), "unusable"),
        (answer("secure", b"\x09v=STSv1;"), "unusable"),
        (answer("bogus"), "bogus"),
        (answer("unreachable"), "unreachable"),
    ],
)
def test_announcement_of_a_policy(given: DNSAnswer, state: str | None) -> None:
    found = mx.announcement("o.test", given)
    assert (found.state.value if found else None) == state


def fetched(mode: str, *patterns: str, status: int = 200, media_type: str = "text/plain; charset=utf-8") -> str:
    lines = ["version: STSv1", f"mode: {mode}", "max_age: 86400", *(f"mx: {one}" for one in patterns)]
    finding, found = mx.policy("o.test", status, media_type, "\n".join(lines).encode(), ["a.o.test", "b.o.test"])
    assert (found is not None) == (finding.state in (State.OK, State.MISMATCH))
    return finding.state.value


def test_policy_against_the_hosts() -> None:
    assert fetched("enforce", "*.o.test") == "ok"
    assert fetched("enforce", "a.o.test", "b.o.test") == "ok"
    assert fetched("none") == "ok"
    assert fetched("enforce", "a.o.test") == "mismatch"
    assert fetched("testing", "a.o.test") == "mismatch"


def test_answer_that_is_no_policy_is_unusable_and_a_server_in_trouble_unreachable() -> None:
    assert fetched("perhaps", "*.o.test") == "unusable"
    assert fetched("enforce", "*.o.test", media_type="text/html") == "unusable"
    assert fetched("enforce", "*.o.test", status=404) == "unusable"
    assert fetched("enforce", "*.o.test", status=503) == "unreachable"


def test_certificate_under_a_policy() -> None:
    assert mx.verified("o.test", "a.test", "").state is State.OK
    assert mx.verified("o.test", "a.test", "self-signed").state is State.UNTRUSTED
    assert mx.verified("o.test", "a.test", "no answer", is_told=False).state is State.UNREACHABLE


def test_finding_about_an_alias_says_whose_records_they_are() -> None:
    finding = mx.Finding("r.test", "mx.r.test[192.0.2.1]", mx.Part.TLSA, mx.State.OK, "TLSA matches")
    assert mx.of_alias(finding, "mx.r.test", "mx.r.test") == finding
    told = mx.of_alias(finding, "mx.r.test", "mail.net.test")
    assert (told.text, told.state) == ("mx.r.test is an alias of mail.net.test: TLSA matches", mx.State.OK)
