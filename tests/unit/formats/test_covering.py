from __future__ import annotations

import base64
import random

import pytest

from smilla.formats.base64_lines import base64_lines
from smilla.formats.covering import Room, covered, room


def records(body: bytes) -> int:
    """The octets of a body in Postfix's queue file, counted record by record."""
    octets = 0
    for line in body.split(b"\r\n")[:-1]:
        left = len(line)
        while left >= 2048:
            octets, left = octets + 3 + 2048, left - 2048
        octets += (2 if left < 128 else 3) + left
    return octets


@pytest.mark.parametrize("block", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("width", [0, 1, 126, 127, 128, 129, 2047, 2048, 2049, 4096, 9000])
def test_room_is_that_of_the_records(width: int, block: int) -> None:
    body = (b"x" * width + b"\r\n") * 5 + b"short\r\n\r\n"
    found = room(body[at : at + block] for at in range(0, len(body), block))
    assert found == Room(records(body), 4 + 5 * (width >= 2048))


def test_room_of_lines_of_any_length() -> None:
    pick = random.Random(7)
    for _ in range(200):
        body = b"".join(b"y" * pick.choice([0, 5, 76, 127, 128, 300, 2048, 6000]) + b"\r\n" for _ in range(9))
        cuts = sorted(pick.randrange(len(body)) for _ in range(4))
        assert room(body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)).octets == records(body)


@pytest.mark.parametrize("head", [b"", b"--b\r\nContent-Type: a/b\r\n\r\n"])
@pytest.mark.parametrize("old", [0, 3, 100, 300, 400, 5000, 65_000, 66_000, 131_100, 199_000])
def test_lines_are_short_where_the_old_body_ends_and_nothing_else_changes(old: int, head: bytes) -> None:
    raw = random.Random(old).randbytes(200_000)
    text = b"".join(covered(head, base64_lines([raw]), Room(old, 4)))
    before, _, lines = text.partition(head) if head else (b"", b"", text)
    assert base64.b64decode(lines) == raw
    assert max(map(len, lines.split(b"\r\n"))) == 76
    at = 0
    for line in text.splitlines(keepends=True):
        is_at_end = at < old + 4 and at + len(line) > old - 100
        assert not is_at_end or len(line) <= 6, "what does not fit leaves up to a line"
        at += len(line)
    assert not before.strip()
    assert len(text) < len(raw) * 78 / 57 + 3000


def test_what_is_no_base64_is_left_alone() -> None:
    lines = [b"-----BEGIN PGP MESSAGE-----\r\n\r\n", b"AAAA" * 19 + b"\r\n=abcd\r\n-----END PGP MESSAGE-----\r\n"]
    text = b"".join(covered(b"", iter(lines), Room(60, 4)))
    assert text == lines[0] + b"AAAA\r\n" * 19 + b"=abcd\r\n-----END PGP MESSAGE-----\r\n"
