"""Header protection: what stands inside and outside, octet for octet, and what is not touched."""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smilla.copies import protect, rewrap
from smilla.formats import mime
from smilla.message import parse
from smilla.model import Header, HeaderEdits, HeaderProtection, Message, Reason

MARK = b'protected-headers="v1"; hp="cipher"'
HEADER = b"""Return-Path: <alice@example.net>
Received: from x by y
DKIM-Signature: v=1
ARC-Seal: i=1
Authentication-Results: y; dkim=none
Date: Fri, 21 Jan 2022 20:40:48 -0500
From: Alice <alice@example.net>
To: Bob <bob@example.net>,
\tCarol <carol@example.net>
Bcc: dora@example.net
Resent-Bcc: dirk@example.net
Subject: Dinner
 plans
Comments: candle-light
Keywords: food
Thread-Topic: Dinner plans
Message-ID: <text-plain@lhp.example>
In-Reply-To: <before@lhp.example>
References: <first@lhp.example>
X-Smilla: encrypted
HP-Outer: Subject: a lie
MIME-Version: 1.0
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: 7bit"""

NONE = HeaderEdits()


def message(header: bytes = HEADER) -> Message:
    return parse(header.replace(b"\n", b"\r\n") + b"\r\n\r\nbody\r\n").message


def plan(found: Message, how: str, edits: HeaderEdits = NONE) -> protect.Plan:
    return protect.plan(found, rewrap.content_fields(found), how, edits)


def lines(fields: tuple[Header, ...]) -> bytes:
    return b"".join(field.raw for field in fields).replace(b"\r\n", b"\n")


def outside(found: Message, made: protect.Plan) -> bytes:
    kept = tuple(header for index, header in enumerate(found.headers) if index not in made.edits.removed)
    return lines(kept) + "".join(f"{name}: {value}\n" for name, value in made.edits.added).encode("ascii")


def content_type(raw: bytes) -> protect.Plan:
    return plan(message(b"Subject: x\nContent-Type:" + raw), "hide")


def problem(header: bytes, how: str = "hide") -> str:
    found = message(header)
    made = plan(found, how)
    assert (made.edits.removed, made.edits.added, made.inside) == ((), (), rewrap.content_fields(found))
    assert (made.protection.asked, made.protection.inside, made.protection.hidden) == (how, (), ())
    assert made.protection.problem is not None
    return made.protection.problem.code


def test_off_changes_nothing() -> None:
    found = message()
    assert plan(found, "off") == protect.Plan(HeaderEdits(), rewrap.content_fields(found), HeaderProtection())
    edits = HeaderEdits((3,), (("Subject", "other"),))
    assert plan(found, "off", edits) == protect.Plan(edits, rewrap.content_fields(found), HeaderProtection())


def test_copy_has_the_fields_of_the_author_in_their_order_and_a_record_of_each() -> None:
    found = message()
    made = plan(found, "copy")
    assert lines(made.inside) == (
        b"""Date: Fri, 21 Jan 2022 20:40:48 -0500
From: Alice <alice@example.net>
To: Bob <bob@example.net>,
\tCarol <carol@example.net>
Subject: Dinner
 plans
Comments: candle-light
Keywords: food
Thread-Topic: Dinner plans
Message-ID: <text-plain@lhp.example>
In-Reply-To: <before@lhp.example>
References: <first@lhp.example>
HP-Outer: Date: Fri, 21 Jan 2022 20:40:48 -0500
HP-Outer: From: Alice <alice@example.net>
HP-Outer: To: Bob <bob@example.net>,
\tCarol <carol@example.net>
HP-Outer: Subject: Dinner
 plans
HP-Outer: Comments: candle-light
HP-Outer: Keywords: food
HP-Outer: Thread-Topic: Dinner plans
HP-Outer: Message-ID: <text-plain@lhp.example>
HP-Outer: In-Reply-To: <before@lhp.example>
HP-Outer: References: <first@lhp.example>
Content-Type: text/plain; charset="us-ascii";
 protected-headers="v1"; hp="cipher"
Content-Transfer-Encoding: 7bit
"""
    )
    assert outside(found, made) == lines(found.headers)
    assert (made.protection.hidden, made.protection.problem) == ((), None)


def test_hide_is_hcp_baseline() -> None:
    found = message()
    made, copied = plan(found, "hide"), plan(found, "copy")
    record = b"\n".join(
        line
        for line in lines(copied.inside).replace(b"Subject: Dinner\n plans\nHP", b"Subject: [...]\nHP").split(b"\n")
        if not re.match(b"HP-Outer: (Comments|Keywords|Thread-Topic)", line)
    )
    assert lines(made.inside) == record
    assert b"HP-Outer: Subject: [...]\n" in record
    assert record.count(b"HP-Outer:") == 7
    left = outside(found, made)
    assert b"Dinner" not in left
    assert b"candle" not in left
    assert b"food" not in left
    assert left == re.sub(
        rb"Subject: Dinner\n plans\nComments.*\nKeywords.*\nThread-Topic.*\n(?s:(.*)7bit\n)",
        rb"\g<1>7bit\nSubject: [...]\n",
        lines(found.headers),
    )
    assert made.protection.hidden == ("Subject", "Comments", "Keywords", "Thread-Topic")


@pytest.mark.parametrize("how", ["copy", "hide"])
def test_blind_copies_trace_and_what_came_as_hp_outer_never_go_inside(how: str) -> None:
    found = lines(plan(message(), how).inside)
    for stranger in (b"dora", b"dirk", b"Received", b"DKIM", b"ARC", b"Authentication", b"Smilla", b"Return", b"lie"):
        assert stranger not in found
    assert b"MIME-Version" not in found


def test_example_of_the_rfc() -> None:
    """RFC 9788, appendix E.1, but for the Legacy Display Element, the order and the older parameter."""
    fields = b"""Date: Fri, 21 Jan 2022 20:40:48 -0500
From: Alice <alice@example.net>
To: Bob <bob@example.net>
Subject: Dinner plans
Message-ID: <text-plain-legacy-display@lhp.example>
"""
    made = plan(message(fields + b'MIME-Version: 1.0\nContent-Type: text/plain; charset="us-ascii"'), "hide")
    record = b"".join(b"HP-Outer: " + line for line in fields.splitlines(keepends=True))
    wanted = fields + record.replace(b"Dinner plans", b"[...]")
    assert lines(made.inside) == wanted + b'Content-Type: text/plain; charset="us-ascii";\n ' + MARK + b"\n"
    read = email.message_from_bytes(lines(made.inside) + b"\nbody\n", policy=email.policy.default)
    assert read.defects == []
    assert read["Subject"] == "Dinner plans"
    assert read["Content-Type"].params == {"charset": "us-ascii", "protected-headers": "v1", "hp": "cipher"}
    assert read.get_all("HP-Outer", [])[3] == "Subject: [...]"
    assert read.get_payload() == "body\n"


# --- edits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "subject"), [("copy", b"clean"), ("hide", b"[...]")])
def test_inside_stands_what_would_have_been_sent(how: str, subject: bytes) -> None:
    found = message(b"X-Encrypt: yes\nSubject: [encrypt] clean\nTo: b@x.org")
    made = plan(found, how, HeaderEdits((0, 1), (("Subject", "clean"),)))
    inside = lines(made.inside)
    assert b"Subject: clean\n" in inside
    assert b"HP-Outer: Subject: " + subject + b"\n" in inside
    assert b"crypt" not in inside
    assert outside(found, made) == b"To: b@x.org\nSubject: " + subject + b"\n"


def test_each_of_several_subjects_is_hidden() -> None:
    found = message(b"Subject: one\nSUBJECT : two\nTo: b@x.org")
    made = plan(found, "hide")
    assert outside(found, made) == b"To: b@x.org\nSubject: [...]\nSUBJECT: [...]\n"
    assert b"Subject: one\nSUBJECT: two\nTo: b@x.org\nHP-Outer: Subject: [...]\nHP-Outer: SUBJECT: [...]\n" in lines(
        made.inside
    )


def test_no_subject_is_none_outside() -> None:
    found = message(b"To: b@x.org")
    assert outside(found, plan(found, "hide")) == b"To: b@x.org\n"


def test_what_is_shown_to_others_is_hidden_likewise() -> None:
    assert lines(protect.shown(message(b"Subject: one\nKeywords: x\nTo: b@x.org").headers)) == (
        b"Subject: [...]\nTo: b@x.org\n"
    )


# --- octets -----------------------------------------------------------------------------------------------


def test_raw_octets_stay_inside_and_their_record_is_7_bit() -> None:
    for raw, text in ((" Grüße\n an  alle ".encode(), "Grüße an  alle"), (b" Gr\xfc\xdfe", None)):
        inside = plan(message(b"Subject:" + raw + b"\nTo: b@x.org"), "copy").inside
        assert inside[0].raw.replace(b"\r\n", b"\n") == b"Subject:" + raw + b"\n"
        (record,) = [f for f in inside if f.name == "hp-outer" and b"Subject" in f.raw]
        assert record.raw.isascii()
        value = record.raw_value.decode().removeprefix(" Subject: ").replace("\r\n", "")
        if text:
            assert str(make_header(decode_header(value))) == text
        else:
            assert decode_header(value) == [(raw.strip(), "unknown-8bit")]


_ABNF = re.compile(  # RFC 9788 section 2.2.1, FWS as in RFC 5322 section 3.2.2
    rb"HP-Outer:(?:(?:[ \t]*\r\n)?[ \t]+)?[!-9;-~]+: (?:(?:(?:[ \t]*\r\n)?[ \t]+)?[!-~])*[ \t]*\r\n"
)


@pytest.mark.parametrize(
    "field",
    [
        b"Subject: a  b ",
        b"Subject:x",
        b"Subject:\tx",
        b"Subject:\n x",
        b"Subject:",
        b"Subject: ",
        b"Subject : x",
        b"To: " + b"b@x.org," * 200,
        "Subject: größe\n und".encode(),
        b"Subject: \xff",
    ],
)
def test_record_follows_the_grammar(field: bytes) -> None:
    for how in ("copy", "hide"):
        inside = plan(message(b"X: y\n" + field), how).inside
        records = [header.raw for header in inside if header.name == "hp-outer"]
        assert len(records) == 2
        assert all(_ABNF.fullmatch(record) for record in records)


def test_value_without_a_space_and_a_long_line_are_recorded_within_the_limits() -> None:
    inside = plan(message(b"Subject:x\nTo: " + b"b@x.org," * 123 + b"b@x"), "copy").inside
    assert b"HP-Outer: Subject: x\r\n" in b"".join(f.raw for f in inside)
    (record,) = [f for f in inside if f.raw_value.lstrip().startswith(b"To")]
    assert record.raw.startswith(b"HP-Outer:\r\n To: b@x.org,")
    assert max(len(line) for f in inside for line in f.raw.split(b"\r\n")) <= 998


def test_blank_lines_in_the_folding_do_not_end_the_inner_header() -> None:
    found = Message((Header(b"Subject", b" one\r\n \t\r\n two\r\n "), Header(b"To", b"\r\n b@x.org")), message().body)
    inside = plan(found, "copy").inside
    assert lines(inside).startswith(
        b"Subject: one\n two\nTo:\n b@x.org\nHP-Outer: Subject: one\n two\nHP-Outer: To: \n b@x.org\n"
    )


@pytest.mark.parametrize("value", [b" a\rb", b" a\0b", b" a\r\nInjected: yes", b" a\nb"])
def test_field_that_would_break_the_inner_header_is_not_copied(value: bytes) -> None:
    found = Message((Header(b"Subject", b" one"), Header(b"X", value)), message().body)
    assert plan(found, "hide").protection.problem == Reason(
        "malformed_field", "a header field with a bare CR or a NUL cannot be copied"
    )


def test_bounds() -> None:
    assert problem(b"Subject: x\nX: " + b"y" * 60_001) == "field_too_long"
    many = b"Subject: x\n" + b"Comments: y\n" * 100
    assert problem(many + b"To: b@x.org") == "too_many_fields"
    assert plan(message(many + b"To: b@x.org"), "copy").protection.problem is None


def test_ten_thousand_fields_take_no_time_to_speak_of() -> None:
    made = plan(message(b"Comments: x\n" * 99 + b"X-Y: z\n" * 10_000 + b"To: b@x.org"), "hide")
    assert len(made.inside) == 2 * 10_001 + 99 + 1


# --- the Content-Type -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "between"),
    [
        (b" text/plain", b";"),
        (b" text/plain; charset=utf-8", b";"),
        (b" text/plain; charset=utf-8;", b""),
        (b" text/plain; charset=utf-8 ; ", b""),
        (b" text/plain; (comment; hp=x)", b""),
        (b" text/plain (comment; hp=x)", b";"),
        (b' multipart/mixed;\n\tboundary="a;b\\"c" ', b";"),
        (b" text/html; name*0=a; name*1=b", b";"),
        (b' text/plain; name="gr\xc3\xbc\xc3\x9fe"', b";"),
        (b" TEXT/PLAIN", b";"),
        (b" multipart/encrypted; boundary=x", b";"),  # what is encrypted in truth does not come here
    ],
)
def test_parameters_come_at_the_end_and_all_before_stays(raw: bytes, between: bytes) -> None:
    (field,) = [f for f in content_type(raw).inside if f.name == "content-type"]
    assert field.raw.replace(b"\r\n", b"\n") == b"Content-Type:" + raw + between + b"\n " + MARK + b"\n"
    read = mime.content_type(field.raw_value)
    assert read is not None
    assert read.parameters["hp"] == "cipher"
    assert read.parameters["protected-headers"] == "v1"
    seen = email.message_from_bytes(field.raw + b"\r\n", policy=email.policy.default)
    assert seen["Content-Type"].params["hp"] == "cipher"
    before = email.message_from_bytes(b"Content-Type:" + raw + b"\r\n", policy=email.policy.default)
    assert seen.get_content_type() == before.get_content_type()


def test_no_content_type_is_text_plain() -> None:
    assert lines(plan(message(b"To: b@x.org"), "copy").inside).endswith(b"Content-Type: text/plain;\n " + MARK + b"\n")
    only_encoding = lines(plan(message(b"To: b@x.org\nContent-Transfer-Encoding: 8bit"), "copy").inside)
    assert only_encoding.endswith(b"Content-Type: text/plain; " + MARK + b"\nContent-Transfer-Encoding: 8bit\n")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b" text", "malformed_content_type"),
        (b"", "malformed_content_type"),
        (b' text/plain; charset="utf-8', "malformed_content_type"),
        (b" text/plain (never closed", "malformed_content_type"),
        (b" text/plain; charset", "malformed_content_type"),
        (b" text/plain; a=b; a=c", "malformed_content_type"),
        (b" text/plain; a=b;;", "malformed_content_type"),
        (b" text/plain;\ra=b", "malformed_content_type"),
        (b" text/plain; a=b\0", "malformed_content_type"),
        (b" text/plain\\", "malformed_content_type"),
        (b' multipart/signed; boundary=x; protocol="application/pgp-signature"; hp="clear"', "signed"),
        (b" application/pkcs7-mime; smime-type=signed-data", "signed"),
        (b" Application/X-PKCS7-mime", "signed"),
        (b' text/plain; hp="clear"', "protected_already"),
        (b" text/plain; HP=cipher", "protected_already"),
        (b" text/plain; Protected-Headers=v1", "protected_already"),
        (b' text/plain; hp-legacy-display="1"', "protected_already"),
        (b" text/plain\nContent-Type: text/html", "ambiguous"),
    ],
)
def test_content_type_that_cannot_be_extended_is_left_alone(raw: bytes, code: str) -> None:
    assert problem(b"Subject: x\nContent-Type:" + raw) == code
    assert problem(b"Subject: x\nContent-Type:" + raw, "copy") == code


@given(st.binary(max_size=60))
@example(b"text/plain;charset=utf-8;\r\n ")
def test_whatever_the_content_type_it_is_extended_or_left(raw: bytes) -> None:
    original = Header(b"Content-Type", b" text/plain; a=b;" + raw)
    made = protect.plan(message(b"Subject: x"), (original,), "hide")
    (field,) = [f for f in made.inside if f.name == "content-type"]
    if made.protection.problem is None:
        assert field.raw_value in [original.raw_value + end + b"\r\n " + MARK for end in (b";", b"")]
    else:
        assert field == original
