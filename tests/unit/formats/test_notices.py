"""What programs write for readers without MIME, and what only looks like it."""

from __future__ import annotations

import pytest

from smilla.formats.notices import MOST_OCTETS, NoticeReader, are_notices
from tests.unit.timing import idle_seconds

NOTICES = [
    "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)",
    "This is an OpenPGP/MIME encrypted message (RFC 2440 and 3156)",
    "This is an OpenPGP/MIME encrypted message (RFC 9580 and 3156)",
    "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)",
    "OpenPGP/MIME message (Automatically encrypted by Stalwart)",
    "This message is in MIME format and has been PGP encrypted.",
    "This is a PGP/MIME encrypted message",
    "This is an OpenPGP/MIME encrypted message (RFC 9580)",
    "This is a multi-part message in MIME format.",
    "This is a multi-part message in MIME format",
    "This is a multi-part message in MIME format...",
    "This is a multipart message in MIME format.",
    "This is a multi-part MIME message.",
    "This is a multi-part message in MIME format. Your mail reader does not\r\nunderstand MIME message format.",
    "This is a message in Mime Format.  If you see this, your mail reader does not support this format.",
    "This is a MIME-encapsulated message",
    "This is a MIME encoded message.",
    "This is a cryptographically signed message in MIME format.",
    "This message is in MIME format. Since your mail reader does not understand\r\n"
    "this format, some or all of this message may not be legible.",
    "  This message is in MIME format.  The first part should be readable text,\r\n"
    "  while the remaining parts are likely unreadable without MIME-aware tools.\r\n",
    "This is a MIME-formatted message.  If you see this text it means that your\r\n"
    "E-mail software does not support MIME-formatted messages.",
    "You will not see this in a MIME-aware mail reader.",
    "This is a digitally encrypted message part",
    "This is a MIME multipart message.",
    "This is a message with multiple parts in MIME format.",
    "This is an OpenPGP/MIME signed message (RFC2440 and 3156)",
]


@pytest.mark.parametrize("notice", NOTICES)
def test_what_a_program_writes_is_a_notice_however_it_is_wrapped_and_written(notice: str) -> None:
    assert are_notices(notice.encode())
    assert are_notices(b"\r\n\t" + b"\r\n ".join(notice.upper().encode().split()) + b"\n\n")


def test_several_notices_in_a_row_are_notices() -> None:
    assert are_notices("\r\n\r\n".join(NOTICES[:9]).encode())
    assert are_notices(b"\r\n \t")


@pytest.mark.parametrize("notice", NOTICES)
@pytest.mark.parametrize("words", ["swordfish", "1", ".", "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "\0", "(x)"])
def test_any_word_before_after_or_inside_a_notice_makes_it_a_text(notice: str, words: str) -> None:
    if not (words == "." and notice.endswith("format.")):
        assert not are_notices(f"{notice} {words}".encode())
    assert not are_notices(f"{words} {notice}".encode())
    first, _, rest = notice.strip().partition(" ")
    assert not are_notices(f"{first} {words} {rest}".encode())
    assert not are_notices(f"{notice}{words}x".encode())


@pytest.mark.parametrize(
    "text",
    [
        "The password is swordfish.",
        "This is an OpenPGP/MIME encrypted message (RFC 1234 and 3156)",
        "This is an OpenPGP/MIME encrypted message (the password is swordfish)",
        "This is a multi-part letter",
        "Thisisamulti-partmessageinMIMEformat.",
        "OpenPGP/MIME message (Automatically encrypted by Bob)",
    ],
)
def test_what_only_looks_like_a_notice_is_a_text(text: str) -> None:
    assert not are_notices(text.encode())


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_of_any_size_give_the_same_answer(size: int) -> None:
    for octets, wanted in ((NOTICES[0].encode() + b"\r\n" * 9000, True), (b"\r\n" * 9000 + b"x", False)):
        reader = NoticeReader()
        for start in range(0, len(octets), size):
            reader.feed(octets[start : start + size])
        assert reader.only_notices() is wanted


def test_notices_without_end_are_a_text() -> None:
    reader = NoticeReader()
    reader.feed((NOTICES[0] + "\r\n").encode() * (MOST_OCTETS // 40))
    assert not reader.only_notices()


def test_time_to_judge_is_linear() -> None:
    def judge() -> None:
        for notice in NOTICES:
            assert not are_notices((notice + " ").encode() * 5000 + b"x")

    assert idle_seconds(judge, 5) < 5
