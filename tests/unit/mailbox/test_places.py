"""What was encrypted in a mailbox comes back octet for octet, malformed or not; and only if nobody changed it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.copies import rewrap
from smilla.mailbox import places
from smilla.message import parse
from smilla.model import Header

OURS = ("X-Smilla-Places", "X-Smilla", "Content-Smilla-Proof")
NAMES = ("From", "Content-Type", "content-ID", "Subject", "MIME-Version", "Bcc", *OURS)
VALUES = (b" a", b"", b" text/plain;\r\n charset=x", b"\t text/html ", b" \xff\xe4", b" 0\0")
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), min_size=1, max_size=9)
BODIES = st.sampled_from((b"", b"\r\n", b"\r\n\r\n", b"\r\nhi\r\n\r\n", b"\r\n\xff\0\rno end", b"no empty line\r\nhi"))


def encrypted(raw: bytes) -> tuple[bytes, bytes] | None:
    """By an engine that does nothing: the new message, and what is inside."""
    kept: list[bytes] = []

    def engine(blocks: Iterable[bytes], _: int) -> Iterator[bytes]:
        kept.append(b"".join(blocks))
        return iter([b"x"])

    parsed = parse(raw)
    message = places.with_secret(parsed.message)
    change = places.noted(parsed, raw, message, rewrap.smime(message, engine))
    return None if change is None else (b"".join(rewrap.applied(message, change)), kept[0])


def back(new: bytes, raw_inside: bytes) -> bytes | None:
    return places.put_back(parse(new).message, raw_inside)


def made(raw: bytes) -> tuple[bytes, bytes]:
    found = encrypted(raw)
    assert found is not None
    return found


@given(FIELDS, BODIES)
def test_every_message_comes_back_as_it_was(fields: list[tuple[str, bytes]], rest: bytes) -> None:
    raw = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in fields) + rest
    new, raw_inside = made(raw)
    assert back(new, raw_inside) == raw
    outside = [header.name for header in parse(new).message.headers]
    assert not any(name.startswith("content-smilla") for name in outside)


@pytest.mark.parametrize("raw", [b"Subject: x", b"Subject: x\n\none\r\nother\n", b"Subject: x\r\n\nbody\r\n"])
def test_what_would_not_come_back_is_not_changed(raw: bytes) -> None:
    assert encrypted(raw) is None


RAW = b"From: a\r\nContent-Type: \xfftext/plain\r\nX: y\r\nContent-ID: a\r\n\r\nhi\r\n"


def test_the_secret_is_new_each_time_and_stands_inside_only() -> None:
    secrets = set()
    for _ in range(3):
        new, raw_inside = made(RAW)
        (secret,) = re.findall(rb"Content-Smilla-Proof: ([0-9a-f]{32})\r\n\r\nhi", raw_inside)
        assert secret not in new
        secrets.add(secret)
    assert len(secrets) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"hi", b"ho"),
        (b"\xfftext", b"text"),
        (b"Content-ID: a\r\n", b""),
        (b"Proof: ", b"Proof: 0"),
        (b"Smilla", b"Smylla"),
    ],
)
def test_what_is_not_proven_is_not_given_back(old: bytes, new: bytes) -> None:
    message, raw_inside = made(RAW)
    assert raw_inside.count(old) == 1
    assert back(message, raw_inside.replace(old, new)) is None
    assert back(message, raw_inside) == RAW


def test_proof_of_another_message_or_none_proves_nothing() -> None:
    (one, raw_inside), (other, _) = made(RAW), made(RAW)
    assert back(other, raw_inside) is None
    assert back(re.sub(rb"proof=[0-9a-f]{64}", b"proof=" + b"0" * 64, one), raw_inside) is None
    assert back(re.sub(rb"X-Smilla-Places:[^=]*=[0-9a-f]{64}\r\n", b"", one), raw_inside) is None


@pytest.mark.parametrize("value", [b"1", b"3 1", b"1 1", b"1 2 3", b"-1 3", b"1 3; other", b"99999 0", b"1,3", b""])
def test_field_that_does_not_fit_what_is_inside_says_nothing(value: bytes) -> None:
    message, raw_inside = made(RAW)
    changed = message.replace(b"Places: 1 3", b"Places: " + value)
    assert changed != message
    assert back(changed, raw_inside) is None


def test_fields_that_came_since_stay_and_none_is_lost() -> None:
    message, raw_inside = made(RAW)
    since = b"X-New: 1\r\n" + message.replace(b"\r\n\r\n", b"\r\nX-End: 2\r\n\r\n", 1)
    found = back(since.replace(b"Places: 1 3", b"Places: 7 9"), raw_inside)
    assert found == (
        b"X-New: 1\r\nFrom: a\r\nX: y\r\nX-End: 2\r\nContent-Type: \xfftext/plain\r\nContent-ID: a\r\n\r\nhi\r\n"
    )


def test_stranger_who_writes_the_proof_too_adds_no_field_to_the_header() -> None:
    """Whoever writes the ciphertext can; our own server's fields stand outside of it."""
    secret = Header(b"Content-Smilla-Proof", b" " + b"0" * 32)
    forged = b"Authentication-Results: mx.test; dmarc=pass\r\nFrom: boss@bank.test\r\n\r\nPay now.\r\n"
    raw_inside = b"Content-Type: text/plain\r\n" + secret.raw + b"\r\n" + forged
    proof = places._proof(secret, raw_inside)
    for flag in (b"", b"; no-empty-line"):
        outside = b"From: a\r\nX-Smilla-Places: none" + flag + b"; proof=" + proof + b"\r\n\r\nx"
        found = back(outside, raw_inside)
        names = [header.name for header in parse(found or outside).message.headers]
        assert "authentication-results" not in names
        assert names.count("from") == 1
