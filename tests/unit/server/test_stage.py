"""The stage: who gets what of a sealed message, and who gets nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from smilla import log, pipeline
from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.seal_keys import SealKeys
from smilla.answer import reply
from smilla.answer.reply import SEAL_KEY, Reply
from smilla.config import Config, parse
from smilla.errors import JournalError
from smilla.handover import seal
from smilla.message import MemoryBody
from smilla.message import parse as parse_message
from smilla.model import Action, Client, Decision, Direction, Message
from smilla.ports import Ports
from smilla.server import stage
from smilla.server.handed import Handed
from smilla.session import Session, parsed_recipient
from tests.unit.listener import Listener
from tests.vectors.memory import (
    NOW,
    StillClock,
    TableHops,
    TableResolver,
    make_ports,
    make_session,
    no_hop,
    raw_key,
    smimea,
    verified_hop,
)

HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"
CANARY = b"Kanarienvogel"
RAW = (
    b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org, zoe@example.org\r\nSubject: hello\r\n"
    b"Message-ID: <1@sender.example>\r\n\r\n" + CANARY + b"\r\n"
)
RECEIVED = b"Received: from c (c [192.0.2.1])\r\n\tby mx.example (Postfix) with ESMTPSA id %s;\r\n\t%s\r\n"
DATE = b"Fri, 20 Nov 2026 11:59:00 +0000"


@dataclass
class Lab:
    """A filter that has sealed a message, and the stage."""

    folder: Path
    resolver: TableResolver
    mailer: Listener = field(default_factory=Listener)
    secure_mailer: Listener = field(default_factory=Listener)
    hops: TableHops | None = None
    problem: str = ""
    config: Config = field(default_factory=lambda: parse('[policy]\nmixed = "stage"\n'))

    def __post_init__(self) -> None:
        self.keys = SealKeys(str(self.folder / "seal"))
        self.keys.prepare("", 90)
        self.clock = StillClock(NOW)

    @property
    def journal(self) -> SQLiteJournal:
        return SQLiteJournal(str(self.folder / "spool"), 1000)

    @property
    def ports(self) -> Ports:
        ports = replace(make_ports(self.resolver), clock=self.clock, hops=self.hops, seal_keys=self.keys)
        ports = replace(ports, stage_problem=lambda: self.problem)
        return replace(ports, journal=self.journal, mailer=self.mailer, secure_mailer=self.secure_mailer)

    def sealed(
        self,
        *to: str,
        raw: bytes = RAW,
        parameters: tuple[str, ...] = ("RET=FULL", "ENVID=x"),
        served: Collection[str] = (),
        original: str = "",
    ) -> bytes:
        """What lies in the queue after the filter; ``served`` had a copy before, ``original`` is the ORCPT of all."""
        session = Session(Client("127.0.0.1"), "<sam@sender.example>", parameters, self.config.completion)
        session.queue_id = "4XyZ"
        for address in to:
            session.recipient(f"<{address}>", (f"ORCPT=rfc822;{original}",) if original else ())
        session.take(parse_message(raw).message)
        decided = pipeline.process(session, replace(make_ports(self.resolver), hops=self.hops), self.config).decisions
        decisions = [replace(d, action=Action.DONE) if d.recipient.raw.strip("<>") in served else d for d in decided]
        facts = seal.facts(session.envelope, decisions, "4XyZ", session.client, Direction.OUTBOUND)
        rewrite = seal.rewrite(session.message, facts, self.keys.current())
        kept = [h.raw for i, h in enumerate(session.message.headers) if i not in rewrite.removed]
        added = [f"{name}: {value}\r\n".encode() for name, value in rewrite.added]
        assert rewrite.body is not None
        return RECEIVED % (b"4XyZ", DATE) + b"".join([*kept, *added, b"\r\n", *rewrite.body()])

    def deliver(
        self, raw: bytes, *to: str | tuple[str, str], sender: str = "sam@sender.example", ident: str = "4XyZ"
    ) -> list[str]:
        """Hands a message to the stage; a pair is a recipient and its original one.  The codes of the answers."""
        recipients = []
        for name in to:
            address, original = (name, "") if isinstance(name, str) else name
            parameters = (f"ORCPT=rfc822;{original}",) if original else ()
            recipients.append(parsed_recipient(f"<{address}>", parameters, self.config.completion))
        head, _, body = raw.partition(b"\r\n\r\n")
        message = Message(parse_message(head + b"\r\n\r\n").message.headers, MemoryBody([body]))
        answers = stage.deliver(Handed(sender, tuple(recipients), message, ident), self.ports, self.config)
        return [self.told(answer) for answer in answers]

    @staticmethod
    def told(answer: Reply) -> str:
        assert CANARY.decode() not in answer.text
        return answer.code


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    resolver = TableResolver()
    resolver.publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    return Lab(tmp_path, resolver)


def forms(copies: dict[str, bytes]) -> dict[str, str]:
    def form(octets: bytes) -> str:
        if b"application/pkcs7-mime" in octets:
            return "smime"
        return "openpgp" if b"application/pgp-encrypted" in octets else "plain"

    return {name: form(octets) for name, octets in copies.items()}


def test_each_gets_their_form_once_and_the_sealed_message_shows_nothing(lab: Lab) -> None:
    raw = lab.sealed(HUGH, PIA, ZOE)
    assert CANARY not in raw
    assert lab.deliver(raw, HUGH, PIA, ZOE) == ["250", "250", "250"]
    copies = lab.mailer.copies()
    assert forms(copies) == {HUGH: "smime", PIA: "openpgp", ZOE: "plain"}
    assert [CANARY in copies[name] for name in (HUGH, PIA, ZOE)] == [False, False, True]
    for octets in copies.values():
        assert b"X-Smilla-Stage" not in octets
        assert octets.count(b"Subject: hello") == 1
        assert b"id 4XyZ" in octets


def test_copy_in_the_clear_brings_back_its_header_fields_alone(lab: Lab) -> None:
    lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE)
    told = {s.recipients[0].raw.strip("<>"): s.parameters for s, _ in lab.mailer.sent}
    assert told == {HUGH: ("RET=FULL", "ENVID=x"), ZOE: ("ENVID=x", "RET=HDRS")}


def test_who_had_a_copy_before_the_message_was_sealed_gets_none(lab: Lab) -> None:
    """Nor does anybody to whom an alias leads that had it; the others get theirs."""
    raw = lab.sealed(HUGH, PIA, "team@example.org", served=(HUGH, "team@example.org"))
    led = ("zoe@example.org", "team@example.org")
    assert lab.deliver(raw, HUGH, PIA, led) == ["250", "250", "250"]
    assert forms(lab.mailer.copies()) == {PIA: "openpgp"}
    assert lab.deliver(raw, HUGH) == ["250"]
    assert len(lab.mailer.sent) == 1


def test_retry_serves_only_who_is_owed_a_copy(lab: Lab) -> None:
    raw = lab.sealed(HUGH, PIA, ZOE)
    lab.mailer.refuses = {PIA: "451 4.3.0 later", ZOE: "550 5.1.1 nobody"}
    assert lab.deliver(raw, HUGH, PIA, ZOE) == ["250", "451", "550"]
    lab.mailer.refuses = {}
    assert lab.deliver(raw, HUGH, PIA) == ["250", "250"]
    assert set(lab.mailer.copies()) == {HUGH, PIA}


def test_what_the_listener_says_of_all_copies_refuses_none_for_good(lab: Lab) -> None:
    raw, lab.mailer.fails = lab.sealed(HUGH, ZOE), "550 5.7.1 no such sender"
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    lab.mailer.fails = ""
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]


def test_listener_that_is_away_owes_all(lab: Lab) -> None:
    raw, lab.mailer.is_away = lab.sealed(HUGH, ZOE), True
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    lab.mailer.is_away = False
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert set(lab.mailer.copies()) == {HUGH, ZOE}


def test_two_messages_that_look_alike_are_two(lab: Lab) -> None:
    for _ in range(2):
        assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE) == ["250", "250"]
    assert len(lab.mailer.sent) == 4


def test_key_that_has_gone_since_is_waited_for_and_never_made_plaintext(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    lab.resolver.table.clear()
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "250"]
    assert set(lab.mailer.copies()) == {ZOE}


def test_who_was_not_sealed_gets_ciphertext_or_nothing(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    assert lab.deliver(raw, HUGH, "mallory@there.test") == ["250", "550"]
    assert lab.deliver(raw, PIA) == ["250"]
    assert forms(lab.mailer.copies()) == {HUGH: "smime", PIA: "openpgp"}


@pytest.mark.parametrize(
    ("original", "codes", "form"),
    [(HUGH, ["250", "250"], "smime"), (ZOE, ["250", "250"], "plain"), ("nobody@x.test", ["550", "250"], "")],
)
def test_alias_is_served_as_its_original_address(lab: Lab, original: str, codes: list[str], form: str) -> None:
    raw = lab.sealed(HUGH, PIA, ZOE)
    assert lab.deliver(raw, ("box@inside.test", original), PIA) == codes
    assert forms(lab.mailer.copies()).get("box@inside.test", "") == form


def test_expansion_with_a_key_of_its_own_is_encrypted_to_where_the_alias_has_none(lab: Lab) -> None:
    assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, (PIA, ZOE)) == ["250", "250"]
    assert forms(lab.mailer.copies()) == {HUGH: "smime", PIA: "openpgp"}


def test_expansion_without_a_key_is_never_plain_where_the_rule_of_the_alias_wants_encryption(lab: Lab) -> None:
    text = '[policy]\nmixed = "stage"\none_fails = "bounce"\n[[rule]]\nrecipient = "zoe@*"\nencrypt = "require"\n'
    lab.config = parse(text)
    raw = lab.sealed(HUGH, ZOE)
    assert lab.deliver(raw, HUGH, ("box@inside.test", ZOE)) == ["250", "550"]
    assert set(lab.mailer.copies()) == {HUGH}


@pytest.mark.parametrize(
    "change",
    [
        {"sender": ""},
        {"ident": "4XyQ"},
        {"ident": "4XyQ", "sender": "eve@sender.example"},
    ],
)
def test_seal_opens_neither_for_the_null_sender_nor_at_another_hop(lab: Lab, change: dict[str, str]) -> None:
    raw = lab.sealed(HUGH, ZOE)
    if "ident" in change:
        raw = raw.replace(b"id 4XyZ", b"id 4XyQ")
    assert lab.deliver(raw, HUGH, ZOE, **change) == ["451", "451"]
    assert lab.mailer.sent == []


def test_sender_that_this_hop_rewrote_is_that_of_the_copies(lab: Lab) -> None:
    assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE, sender="new@sender.example") == ["250", "250"]
    assert {submission.sender for submission, _ in lab.mailer.sent} == {"new@sender.example"}


def test_requeue_changes_the_queue_id_and_the_seal_still_opens(lab: Lab) -> None:
    raw = b"Received: by mx.example (Postfix, from userid 101)\r\n\tid 4NeW; " + DATE + b"\r\n" + lab.sealed(HUGH, ZOE)
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]


def test_hop_is_known_by_received_where_the_client_has_set_ident(lab: Lab) -> None:
    assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE, ident="theirs") == ["250", "250"]


@pytest.mark.parametrize("change", ["mark", "body", "none", "other-message"])
def test_what_is_not_what_was_sealed_is_kept_a_day_and_then_refused(lab: Lab, change: str) -> None:
    raw = lab.sealed(HUGH, ZOE)
    if change == "mark":
        raw = raw.replace(b"X-Smilla-Stage: ", b"X-Smilla-Stage: 0")
    elif change == "none":
        raw = RECEIVED % (b"4XyZ", DATE) + RAW
    elif change == "body":
        at = raw.index(b"sealed.smilla\r\n\r\n") + 300
        raw = raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
    else:
        mark = raw[raw.index(b"X-Smilla-Stage: ") :][:48]
        raw = lab.sealed(HUGH, ZOE).replace(mark, mark)
        own = raw[raw.index(b"X-Smilla-Stage: ") :][:48]
        raw = raw.replace(own, mark)
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    lab.clock = StillClock(NOW + timedelta(days=2))
    assert lab.deliver(raw, HUGH, ZOE) == ["550", "550"]
    assert lab.mailer.sent == []


def test_lost_key_keeps_the_mail(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    (stored,) = lab.keys.all()
    octets = stored.path.read_bytes()
    stored.path.unlink()
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    stored.path.write_bytes(octets)
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]


def test_what_came_after_the_seal_stays_but_for_signatures_over_it(lab: Lab) -> None:
    later = b"DKIM-Signature: v=1; d=x\r\nX-Virus-Scanned: yes\r\nSubject: [SPAM] hello\r\nARC-Seal: i=1\r\n"
    lab.deliver(later + lab.sealed(HUGH, ZOE), ZOE, ident="4XyZ")
    (octets,) = lab.mailer.copies().values()
    assert b"X-Virus-Scanned: yes\r\n" in octets
    assert not any(name in octets for name in (b"DKIM-Signature", b"ARC-Seal", b"[SPAM]"))


def test_forged_mark_is_refused_in_the_dialogue(lab: Lab) -> None:
    session = Session(Client("192.0.2.1"), "<eve@x.test>")
    session.recipient(f"<{HUGH}>")
    session.take(parse_message(b"X-Smilla-Stage: " + b"0" * 32 + b" " + b"1" * 16 + b"\r\n" + RAW).message)
    _, (decision,) = pipeline.judge(session, make_ports(lab.resolver), lab.config)
    assert (decision.action, decision.reason.code) == (Action.REFUSE, "forged_mark")


def test_message_whose_copies_are_all_out_is_finished_and_stays_known(lab: Lab) -> None:
    raw = lab.sealed(HUGH, PIA, ZOE)
    lab.mailer.refuses = {PIA: "451 4.3.0 later"}
    assert lab.deliver(raw, HUGH, PIA, ZOE) == ["250", "451", "250"]
    (entry,) = lab.journal.summary().unfinished
    assert (entry.owed, entry.accepted) == (1, 2)
    lab.mailer.refuses = {}
    assert lab.deliver(raw, PIA) == ["250"]
    assert (lab.journal.summary().unfinished, lab.journal.summary().remembered) == ((), 1)
    # The MTA did not hear of it, and hands all of it over once more.
    assert lab.deliver(raw, HUGH, PIA, ZOE) == ["250"] * 3
    assert set(lab.mailer.copies()) == {HUGH, PIA, ZOE}
    assert (lab.journal.summary().unfinished, lab.journal.summary().remembered) == ((), 1)


def test_journal_that_fails_once_the_copies_are_out_owes_nobody_a_second_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(_: object) -> None:
        raise JournalError("the disk is gone")

    raw = lab.sealed(HUGH, ZOE)
    monkeypatch.setattr("smilla.adapters.journal.SQLiteJournalEntry.finish", finish)
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert set(lab.mailer.copies()) == {HUGH, ZOE}


def noted(lab: Lab) -> list[tuple[int, int, str | None]]:
    """Of each unfinished message: owed, accepted, last answer."""
    found = lab.journal.summary().unfinished
    assert all(entry.queue_id == "4XyZ" and "example" not in repr(entry) for entry in found)
    return [(entry.owed, entry.accepted, entry.answer) for entry in found]


def test_journal_tells_of_a_message_of_which_no_copy_was_accepted(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    lab.mailer.is_away = True
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    assert noted(lab) == [(2, 0, "451 4.3.0 reinject")]
    (entry,) = lab.journal.summary().unfinished
    mark = seal.mark(parse_message(raw).message.headers)
    assert mark is not None
    assert (entry.message_id, entry.sealed_at) == (mark.raw_message_id.hex(), NOW.timestamp() - 60)
    lab.mailer.is_away = False
    assert lab.deliver(raw, HUGH) == ["250"]
    assert noted(lab)[0][:2] == (1, 1), "zoe is owed by another transaction"
    assert lab.deliver(raw, ZOE) == ["250"]
    assert noted(lab) == []


def test_journal_tells_of_a_message_whose_key_is_missing(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    key = next((lab.folder / "seal").glob("*.key"))
    away = key.rename(lab.folder / "away")
    lab.keys = SealKeys(str(lab.folder / "seal"))
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "451"]
    assert noted(lab) == [(2, 0, "451 seal-key-missing")]
    away.rename(key)
    lab.keys = SealKeys(str(lab.folder / "seal"))
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert noted(lab) == []


def test_who_is_refused_for_good_is_owed_nothing_any_more(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    lab.mailer.refuses = {ZOE: "451 4.2.0 later"}
    assert lab.deliver(raw, HUGH, ZOE) == ["250", "451"]
    assert noted(lab) == [(1, 1, "451 4.3.0 reinject")]
    lab.mailer.refuses = {ZOE: "550 5.1.1 nobody"}
    assert lab.deliver(raw, ZOE) == ["550"]
    assert noted(lab) == []


def test_message_that_is_taken_at_once_costs_no_note(lab: Lab) -> None:
    assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE) == ["250", "250"]
    assert noted(lab) == []
    with closing(sqlite3.connect(lab.folder / "spool/journal.sqlite3")) as database:
        assert not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchall()


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


@pytest.mark.parametrize("status", ["bogus", "unreachable"])
def test_who_had_a_key_is_owed_their_copy_while_nobody_can_tell(lab: Lab, status: str) -> None:
    raw = lab.sealed(HUGH, ZOE)
    lab.resolver.publish(HUGH, "smimea", status)
    assert lab.deliver(raw, HUGH, ZOE) == ["451", "250"]
    assert set(lab.mailer.copies()) == {ZOE}


def test_who_failed_when_it_was_sealed_is_refused_while_they_fail_and_served_once_they_do_not(lab: Lab) -> None:
    lab.config = parse('[policy]\nmixed = "stage"\none_fails = "bounce"\n')
    lab.resolver.publish(PIA, "openpgpkey", "bogus")
    raw = lab.sealed(HUGH, PIA)
    assert lab.deliver(raw, HUGH, PIA) == ["250", "550"]
    lab.resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    assert lab.deliver(raw, PIA) == ["250"]
    assert forms(lab.mailer.copies()) == {HUGH: "smime", PIA: "openpgp"}


@pytest.mark.parametrize("parameter", [f"ORCPT=x400;{ZOE}", f"XORCPT=rfc822;{ZOE}", f"ORCPT={ZOE}"])
def test_only_orcpt_of_a_mail_address_names_the_original_recipient(lab: Lab, parameter: str) -> None:
    raw = lab.sealed(HUGH, ZOE)
    head, _, body = raw.partition(b"\r\n\r\n")
    message = Message(parse_message(head + b"\r\n\r\n").message.headers, MemoryBody([body]))
    recipient = parsed_recipient("<box@inside.test>", (parameter,), lab.config.completion)
    (answer,) = stage.deliver(Handed("sam@sender.example", (recipient,), message, "4XyZ"), lab.ports, lab.config)
    assert (answer.code, lab.mailer.sent) == ("550", [])


def test_own_address_goes_before_an_alias_that_leads_to_it(lab: Lab) -> None:
    lab.config = parse('[policy]\nmixed = "stage"\n[[rule]]\nrecipient = "pia@*"\nencrypt = "never"\n')
    raw = lab.sealed(HUGH, PIA)
    assert lab.deliver(raw, (PIA, HUGH), PIA) == ["250", "250"]
    assert forms(lab.mailer.copies()) == {PIA: "plain"}


def test_log_says_which_message_was_not_opened_and_why(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "seal_broken", lambda queue_id, text, **_: told.append((queue_id, text)))
    raw = lab.sealed(HUGH).replace(b"id 4XyZ", b"id 4XyQ")
    assert lab.deliver(raw, HUGH, ident="4XyP") == ["451"]
    assert lab.deliver(raw, HUGH, ident="") == ["451"]
    words = "it was sealed as 4XyZ, and comes as 4Xy"
    assert told == [("4XyP", f"{words}P and 4XyQ"), ("4XyQ", f"{words}Q")]


def test_log_says_of_each_recipient_what_became_of_their_copy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, tuple[Action, bool]] = {}

    def decided(queue_id: str, decision: Decision, outcome: tuple[Action, object], *, observed: bool, via: str) -> None:
        told[decision.recipient.raw.strip("<>")] = (outcome[0], observed)
        assert (queue_id, via) == ("4XyZ", "stage")

    monkeypatch.setattr(log, "recipient_decided", decided)
    lab.mailer.refuses = {PIA: "451 4.3.0 later", ZOE: "550 5.1.1 nobody"}
    assert lab.deliver(lab.sealed(HUGH, PIA, ZOE), HUGH, PIA, ZOE) == ["250", "451", "550"]
    assert told == {HUGH: (Action.ENCRYPT, False), PIA: (Action.DEFER, False), ZOE: (Action.REFUSE, False)}


def test_message_with_a_mark_is_owed_where_there_are_no_seal_keys_and_the_log_says_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(log, "seal_key_missing", lambda queue_id, _: told.append(queue_id))
    raw = lab.sealed(HUGH)
    head, _, body = raw.partition(b"\r\n\r\n")
    message = Message(parse_message(head + b"\r\n\r\n").message.headers, MemoryBody([body]))
    handed = Handed("sam@sender.example", (parsed_recipient(f"<{HUGH}>", (), lab.config.completion),), message, "4XyZ")
    assert stage.deliver(handed, replace(lab.ports, seal_keys=None), lab.config) == (SEAL_KEY,)
    assert told == ["4XyZ"]


def test_journal_that_cannot_be_read_owes_all_and_the_log_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(*_: object) -> bool:
        raise JournalError("the disk is gone")

    told: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "journal_failed", lambda text, queue_id: told.append((queue_id, text)))
    monkeypatch.setattr(SQLiteJournal, "is_there", lambda _: True)
    monkeypatch.setattr(SQLiteJournal, "known", known)
    assert lab.deliver(lab.sealed(HUGH, ZOE), HUGH, ZOE) == ["451", "451"]
    assert (lab.mailer.sent, told) == ([], [("4XyZ", "the disk is gone")])


def test_broken_seal_is_kept_for_a_day_to_the_minute(lab: Lab) -> None:
    raw = lab.sealed(HUGH).replace(b"X-Smilla-Stage: ", b"X-Smilla-Stage: 0")
    for later, code in ((timedelta(hours=23, minutes=58), "451"), (timedelta(hours=24, minutes=1), "550")):
        lab.clock = StillClock(NOW + later)
        assert lab.deliver(raw, HUGH) == [code]


@pytest.mark.parametrize("date", [b"some day", b"Fri, 20 Nov 2020 11:59:00 -0000", b""])
def test_broken_seal_without_a_readable_date_is_kept(lab: Lab, date: bytes) -> None:
    raw = lab.sealed(HUGH).replace(DATE, date).replace(b"X-Smilla-Stage: ", b"X-Smilla-Stage: 0")
    assert lab.deliver(raw, HUGH) == ["451"]


def test_original_recipient_may_be_xtext_and_need_be_no_address(lab: Lab) -> None:
    raw = lab.sealed(HUGH, ZOE)
    assert lab.deliver(raw, ("box@inside.test", "+7Aoe@example.org"), ("bin@inside.test", "zoe")) == ["250", "550"]
    assert forms(lab.mailer.copies()) == {"box@inside.test": "plain"}
    assert stage._bare("<no address>") == "no address"


def test_of_several_originals_the_one_that_is_to_be_encrypted_is_meant(lab: Lab) -> None:
    lab.config = parse('[policy]\nmixed = "stage"\n[[rule]]\nrecipient = "pia@*"\nencrypt = "require"\n')
    raw = lab.sealed(ZOE, PIA, original="all@inside.test")
    assert lab.deliver(raw, ("box@there.test", "all@inside.test")) == ["250"]
    assert forms(lab.mailer.copies()) == {"box@there.test": "openpgp"}


HOP = b"Received: from a by b; Fri, 20 Nov 2026 11:58:00 +0000\r\n"


@pytest.mark.parametrize(("inside", "later", "expected"), [(1, 0, 1), (2, 0, 2), (1, 1, 2), (2, 1, 3)])
def test_trace_stands_in_a_copy_as_often_as_it_was_added(lab: Lab, inside: int, later: int, expected: int) -> None:
    raw = lab.sealed(ZOE, HUGH, raw=HOP * inside + RAW)
    assert lab.deliver(HOP * later + raw, ZOE) == ["250"]
    assert lab.mailer.copies()[ZOE].count(b"Received: from a by b;") == expected


def test_who_has_a_copy_does_not_stand_for_somebody_else_of_the_same_original(lab: Lab) -> None:
    """An upstream list was expanded to both; one had a copy by re-injection, the other is an alias here."""
    raw = lab.sealed(HUGH, ZOE, served=(HUGH,), original="list@s.test")
    head, _, body = raw.partition(b"\r\n\r\n")
    message = Message(parse_message(head + b"\r\n\r\n").message.headers, MemoryBody([body]))
    recipient = parsed_recipient("<carol@mail.test>", ("ORCPT=rfc822;list@s.test",), lab.config.completion)
    (answer,) = stage.deliver(Handed("sam@sender.example", (recipient,), message, "4XyZ"), lab.ports, lab.config)
    assert answer.code == "250"
    assert set(lab.mailer.copies()) == {"carol@mail.test"}


# --- copies that may leave over a verified hop only


@pytest.fixture
def hop_lab(lab: Lab) -> Lab:
    """Zoe publishes no key, so her copy may leave over a verified hop only; there is one to her domain."""
    lab.config = parse('[policy]\nmixed = "stage"\nno_key = "secure-hop"\n')
    lab.hops = TableHops(verified_hop("example.org"))
    return lab


def bound_to(lab: Lab) -> dict[str, bytes]:
    return lab.secure_mailer.copies()


def test_copy_without_a_key_goes_to_the_listener_for_verified_hops_alone(hop_lab: Lab) -> None:
    raw = hop_lab.sealed(HUGH, ZOE)
    assert CANARY not in raw
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert forms(hop_lab.mailer.copies()) == {HUGH: "smime"}
    (octets,) = bound_to(hop_lab).values()
    assert octets.count(b"X-Smilla-Hop: ") == 1
    assert octets.endswith(RAW.partition(b"\r\n\r\n")[2])
    assert CANARY in octets
    assert hop_lab.secure_mailer.sent[0][0].parameters == ("ENVID=x", "RET=HDRS")


def test_message_for_one_without_a_key_is_sealed_and_never_stays_in_the_queue_as_it_is(hop_lab: Lab) -> None:
    session = make_session(RAW, [ZOE])
    outcome = pipeline.process(session, hop_lab.ports, hop_lab.config)
    assert reply.for_outcome(outcome, "stage", observe=False).is_sealed
    assert reply.for_outcome(outcome, "reinject", observe=False).code == "451"
    assert reply.for_outcome(outcome, "defer", observe=False).code == "451"
    assert reply.for_outcome(outcome, "", observe=False).code == "451"


@pytest.mark.parametrize(
    ("hops", "code"),
    [(TableHops(), "451"), (TableHops(no_hop("example.org")), "550"), (None, "451")],
    ids=["unknown", "none", "nobody looks"],
)
def test_hop_that_is_no_longer_verified_sends_nothing(hop_lab: Lab, hops: TableHops | None, code: str) -> None:
    raw = hop_lab.sealed(HUGH, ZOE)
    hop_lab.hops = hops
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", code]
    assert not hop_lab.secure_mailer.sent
    assert set(hop_lab.mailer.copies()) == {HUGH}


def test_policy_that_has_become_weaker_since_sends_nothing_in_the_clear(hop_lab: Lab) -> None:
    raw = hop_lab.sealed(HUGH, ZOE)
    hop_lab.config = parse('[policy]\nmixed = "stage"\nno_key = "plain"\n')
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "451"]
    assert set(hop_lab.mailer.copies()) == {HUGH}
    assert not hop_lab.secure_mailer.sent


def test_key_that_has_gone_is_not_replaced_by_a_verified_hop(hop_lab: Lab) -> None:
    raw = hop_lab.sealed(HUGH, ZOE)
    hop_lab.resolver.table.clear()
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["451", "250"]
    assert set(bound_to(hop_lab)) == {ZOE}
    assert not hop_lab.mailer.sent


def test_key_that_has_come_since_is_better_than_a_verified_hop(hop_lab: Lab) -> None:
    raw = hop_lab.sealed(HUGH, ZOE)
    hop_lab.resolver.publish(ZOE, "smimea", "secure", smimea("hugh.crt"))
    assert hop_lab.deliver(raw, ZOE)[0] in ("250", "550")
    assert not hop_lab.secure_mailer.sent


def test_listener_for_verified_hops_that_is_away_delays_its_own_copies_alone(hop_lab: Lab) -> None:
    raw, hop_lab.secure_mailer.is_away = hop_lab.sealed(HUGH, ZOE), True
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "451"]
    hop_lab.secure_mailer.is_away, hop_lab.mailer.is_away = False, True
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert (set(hop_lab.mailer.copies()), set(bound_to(hop_lab))) == ({HUGH}, {ZOE})


def test_listener_for_other_copies_that_is_away_delays_no_bound_copy(hop_lab: Lab) -> None:
    raw, hop_lab.mailer.is_away = hop_lab.sealed(HUGH, ZOE), True
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["451", "250"]
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["451", "250"]
    assert set(bound_to(hop_lab)) == {ZOE}


def test_member_of_an_alias_gets_a_bound_copy_under_the_alias_rules(hop_lab: Lab) -> None:
    raw = hop_lab.sealed(HUGH, "team@example.org")
    assert hop_lab.deliver(raw, HUGH, ("zoe@elsewhere.test", "team@example.org")) == ["250", "451"]
    hop_lab.hops = TableHops(verified_hop("example.org"), verified_hop("elsewhere.test"))
    assert hop_lab.deliver(raw, ("zoe@elsewhere.test", "team@example.org")) == ["250"]
    assert set(bound_to(hop_lab)) == {"zoe@elsewhere.test"}


def test_who_was_not_sealed_may_have_a_bound_copy(hop_lab: Lab) -> None:
    assert hop_lab.deliver(hop_lab.sealed(HUGH, ZOE), "mia@example.org") == ["250"]
    assert set(bound_to(hop_lab)) == {"mia@example.org"}


def test_bound_copy_waits_while_postfix_may_lack_the_lines_for_it(hop_lab: Lab) -> None:
    raw, hop_lab.problem = hop_lab.sealed(HUGH, ZOE), "master.cf was changed"
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "451"]
    assert not hop_lab.secure_mailer.sent
    hop_lab.problem = ""
    assert hop_lab.deliver(raw, HUGH, ZOE) == ["250", "250"]
    assert (set(hop_lab.mailer.copies()), set(bound_to(hop_lab))) == ({HUGH}, {ZOE})
