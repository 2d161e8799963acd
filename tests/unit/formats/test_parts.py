"""The header of a part: labels are harmless, words of a person are not, and the reason is the real one."""

from __future__ import annotations

import pytest

from smilla.errors import ParseError
from smilla.formats.parts import is_control, is_empty_text, is_label, read_part

TYPE = b"Content-Type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"MIME-Version: 1.0",
        b"Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774.600.62\\))",
        b"Content-Language: de-DE, en-US",
        b"Content-ID: <part1.0A0B0C0D.01020304@mail.example.com>",
        b"Content-ID: <3F2504E0-4F89-11D3-9A0C-0305E82C3301@example.com>",
        b"Content-ID: <AM0PR01MB12345FA0@eurprd01.prod.exchangelabs.com>",
        b"Content-ID: <17012345678.123.4567890123456789012@host.example.com>",
        b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
        b"Content-Location: http://www.example.com/msg.asc",
        b"Content-Description: OpenPGP encrypted message",
        b"Content-Description: PGP/MIME Versions Identification",
        b"Content-Description: This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)",
        b'Content-Disposition: attachment; filename="OpenPGP encrypted message.asc"; size=3053;\r\n'
        b'\tcreation-date="Mon, 01 Jan 2024 08:00:00 GMT";\r\n\tmodification-date="Mon, 01 Jan 2024 08:00:00 GMT"',
        b"Content-Disposition: inline; filename*=utf-8''encrypted%20message.asc",
        b"Content-Description: Message encrypted with OpenPGP using GPGMail",
        b"Content-Disposition: inline; filename*=utf-8''Nachricht%20verschl%C3%BCsselt.asc",
        b"X-Mailer: Apple Mail (2.3654)",
        b"X-Mailer: Microsoft Outlook Express 6.00.2900.2180",
        b"X-Attachment-Id: f_kx1abc0",
        b"X-Content-PGP-Universal-Saved-Content-Type: application/octet-stream",
        b"x-unix-mode: 0666",
        b'Content-Type: x; x-unix-mode=0644; name="encrypted.asc"'.replace(b"Content-Type: x", b"X-A: x"),
        b"Mime-Version: 1.0 (Mac OS X Mail 10.3 \\(3273\\))",
        b"X-Apple-Content-Length: 3053",
        b"Content-Description: This is a digitally encrypted message part",
        b"Content-ID: <f_kXbQpWzRtLmNvCxHgJdSfYuTqBwZk@flowcrypt>",
        b"Content-Features: x",
        b"X-Empty:",
    ],
)
def test_what_programs_write_into_a_part_is_harmless(field: bytes) -> None:
    part = read_part(iter([b"\r\n" + TYPE + field + b"\r\n\r\nrest"]))
    assert (part.kind.media_type, b"".join(part.blocks)) == ("application/octet-stream", b"rest")


WORDS = "has a header field that could hold words of a person"
NAME = "has a header field whose name could hold words of a person"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (TYPE + b"Content-Description: The password is swordfish.\r\n\r\n", WORDS),
        (TYPE + b"Content-Description: The password\r\n is swordfish.\r\n\r\n", WORDS),
        (TYPE + b"X-Text: the_password-is.swordfish\r\n\r\n", WORDS),
        (TYPE + b"X-Text: gr\xc3\xbc\xc3\x9fe\r\n\r\n", WORDS),
        (TYPE + b"X-Text: =?utf-8?Q?the_password_is_swordfish?=\r\n\r\n", WORDS),
        (TYPE + b'Content-Disposition: inline; filename="The password is swordfish"\r\n\r\n', WORDS),
        (TYPE + b"Content-Disposition: inline; filename*=utf-8''the%70assword%20is%20swordfish\r\n\r\n", WORDS),
        (TYPE + b"Content-Disposition: inline; filename*=utf-8''%E5%AF%86%E7%A0%81\r\n\r\n", WORDS),
        (TYPE + b"Content-ID: the password is swordfish\r\n\r\n", WORDS),
        (b"Content-Type: application/octet-stream (the password is swordfish)\r\n\r\n", WORDS),
        (TYPE + b"Content-ID: <Dear.John.meet.me.at.the.old.bridge@or.else>\r\n\r\n", WORDS),
        (TYPE + b"Content-ID: <D34r-J0hn-m33t-m3-4t-th3-0ld@br1dg3>\r\n\r\n", WORDS),
        (TYPE + b"Content-ID: <DearJohnMeetMe@example.com>\r\n\r\n", WORDS),
        (TYPE + b"Content-ID: <kill2charles2tomorrow2at2noon@x>\r\n\r\n", WORDS),
        (TYPE + b"Content-MD5: DearJohnMeetMeAtTheOld==\r\n\r\n", WORDS),
        (TYPE + b"Content-Location: http://x/kill/charles/tomorrow/at/noon\r\n\r\n", WORDS),
        (TYPE + b"Content-Location: kill.charles-tomorrow\r\n\r\n", WORDS),
        (TYPE + b"Content-Description: D34r J0hn, m33t m3\r\n\r\n", WORDS),
        (TYPE + b"Content-Description: 4111111111111111 09/27\r\n\r\n", WORDS),
        (TYPE + b"Content-Dear-John-meet-me:\r\n\r\n", NAME),
        (TYPE + b"X-Meet-Me-At-Noon: 1\r\n\r\n", NAME),
        (TYPE + b"X-MeetMeAtNoon: 1\r\n\r\n", NAME),
        (TYPE + b"X-meet_me_noon: 1\r\n\r\n", NAME),
        (
            TYPE + b"X-Kill: 1\r\nX-Charles: 1\r\nX-Tomorrow: 1\r\nX-Noon: 1\r\nX-Poison: 1\r\n\r\n",
            WORDS.replace("a header field", "header fields") + ", taken together",
        ),
        (b'Content-Type: x/y; name="; boundary=4111-1111-1111-1111-PIN-1234"\r\n\r\n', WORDS),
        (b"Content-Type: x/y (; boundary=4111-1111-1111-1111-PIN-1234)\r\n\r\n", WORDS),
        (b"Content-Type: x/y; boundary=4111-1111-1111-1111-PIN-1234\r\n\r\n", WORDS),
        (b'Content-Type: multipart/x; a="b; boundary=4111-1111-1111-1111-PIN-1234"\r\n\r\n', WORDS),
        (b"Content-Type: multipart/x; boundary=MeetMeAtTheBridge\r\n\r\n", WORDS),
        (TYPE + b"Subject: x\r\n\r\n", "has a header field that belongs to no part"),
        (TYPE + b"X-Long: " + b"1" * 300 + b"\r\n\r\n", "has a header field of more than 255 octets"),
        (
            TYPE + b"".join(b"X-%d: %s\r\n" % (n, b"1" * 200) for n in range(9)) + b"\r\n",
            "has header fields that are too long together",
        ),
        (TYPE + b"no colon\r\n\r\n", "has a header with a malformed line or a field twice"),
        (TYPE + b"X-A: 1\r\nX-A: 2\r\n\r\n", "has a header with a malformed line or a field twice"),
        (TYPE + b" \t\r\n x: 1\r\n\r\n", "has a line of white space in its header, where some readers end it"),
        (b"Content-Type: text\r\n\r\n", "has a malformed Content-Type"),
        (b"Content-Disposition: inline\r\n\r\n", "has no Content-Type"),
        (b"\r\n\r\n", "has no header"),
        (TYPE, "has no empty line after its header"),
        (TYPE + b"X-Long: " + b"1" * 5000, "has a header that is too long"),
    ],
)
def test_every_reason_for_refusing_a_part_is_the_real_one(head: bytes, reason: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_part(iter([b"\r\n" + head]))
    assert str(caught.value) == reason


def test_label_has_two_words_of_its_own_at_most() -> None:
    assert not is_label("PGP/MIME version identification by Some Great Gateway of Ours 2.0")
    assert is_label("PGP/MIME version identification by Some Great Gateway 2.0")
    assert not is_label("attack at dawn")


@pytest.mark.parametrize(
    ("content", "empty"),
    [
        (b"", True),
        (b" \t\r\n\r\n", True),
        (b"<!DOCTYPE html>\r\n<html><head><title></title></head><body><p>&nbsp;</p><br/></body></html>", True),
        (b'<html><head><META http-equiv="Content-Type" content="text/html; charset=us-ascii"></head></html>', True),
        (b"Empty Message\r\n", True),
        (
            b'<html><head><style type="text/css" style="display:none;"> P {margin-top:0;margin-bottom:0;} </style>'
            b'</head><body dir="ltr"><div></div></body></html>',
            True,
        ),
        (b"<style><!-- p {margin-top:0;margin-bottom:0} --></style>", True),
        (b"<style>.swordfish {margin-top:0;margin-bottom:0}</style>", False),
        (b"<style>p {margin-top:0;margin-bottom:0} swordfish</style>", False),
        (b'<body dir="swordfish"></body>', False),
        (b"Empty Message swordfish", False),
        (b"x", False),
        (b"<p>x</p>", False),
        (b'<p title="swordfish"></p>', False),
        (b"<!-- swordfish -->", False),
        (b"\xc2\xa0", False),
        (b"\0", False),
    ],
)
def test_empty_text_shows_nothing(content: bytes, empty: bool) -> None:
    assert is_empty_text(content) is empty


@pytest.mark.parametrize("content", [b"Version: 1", b"Version : 1 \t\r\n\r\n", b"\r\nVERSION:1\n"])
def test_control_part_says_version_1(content: bytes) -> None:
    assert is_control(content)


@pytest.mark.parametrize("content", [b"", b"Version: 2", b"Version: 1\r\nx", b"x Version: 1", b"Version: 11"])
def test_anything_else_is_no_control_part(content: bytes) -> None:
    assert not is_control(content)
