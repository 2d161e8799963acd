"""Which fields show the Subject: by their name, by their words in any encoding, and which stay all the same."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable
from email.header import Header as EncodedWords
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla import hiding, protect, rewrap
from smilla.hiding import hidden
from smilla.message import parse
from smilla.model import Header


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
    real = hiding._readings

    def counted(raw: bytes) -> tuple[str, ...]:
        read.append(raw)
        return real(raw)

    monkeypatch.setattr(hiding, "_readings", counted)
    found = gone("Dinner plans", *[("X-Any", b"=?utf-8?q?=41?= %41 x=y")] * 5000, ("From", b"a@b.test"))
    assert len(read) < 1500
    assert len(read) + len(found) == 5001
