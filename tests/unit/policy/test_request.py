"""The sender's wish: found however the Subject is encoded, taken out, and nothing else is changed."""

from __future__ import annotations

import binascii
import codecs
import contextlib
import encodings.aliases
import unicodedata
from email.header import Header as EncodedHeader
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla.config.options import PolicyOptions
from smilla.message import MemoryBody
from smilla.model import Header, Message
from smilla.policy import request

OPTIONS = PolicyOptions(wish_subject="[encrypt]", wish_header="X-Encrypt")


def without(found: Message, options: PolicyOptions) -> tuple[tuple[int, ...], tuple[tuple[str, str], ...]]:
    edits = request.without(found, options)
    return edits.removed, edits.added


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
    assert request.found(subject(raw), OPTIONS)
    assert without(subject(raw), OPTIONS) == ((1,), (("Subject", left),))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\uff3bencrypt\uff3d Hello", "Hello"),
        ("\uff3b\uff45\uff4e\uff43\uff52\uff59\uff50\uff54\uff3dHello", "Hello"),
        (
            "\u3010x\u3011\uff3b\uff25\uff2e\uff23\uff32\uff39\uff30\uff34\uff3d\u3000\u00bd \uff34\uff45\uff58\uff54",
            "\u3010x\u3011\u3000\u00bd \uff34\uff45\uff58\uff54",
        ),
        ("Hello [\U0001d41e\U0001d427\U0001d41c\U0001d42b\U0001d432\U0001d429\U0001d42d]", "Hello"),
        ("\ufe47encrypt\ufe48 Hello", "Hello"),
        ("[ encrypt ] Hello", "Hello"),
        ("[\u00a0encrypt\t] Hello", "Hello"),
        ("\uff3b\u3000encrypt\u3000\uff3d Hello", "Hello"),
        ("[ encrypt] \uff3bencrypt\uff3d [encrypt] Hello", "Hello"),
    ],
)
@pytest.mark.parametrize("charset", ["", "utf-8"])
def test_word_is_found_in_another_width_and_with_blanks_in_its_brackets(text: str, left: str, charset: str) -> None:
    asked = subject(EncodedHeader(text, charset).encode().encode() if charset else b" " + text.encode())
    assert request.found(asked, OPTIONS)
    _, ((_, value),) = without(asked, OPTIONS)
    assert seen(value) == left


def test_word_is_found_in_every_style_that_unicode_has_for_its_letters() -> None:
    ideographs = (*range(0x3400, 0xA000), *range(0xAC00, 0xE000), *range(0x20000, 0x2F800))
    styles: dict[str, str] = {}
    for number in sorted(set(range(0x30000)).difference(ideographs)):
        plain = unicodedata.normalize("NFKC", chr(number)).lower()
        if len(plain) == 1 and plain != chr(number).lower():
            styles[plain] = styles.get(plain, "") + chr(number)
    assert request._compatible() == styles
    for number in range(max(len(styles[letter]) for letter in "encrypt")):
        text = "".join(styles[letter][number % len(styles[letter])] for letter in "encrypt")
        assert request.found(subject(f" [{text}] x".encode()), OPTIONS)


@pytest.mark.parametrize("text", ["[en crypt] x", "encrypt", "[encrypted]", "⟦encrypt⟧", "(encrypt)", "[x encrypt]"])
def test_what_only_looks_like_the_word_is_none(text: str) -> None:
    assert not request.found(subject(text.encode()), OPTIONS)


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
    assert request.found(subject(raw), OPTIONS)
    ((removed,), ((name, value),)) = without(subject(raw), OPTIONS)
    assert (removed, name, seen(value)) == (1, "Subject", left)
    assert value.isascii()
    assert all(len(line) <= 76 for line in f"Subject: {value}".split("\r\n"))


@pytest.mark.parametrize(
    "raw",
    [
        b" Hello",
        b" encrypt",
        b" [en crypt]",
        b" [enc =?utf-8?q?rypt]?=",
        b" =?utf-8?q?[enc_?= =?utf-8?q?rypt]?=",
        b" =?x-none?q?=5Ben_crypt=5D?=",
        b" =?x-none?b?aGVsbG8?=",
        b"",
        b" [encrypt",
    ],
)
def test_what_is_no_wish_stays(raw: bytes) -> None:
    assert not request.found(subject(raw), OPTIONS)
    assert without(subject(raw), OPTIONS) == ((), ())


KNOWN_OTHERWISE = {
    "windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8",
    "windows-949": "cp949",
    "windows-31j": "cp932",
    "x-mac-roman": "mac-roman",
    "cp-850": "cp850",
    "ISO-8859-6-E": "iso-8859-6",
    "x-sjis": "shift_jis",
    "us-ascii*en": "ascii",
    "utf-8*en-GB": "utf-8",
    "x-ibm-037": "cp037",
    "UNICODE-1-1-UTF-7": "utf-7",
}
UNKNOWN = [
    *("x-unknown", "unknown-8bit", "x-user-defined", "ansi_x3.110-1983", "", "utf-8mb4", "binary", "x-mac-none"),
    *("rot13", "base64", "undefined", "mbcs", "unicode_escape", "punycode", "idna", "../x", "utf 8", "a;x", "\u00fc"),
]
ENCODED = {
    "B": lambda raw: binascii.b2a_base64(raw, newline=False).decode("ascii"),
    "q": lambda raw: "".join(f"={octet:02x}" for octet in raw),
    "Q": lambda raw: "".join(chr(o) if chr(o) in "[encrypt]" else f"={o:02X}" for o in raw),
}


def text_codecs() -> list[str]:
    """All of Python's that ASCII can be written in."""
    found = []
    for name in sorted(set(encodings.aliases.aliases.values())):
        with contextlib.suppress(LookupError, UnicodeError):
            if codecs.lookup(name).name not in ("punycode", "idna", "unicode-escape", "raw-unicode-escape"):
                found += [name] if "[encrypt] x".encode(name) else []
    return found


@pytest.mark.parametrize("encoding", ENCODED)
def test_word_is_seen_in_every_character_set_of_python(encoding: str) -> None:
    names = text_codecs()
    assert {"koi8_r", "shift_jis", "iso2022_jp", "hz", "utf_7", "utf_16", "utf_32_be", "cp037", "gb18030"} <= set(names)
    missed = []
    for name in names:
        word = f"=?{name}?{encoding}?{ENCODED[encoding]('[encrypt] x'.encode(name))}?="
        missed += [] if request.found(subject(f" {word}".encode()), OPTIONS) else [name]
    assert missed == []


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("charset", KNOWN_OTHERWISE)
def test_word_is_seen_in_a_character_set_by_its_other_name(charset: str, encoding: str) -> None:
    payload = ENCODED[encoding]("[encrypt] Gruss".encode(KNOWN_OTHERWISE[charset]))
    raw = f" =?{charset}?{encoding}?{payload}?= x".encode()
    assert request.found(subject(raw), OPTIONS)
    ((_,), ((_, value),)) = without(subject(raw), OPTIONS)
    assert not request.found(subject(value.encode("ascii")), OPTIONS)
    assert charset in value or seen(value) == "Gruss x"


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("charset", UNKNOWN)
def test_word_is_seen_in_a_character_set_that_nobody_knows(charset: str, encoding: str) -> None:
    for codec in ("ascii", "utf-16-be", "utf-16-le", "utf-16", "utf-32-be", "utf-7", "cp037"):
        payload = ENCODED[encoding]("[encrypt] Gruss".encode(codec))
        assert request.found(subject(f" =?{charset}?{encoding}?{payload}?= x".encode()), OPTIONS), codec


@pytest.mark.parametrize(
    "raw",
    [
        b" =?utf-8?b?W2VuY3J5cHRd?",  # no end
        b" =?utf-8?b?W2VuY3J5cHRd",
        b" =?utf-8?q?=5Bencrypt=5D",
        b" =?utf-8?q?=5Bencrypt=5D =?utf-8?q?x?=",
        b" =?utf-8?b?W2VuY3J5cHRdIA?=",  # no padding
        b" =?utf-8?b?W2VuY3J5cHRdI?=",
        b" =?utf-8?b?W2Vu Y3J5cHRd?=",  # spaces within
        b" =?utf-8?b?W2Vu\r\n Y3J5cHRd?=",
        b" =?utf-8?b?W2Vu*Y3J5cHRd?=",
        b" =?utf-8?q?Hello there =5Bencrypt=5D?=",
        b" =?utf-8?q? =5Bencrypt=5D ?=",
        b" =? utf-8 ?q?=5Bencrypt=5D?=",
        b" =?utf-8?q?really?_=5Bencrypt=5D?=",  # bare question marks
        b" =?utf-8?q?=5Bencrypt=5D?_really??=",
        b" =?x-none?q?what?=5Bencrypt=5D?=",
        b" =?utf-8?q?what?=5Bencrypt=5D?=",
        b" =?UTF-8?Q?=5benc?= =?utf-8?B?cnlwdF0=?=",  # two words, two encodings
        b" =?utf-8?q?=5Benc?=\r\n\t=?x-none?q?rypt=5D?=",
        b" =?x-none?b?W2Vu?= =?x-none?b?Y3J5cHRd?=",
        b" =?utf-8?q?=5Benc?==?utf-8?q?rypt=5D?=",
        b" x=?utf-8?q?=5Bencrypt=5D?=y",
        b" [enc=?utf-8?q?rypt=5D?=",
        b" =?utf-8?q?[enc\r\n rypt]?=",  # a fold in the word
        b" [enc\r\n rypt] x",
        b" =?utf-8?q?=C3=5Bencrypt=5D?=",  # broken UTF-8
        b" =?iso-2022-jp?b?GyRCW2VuY3J5cHRd?=",  # an escape that does not end
        b" =?utf-8?q?[en=C2=ADcrypt]?=",  # characters that nobody sees
        b" [en\xe2\x80\x8bcrypt]",
        b" [en\0crypt]",
    ],
)
def test_what_one_reader_may_show_is_a_wish_and_is_cut_out(raw: bytes) -> None:
    assert request.found(subject(raw), OPTIONS)
    ((removed,), ((_, value),)) = without(subject(raw), OPTIONS)
    assert removed == 1
    assert not request.found(subject(b" " + value.encode("ascii")), OPTIONS)


def test_word_that_is_not_ascii_is_seen_in_octets_without_a_character_set() -> None:
    options = PolicyOptions(wish_subject="verschl\u00fcsselt")
    assert request.found(subject("Re: VERSCHL\u00dcSSELT".encode("latin-1")), options)
    assert request.found(subject(b"=?x-none?q?verschl=FCsselt?="), options)


def test_many_strange_words_are_borne() -> None:
    for piece in (b"=?x?q?a?= ", b"=?x?b?", b"=?x", b"=?x?q?=", b"?=5B", b"=?utf-16?b?AA==?="):
        request.found(subject(piece * (1 << 13)), OPTIONS)


def test_letters_of_base64_are_no_word() -> None:
    options = PolicyOptions(wish_subject="enc")
    assert not request.found(subject(b" =?utf-8?b?encw?="), options)
    assert request.found(subject(b" =?utf-8?b?encab?="), options)  # cannot be decoded, so it is text


@pytest.mark.parametrize(
    "raw", [b" [please\r\n encrypt] x", b" [please  encrypt] x", b" =?utf-8?q?[please_encrypt]_x?="]
)
def test_word_with_a_space_may_be_folded_there(raw: bytes) -> None:
    options = PolicyOptions(wish_subject="[please encrypt]")
    assert request.found(subject(raw), options)
    assert seen(without(subject(raw), options)[1][0][1]) == "x"


def test_word_need_not_be_ascii() -> None:
    options = PolicyOptions(wish_subject="verschlüsselt")
    for text in ("VERSCHLÜSSELT: x", "verschlu\u0308sselt: x"):
        for raw in (text.encode(), EncodedHeader(text, "utf-8").encode("\r\n ").encode()):
            assert request.found(subject(raw), options)
            assert seen(without(subject(raw), options)[1][0][1]) == ": x"


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
        (b" no)", False),
        (b" \xff", True),
    ],
)
def test_header_field_is_a_wish_unless_it_says_no_and_always_goes(raw: bytes, *, expected: bool) -> None:
    for name in (b"X-Encrypt", b"x-ENCRYPT "):
        found = message((b"To", b" x"), (name, raw))
        assert request.found(found, OPTIONS) is expected
        assert without(found, OPTIONS) == ((1,), ())


def test_each_of_several_fields_is_treated() -> None:
    found = message(
        (b"X-Encrypt", b" no"), (b"SUBJECT", b" [encrypt] a"), (b"Subject", b" b"), (b"Subject", b"[encrypt]")
    )
    assert request.found(found, OPTIONS)
    assert without(found, OPTIONS) == ((0, 1, 3), (("SUBJECT", "a"), ("Subject", "")))


def test_without_options_nothing_is_a_wish() -> None:
    found = message((b"Subject", b" [encrypt]"), (b"X-Encrypt", b" yes"), (b"", b""))
    assert not request.found(found, PolicyOptions())
    assert without(found, PolicyOptions()) == ((), ())


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
    found = request.found(subject(raw), OPTIONS)
    removed, added = without(subject(raw), OPTIONS)
    assert found == (removed == (1,)) == bool(added)
    for _, value in added:
        assert value.isascii()
        assert not value[:1].isspace()
        assert all(line.strip() and line[:1] in " \t" for line in value.split("\r\n")[1:])
        assert not set(value.replace("\r\n", "")) & {"\r", "\n", "\0"}
        assert not request.found(subject(b" " + value.encode("ascii")), OPTIONS)
    request.found(message((b"X-Encrypt", raw)), OPTIONS)
