"""Words of a person are counted however they are joined and spelled; what programs write counts for nothing."""

from __future__ import annotations

import pytest

from smilla.formats.words import identifier_words, unusual_words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GnuPG v2.2.40 (GNU/Linux)",
        "Microsoft Outlook 16.0.10366.12106",
        "SHA256, net6.0, windows-1252, iso-8859-15",
        "Build 9307",
        'size=3053; creation-date="Mon, 01 Jan 2024 08:00:00 GMT"; read-date="Mon, 01 Jan 2024 08:00:00 +0100"',
        "0123456789ABCDEF0123456789ABCDEF01234567",
        "https://www.mailvelope.com/",
        "OpenPGP BouncyCastle.NET FlowCrypt",
    ],
)
def test_what_programs_write_is_no_word(text: str) -> None:
    assert unusual_words(text) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("attack at dawn", 3),
        ("AttackAtDawn", 3),
        ("attack2at2dawn", 2),
        ("4tt4ck 4t d4wn", 3),
        ("killcharlestomorrowatnoon", 2),
        ("http://attack.example/at/dawn", 3),
        ("ftp://attack/dawn", 2),
        ("4711", 2),
        ("4111111111111111", 6),
        ("4111.1111.1111.1111", 8),
        ("1.1 2.2 3.3", 1),
        ("12 34 56 78", 1),
        ("0123456789abcdef 0123456789abcdef", 2),
        ("d r g n", 4),
        ("sha411 sha411 sha411 sha411", 1),
    ],
)
def test_words_are_counted_however_they_are_spelled(text: str, count: int) -> None:
    assert len(unusual_words(text) or ()) == count


@pytest.mark.parametrize("text", ["&#68;", "&uuml;", "&#x44;", "%E5%AF%86"])
def test_what_cannot_be_counted_is_none(text: str) -> None:
    assert unusual_words(text) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("<3F2504E0-4F89-11D3-9A0C-0305E82C3301@mail.example.com>", 1),
        ("<CAKx7q2Zb9@mail.gmail.com>", 1),
        ("<attack.at.dawn@x>", 3),
        ("<attack2at2dawn@x>", 2),
        ("<4tt4ck-4t-d4wn-n0w>", 2),
        ("<f_kXbQpWzRtLmNvCxHgJdSfYuTqBwZk@flowcrypt>", 1),  # letters drawn by lot
        ("<f_fHRDHRJSamrwwbmpBuxRMCDTVUhUJW@flowcrypt>", 1),
        ("<part1.KdWqfZ3z.bT9xLpVm@example.org>", 1),
        ("<AttackAtDawnOnTheHill@x>", 6),
        ("<DearJimXSendXMeTheXKeyToXMyHut.WeXMeetXAtXTheXOldXMillXAtXTen@mail>", 17),
        ("<MrXMeetMeAtTheMrXBridge.BringXAllMyCashMrX@mail>", 6),
        ("<" + "xQzRkT" * 7 + "@x>", 20),  # too long to be an identifier
    ],
)
def test_words_in_an_identifier(text: str, count: int) -> None:
    assert len(identifier_words(text)) == count
