"""Protected header fields through all stages: per rule, in copies and notifications, in the log and at the prompt."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pytest

from smilla import log, pipeline
from smilla.answer import reply, report
from smilla.cli import story
from smilla.config import parse
from smilla.errors import ConfigError
from smilla.handover import reinject
from smilla.model import Action, Copy, CopyForm, Outcome, Style
from smilla.session import Session
from tests.unit.decisions import decision
from tests.vectors.memory import NOW, StillClock, TableResolver, make_ports, make_session, raw_key, smimea

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
HIDE = '[headers]\nprotect = "hide"\n'
MESSAGE = (
    b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org\r\nSubject: a secret\r\n"
    b"Keywords: secret\r\n\r\nhello\r\n"
)
SIGNED = MESSAGE.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n")


def dns() -> TableResolver:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    return resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))


def processed(*recipients: str, text: str = HIDE, raw: bytes = MESSAGE) -> tuple[Session, Outcome]:
    session = make_session(raw, recipients)
    return session, pipeline.process(session, make_ports(dns()), parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "off"),
        (HIDE, "hide"),
        ('[[rule]]\nrecipient = "hugh@*"\nprotect_headers = "copy"\n', "copy"),
        (HIDE + '[[rule]]\nrecipient = "hugh@*"\nprotect_headers = "off"\n', "off"),
        (HIDE + '[[rule]]\nrecipient = "hugh@*"\nno_key = "refuse"\n', "hide"),
        (HIDE + '[[rule]]\nrecipient = "pia@*"\nprotect_headers = "copy"\n', "hide"),
    ],
)
def test_the_first_rule_that_matches_has_the_last_word(text: str, expected: str) -> None:
    _, outcome = processed(HUGH, text=text)
    assert outcome.decisions[0].style.protect_headers == expected
    assert outcome.copies[0].protection.asked == expected


@pytest.mark.parametrize("text", ['[headers]\nprotect = "all"', '[[rule]]\nuser = "x"\nprotect_headers = "all"'])
def test_other_words_are_faults(text: str) -> None:
    with pytest.raises(ConfigError, match=r"one of.*off, copy, hide"):
        parse(text)


def test_both_formats_hide_and_what_stays_plain_does_not() -> None:
    _, outcome = processed(HUGH, PIA, ZOE)
    made = {copy.form: copy for copy in outcome.copies}
    for form in (CopyForm.SMIME, CopyForm.OPENPGP):
        assert made[form].protection.hidden == ("Subject", "Keywords")
        assert dict(made[form].rewrite.added)["Subject"] == "[...]"
        assert {2, 3} <= set(made[form].rewrite.removed)
    assert made[CopyForm.PLAIN].rewrite.removed == ()
    assert made[CopyForm.PLAIN].rewrite.added == ()
    assert made[CopyForm.PLAIN].protection.asked == "off"


def test_copies_that_are_handed_over_anew_have_the_hidden_subject_only() -> None:
    session, outcome = processed(HUGH, PIA)
    for copy in outcome.copies:
        raw = b"".join(attempt(session)._octets(copy))
        assert b"secret" not in raw
        assert raw.count(b"\r\nSubject: [...]\r\n") == 1
        assert b"\r\nTo: hugh@example.org, pia@example.org\r\n" in raw


def attempt(session: Session) -> reinject.Attempt:
    return reinject.Attempt(session, replace(make_ports(), clock=StillClock(NOW)), lambda: None)


@pytest.mark.parametrize(("how", "is_shown"), [("off", True), ("copy", True), ("hide", False)])
def test_notification_hides_what_the_copy_would_have_hidden(how: str, is_shown: bool) -> None:
    bounced = replace(decision(ZOE, Action.REFUSE), style=Style(protect_headers=how))
    raw = b"".join(attempt(make_session(MESSAGE, [ZOE]))._notification([bounced], reply.why).octets())
    assert (b"Subject: a secret" in raw, b"Keywords: secret" in raw) == (is_shown, is_shown)
    assert (b"\r\nSubject: [...]\r\n" in raw) is not is_shown


def test_notification_hides_what_any_copy_hides() -> None:
    note = attempt(make_session(MESSAGE, [ZOE]))._notification([decision(ZOE, Action.REFUSE)], reply.why, hide=True)
    assert b"secret" not in b"".join(note.octets())


def test_failing_decision_knows_what_would_have_been_hidden() -> None:
    _, outcome = processed(ZOE, text=HIDE + '[policy]\nno_key = "refuse"\n')
    assert [d.style.protect_headers for d in outcome.decisions] == ["hide"]


def test_a_retry_is_known_again_whatever_is_hidden() -> None:
    session, _ = processed(HUGH, PIA)
    before = reinject.fingerprint(session)
    _, again = processed(HUGH, PIA, text="")
    assert again.copies
    assert reinject.fingerprint(session).quick == before.quick


# --- told -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    level: int
    name: str
    fields: dict[str, Any]


class Keeper:
    """Where log lines go."""

    level = logging.DEBUG

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, level: int, event: str, _queue_id: str, fields: dict[str, Any]) -> None:
        self.events.append(Event(level, event, fields))


def events(
    session: Session, outcome: Outcome, *, observed: bool = False, answer: reply.Reply | None = None
) -> list[Event]:
    keeper = Keeper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_output", keeper)
        said = answer or reply.for_outcome(outcome, "reinject", observe=False)
        report.message(session, report.Result(outcome, said, (), observed, 1))
    return keeper.events


@pytest.mark.parametrize(("how", "level"), [("copy", logging.INFO), ("hide", logging.WARNING)])
def test_log_says_for_whom_header_fields_could_not_be_protected(how: str, level: int) -> None:
    session, outcome = processed(HUGH, PIA, ZOE, text=f'[headers]\nprotect = "{how}"\n', raw=SIGNED)
    bare = [record for record in events(session, outcome) if record.name == "headers-bare"]
    assert [record.fields for record in bare] == [
        {"rcpt": name, "protect": how, "reason": "signed"} for name in (HUGH, PIA)
    ]
    assert {record.level for record in bare} == {level}
    (seen, *_) = [r for r in events(session, outcome, observed=True) if r.name == "headers-bare"]
    assert seen.fields["observe"] == "true"


def test_log_says_nothing_of_it_where_all_is_well_or_nothing_was_sent() -> None:
    names = [record.name for record in events(*processed(HUGH, ZOE))]
    assert "encrypted" in names
    assert "headers-bare" not in names
    session, outcome = processed(HUGH, PIA, raw=SIGNED)
    deferred = [record.name for record in events(session, outcome, answer=reply.HANDOVER)]
    assert "headers-bare" not in deferred


def test_explain_tells_what_stands_where() -> None:
    copy = processed(HUGH)[1].copies[0]
    assert list(story._protection_in_words(copy)) == [
        "  header fields inside, too: From, To, Subject, Keywords",
        "  hidden outside: Subject, Keywords",
    ]
    assert list(story._protection_in_words(processed(HUGH, text="")[1].copies[0])) == []
    assert list(story._protection_in_words(processed(HUGH, text=HIDE.replace("hide", "copy"))[1].copies[0]))[1] == (
        "  hidden outside: none"
    )


def test_style_of_a_copy_is_that_of_all_who_share_it() -> None:
    rule = '[[rule]]\nrecipient = "hugh@*"\nprotect_headers = "hide"\n'
    resolver = dns().publish("dana@example.org", "smimea", "secure", smimea("dana.crt"))
    raw = MESSAGE.replace(b"pia@", b"dana@")
    outcome = pipeline.process(make_session(raw, [HUGH, "dana@example.org"]), make_ports(resolver), parse(rule))
    shared: list[Copy] = list(outcome.copies)
    assert [(copy.recipients[0].shown, copy.protection.asked) for copy in shared] == [
        (HUGH, "hide"),
        ("dana@example.org", "off"),
    ]
