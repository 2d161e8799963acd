"""The sender's wish: found however the Subject is encoded, taken out, and nothing else is changed."""

from __future__ import annotations

from email.header import Header as EncodedHeader
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla import wish
from smilla.message import MemoryBody
from smilla.model import Header, Message
from smilla.options import PolicyOptions

OPTIONS = PolicyOptions(wish_subject="[encrypt]", wish_header="X-Encrypt")


def message(*fields: tuple[bytes, bytes]) -> Message:
    return Message(tuple(Header(name, value) for name, value in fields), MemoryBody())


def subject(raw: bytes) -> Message:
    return message((b"From", b" a@x.test"), (b"Subject", raw))


def seen(value: str) -> str:
    return str(make_header(decode_header(value.replace("\r\n", ""))))


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b" [encrypt] Hello", "Hello"),
        (b" Hello [ENCRYPT]", "Hello"),
        (b" Hello [encrypt] there", "Hello there"),
        (b" Re: [encrypt]Hello", "Re: Hello"),
        (b" [encrypt] [Encrypt] Hello", "Hello"),
        (b" [encrypt]", ""),
        (b"[encrypt]\r\n Hello", "Hello"),
        (b" Hello\r\n [encrypt]\r\n there", "Hello\r\n there"),
        (b" Hello\r\n [encrypt]", "Hello"),
        (b" Hello  there [encrypt]\r\n\t=?utf-8?q?=C3=A4?=", "Hello  there\r\n\t=?utf-8?q?=C3=A4?="),
        (b" =?x-none?q?H=E4?= [encrypt]", "=?x-none?q?H=E4?="),
    ],
)
def test_word_in_ascii_is_cut_out_and_the_rest_stays_as_it_is(raw: bytes, left: str) -> None:
    assert wish.found(subject(raw), OPTIONS)
    assert wish.without(subject(raw), OPTIONS) == ((1,), (("Subject", left),))


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b" =?utf-8?q?[encrypt]_Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b" =?utf-8?b?W2VuY3J5cHRdIEdyw7zDn2U=?=", "Grüße"),
        (b" =?iso-8859-1?q?=5BENCRYPT=5D_Gr=FC=DFe?=", "Grüße"),
        (b" =?utf-8?q?Hi_[enc?=\r\n =?utf-8?q?rypt]_Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "Hi Grüße"),
        (b" =?utf-8*de?q?=5Bencrypt=5D?= Hello", "Hello"),
        (" [encrypt] Grüße".encode(), "Grüße"),
        (b" [encrypt] Gr\xfc\xdfe", "Gr\ufffd\ufffde"),
        (b" =?utf-8?q?a?= [encrypt] =?utf-8?q?b?=", "a b"),
        (b" =?utf-8?q?[encrypt]?= x [encrypt] y", "x y"),
        (b" [encrypt] a\0b", "a b"),
        (b" [encrypt] " + "ä".encode() * 100, "ä" * 100),
    ],
)
def test_word_within_other_octets_is_taken_out_and_the_rest_encoded_anew(raw: bytes, left: str) -> None:
    assert wish.found(subject(raw), OPTIONS)
    ((removed,), ((name, value),)) = wish.without(subject(raw), OPTIONS)
    assert (removed, name, seen(value)) == (1, "Subject", left)
    assert value.isascii()
    assert all(len(line) <= 76 for line in f"Subject: {value}".split("\r\n"))


@pytest.mark.parametrize(
    "raw",
    [
        b" Hello",
        b" encrypt",
        b" [en crypt]",
        b" =?x-none?b?W2VuY3J5cHRd?=",
        b" =?utf-8?b?W2VuY3J5cHRd?",
        b"",
        b" [encrypt",
    ],
)
def test_what_is_no_wish_stays(raw: bytes) -> None:
    assert not wish.found(subject(raw), OPTIONS)
    assert wish.without(subject(raw), OPTIONS) == ((), ())


def test_letters_of_base64_are_no_word() -> None:
    options = PolicyOptions(wish_subject="enc")
    assert not wish.found(subject(b" =?utf-8?b?encw?="), options)
    assert wish.found(subject(b" =?utf-8?b?encab?="), options)  # cannot be decoded, so it is text


@pytest.mark.parametrize(
    "raw", [b" [please\r\n encrypt] x", b" [please  encrypt] x", b" =?utf-8?q?[please_encrypt]_x?="]
)
def test_word_with_a_space_may_be_folded_there(raw: bytes) -> None:
    options = PolicyOptions(wish_subject="[please encrypt]")
    assert wish.found(subject(raw), options)
    assert seen(wish.without(subject(raw), options)[1][0][1]) == "x"


def test_word_need_not_be_ascii() -> None:
    options = PolicyOptions(wish_subject="verschlüsselt")
    for text in ("VERSCHLÜSSELT: x", "verschlu\u0308sselt: x"):
        for raw in (text.encode(), EncodedHeader(text, "utf-8").encode("\r\n ").encode()):
            assert wish.found(subject(raw), options)
            assert seen(wish.without(subject(raw), options)[1][0][1]) == ": x"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b" yes", True),
        (b"", True),
        (b" not (no)", True),
        (b" no", False),
        (b" FALSE", False),
        (b" 0 (zero \\) (nested))", False),
        (b" (why)\r\n No", False),
        (b" \xff", True),
    ],
)
def test_header_field_is_a_wish_unless_it_says_no_and_always_goes(raw: bytes, *, expected: bool) -> None:
    for name in (b"X-Encrypt", b"x-ENCRYPT "):
        found = message((b"To", b" x"), (name, raw))
        assert wish.found(found, OPTIONS) is expected
        assert wish.without(found, OPTIONS) == ((1,), ())


def test_each_of_several_fields_is_treated() -> None:
    found = message(
        (b"X-Encrypt", b" no"), (b"SUBJECT", b" [encrypt] a"), (b"Subject", b" b"), (b"Subject", b"[encrypt]")
    )
    assert wish.found(found, OPTIONS)
    assert wish.without(found, OPTIONS) == ((0, 1, 3), (("SUBJECT", "a"), ("Subject", "")))


def test_without_options_nothing_is_a_wish() -> None:
    found = message((b"Subject", b" [encrypt]"), (b"X-Encrypt", b" yes"), (b"", b""))
    assert not wish.found(found, PolicyOptions())
    assert wish.without(found, PolicyOptions()) == ((), ())


PIECES = st.sampled_from(
    [
        b"[encrypt]",
        b"[enc",
        b"rypt]",
        b" ",
        b"\r\n ",
        b"\r\n\t",
        b"=?utf-8?q?",
        b"=?utf-7?b?",
        b"=?idna?q?",
        b"?=",
        b"?",
        b"=",
        b"_",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=6), max_size=12).map(b"".join))
@example(b" =?utf-16?b?2AA=?= [encrypt]")
@example(b" =?utf-7?q?+2AA-[encrypt]?=")
@example(b" =?punycode?q?[encrypt]-99999999?=")
def test_any_octets_are_borne_and_what_is_added_is_one_ascii_field(raw: bytes) -> None:
    found = wish.found(subject(raw), OPTIONS)
    removed, added = wish.without(subject(raw), OPTIONS)
    assert found == (removed == (1,)) == bool(added)
    for _, value in added:
        assert value.isascii()
        assert not value[:1].isspace()
        assert all(line.strip() and line[:1] in " \t" for line in value.split("\r\n")[1:])
        assert not set(value.replace("\r\n", "")) & {"\r", "\n", "\0"}
    wish.found(message((b"X-Encrypt", raw)), OPTIONS)
