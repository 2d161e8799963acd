"""Addresses from envelopes and header fields: what they name, and that a stranger cannot make them name more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.address import in_header, parse, sole_mailbox
from smilla.errors import AddressError
from tests.unit.timing import idle_seconds


@pytest.mark.parametrize(
    ("text", "local_part", "domain"),
    [
        ("hugh@example.org", "hugh", "example.org"),
        ("<hugh@example.org>", "hugh", "example.org"),
        ("< hugh@example.org >", "hugh", "example.org"),
        ("Hugh+Tag@EXAMPLE.org", "Hugh+Tag", "example.org"),
        ("first.last@example.org", "first.last", "example.org"),
        ("hugh@example.org.", "hugh", "example.org"),
        ('"hugh"@example.org', "hugh", "example.org"),
        ('"hu\\gh"@example.org', "hugh", "example.org"),
        ('"john smith"@example.org', "john smith", "example.org"),
        ('"a@b"@example.org', "a@b", "example.org"),
        ('"a\\"b"@example.org', 'a"b', "example.org"),
        ('"a\\\\b"@example.org', "a\\b", "example.org"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~", "example.org"),
        ("dörte@example.org", "dörte", "example.org"),
        ("do\u0308rte@example.org", "dörte", "example.org"),
        ("hugh@Bücher.example", "hugh", "xn--bcher-kva.example"),
        ("hugh@bu\u0308cher.example", "hugh", "xn--bcher-kva.example"),
        ("hugh@XN--BCHER-KVA.example", "hugh", "xn--bcher-kva.example"),
        ("hugh@straße.example", "hugh", "xn--strae-oqa.example"),
        ("hugh@example\u3002org", "hugh", "example.org"),
        ("hugh@\uff45xample.org", "hugh", "example.org"),
        ("<@a.example,@b.example:hugh@example.org>", "hugh", "example.org"),
        ("<@[IPv6:2001:db8::1]:hugh@example.org>", "hugh", "example.org"),
        ("hugh@[192.0.2.1]", "hugh", "[192.0.2.1]"),
        ("hugh@[IPv6:2001:DB8::1]", "hugh", "[ipv6:2001:db8::1]"),
        ("hugh@localhost", "hugh", "localhost"),
        ("a" * 255 + "@example.org", "a" * 255, "example.org"),
    ],
)
def test_address_is_read_without_any_mapping_of_its_local_part(text: str, local_part: str, domain: str) -> None:
    parsed = parse(text)
    assert (parsed.local_part, parsed.domain) == (local_part, domain)


# What ICU 72 makes of each by uidna_openUTS46 with UIDNA_NONTRANSITIONAL_TO_ASCII, as Postfix 3.7 calls it.
@pytest.mark.parametrize(
    ("label", "a_label"),
    [
        ("i❤", "xn--i-7iq"),
        ("I❤", "xn--i-7iq"),
        ("i❤\ufe0f", "xn--i-7iq"),
        ("i\u00ad❤", "xn--i-7iq"),
        ("\uff58n--i-7iq", "xn--i-7iq"),
        ("XN--I-7IQ", "xn--i-7iq"),
        ("\uff38\uff2e--bcher-kva", "xn--bcher-kva"),
        ("\ufb01x", "fix"),
        ("\u212a", "k"),
        ("\u0130", "xn--i-9bb"),
        ("ü_x", "xn--_x-wka"),
        ("¡x", "xn--x-5ba"),
    ],
)
def test_label_is_mapped_as_the_mta_maps_it(label: str, a_label: str) -> None:
    parsed = parse(f"bob@{label}.test")
    assert (parsed.domain, parsed.ambiguous) == (f"{a_label}.test", False)


@pytest.mark.parametrize(
    "label",
    [
        "xn--b\u00fccher", "ab--\u00fc", "-\u00fc", "\u00fc-", "\u0301x", "a\u2024\u00fc", "\uff20\u00fc", "\u2100",
        "\u2488\u00fc", "\uff58n--a\u00fc", "\uff58n--", "\uff58n--a-", "\uff58n--99999999", "\uff58n--\uff21\uff22",
        "\u00fc\u00a0", "\u0378",
        "\u00fc" * 64, "\ufffd", "\U000e0001",
    ],
)  # fmt: skip
def test_label_that_the_mta_would_not_take_is_none(label: str) -> None:
    with pytest.raises(AddressError):
        parse(f"bob@{label}.test")


@pytest.mark.parametrize("label", ["straße", "STRAẞE", "ὀδυσσεύς", "a\u200cb", "a\u200db"])
def test_label_that_idna_2003_maps_to_another_one_is_ambiguous(label: str) -> None:
    assert parse(f"bob@{label}.test").ambiguous
    assert not parse(f"{label}@x.test").ambiguous
    assert not parse("bob@xn--strae-oqa.test").ambiguous


@pytest.mark.parametrize(
    "text",
    [
        *("", "<>", "@", "hugh", "hugh@", "@example.org", "hugh@example..org", "hugh@.example.org", "hugh@."),
        *("hugh smith@example.org", "hugh@exa mple.org", "hugh@-a.example", "hugh@a-.example", "hugh@a/b.example"),
        *(
            "hugh,dana@example.org",
            "hu;gh@example.org",
            "hu:gh@example.org",
            "(c)hugh@example.org",
            "hu\\gh@example.org",
        ),
        *('"hugh@example.org', 'hugh"@example.org', '"a"b"@example.org', '"a\\"@example.org', '"a"b@example.org'),
        *('"a\rb"@example.org', '"a\nb"@example.org', '"a\0b"@example.org', '"a\x1bb"@example.org', '"a\\\nb"@x.org'),
        *("hu\0gh@example.org", "hu\x7fgh@example.org", "hugh\udcff@example.org", "hugh@ex\udcffample.org"),
        *("hugh@[192.0.2.1", "hugh@192.0.2.1]", "hugh@[]", "hugh@[/../x]", "hugh@[a b]", "hugh@[a\\b]"),
        *("hugh@" + "a" * 64 + ".org", "a" * 256 + "@example.org", "hugh@" + "a." * 130 + "org", "hugh@xn--a\u0308"),
        *("<<hugh@example.org>>", "hugh@example.org>", "<hugh@example.org", "Hugh <hugh@example.org>"),
        "<@" + "a" * 5000 + ":hugh@example.org>",
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        parsed = parse(text)
    except AddressError:
        return
    assert parsed.local_part
    assert parsed.domain.isascii()
    assert parsed.domain == parsed.domain.lower()


def test_comparison_ignores_case_and_nothing_else() -> None:
    assert parse("Hugh@Example.org").folded == parse("hugh@EXAMPLE.ORG").folded
    assert parse("hugh+a@example.org").folded != parse("hugh@example.org").folded
    assert parse("straße@example.org").folded != parse("strasse@example.org").folded
    assert parse("\u017fmith@example.org").folded != parse("smith@example.org").folded


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a@x.org", "a@x.org"),
        (" a@x.org, b@x.org", "a@x.org|b@x.org"),
        ("Anna <a@x.org>, Bob B. <B@X.org>", "a@x.org|b@x.org"),
        ('"Last, First" <a@x.org>', "a@x.org"),
        ('"b@x.org" <a@x.org>', "a@x.org"),
        ("b@x.org <a@x.org>", "a@x.org"),
        ('"<b@x.org>," <a@x.org>', "a@x.org"),
        ('"\\"b@x.org\\", <b@x.org>," <a@x.org>', "a@x.org"),
        ("=?utf-8?q?b=40x.org=2C?= <a@x.org>", "a@x.org"),
        ("=?utf-8?q?b=40x.org?=", ""),
        ("a@x.org (b@x.org)", "a@x.org"),
        ("a@x.org (one (two b@x.org) b@x.org, b@x.org)", "a@x.org"),
        ("(b@x.org\\), c@x.org) a@x.org", "a@x.org"),
        ("a@x.org, (b@x.org", "a@x.org"),
        ('a@x.org, "b@x.org', "a@x.org"),
        ("Friends: a@x.org, Bob <b@x.org>;, c@x.org", "a@x.org|b@x.org|c@x.org"),
        ("undisclosed-recipients:;", ""),
        ('"b@x.org": a@x.org;', "a@x.org"),
        ("b@x.org: a@x.org;", "a@x.org"),
        ("\r\n Anna\r\n\t<a@x.org>,\r\n b@x.org", "a@x.org|b@x.org"),
        ("<@relay.example,@other.example:a@x.org>", "a@x.org"),
        ("a @ x . org", "a@x.org"),
        ("a (comment) @ (comment) x.org", "a@x.org"),
        ('"a"@x.org', "a@x.org"),
        ('"john smith"@x.org', "john smith@x.org"),
        ("a@[192.0.2.1], a@[IPv6:2001:db8::1]", "a@[192.0.2.1]|a@[ipv6:2001:db8::1]"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        (",,, a@x.org ,;", "a@x.org"),
        ("", ""),
    ],
)
def test_address_list_names_its_mailboxes_and_nobody_else(value: str, names: str) -> None:
    assert in_header(value.encode()) == set(filter(None, names.split("|")))


@pytest.mark.parametrize(
    "value",
    [
        *("bo b@x.org", "<bo b@x.org>", "bo(c)b@x.org", "<bo(c)b@x.org>", "bob@x. org y", "bob@x.o rg"),
        *("<a@x.org> bob@x.org", "<a@x.org bob@x.org>", "<<bob@x.org>>", "<bob@x.org", "<a@x.org> <bob@x.org>"),
        *("bob@x.org]", "[bob@x.org", "\\bob@x.org", '""bob@x.org', '"bo"b@x.org', "\0bob@x.org\0", "bob\xff@x.org"),
        *(
            "bob at x.org",
            "bob@x.org@x.org",
            "mailto:bob@x.org <",
            "<a@x.org, bob@x.org>",
            "<bob@x.org> x",
            "<bob@x.org> <a@x.org>",
        ),
    ],
)
def test_malformed_mailbox_names_nobody_so_that_a_blind_copy_stays_blind(value: str) -> None:
    assert "bob@x.org" not in in_header(value.encode("latin-1"))


def test_octets_that_are_not_utf8_name_nobody() -> None:
    assert in_header(b"bob\xff@x.org, a@x.org") == {"a@x.org"}
    assert "bob\ufffd@x.org" not in in_header(b"bob\xff@x.org")


@given(st.binary(max_size=80))
def test_any_header_value_is_read_without_an_exception(raw: bytes) -> None:
    for name in in_header(raw):
        assert "@" in name


@pytest.mark.parametrize(
    "piece",
    ['"\\', '"\\"', "(\\", "(\\(", "(", "<", "<(", "a@x.org,", '"', "[", "[a", "a ", "a@", ":", "\\", " \t", ")("],
)
def test_time_of_an_address_list_is_linear(piece: str) -> None:
    raw = (piece * (200_000 // len(piece))).encode()
    assert idle_seconds(lambda: in_header(raw), 2.5) < 2.5


def test_addresses_of_one_spelling_in_two_domains_are_two_keys_of_a_dictionary() -> None:
    written = parse("hugh@mail")
    appended = replace(written, domain="mail.example.org")
    assert (written == appended, hash(written) == hash(appended)) == (False, True)
    assert len({written, appended, parse("<hugh@mail>")}) == 2


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b" Ann <ann@x.test>", "ann@x.test"),
        (b'"Doe, Ann" <Ann.Doe@X.test> (work)', "Ann.Doe@X.test"),
        (b"ann@x.test", "ann@x.test"),
        (b"=?utf-8?q?a=2C?= <ann@x.test>", "ann@x.test"),
        (b'"ben@y.test" <ann@x.test>', "ann@x.test"),
        (b"ann@x.test <ann@X.test>", "ann@X.test"),
        (b"ben@y.test <ann@x.test>", None),
        (b"Ben at ben@y.test <ann@x.test>", None),
        (b"ann@x.test, ben@x.test", None),
        (b"ann@x.test,", None),
        (b"friends: ann@x.test;", None),
        (b"<@y.test:ann@x.test>", None),
        (b"<ann@x.test> <ben@x.test>", None),
        (b"<ann@x.test> ben@x.test", None),
        (b'<ann@x.test> "unclosed', None),
        (b"ann", None),
        (b"", None),
    ],
)
def test_sole_mailbox_is_one_that_no_program_reads_otherwise(raw: bytes, found: str | None) -> None:
    mailbox = sole_mailbox(raw)
    assert (str(mailbox) if mailbox else None) == found
