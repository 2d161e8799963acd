"""What the MTA is told: every disposition, a text for every reason, and never a word of the configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import smilla
from smilla.answer import reply
from smilla.answer.reply import Reply, Verb
from smilla.model import Action, CopyForm, Disposition
from tests.unit.decisions import copy, decision, outcome

PACKAGE = Path(smilla.__file__).parent
CODES = sorted(
    {
        code
        for path in PACKAGE.rglob("*.py")
        for code in re.findall(r'(?:Reason|Refused\w*|against|not_meant)\(\s*"([a-z_]+)"', path.read_text("utf-8"))
    }
    | {"bogus", "indeterminate", "unreachable"}
)
CONFIGURATION = re.compile(r"smilla|\.toml|/etc|/var|policy|rule|127\.0|\[|config|milter|\bca_file\b", re.IGNORECASE)


def told(found: smilla.model.Outcome, mixed: str = "reinject", *, observe: bool = False) -> Reply:
    return reply.for_outcome(found, mixed, observe=observe)


def test_one_copy_is_accepted() -> None:
    found = copy(CopyForm.SMIME, "a@x.org")
    assert told(outcome(Disposition.DELIVER, found)) == Reply(Verb.ACCEPT, copy=found)


def test_deferred_is_451() -> None:
    answer = told(outcome(Disposition.DEFER, code="bogus", blocked_by=("a@x.org",)))
    assert (answer.verb, answer.code, answer.enhanced, answer.copy) == (Verb.TEMPFAIL, "451", "4.7.5", None)
    assert answer.line == "451 4.7.5 <a@x.org>: the answer about a published key fails DNSSEC validation"


def test_refused_is_550() -> None:
    answer = told(outcome(Disposition.REFUSE, code="no_key", blocked_by=("a@x.org", "b@x.org", "c@x.org")))
    assert (answer.verb, answer.code, answer.enhanced, answer.copy) == (Verb.REJECT, "550", "5.7.5", None)
    assert answer.text == "<a@x.org> (and 2 more): encryption is required, but no key is published"


def test_held_is_quarantined_with_its_copy() -> None:
    found = copy(CopyForm.PLAIN, "a@x.org")
    answer = told(outcome(Disposition.HOLD, found, code="expired", blocked_by=("a@x.org",)))
    assert (answer.verb, answer.code, answer.copy) == (Verb.QUARANTINE, "", found)
    assert answer.text == "<a@x.org>: the published key has expired"
    assert answer.line == "quarantine"


@pytest.mark.parametrize(("mixed", "code"), [("defer", "451"), ("refuse", "550")])
@pytest.mark.parametrize("disposition", [Disposition.DELIVER, Disposition.HOLD])
def test_several_copies_are_never_sent_as_one(mixed: str, code: str, disposition: Disposition) -> None:
    found = outcome(
        disposition, copy(CopyForm.SMIME, "a@x.org"), copy(CopyForm.PLAIN, "b@x.org"), blocked_by=("b@x.org",)
    )
    answer = told(found, mixed)
    assert (answer.code, answer.copy, answer.further) == (code, None, ())
    assert "2 different forms" in answer.text


@pytest.mark.parametrize(
    ("disposition", "verb"), [(Disposition.DELIVER, Verb.ACCEPT), (Disposition.HOLD, Verb.QUARANTINE)]
)
@pytest.mark.parametrize("kept", [0, 1])
def test_one_copy_stays_and_the_others_are_reinjected(disposition: Disposition, verb: Verb, kept: int) -> None:
    copies = copy(CopyForm.SMIME, "a@x.org"), copy(CopyForm.PLAIN, "b@x.org")
    decisions = decision("a@x.org", Action.ENCRYPT), decision("b@x.org", Action.PLAIN)
    found = replace(outcome(disposition, *copies, blocked_by=("b@x.org",)), kept_index=kept, decisions=decisions)
    answer = told(found, "reinject")
    assert (answer.verb, answer.copy, answer.further) == (verb, copies[kept], (copies[1 - kept],))
    assert answer.removed == copies[1 - kept].recipients


def test_where_no_copy_stays_the_original_is_discarded_and_all_are_reinjected() -> None:
    copies = copy(CopyForm.SMIME, "a@x.org"), copy(CopyForm.PLAIN, "b@x.org")
    answer = told(replace(outcome(Disposition.DELIVER, *copies), kept_index=None), "reinject")
    assert (answer.verb, answer.copy, answer.further, answer.removed) == (Verb.DISCARD, None, copies, ())


@pytest.mark.parametrize("disposition", [Disposition.DELIVER, Disposition.HOLD])
def test_outcome_without_a_copy_is_an_internal_error_and_no_plaintext(disposition: Disposition) -> None:
    assert told(outcome(disposition, blocked_by=("a@x.org",))) == reply.INTERNAL


@pytest.mark.parametrize("disposition", list(Disposition))
def test_observing_changes_nothing(disposition: Disposition) -> None:
    found = outcome(disposition, copy(CopyForm.SMIME, "a@x.org"), code="no_key", blocked_by=("a@x.org",))
    assert told(found, observe=True) == Reply(Verb.ACCEPT)


def test_the_codes_of_reasons_were_found() -> None:
    assert {"expired", "revoked", "other_address", "weak_key", "untrusted", "hash_only", "insecure", "no_key"} <= set(
        CODES
    )
    assert len(CODES) > 85


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("disposition", [Disposition.DEFER, Disposition.REFUSE])
def test_every_reason_has_a_text_without_any_detail_of_the_configuration(code: str, disposition: Disposition) -> None:
    answer = told(outcome(disposition, code=code, blocked_by=("a@x.org",)))
    said = answer.text.removeprefix("<a@x.org>: ")
    assert 20 < len(said) < 100
    assert code == "usable" or not CONFIGURATION.search(said)


HOPS = [code for code in CODES if re.fullmatch(r"(mx|tlsa|mta_sts|hop)_\w+|no_secure_hop|unusable_tlsa|null_mx", code)]


@pytest.mark.parametrize("code", HOPS)
def test_who_has_no_verified_hop_is_told_so_and_nothing_about_keys(code: str) -> None:
    assert len(HOPS) > 15
    assert "key" not in told(outcome(Disposition.REFUSE, code=code, blocked_by=("a@x.org",))).text


def test_every_text_belongs_to_a_code_that_occurs() -> None:
    assert set(reply.TEXTS) <= set(CODES)


@pytest.mark.parametrize(
    "to", ["a\r\nb@x.org", "a\x1b[2J@x.org", "a\x00@x.org", "ä@x.org", "a\u2028@x.org", "a" * 3000]
)
@pytest.mark.parametrize("disposition", [Disposition.DEFER, Disposition.REFUSE])
def test_reply_is_one_short_line_of_printable_ascii_whoever_the_recipient_is(to: str, disposition: Disposition) -> None:
    line = told(outcome(disposition, code="no_key", blocked_by=(to,))).line
    assert re.fullmatch(r"[ -~]{10,500}", line)


def test_constants_are_temporary() -> None:
    assert (reply.INTERNAL.verb, reply.STOPPING.verb) == (Verb.TEMPFAIL, Verb.TEMPFAIL)
    assert (reply.INTERNAL.code, reply.STOPPING.code) == ("451", "451")


@pytest.mark.parametrize(
    ("details", "recipient_count", "answer"),
    [
        (["552 5.3.4 too large"] * 3, 3, reply.TOO_LARGE),
        (["552 5.3.4 too large"] * 3, 4, reply.HANDOVER),
        (["552 too large"] * 3, 3, reply.TOO_LARGE),
        (["552 5.2.2 the mailbox is full"] * 3, 3, reply.HANDOVER),
        (["552 5.3.4 too large", "451 4.3.0 later"], 2, reply.HANDOVER),
        (["550 5.1.1 nobody"], 1, reply.HANDOVER),
    ],
)
def test_copies_that_were_not_taken_defer_unless_each_is_too_large(
    details: list[str], recipient_count: int, answer: Reply
) -> None:
    assert reply.for_refusals(details, recipient_count) == answer


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "bounced", "verb"),
    [
        ((Action.DONE, Action.DONE), 0, Verb.DISCARD),
        ((Action.DONE, Action.DEFER), 1, Verb.DISCARD),
        ((Action.REFUSE, Action.DEFER), 2, Verb.DISCARD),
        ((Action.DONE, Action.PLAIN), 0, Verb.TEMPFAIL),
        ((Action.DONE, Action.ENCRYPT), 0, Verb.TEMPFAIL),
        ((Action.DONE, Action.DEFER), 0, Verb.TEMPFAIL),
        ((Action.PLAIN, Action.DEFER), 1, Verb.TEMPFAIL),
    ],
)
def test_message_without_a_copy_is_discarded_only_where_all_are_served_or_told(
    actions: tuple[Action, Action], bounced: int, verb: Verb
) -> None:
    decisions = tuple(decision(f"{name}@x.org", action) for name, action in zip("ab", actions, strict=True))
    found = replace(
        outcome(Disposition.DELIVER),
        decisions=decisions,
        bounced=decisions[len(decisions) - bounced :],
        kept_index=None,
    )
    assert told(found).verb is verb


def test_two_copies_for_the_stage_are_one_sealed_message() -> None:
    found = outcome(Disposition.DELIVER, copy(CopyForm.SMIME, "a@x.org"), copy(CopyForm.PLAIN, "b@x.org"))
    assert told(found, "stage") == Reply(Verb.ACCEPT, is_sealed=True)


@pytest.mark.parametrize(
    ("detail", "code", "enhanced"),
    [
        ("550 5.1.1 nobody", "550", "5.1.1"),
        ("554 no", "550", "5.0.0"),
        ("552 5.3.4 too large", reply.TOO_LARGE.code, reply.TOO_LARGE.enhanced),
        ("552 5.2.3 too large", reply.TOO_LARGE.code, reply.TOO_LARGE.enhanced),
        ("552 too large", reply.TOO_LARGE.code, reply.TOO_LARGE.enhanced),
        ("552 5.2.2 the mailbox is full", "550", "5.2.2"),
        ("552 5.5.3 too many recipients", reply.HANDOVER.code, reply.HANDOVER.enhanced),
        ("451 4.3.0 later", reply.HANDOVER.code, reply.HANDOVER.enhanced),
        ("5500 odd", reply.HANDOVER.code, reply.HANDOVER.enhanced),
    ],
)
def test_refused_copy_is_refused_as_the_listener_says(detail: str, code: str, enhanced: str) -> None:
    answer = reply.for_refusal(detail)
    assert (answer.code, answer.enhanced) == (code, enhanced)


def test_what_keeps_the_stage_from_splitting_a_message_defers_it_and_no_reply_names_an_option() -> None:
    answer = reply.NOT_READY
    assert (answer.verb, answer.code, answer.enhanced) == (Verb.TEMPFAIL, "451", "4.3.5")
    copies = copy(CopyForm.SMIME, "a@x.org"), copy(CopyForm.PLAIN, "b@x.org")
    texts = {told(outcome(Disposition.DELIVER, *copies), mixed).text for mixed in ("", "defer")}
    assert texts == {"The recipients need 2 different forms of this message; send it to them one by one"}
