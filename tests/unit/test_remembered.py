"""What a stranger chooses is remembered only where it is short: a worker's memory stays bounded."""

from __future__ import annotations

from dataclasses import replace

from smilla import address, remembered
from smilla.encrypt import cms, cms_recipients
from smilla.model import OAEP, Header, Style, message
from tests.unit.decisions import certificate


def test_a_long_field_name_is_folded_and_not_remembered() -> None:
    header = Header(b"Long-" * 10_000, b" x")
    before = message._folded_name.remembered()
    assert header.name == "long-" * 10_000
    assert Header(b"X" * 10_000 + b" ", b" x").name == "x" * 10_000
    assert message._folded_name.remembered() == before


def test_an_address_with_a_long_route_is_parsed_and_not_remembered() -> None:
    before = address.parse.remembered()
    assert address.parse(f"<@{'x' * 1000}:hugh@example.org>").local_part == "hugh"
    assert address.parse.remembered() == before


def test_the_head_of_a_recipient_info_with_a_long_label_is_not_remembered() -> None:
    before = cms_recipients._transport_head.remembered()
    demanded = OAEP("sha256", "sha256", b"\x30\x82\xe0\x00" + bytes(0xE000), b"label")
    written = b"".join(cms.encrypt([b"x"], 1, [replace(certificate(), oaep=demanded)], Style()))
    assert demanded.raw_algorithm in written
    assert cms_recipients._transport_head.remembered() == before


def test_what_is_short_is_worked_out_once_and_what_is_long_each_time() -> None:
    asked = []

    @remembered.when_short(3, entries=2)
    def length(text: str, more: int) -> int:
        asked.append(text)
        return len(text) + more

    assert [length("abc", 1), length("abc", 1), length("abcd", 1), length("abcd", 1)] == [4, 4, 5, 5]
    assert asked == ["abc", "abcd", "abcd"]
    assert [length(text, 0) for text in ("a", "b", "c")] == [1, 1, 1]
    assert length.remembered() == 2
