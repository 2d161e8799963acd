"""Which fields show the Subject: by their name, by their words in any encoding, and which stay all the same."""

from __future__ import annotations

import base64
import json
import quopri
from collections.abc import Callable
from email.header import Header as EncodedWords
from html.entities import codepoint2name
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla.copies import hiding, protect, rewrap
from smilla.copies.hiding import hidden
from smilla.formats import shown
from smilla.message import parse
from smilla.model import Header
from tests.unit.timing import idle_seconds


def gone(subject: str, *fields: tuple[str, bytes]) -> list[str]:
    raw = EncodedWords(subject, "utf-8").encode(linesep="\r\n").encode()
    headers = [Header(b"Subject", b" " + raw), *(Header(name.encode(), b" " + value) for name, value in fields)]
    places = hidden(headers)
    assert 0 in places
    return [headers[place].raw_name.decode() for place in sorted(places - {0})]


@pytest.mark.parametrize(
    "name",
    [
        *("X-Spam-Prev-Subject", "X-Amavis-Alert", "X-Original-Subject", "Original-Subject", "Thread-Topic"),
        *("X-Foo-Subject", "Comments", "Keywords"),
    ],
)
def test_a_name_made_for_the_subject_is_hidden_whatever_it_holds(name: str) -> None:
    assert gone("Hi", (name, b"whatever")) == [name]


def named(text: str) -> str:
    return "".join(f"&{codepoint2name[ord(c)]};" if ord(c) in codepoint2name else c for c in text)


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "within": lambda text: f"message {text}, seen".encode(),
    "reply": lambda text: f"AW: [list] Re: {text}".encode(),
    "upper": lambda text: text.upper().encode(),
    "base64 words": lambda text: EncodedWords(text, "utf-8", maxlinelen=40).encode(linesep="\r\n").encode(),
    "latin words": lambda text: b"x =?iso-8859-1?q?" + text.encode("latin-1").hex("=").join(["=", ""]).encode() + b"?=",
    "percent": lambda text: b"<mailto:x@y.test?subject=" + quote(text).encode() + b">",
    "rfc2231": lambda text: b"x; a*0*=utf-8''" + quote(text[:4]).encode() + b";\r\n a*1*=" + quote(text[4:]).encode(),
    "quoted-printable": lambda text: b"a=1; q=" + quopri.encodestring(text.encode(), quotetabs=True),
    "folded": lambda text: text.replace(" ", "\r\n\t").encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "slug": lambda text: text.replace(" ", "-").encode(),
    "JSON": lambda text: json.dumps({"title": text, "path": "a/b"}).encode(),
    "JSON, all": lambda text: b'{"t":"' + "".join(f"\\u{ord(c):04x}" for c in text).encode() + b'"}',
    "JavaScript": lambda text: "".join(f"\\x{ord(c):02x}" for c in text).encode("latin-1"),
    "escape()": lambda text: (
        "".join(c if c.isascii() else f"%u{ord(c):04X}" for c in text).replace(" ", "%20").encode()
    ),
    "decimal entities": lambda text: b"a " + "".join(f"&#{ord(c)};" for c in text).encode(),
    "hex entities": lambda text: b"a " + "".join(f"&#x{ord(c):X};" for c in text).encode(),
    "entities": lambda text: b"<p>" + named(text).replace(" ", "&nbsp;").encode() + b"</p>",
    "base64url": lambda text: base64.urlsafe_b64encode(f"~~~{text}???".encode()).rstrip(b"="),
    "token": lambda text: b"v=1; t=" + base64.urlsafe_b64encode(f'{{"sub":"{text}"}}'.encode()).rstrip(b"=") + b".x",
    "hex": lambda text: b"id " + text.encode().hex().encode(),
    "UTF-8 as Latin-1": lambda text: text.encode().decode("latin-1").encode(),
    "UTF-8 as Windows-1252": lambda text: text.encode().decode("cp1252").encode(),
    "UTF-7": lambda text: b"a " + text.encode("utf-7"),
    "UTF-7, all": lambda text: b"+" + base64.b64encode(text.encode("utf-16-be")).rstrip(b"=") + b"-",
    "words of JSON": lambda text: EncodedWords(json.dumps({"a": text}), "utf-8").encode(linesep="\r\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("subject", ["Dinner plans", "Re: Die große Übernahme", "plan"])
def test_the_words_are_found_in_any_encoding(encoding: str, subject: str) -> None:
    assert gone(subject, ("X-Any", ENCODINGS[encoding](subject))) == ["X-Any"]


def test_signature_with_copies_of_fields_is_hidden_and_another_one_stays() -> None:
    with_copies = b"v=1; a=rsa-sha256; z=From:a=40b.c|Subject:=20Din=\r\n ner=20plans; b=AAAA"
    fields = (("DKIM-Signature", with_copies), ("DKIM-Signature", b"v=1; h=from:subject; b=z=="))
    assert gone("Dinner plans", *fields) == ["DKIM-Signature"]


@pytest.mark.parametrize("name", ["From", "To", "Cc", "Date", "Message-ID", "References", "Received", "Resent-To"])
def test_what_mail_needs_stays_whatever_it_holds(name: str) -> None:
    assert gone("Dinner plans", (name, b"Dinner plans <a@b.test>")) == []


@pytest.mark.parametrize("subject", ["Hi", "Re:", "1", "...", "a", "Re: Hi"])
def test_a_short_subject_does_not_wipe_out_the_header(subject: str) -> None:
    fields = (("X-Mailer", b"This is a hiker 1.0..."), ("List-Id", b"<a.hi.1.test>"), ("X-Other", b"regarding"))
    assert gone(subject, *fields) == []


def test_a_short_subject_is_hidden_where_it_is_the_whole_field() -> None:
    assert gone("Re: Hi", ("X-Any", b"hi!"), ("X-Other", b"Re: Hi")) == ["X-Any", "X-Other"]
    assert gone("会议", ("X-Any", "关于会议的".encode())) == ["X-Any"]


@pytest.mark.parametrize(
    "subject",
    [
        *(
            "***SPAM*** {}",
            "[external] {}",
            "{} [external]",
            "{{Spam?}} {}",
            "<EXT> {}",
            "{} (EXT)",
            "*SPAM* [list] {}",
        ),
        *("Accepted: {}", "Automatische Antwort: {}", "Out of Office: {}", "Fw(1): {}", "Re^2: {}", "Re[2]: Fwd: {}"),
        *("Umleitung: [ext] {} [list] *x*", "Neues Thema (war: {})", "Undeliverable: Accepted: {}"),
    ],
)
@pytest.mark.parametrize("bare", ["Launch codes", "Hi", "Übernahme"])
def test_subject_is_found_without_what_was_added_on_the_way(subject: str, bare: str) -> None:
    assert gone(subject.format(bare), ("X-Prev", bare.encode())) == ["X-Prev"]
    assert gone(bare, ("X-Next", subject.format(bare).encode())) == ["X-Next"]


@pytest.mark.parametrize(
    "subject", ["Accepted: Hi", "***SPAM*** Hi", "Question: version", "Hi [external]", "Hi (was: 1)"]
)
def test_what_is_left_of_a_short_subject_takes_no_other_field_with_it(subject: str) -> None:
    fields = (("X-Mailer", b"Hi version 1.0 external"), ("X-Spam-Status", b"No, score=1"), ("X-Other", b"spam"))
    assert gone(subject, *fields) == []


@pytest.mark.parametrize(
    "value", ["Launch codes of the nort...", "the northern silo", "LAUNCH CODES", "codes, of the northern"]
)
def test_field_that_is_a_piece_of_the_subject_is_hidden(value: str) -> None:
    assert gone("Launch codes of the northern silo", ("X-Title", value.encode())) == ["X-Title"]


@pytest.mark.parametrize("value", ["silo", "of the", "codes", "high", "northern"])
def test_single_words_of_the_subject_stay(value: str) -> None:
    assert gone("Launch codes of the northern silo", ("X-Title", value.encode())) == []


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        ("Kündigung für Jörg Müller", "https://x.test/kuendigung-fuer-joerg-mueller"),
        ("Kündigung für Jörg Müller", "Kundigung fur Jorg Muller"),
        ("Kündigung für Jörg Müller", "K?ndigung f?r J?rg M?ller"),
    ],
)
def test_subject_is_found_where_only_ascii_was_allowed(subject: str, value: str) -> None:
    assert gone(subject, ("X-Any", value.encode())) == ["X-Any"]


@pytest.mark.parametrize("subject", ["\N{PARTY POPPER}\N{PARTY POPPER}", "\N{SKULL}", "?!?!"])
def test_subject_without_words_is_found_within_a_field(subject: str) -> None:
    assert gone(subject, ("X-Any", f"new: {subject} from Bob".encode()), ("X-Other", b"...")) == ["X-Any"]


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"&#" + b"1" * 5000 + b";",
            b"&" * 60_000,
            b"\\u{ffffff}\\ud800",
            b"+" * 60_000,
            b"*" * 60_000,
            b"[" * 60_000,
        ),
        *(b"\\u00" * 10_000, b"=?utf-7?q?=2B?= &#43;AGE- %u002b \\x2b 2b2b2b2b " * 1000, b"<" * 60_000, b"(a: " * 9000),
    ],
)
def test_odd_values_break_nothing_and_take_no_time(value: bytes) -> None:
    headers = [Header(b"Subject", b" " + value), Header(b"X-Any", b" Launch codes"), Header(b"X-Other", b" " + value)]

    def hide() -> None:
        assert gone("Launch codes", ("X-Any", value)) == []
        hidden(headers)

    assert idle_seconds(hide, 5) < 5


def test_more_subjects_than_can_be_looked_for_take_all_others_with_them() -> None:
    headers = [*(Header(b"Subject", b" x%d" % n) for n in range(2000)), Header(b"X-Any", b" y"), Header(b"To", b" z")]
    assert hidden(headers) == frozenset(range(2001))


def test_words_of_another_word_are_none() -> None:
    assert gone("test", ("X-Any", b"the latest"), ("X-Other", b"a test of it")) == ["X-Other"]


@given(
    st.lists(st.text("abcdefghäöüßéñ", min_size=3, max_size=9), min_size=2, max_size=5),
    st.sampled_from(sorted(ENCODINGS)),
)
@example(["aaaaaß", "aaaaaß", "aaaaaß", "aaaaßßß", "aaßaa"], "quoted-printable")
def test_no_field_outside_shows_the_subject(words: list[str], encoding: str) -> None:
    subject = " ".join(words)
    value = b"X-Any: " + ENCODINGS[encoding](subject).strip().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n ")
    raw = b"From: a@b.test\r\nReceived: by y\r\nHP-Outer: Subject: " + subject.encode() + b"\r\n" + value
    found = parse(raw + b"\r\nSubject: " + subject.encode() + b"\r\n\r\nbody\r\n").message
    made = protect.plan(found, rewrap.content_fields(found), "hide")
    assert made.protection.problem is None
    left = [h.raw_name for index, h in enumerate(found.headers) if index not in made.edits.removed]
    assert left == [b"From", b"Received"]
    assert made.edits.added == (("Subject", "[...]"),)
    assert b"X-Any" in [header.raw_name for header in made.inside]


def test_fields_beyond_the_bound_are_not_read_and_do_not_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    real = shown.readings

    def counted(raw: bytes) -> tuple[str, ...]:
        read.append(raw)
        return real(raw)

    monkeypatch.setattr(shown, "readings", counted)
    found = gone("Dinner plans", *[("X-Any", b"=?utf-8?q?=41?= %41 x=y")] * 5000, ("From", b"a@b.test"))
    assert len(read) == 1170
    assert len(read) + len(found) in (5001, 5002), "the last one that is read may be past the bound"


def test_fields_and_ways_of_showing_the_subject_are_compared_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are what a sender likes; together they would hold up all other mail for a minute."""
    compared = 0
    real = hiding._has

    def counted(words: str, joined: str, subject: hiding._Subject) -> bool:
        nonlocal compared
        compared += 1
        return real(words, joined, subject)

    monkeypatch.setattr(hiding, "_has", counted)
    subject = "[a] Re: Grüße aus Köln %41 [d]"
    value = b"a%41 =?utf-8?q?x=41?= +AGE- &amp; \\u0041 dGVzdHRlc3Q="
    found = gone(subject, *[("X-Any", value)] * 3000)
    assert 95_000 < compared <= 100_000
    assert len(found) == 2934


def test_blanks_that_stand_in_an_encoding_cost_one_reading() -> None:
    """Were a beginning looked for at each of them, one such field would take six seconds."""
    value = base64.b64encode(b" " * 44_000 + b"x%41*")
    assert idle_seconds(lambda: gone("the plans", *[("X-Any", value)] * 4), 5) < 5


def test_a_long_subject_is_looked_for_in_a_bounded_number_of_ways() -> None:
    assert len(hiding._sought([b"x\xc3\xa9 %41 y " * 6000])) == 4
    assert len(hiding._sought([b"x\xc3\xa9 %%41 y %d" % number for number in range(300)])) == 201
    assert max(len(subject.words) for subject in hiding._sought([b"long words " * 5000])) == 4000
