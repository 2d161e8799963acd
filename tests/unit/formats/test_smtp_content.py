"""Where a message ends in the stream of its octets, wherever that stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.formats.smtp_content import ContentReader


def read(*blocks: bytes) -> tuple[bytes, ContentReader]:
    reader, found = ContentReader(), b""
    for block in blocks:
        assert not reader.has_ended
        found += reader.feed(block)
    return found, reader


@pytest.mark.parametrize(
    ("raw", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"...\r\n.a\r\n.\r\n", b"..\r\na\r\n", b""),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n", b""),
        (b"\r\n\r\n.\r\n.\r\n", b"\r\n\r\n", b".\r\n"),
    ],
)
def test_final_dot_ends_the_content_and_a_doubled_one_does_not(raw: bytes, content: bytes, rest: bytes) -> None:
    for cut in range(len(raw) - len(rest)):
        found, reader = read(raw[:cut], raw[cut:])
        assert (found, reader.has_ended, reader.rest, reader.fault) == (content, True, rest, "")


@pytest.mark.parametrize(
    "raw",
    [b"a\n.\n", b"a\n.\r\n", b"a\r\n.\n", b"a\r.\r", b"a\r\n.\r", b"\n.\r\n", b"\r.\r\n", b"a\r\r\n", b"a\n\r\n"],
)
def test_no_other_line_end_ends_it_and_each_is_reported(raw: bytes) -> None:
    _, reader = read(raw)
    assert not reader.has_ended
    reader.feed(b"b\r\n.\r\n")
    assert reader.has_ended
    assert reader.fault


def test_nul_is_reported() -> None:
    assert read(b"a\0b\r\n.\r\n")[1].fault == "a NUL"


@given(st.lists(st.sampled_from([b"\r\n", b".", b"a", b"..", b"\r\n.", b"b\r\n"])), st.data())
def test_what_a_client_stuffs_comes_out_as_it_was_however_it_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    content = b"".join(parts)
    content += b"" if not content or content.endswith(b"\r\n") else b"\r\n"
    raw = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=5)))
    blocks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found, reader = read(*blocks)
    assert (found, reader.has_ended, reader.rest, reader.fault) == (content, True, b"", "")
