"""What becomes of a message in the relay: who gets what, who is told what, and what is remembered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from smilla import pipeline
from smilla.adapters.journal import SQLiteJournal
from smilla.answer import reply
from smilla.config import Config, parse
from smilla.errors import JournalError
from smilla.pipeline import Handled
from smilla.ports import Ports
from smilla.server import relayed
from smilla.session import Session
from tests.unit.listener import Listener
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
CANARY = b"Kanarienvogel"
RAW = (
    b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org, zoe@example.org\r\nSubject: hello\r\n"
    b"Message-ID: <1@sender.example>\r\n\r\n" + CANARY + b"\r\n"
)


@dataclass
class Lab:
    """The next hop, and the journal in a folder."""

    folder: Path
    resolver: TableResolver
    mailer: Listener = field(default_factory=Listener)
    policy: str = ""

    @property
    def config(self) -> Config:
        return parse(f"[policy]\n{self.policy}\n").relaying()

    @property
    def ports(self) -> Ports:
        journal = SQLiteJournal(str(self.folder / "spool"), 1000)
        return replace(make_ports(self.resolver), journal=journal, mailer=self.mailer)

    def session(self, *to: str, raw: bytes = RAW, **more: Any) -> Session:
        return make_session(raw, to, **more)

    def handle(self, *to: str, config: Config | None = None, **more: Any) -> Handled:
        """As over SMTP; the client then hears the answer, if it is a final one."""
        handled = relayed.handle(self.session(*to, **more), self.ports, config or self.config)
        if handled.finish is not None:
            handled.finish()
        return handled

    def each(self, *to: str, config: Config | None = None, **more: Any) -> list[str]:
        """As over LMTP: the codes."""
        session = self.session(*to, **more)
        session.answers_each = True
        replies, finish = relayed.handle_each(session, self.ports, config or self.config, 0.0)
        if finish is not None:
            finish()
        assert not any(CANARY.decode() in answer.text for answer in replies)
        return [answer.code for answer in replies]

    def forms(self) -> dict[str, str]:
        return {name: "plain" if CANARY in octets else "encrypted" for name, octets in self.mailer.copies().items()}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    resolver = TableResolver()
    resolver.publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    return Lab(tmp_path, resolver)


ALL = {HUGH: "encrypted", PIA: "encrypted", ZOE: "plain"}


def test_every_copy_is_handed_over_and_none_stays(lab: Lab) -> None:
    assert lab.handle(HUGH, PIA, ZOE).given_reply == reply.ALL_TAKEN
    assert lab.forms() == ALL
    lab.mailer.sent.clear()
    assert lab.each(HUGH, PIA, ZOE) == ["250", "250", "250"]
    assert lab.forms() == ALL


@pytest.mark.parametrize("action", ["hold", "secure-hop"])
def test_what_only_the_filter_can_do_leaves_the_message_with_the_client(lab: Lab, action: str) -> None:
    """No configuration with a next hop has such an action; if one did, nothing would leave in the clear."""
    config = lab.config
    config = replace(config, policy=replace(config.policy, no_key=action))
    assert lab.handle(ZOE, config=config).given_reply.code == "451"
    assert lab.handle(HUGH, ZOE, config=config).given_reply.code == "451"
    assert lab.mailer.sent == []
    assert lab.each(ZOE, config=config) == ["451"]
    assert lab.each(HUGH, ZOE, config=config) == ["250", "451"]
    assert lab.forms() == {HUGH: "encrypted"}


def test_lost_connection_after_the_dot_is_told_and_the_copy_is_sent_again(lab: Lab) -> None:
    lab.mailer.loses = True
    assert lab.handle(HUGH).given_reply == reply.HANDOVER
    lab.mailer.loses = False
    lab.mailer.sent.clear()
    assert lab.handle(HUGH).given_reply == reply.ALL_TAKEN
    assert lab.forms() == {HUGH: "encrypted"}


@pytest.mark.parametrize(
    ("refuses", "code", "text"),
    [
        ({PIA: "450 4.2.1 later"}, "451", "Not all copies"),
        (
            {PIA: "550 5.1.1 never"},
            "550",
            f"<{PIA}>: The copy was refused: 550 5.1.1 never; all others have their copy",
        ),
        ({PIA: "552 5.3.4 large"}, "552", f"<{PIA}>: The message is too large once it is encrypted; all others have"),
        ({PIA: "550 5.1.1 never", ZOE: "450 4.2.1 later"}, "451", "Not all copies"),
        ({PIA: "550 5.1.1 never", ZOE: "550 5.1.1 no"}, "550", f"<{PIA}> (and 1 more): "),
        (dict.fromkeys((HUGH, PIA, ZOE), "552 5.3.4 large"), "552", "The message is too large once it is encrypted"),
    ],
)
def test_one_answer_says_the_worst_that_may_still_change(
    lab: Lab, refuses: dict[str, str], code: str, text: str
) -> None:
    lab.mailer.refuses = refuses
    answer = lab.handle(HUGH, PIA, ZOE).given_reply
    assert answer.code == code
    assert text in answer.text
    assert ("all others" in answer.text) is (code.startswith("5") and len(refuses) < 3)


def test_after_a_final_refusal_nothing_is_remembered_and_after_4yz_all_is(lab: Lab) -> None:
    lab.mailer.refuses = {PIA: "450 4.2.1 later"}
    assert lab.handle(HUGH, PIA).given_reply.code == "451"
    lab.mailer.refuses = {PIA: "550 5.1.1 never"}
    assert lab.handle(HUGH, PIA).given_reply.code == "550"
    assert lab.forms() == {HUGH: "encrypted"}  # one copy, over both attempts
    lab.mailer.refuses, lab.mailer.sent = {}, []
    assert lab.handle(HUGH, PIA).given_reply.code == "250"  # it was sent once more
    assert set(lab.forms()) == {HUGH, PIA}


def test_over_lmtp_only_who_was_told_4yz_is_remembered(lab: Lab) -> None:
    lab.mailer.refuses = {PIA: "450 4.2.1 later", ZOE: "550 5.1.1 never"}
    assert lab.each(HUGH, PIA, ZOE) == ["250", "451", "550"]
    lab.mailer.refuses = {}
    assert lab.each(PIA) == ["250"]
    assert set(lab.forms()) == {HUGH, PIA}
    lab.mailer.sent.clear()
    assert lab.each(HUGH, PIA, ZOE) == ["250", "250", "250"]
    assert lab.forms() == ALL


def test_over_lmtp_a_mailbox_named_twice_is_owed_if_either_answer_says_so(lab: Lab) -> None:
    lab.mailer.refuses = {PIA: "450 4.2.1 later"}
    assert lab.each(PIA, HUGH, PIA) == ["451", "250", "451"]
    lab.mailer.refuses = {}
    assert lab.each(PIA, PIA) == ["250", "250"]
    assert set(lab.forms()) == {HUGH, PIA}


@pytest.mark.parametrize("policy", ['no_key = "refuse"', 'no_key = "defer"'])
def test_who_may_not_get_plaintext_holds_up_the_others_over_smtp_only(lab: Lab, policy: str) -> None:
    lab.policy = policy
    code = "550" if "refuse" in policy else "451"
    assert lab.handle(HUGH, ZOE).given_reply.code == code
    assert lab.mailer.sent == []
    assert lab.each(HUGH, ZOE) == ["250", code]
    assert lab.forms() == {HUGH: "encrypted"}


def test_one_fails_bounce_tells_the_sender_of_both_kinds_of_failure(lab: Lab) -> None:
    lab.policy = 'one_fails = "bounce"\nno_key = "refuse"'
    assert lab.handle(HUGH, ZOE).given_reply == reply.ALL_TAKEN
    note = lab.mailer.copies()["sam@sender.example"]
    assert b"could not be encrypted" in note
    lab.policy = 'one_fails = "bounce"'
    lab.mailer.sent.clear()
    lab.mailer.refuses = {PIA: "550 5.7.1 never"}
    assert lab.handle(HUGH, PIA, raw=RAW.replace(b"<1@", b"<2@")).given_reply == reply.ALL_TAKEN
    note = lab.mailer.copies()["sam@sender.example"]
    assert b"Status: 5.7.1\r\n" in note
    assert b"Subject: Undelivered mail: a recipient was refused\r\n" in note
    assert CANARY not in note


@pytest.mark.parametrize("refuses", [{PIA: "450 4.2.1 later"}, {PIA: "550 5.1.1 no", ZOE: "450 4.2.1 later"}])
def test_sender_is_told_of_nobody_who_may_still_get_a_copy(lab: Lab, refuses: dict[str, str]) -> None:
    lab.policy = 'one_fails = "bounce"'
    lab.mailer.refuses = refuses
    assert lab.handle(HUGH, PIA, ZOE).given_reply == reply.HANDOVER
    assert "sam@sender.example" not in lab.mailer.copies()


def test_sender_whose_notification_is_refused_is_not_told_over_and_over(lab: Lab) -> None:
    lab.policy = 'one_fails = "bounce"\nno_key = "refuse"'
    lab.mailer.refuses = {"sam@sender.example": "550 5.1.1 no such sender"}
    answer = lab.handle(HUGH, ZOE).given_reply
    assert (answer.code, f"<{ZOE}>" in answer.text) == ("550", True)
    assert set(lab.forms()) == {HUGH}


def test_observing_hands_the_message_over_as_it_came_whatever_was_decided(lab: Lab) -> None:
    config = replace(lab.config, observe=True, policy=replace(lab.config.policy, no_key="refuse"))
    handled = lab.handle(HUGH, ZOE, config=config)
    assert (handled.given_reply, handled.decided_reply.code) == (reply.ALL_TAKEN, "550")
    assert lab.forms() == {HUGH: "plain", ZOE: "plain"}
    assert all(octets.endswith(RAW) for octets in lab.mailer.copies().values())
    lab.mailer.sent.clear()
    lab.mailer.refuses = {ZOE: "450 4.2.1 later"}
    assert lab.each(HUGH, ZOE, config=config) == ["250", "451"]


def test_what_could_not_be_judged_while_observing_is_handed_over_once(lab: Lab) -> None:
    lab.mailer.refuses = {ZOE: "450 4.2.1 later"}
    assert relayed.unjudged(lab.session(HUGH, ZOE), lab.ports) == reply.HANDOVER
    lab.mailer.refuses = {}
    assert relayed.unjudged(lab.session(HUGH, ZOE), lab.ports) == reply.ALL_TAKEN
    assert set(lab.forms()) == {HUGH, ZOE}


@pytest.mark.parametrize("handle", [Lab.handle, Lab.each])
def test_without_a_journal_nothing_leaves(lab: Lab, handle: Any) -> None:
    (lab.folder / "spool").write_text("no folder")
    with pytest.raises(JournalError):
        handle(lab, HUGH)
    assert lab.mailer.sent == []


def test_nobody_is_served_without_a_copy_that_serves_them(lab: Lab) -> None:
    """If a decision had no copy for a reason that nobody foresees, it would be owed, not forgotten."""
    session = lab.session(HUGH)
    session.answers_each = True
    outcome = pipeline.process(session, lab.ports, lab.config)
    [(answer, (action, _))] = relayed._answers(replace(outcome, copies=()), {})
    assert (answer, action.value) == (reply.INTERNAL, "defer")
