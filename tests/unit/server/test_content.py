"""Header and body of a message that arrives in pieces: nothing is lost, wherever it is cut."""

from __future__ import annotations

import pytest

from smilla.errors import HeaderTooLarge
from smilla.message import MOST_HEADER_OCTETS, MemoryBody
from smilla.model import Message
from smilla.server.content import Content


def taken(*blocks: bytes) -> Message:
    content = Content(MemoryBody())
    for block in blocks:
        content.take(block)
    return content.message()


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"A: b\r\nC: d\r\n e\r\n\r\nbody\r\n", ["a", "c"], b"body\r\n"),
        (b"A: b\r\n\r\n", ["a"], b""),
        (b"A: b\r\n", ["a"], b""),
        (b"\r\nbody\r\n", [], b"body\r\n"),
        (b"", [], b""),
        (b"A: b\r\nno field\r\nC: d\r\n\r\nbody\r\n", ["a"], b"no field\r\nC: d\r\n\r\nbody\r\n"),
        (b"no field\r\nC: d\r\n", [], b"no field\r\nC: d\r\n"),
        (b"A: b\r\n\r\n\r\n\r\nbody\r\n", ["a"], b"\r\n\r\nbody\r\n"),
    ],
)
def test_message_is_split_where_an_mta_splits_it(raw: bytes, names: list[str], body: bytes) -> None:
    for cut in range(len(raw) + 1):
        found = taken(raw[:cut], raw[cut:])
        assert [header.name for header in found.headers] == names
        assert b"".join(found.body.blocks()) == body
        assert found.body.size == len(body)


def test_header_that_does_not_end_is_too_large() -> None:
    with pytest.raises(HeaderTooLarge):
        taken(*[b"x" * 65536] * (MOST_HEADER_OCTETS // 65536 + 1))
    taken(b"A: b\r\n\r\n", b"x" * (MOST_HEADER_OCTETS + 1))
