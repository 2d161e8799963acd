"""Who sent a message, by the word of our own verifiers: what a forger may write, and what the grammar allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from smilla.learning.authenticated import UnprovenError, covered_by_sender, sender_of
from smilla.model import Message
from tests.unit.learning.letters import DKIM, DMARC, OURS, PIA, SIGNATURE, letter
from tests.vectors.memory import NOW

FAILED = f"Authentication-Results: {OURS}; dmarc=fail header.from=example.org"
THEIRS = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org"


def why(message: Message) -> str:
    with pytest.raises(UnprovenError) as caught:
        sender_of(message, OURS, NOW)
    return str(caught.value)


def covers(message: Message, *names: str) -> bool:
    return covered_by_sender(message, sender_of(message, OURS, NOW), *(names or ("from", "autocrypt")))


def test_sender_is_whom_our_verifiers_vouch_for() -> None:
    found = sender_of(letter(), OURS, NOW)
    assert (str(found.address), found.sent_at) == (PIA, datetime(2026, 11, 20, 11, tzinfo=UTC))
    assert [result.method for result in found.dkim] == ["dkim"]
    assert sender_of(letter((DKIM, DMARC, THEIRS)), OURS, NOW) == found


@pytest.mark.parametrize(
    "above",
    [
        (),
        (DKIM,),
        (THEIRS,),
        (FAILED,),
        (DMARC, FAILED),
        (FAILED, DMARC),
        (DMARC.replace("header.from=example.org", ""),),
        (DMARC.replace("example.org", "evil.test"),),
        (DMARC, DMARC.replace("example.org", "evil.test")),
        (DMARC.replace("header.from=example.org", "header.from=example.org header.from=evil.test"),),
        (DMARC.replace("pass", "none"),),
        (DMARC.replace("pass", "temperror"),),
        (DMARC + " (",),
        (DMARC, f"Authentication-Results: {OURS} and more; dkim=pass"),
        (DMARC.replace(OURS, "mx.home.test.evil.test"),),
    ],
)
def test_without_a_clear_pass_for_the_domain_in_from_nothing_is_proven(above: tuple[str, ...]) -> None:
    assert why(letter(above))


def test_what_stands_below_the_first_received_field_is_another_hops() -> None:
    assert "no verifier" in why(letter((), (DKIM, DMARC)))
    assert sender_of(letter((DKIM, DMARC), (FAILED,)), OURS, NOW)


@pytest.mark.parametrize(
    "author",
    [
        "Pia <pia@example.org>, Eve <eve@example.org>",
        "Friends: pia@example.org;",
        "pia@example.org\r\nFrom: eve@example.org",
        "pia@[192.0.2.1]",
        "pia@localhost",
        "pia@192.0.2.1",
        "pia",
        "pia@stra\u00dfe.example",
    ],
)
def test_from_that_two_programs_may_read_differently_proves_nothing(author: str) -> None:
    assert "From" in why(letter(author=author))


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 20 Nov 2026 11:00:00 +9999999", f"{'9' * 5000}"])
def test_date_that_cannot_be_read_proves_nothing(date: str) -> None:
    assert "Date" in why(letter(date=date))
    assert "Date" in why(letter(date=f"Fri, 20 Nov 2026 11:00:00 +0000\r\nDate: {date}"))


def test_old_message_is_no_news_and_one_from_the_future_is_from_now() -> None:
    assert "days ago" in why(letter(date="Mon, 19 Oct 2026 11:00:00 +0000"))
    found = sender_of(letter(date="Mon, 20 Nov 2034 11:00:00 +0000"), OURS, NOW)
    assert NOW - timedelta(seconds=1) <= found.sent_at <= NOW


def test_international_domains_are_compared_in_one_form() -> None:
    results = f"Authentication-Results: {OURS}; dmarc=pass header.from=xn--bcher-kva.example"
    assert sender_of(letter((results,), author="a@b\u00fccher.example"), OURS, NOW)


# --- DKIM


def signed(**tags: str) -> str:
    found = {"d": "example.org", "s": "s1", "h": "From:Date:Autocrypt", "b": "abcdefghijklmnop", **tags}
    return "DKIM-Signature: v=1; " + "; ".join(f"{name}={value}" for name, value in found.items())


def test_signature_that_our_verifier_passed_covers_what_it_names() -> None:
    assert covers(letter())
    assert covers(letter(), "date", "subject")
    assert not covers(letter(), "from", "to")


@pytest.mark.parametrize(
    "signature",
    [
        signed(s="s2"),
        signed(b="zzzzzzzzzzzz"),
        signed(d="example.net"),
        signed(d="evil.test", s="s1"),
        "DKIM-Signature: nonsense",
    ],
)
def test_other_signature_than_the_one_that_passed_covers_nothing(signature: str) -> None:
    assert not covers(letter(signatures=[signature]))
    assert covers(letter(signatures=[signature, SIGNATURE]))


def test_field_that_could_be_the_one_that_passed_must_cover_it_too() -> None:
    assert not covers(letter(signatures=[signed(h="From:Date")]))
    assert not covers(letter(signatures=[signed(h="From:Date"), SIGNATURE]))


@pytest.mark.parametrize("result", ["dkim=fail", "dkim=neutral", "spf=pass", "x-dkim=pass"])
def test_without_a_pass_for_dkim_nothing_is_covered(result: str) -> None:
    assert not covers(letter((DKIM.replace("dkim=pass", result), DMARC)))


def test_where_the_verifier_does_not_say_which_signature_all_must_cover_it() -> None:
    vague = f"Authentication-Results: {OURS}; dkim=pass header.d=example.org"
    assert covers(letter((vague, DMARC)))
    assert not covers(letter((vague, DMARC), signatures=[signed(), signed(s="s2", h="From")]))
    assert covers(letter((vague, DMARC), signatures=[signed(), signed(s="s2")]))
    assert not covers(letter((f"Authentication-Results: {OURS}; dkim=pass", DMARC)))


@pytest.mark.parametrize(
    ("signing", "author", "is_aligned"),
    [
        ("example.org", "mail.example.org", True),
        ("mail.example.org", "example.org", False),
        ("ample.org", "example.org", False),
        ("org", "example.org", False),
        ("evil.test", "example.org", False),
    ],
)
def test_only_the_domain_itself_or_one_above_it_signs_for_an_author(
    signing: str, author: str, is_aligned: bool
) -> None:
    results = [
        f"Authentication-Results: {OURS}; dkim=pass header.d={signing} header.s=s1",
        f"Authentication-Results: {OURS}; dmarc=pass header.from={author}",
    ]
    assert covers(letter(results, author=f"a@{author}", signatures=[signed(d=signing)])) is is_aligned


def test_too_many_fields_prove_nothing() -> None:
    assert "too many" in why(letter((THEIRS,) * 51))


@pytest.mark.parametrize(
    "denial",
    [
        "dkim=fail header.d=example.org header.s=s1 header.b=abcdefgh",
        "dkim=fail header.d=example.org",
        "dkim=neutral header.b=abcdefgh",
        "dkim=fail",
        "dkim=none",
        "dkim=permerror header.d=EXAMPLE.org header.s=S1",
    ],
)
def test_forged_pass_beside_the_genuine_word_that_the_signature_failed_covers_nothing(denial: str) -> None:
    """DMARC may have passed by SPF alone."""
    results = (f"Authentication-Results: {OURS}; {denial}", DKIM, DMARC)
    assert sender_of(letter(results), OURS, NOW)
    assert not covers(letter(results))
    assert not covers(letter((DKIM, DMARC, f"Authentication-Results: {OURS}; {denial}")))


@pytest.mark.parametrize(
    "other",
    [
        "dkim=fail header.d=list.test header.s=s1",
        "dkim=neutral header.d=example.org header.s=ed25519",
        "dkim=fail header.d=example.org header.b=zzzzzzzz",
        "spf=fail",
    ],
)
def test_another_signature_that_failed_takes_nothing_away(other: str) -> None:
    assert covers(letter((f"Authentication-Results: {OURS}; {other}", DKIM, DMARC)))


@pytest.mark.parametrize("head", [f'"{OURS}"', f"(x) {OURS}", f"{OURS} (x)", f'"{OURS}" 1', f"{OURS}(x) 1", f"{OURS}."])
def test_name_that_is_written_as_no_verifier_writes_it_proves_nothing(head: str) -> None:
    """A verifier that does not know its own name there has not removed the field."""
    assert "as no verifier writes it" in why(letter((DMARC.replace(OURS, head),)))
    assert "as no verifier writes it" in why(letter((DMARC, DKIM.replace(OURS, head))))


@pytest.mark.parametrize("head", [OURS.upper(), f"{OURS} 1", f"\r\n\t{OURS}"])
def test_name_in_other_case_folded_or_with_a_version_is_ours(head: str) -> None:
    assert sender_of(letter((DMARC.replace(OURS, head),)), OURS, NOW)
    assert why(letter((DMARC, FAILED.replace(OURS, head))))


@pytest.mark.parametrize(
    "more", ["; spf=pass smtp.mailfrom=r.test" * 15, "; spf=pass" + " a.b=c" * 300, "; x=y (" + "z" * 4096 + ")"]
)
def test_field_of_ours_that_is_larger_than_a_verifiers_proves_nothing(more: str) -> None:
    """OpenDKIM does not read it, and so does not remove it."""
    assert "than a verifier's" in why(letter((DMARC + more,)))
