"""MTA-STS records and policies."""

from __future__ import annotations

import pytest

from smilla.errors import ParseError
from smilla.hops import mta_sts
from smilla.hops.mta_sts import LARGEST, Mode, Policy, lines, policy_id, read

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.mail.example.org\r\nmax_age: 604800\r\n"


def test_policy_is_read_with_either_line_end_and_without_the_last_one() -> None:
    expected = Policy(Mode.ENFORCE, ("mx.example.org", "*.mail.example.org"), 604800)
    assert read(GOOD) == expected
    assert read(GOOD.replace(b"\r\n", b"\n").rstrip()) == expected


def test_unknown_field_is_passed_over_and_of_a_repeated_one_the_first_counts() -> None:
    assert read(b"new: thing\n" + GOOD + b"mode: none\n").mode is Mode.ENFORCE


def test_policy_of_mode_none_needs_no_host_and_forbids_none() -> None:
    policy = read(b"version: STSv1\nmode: none\nmax_age: 0\n")
    assert policy == Policy(Mode.NONE, (), 0)
    assert policy.forbidden(["mx.example.net"]) == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        GOOD.replace(b"STSv1", b"STSv2"),
        GOOD.replace(b"enforce", b"Enforce"),
        GOOD.replace(b"604800", b"31557601"),
        GOOD.replace(b"604800", b"-1"),
        GOOD.replace(b"mx:", b"xm:"),
        GOOD.replace(b"max_age", b"age"),
        GOOD + b"\xff: x\n",
        GOOD + b"no colon\n",
        GOOD + b"x: " + b"y" * LARGEST,
    ],
)
def test_faulty_policy_is_an_error_and_not_none(raw: bytes) -> None:
    with pytest.raises(ParseError):
        read(raw)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mx.example.org", True),
        ("MX.example.org.", True),
        ("a.mail.example.org", True),
        ("mail.example.org", False),
        ("a.b.mail.example.org", False),
        (".mail.example.org", False),
        ("amail.example.org", False),
        ("mx.example.org.example.net", False),
        ("", False),
    ],
)
def test_pattern_stands_for_one_label(host: str, is_allowed: bool) -> None:
    policy = read(GOOD)
    assert policy.allows(host) is is_allowed
    assert policy.forbidden([host]) == (() if is_allowed else (host,))


def test_very_many_patterns_and_hosts_cost_no_more_than_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def counted(name: str) -> str:
        looked_at.append(name)
        return name

    monkeypatch.setattr(mta_sts, "plain", counted)
    policy = Policy(Mode.ENFORCE, tuple(f"mx{number}.example.net" for number in range(1000)), 1)
    assert policy.allowed([f"mx{number}.example.org" for number in range(3000)]) == ()
    assert len(looked_at) == 1000


def test_only_a_line_feed_ends_a_line() -> None:
    odd = b"mx: a.test\x0bmx: b.test\xc2\x85mx: c.test\xe2\x80\xa8mx: d.test\rmx: e.test"
    raw = b"version: STSv1\nmode: enforce\n" + odd + b"\nmax_age: 1"
    assert len(lines(raw)) == 4
    assert read("\n".join(lines(raw)).encode()) == read(raw)
    assert len(read(raw).mx) == 1


@pytest.mark.parametrize("pattern", ["*", "*.org", "m*.example.org", "mx.*.org", ""])
def test_other_patterns_allow_nothing(pattern: str) -> None:
    policy = Policy(Mode.ENFORCE, (pattern,), 1)
    assert not any(policy.allows(host) for host in ("mx.example.org", "example.org", "org", "m*.example.org", ""))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=STSv1; id=20260101T000000;"], "20260101T000000"),
        (["v=spf1 -all", "v=STSv1;id=a1; x=y"], "a1"),
        ([], ""),
        (["v=STSv2; id=1"], ""),
        (["v=STSv1; id=1", "v=STSv1; id=2"], ""),
        ([" v=STSv1; id=1"], ""),
    ],
)
def test_record_that_announces_a_policy_has_its_id(texts: list[str], expected: str) -> None:
    assert policy_id(texts) == expected


@pytest.mark.parametrize("text", ["v=STSv1;", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv1; id=1; id=2"])
def test_record_without_a_good_id_is_an_error_and_not_none(text: str) -> None:
    with pytest.raises(ParseError):
        policy_id([text])
