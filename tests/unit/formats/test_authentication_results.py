"""Authentication-Results: which fields claim our own result, in every spelling that RFC 8601 allows and some more."""

from __future__ import annotations

import random
import time

import pytest

from smilla.formats.authentication_results import may_claim, written

ID = "mx.example.org"

OURS = {
    "as authentication_milter writes it": b" mx.example.org; x-tls=pass smtp.version=TLSv1.3 smtp.bits=256/256",
    "no blank at all": b"mx.example.org;x-tls=pass",
    "capitals": b" MX.Example.ORG; X-TLS=PASS",
    "a version": b" mx.example.org 1; x-tls=pass",
    "a version of the method": b" mx.example.org; x-tls/1=pass",
    "a version of the method, with blanks": b" mx.example.org; x-tls / 1 = pass",
    "folded": b"\r\n\tmx.example.org\r\n 1\r\n ;\r\n\tx-tls\r\n =\r\n pass",
    "a quoted authserv-id": b' "mx.example.org"; x-tls=pass',
    "a quoted authserv-id with a quoted pair": b' "mx\\.example.org"; x-tls=pass',
    "comments": b" (a (nested) one) mx.example.org (b) 1 (c); (d) x-tls (e) = (f) pass",
    "a comment with a parenthesis in a quoted pair": b" (\\() mx.example.org; x-tls=pass",
    "a comment that touches the authserv-id": b" mx.example.org(one); x-tls=pass",
    "behind other results": b" mx.example.org; dkim=pass header.d=s.test; spf=fail; x-tls=pass; dmarc=none",
    "before other results": b" mx.example.org; x-tls=pass; dmarc=pass header.from=bank.test",
    "x-tls=none": b" mx.example.org; x-tls=none",
    "no semicolon between": b" mx.example.org; spf=pass smtp.mailfrom=a@s.test x-tls=pass",
    "a final dot": b" mx.example.org.; x-tls=pass",
    "a semicolon at the end": b" mx.example.org; x-tls=pass;",
    "an empty result": b" mx.example.org;; x-tls=pass",
    "a comment within the method, which some programs drop": b" mx.example.org; x-(c)tls=pass",
    "a comment before the equals sign": b" mx.example.org; x-tls(c)=pass",
    "a tab": b"\tmx.example.org;\tx-tls=pass",
}

UNCLEAR = {
    "no authserv-id": b" x-tls=pass smtp.version=TLSv1.3",
    "empty": b" ; x-tls=pass",
    "two words": b" mx.example.org evil; x-tls=pass",
    "two words, ours behind": b" evil mx.example.org; x-tls=pass",
    "a comment without its end in front": b" (mx.example.org; x-tls=pass",
    "a comment without its end behind": b" mx.example.org; x-tls=pass (",
    "only an opening parenthesis": b" x-tls (",
    "a quoted string without its end": b' mx.example.org; x-tls=pass reason="',
    "a backslash": b" mx\\.example.org; x-tls=pass",
    "a closing parenthesis": b" mx.example.org); x-tls=pass",
    "a comment without its end, after which one ends": b" (mx.example.org; x-tls=pass (c)",
    "NUL": b" mx.example.org\0; x-tls=pass",
    "half quoted": b' mx."example".org; x-tls=pass',
    "UTF-8 in the authserv-id": " mx.exämple.org; x-tls=pass".encode(),
    "UTF-8 in a quoted authserv-id": ' "mx.exämple.org"; x-tls=pass'.encode(),
    "an encoded word": b" =?utf-8?q?mx=2Eexample=2Eorg;_x-tls=3Dpass?=",
    "an encoded word in Base64": b" =?utf-8?b?bXguZXhhbXBsZS5vcmc7IHgtdGxzPXBhc3M=?=",
    "an octet that is not ASCII": b" mx.example.org; x-tls=pass \xff",
    "longer than the milter protocol carries": b" mx.example.org; dkim=pass" + b" " * 66000,
}

OTHERS = {
    "another server": b" mx.example.com; x-tls=pass",
    "a server below ours": b" a.mx.example.org; x-tls=pass",
    "a longer name": b" mx.example.org.evil.test; x-tls=pass",
    "ours in a comment": b" other.test (mx.example.org); x-tls=pass",
    "ours in a quoted string of another": b' other.test; x-tls=pass reason="x; mx.example.org; x-tls=pass"',
    "another one, unreadable behind": b" other.test; x-tls=pass (",
    "an ordinary one of ours": b" mx.example.org; dkim=pass header.d=s.test header.b=ab/cd+e; dmarc=pass (p=NONE)",
    "x-tls in a comment": b" mx.example.org; dkim=pass (x-tls=pass)",
    "x-tls in a quoted string": b' mx.example.org; dkim=fail reason="; x-tls=pass"',
    "x-tls as a sender's local part": b" mx.example.org; spf=pass smtp.mailfrom=x-tls=pass@s.test",
    "x-tls as a result": b" mx.example.org; dkim=x-tls",
    "a longer method": b" mx.example.org; x-tls-old=pass; yx-tls=pass",
    "nothing done": b" mx.example.org; none",
    "an IPv6 address": b" mx.example.org; iprev=pass smtp.remote-ip=2001:db8::1 (x)",
    "malformed without x-tls": b" mx.example.org; dkim=pass (",
    "empty": b"",
    "a comment that names the letters": b" mx.example.org (xs); dkim=pass",
}


@pytest.mark.parametrize("raw", OURS.values(), ids=OURS)
def test_a_result_of_ours_is_found_in_every_spelling(raw: bytes) -> None:
    assert may_claim(raw, ID, "x-tls")


@pytest.mark.parametrize("raw", UNCLEAR.values(), ids=UNCLEAR)
def test_what_cannot_be_read_and_mentions_the_method_counts_as_ours(raw: bytes) -> None:
    assert may_claim(raw, ID, "x-tls")


@pytest.mark.parametrize("raw", OTHERS.values(), ids=OTHERS)
def test_results_of_others_and_other_results_do_not_count(raw: bytes) -> None:
    assert not may_claim(raw, ID, "x-tls")


@pytest.mark.parametrize("raw", OURS.values(), ids=OURS)
def test_the_same_fields_are_another_servers_business_where_we_have_another_name(raw: bytes) -> None:
    assert not may_claim(raw, "mx2.example.org", "x-tls")


def test_random_octets_around_a_result_of_ours_raise_nothing_and_never_hide_it() -> None:
    """Blanks, folds and comments may stand between all its parts."""
    dice = random.Random(8601)
    pieces = [b" ", b"\t", b"\r\n ", b"(c)", b"((c)\\))", b"(;)", b'(")']
    for _ in range(3000):
        parts = (b"mx.example.org", b";", b"dkim", b"=", b"pass", b";", b"x-tls", b"=", b"pass", b"")
        raw = b"".join(b"".join(dice.choices(pieces, k=dice.randrange(3))) + part for part in parts)
        assert may_claim(raw, ID, "x-tls"), raw


def test_noise_raises_nothing() -> None:
    dice = random.Random(5451)
    for _ in range(3000):
        raw = bytes(dice.choices(b'mx.example.org;x-tls=pass()"\\\0\xff \t\r\n/1', k=dice.randrange(80)))
        may_claim(raw, ID, "x-tls")


@pytest.mark.parametrize("raw", [b"(" * 59_000, b'"\\' * 29_000, b"a(" * 29_000, b"=?" * 29_000, b"(a)" * 19_000])
def test_a_long_field_takes_no_longer_than_its_octets(raw: bytes) -> None:
    """Measured in processor time of this thread, so that the machine's load has no say: far from quadratic."""
    began = time.thread_time()
    may_claim(b" mx.example.org; x-tls" + raw, ID, "x-tls")
    assert time.thread_time() - began < 5


def test_what_is_written_has_one_fold_and_no_value_from_outside_that_needs_quoting() -> None:
    properties = [("smtp.version", "TLSv1.3"), ("smtp.cipher", 'x"; dkim=pass'), ("smtp.bits", ""), ("a.b", "c\r\nd")]
    assert written(ID, "x-tls", "pass", properties) == "mx.example.org;\r\n\tx-tls=pass smtp.version=TLSv1.3"
    assert may_claim(written(ID, "x-tls", "none", ()).encode(), ID, "x-tls")
