"""Sealed messages: what was sealed comes out, and nothing else ever does."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import SealBroken
from smilla.formats import seal
from smilla.formats.seal import BLOCK, HEAD_OCTETS, Bound
from smilla.ports import SealKey

KEY, OTHER = SealKey(b"KEY-ID-1", b"k" * 32), SealKey(b"KEY-ID-1", b"o" * 32)
MESSAGE_ID = bytes(range(16))
BOUND = Bound("sam@s.test", ("<bob@r.test>", "<eve@r.test>"), "4XyZ")
SEALED_BLOCK = BLOCK + 16


def whole(content: bytes, pieces: int = 10_000) -> bytes:
    cut = [content[at : at + pieces] for at in range(0, len(content), pieces)]
    return b"".join(seal.sealed(cut, KEY, MESSAGE_ID, BOUND))


def opened(raw: bytes, key: SealKey = KEY) -> bytes:
    return b"".join(seal.opened([raw], key))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5])
def test_what_was_sealed_comes_out(size: int) -> None:
    content = os.urandom(size)
    raw = whole(content)
    assert len(raw) == HEAD_OCTETS + size + 16 * max(1, -(-size // BLOCK))
    assert opened(raw) == content
    assert seal.is_bound_to(seal.head_of(raw), KEY, BOUND)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_pieces_of_any_size_make_the_same_message(pieces: list[bytes], step: int) -> None:
    raw = b"".join(seal.sealed(pieces, KEY, MESSAGE_ID, BOUND))
    assert raw == whole(b"".join(pieces))
    again = [raw[at : at + step] for at in range(0, len(raw), step)]
    assert b"".join(seal.opened(again, KEY)) == b"".join(pieces)


def test_no_octet_of_the_content_stands_in_the_sealed_message() -> None:
    assert b"Kanarienvogel" not in whole(b"Kanarienvogel" * 10_000)


@pytest.mark.parametrize(
    ("at", "blocks"),
    [*((at, 0) for at in (0, 12, 20, 36, HEAD_OCTETS - 1, HEAD_OCTETS)), (HEAD_OCTETS + 70_000, 1), (-1, 1)],
)
def test_one_octet_that_was_changed_opens_nothing_after_it(at: int, blocks: int) -> None:
    raw = bytearray(whole(bytes(BLOCK + 9000)))
    raw[at] ^= 1
    found: list[bytes] = []
    with pytest.raises(SealBroken):
        found.extend(seal.opened([bytes(raw)], KEY))
    assert len(found) == blocks


def test_a_message_cut_at_any_block_is_broken() -> None:
    raw = whole(bytes(3 * BLOCK + 10))
    for blocks in range(4):
        with pytest.raises(SealBroken):
            opened(raw[: HEAD_OCTETS + blocks * SEALED_BLOCK])
    for end in (0, 5, HEAD_OCTETS - 1, HEAD_OCTETS + 1, len(raw) - 1):
        with pytest.raises(SealBroken):
            opened(raw[:end])


def test_octets_after_the_last_block_are_no_part_of_it() -> None:
    for content, more in itertools.product((b"", bytes(BLOCK)), (b"x", bytes(SEALED_BLOCK))):
        with pytest.raises(SealBroken):
            opened(whole(content) + more)


def test_blocks_that_were_exchanged_or_repeated_are_broken() -> None:
    raw = whole(os.urandom(4 * BLOCK))
    head, blocks = raw[:HEAD_OCTETS], [raw[HEAD_OCTETS + n * SEALED_BLOCK :][:SEALED_BLOCK] for n in range(4)]
    for order in ([1, 0, 2, 3], [0, 1, 1, 3], [0, 2, 1, 3], [0, 1, 3], [0, 0, 1, 2, 3]):
        with pytest.raises(SealBroken):
            opened(head + b"".join(blocks[n] for n in order))


def test_blocks_of_two_messages_do_not_mix() -> None:
    first = whole(bytes(2 * BLOCK))
    second = b"".join(seal.sealed([bytes(2 * BLOCK)], KEY, bytes(16), BOUND))
    for mixed in (
        first[:HEAD_OCTETS] + second[HEAD_OCTETS:],
        first[: HEAD_OCTETS + SEALED_BLOCK] + second[HEAD_OCTETS + SEALED_BLOCK :],
    ):
        with pytest.raises(SealBroken):
            opened(mixed)


@pytest.mark.parametrize(
    "bound",
    [
        replace(BOUND, sender="eve@s.test"),
        replace(BOUND, queue_id="4XyY"),
        replace(BOUND, recipients=("<bob@r.test>",)),
        replace(BOUND, recipients=("<eve@r.test>", "<bob@r.test>")),
        replace(BOUND, recipients=("<bob@r.test><eve@r.test>",)),
        replace(BOUND, sender="sam@s.test4XyZ", queue_id=""),
    ],
)
def test_a_seal_is_bound_to_what_it_was_made_for_and_nothing_else(bound: Bound) -> None:
    head = seal.head_of(whole(b"content"))
    assert seal.is_bound_to(head, KEY, BOUND)
    assert not seal.is_bound_to(head, KEY, bound)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(SealBroken):
        opened(whole(b"content"), OTHER)


def test_the_head_names_key_and_message_and_the_key_never_shows_itself() -> None:
    head = seal.head_of(whole(b""))
    assert (head.raw_key_id, head.raw_message_id) == (KEY.raw_id, MESSAGE_ID)
    assert "kkkk" not in repr(KEY)
