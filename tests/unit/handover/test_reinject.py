"""How a message is known again, and how a copy of ours is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from smilla import log
from smilla.adapters.journal import SQLiteJournal
from smilla.address import parse as parse_address
from smilla.copies.sharing import mailbox
from smilla.errors import JournalBusy, JournalError
from smilla.handover import reinject
from smilla.message import parse as parse_message
from smilla.model import Action, Client, Copy, CopyForm, Decision, Reason, Recipient, Rewrite
from smilla.session import Session
from tests.unit.listener import Listener
from tests.vectors.memory import NOW, TableResolver, make_ports

FIELDS = [
    (b"Received", b" from a by b; now"),
    (b"Message-ID", b" <1@s.test>"),
    (b"From", b" sam@s.test"),
    (b"Subject", b" a\n letter"),
    (b"Content-Type", b" text/plain"),
]


def session(
    fields: list[tuple[bytes, bytes]] = FIELDS,
    sender: str = "<sam@s.test>",
    body: bytes = b"hi\r\n",
    client: Client | None = None,
    queue_id: str = "4Xq1Zz0ABC",
) -> Session:
    found = Session(client or Client(), sender)
    found.queue_id = queue_id
    for name, value in fields:
        found.header(name, value)
    found.body_chunk(body)
    return found


def whole(of: Session) -> tuple[bytes, bytes]:
    known = reinject.fingerprint(of)
    return known.quick, known.content()


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Authentication-Results", b" x"), *FIELDS],
        [(b"Received-SPF", b" pass"), (b"ARC-Seal", b" i=1"), *FIELDS],
        [(b"X-Envelope-ID", b" 4Xq1Zz0ABC at mx"), *FIELDS],
        [*FIELDS, (b"Date", b" Sat, 28 Nov 2026 12:00:00 +0000 (UTC)"), (b"From", b" sam@s.test")],
    ],
    ids=["results", "spf and arc", "queue ID", "Date at the end"],
)
def test_what_this_hop_adds_does_not_matter(fields: list[tuple[bytes, bytes]]) -> None:
    before = session([*FIELDS, (b"From", b" sam@s.test")] if fields[-1][0] == b"From" else FIELDS)
    assert whole(session(fields)) == whole(before)


@pytest.mark.parametrize(
    "other",
    [
        session(sender="<tom@s.test>"),
        session(body=b"ho\r\n"),
        session([*FIELDS[:3], (b"Subject", b" another"), FIELDS[4]]),
        session([*FIELDS[:4], (b"Content-Type", b" text/html")]),
        session([*FIELDS, (b"Cc", b" x@r.test")]),
        session([FIELDS[0], (b"Message-ID", b" <2@s.test>"), *FIELDS[2:]]),
        session([*FIELDS, (b"X-Spam-Flag", b" YES")]),
        session([(b"Received", b" from c by d; later"), *FIELDS]),
        session(FIELDS[1:]),
        session([(b"Date", b" Sat, 28 Nov 2026 12:00:00 +0000"), *FIELDS]),
        session(client=Client(ip="192.0.2.2")),
        session(client=Client(authenticated_as="tom")),
    ],
)
def test_anything_else_makes_another_message(other: Session) -> None:
    assert whole(other) != whole(session())


def test_retry_of_a_client_for_whom_postfix_adds_message_id_and_date_is_known() -> None:
    def attempt(queue_id: str, date: bytes) -> Session:
        made = [(b"Message-Id", b" <20261128120000.%b@mx.test>" % queue_id.encode()), (b"Date", date)]
        return session([*FIELDS[2:], *made], queue_id=queue_id)

    assert whole(attempt("4Xq1Zz0ABC", b" Sat, 1")) == whole(attempt("4Xq1Zz0DEF", b" Sat, 2"))


def test_two_messages_without_a_message_id_differ_by_their_dates() -> None:
    assert whole(session([*FIELDS[2:], (b"Date", b" Sat, 1")])) != whole(session([*FIELDS[2:], (b"Date", b" Sat, 2")]))


def test_a_short_queue_id_stands_in_no_field() -> None:
    assert whole(session(queue_id="from")) == whole(session(queue_id="1"))
    assert whole(session([*FIELDS, (b"X-A", b" b")], queue_id="b")) != whole(session(queue_id="b"))


def test_the_field_of_a_copy_has_its_token() -> None:
    token = "0123456789abcdef" * 2
    raw = reinject.received(session(), token, NOW)
    assert raw.startswith(b"Received: from ")
    name, _, value = raw.removesuffix(b"\r\n").partition(b":")
    came_back = session([(b"Received", b" from x by y; now"), (name, value.replace(b"\r\n", b"\n")), *FIELDS])
    assert reinject.own_token(came_back.message) == token
    assert reinject.own_token(session().message) == ""


def test_what_the_client_called_itself_cannot_add_a_line() -> None:
    found = session()
    found.client = Client(ip="192.0.2.1", host_name="h\r\nX: y", helo="a\nb (smilla) with ESMTP id", mta="m t")
    raw = reinject.received(found, "0" * 32, NOW)
    assert raw.count(b"\r\n") == 3
    assert raw.count(b"\n") == 3
    assert raw.count(b"(smilla)") == 1


def test_copy_whose_acceptance_is_unknown_is_told_of_where_it_goes_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, told, of = SQLiteJournal(str(tmp_path), 1000), [], session()
    for name in ("ann@r.test", "ben@r.test"):
        of.recipient(f"<{name}>")
    with journal.open(reinject.fingerprint(of)) as entry:
        entry.owe(["ann@r.test", "ben@r.test"], "f" * 32, "4XyZ")
        entry.committing(["ben@r.test"])
    monkeypatch.setattr(log, "copy_unknown", lambda _, recipient: told.append(recipient))
    with reinject.Attempt(of, replace(make_ports(), journal=journal), lambda: None) as attempt:
        attempt.tell_unknown()
    assert told == ["ben@r.test"]
    journal.close()


# --- what a mutation run (make mutants) left alive: an attempt ---------------------------------------------

ANN, BEN = (
    Recipient("<ann@r.test>", parse_address("ann@r.test")),
    Recipient("<ben@r.test>", parse_address("ben@r.test")),
)


@dataclass
class Place:
    """A journal, a listener, and what was logged."""

    journal: SQLiteJournal
    listener: Listener = field(default_factory=Listener)
    told: list[tuple[str, ...]] = field(default_factory=list)
    alive: int = 0

    def attempt(self, of: Session | None = None, *, journal: bool = True) -> reinject.Attempt:
        ports = replace(make_ports(TableResolver()), journal=self.journal if journal else None, mailer=self.listener)
        of = of or session()
        for recipient in (ANN, BEN):
            of.add(recipient)
        return reinject.Attempt(of, ports, self._still_alive)

    def _still_alive(self) -> None:
        self.alive += 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(SQLiteJournal(str(tmp_path / "spool"), 1000))
    for event in ("copy_unknown", "copy_failed", "copy_accepted", "journal_failed"):
        monkeypatch.setattr(log, event, lambda *told, event=event: found.told.append((event, *map(str, told))))
    return found


def copies(*recipients: Recipient) -> list[Copy]:
    return [Copy(CopyForm.PLAIN, (recipient,), Rewrite()) for recipient in recipients]


def why(_: Decision) -> str:
    return "a reason"


def test_copy_whose_final_reply_is_lost_is_owed_unknown_and_sent_again(place: Place) -> None:
    place.listener.loses = True
    with place.attempt() as attempt:
        assert attempt.entry is None
        refusals = attempt.deliver(copies(ANN), (), why)
        assert [(refusal.recipient, refusal.is_of_copy) for refusal in refusals] == [(ANN, False)]
        assert attempt.has_sent
    place.listener.loses = False
    with place.attempt() as attempt:
        assert attempt.has_sent
        assert attempt.deliver(copies(ANN, BEN), (), why) == ()
        assert place.alive == 3
        finish = attempt.finishing()
    assert len(place.listener.sent) == 3
    assert [event for event, *_ in place.told] == ["copy_failed", "copy_unknown", "copy_accepted", "copy_accepted"]
    assert finish is not None
    finish()
    assert place.attempt().__enter__().entry is None


def test_copy_on_its_way_is_known_by_its_token(place: Place) -> None:
    with place.attempt() as attempt:
        attempt.deliver(copies(ANN), (), why)
    ((_, raw),) = place.listener.sent
    token = reinject.own_token(parse_message(raw).message)
    assert place.journal.is_own(token, [mailbox(ANN)])
    assert not place.journal.is_own(token, [mailbox(BEN)])


def test_nothing_leaves_without_a_journal_and_a_failed_one_is_logged(place: Place) -> None:
    with place.attempt(journal=False) as attempt:
        assert attempt.finishing() is None
        with pytest.raises(JournalError, match="no journal"):
            attempt.deliver(copies(ANN), (), why)
    assert place.listener.sent == []

    def fails() -> None:
        raise JournalError("the disk is gone")

    reinject.finish(fails, "4XyZ")
    assert place.told == [("journal_failed", "the disk is gone", "4XyZ")]


def test_same_message_elsewhere_is_waited_for_in_signs_of_life_and_then_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(reinject, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with place.attempt() as first:
        first.deliver(copies(ANN), (), why)
        with pytest.raises(JournalBusy), place.attempt():
            pass
        assert place.alive > 2
    with place.attempt() as second:
        assert second.has_sent


def test_who_was_served_by_another_attempt_since_this_one_began_gets_no_second_copy(place: Place) -> None:
    with place.attempt() as late:
        with place.attempt() as first:
            first.deliver(copies(ANN), (), why)
        with pytest.raises(JournalBusy, match="just handled"):
            late.deliver(copies(ANN), (), why)
    assert len(place.listener.sent) == 1


def test_notification_is_for_good_and_its_parameters_fit_the_sender(place: Place) -> None:
    bounced = [
        Decision(ANN, Action.DEFER, Reason("x", "y"), "rule"),
        Decision(BEN, Action.REFUSE, Reason("x", "y"), "r"),
    ]
    for sender, parameters in (("<sam@s.test>", ()), ("<s\xf6m@s.test>", ("SMTPUTF8",))):
        with place.attempt(session(sender=sender)) as attempt:
            assert attempt.deliver((), bounced, why) == ()
        submission, raw = place.listener.sent.pop()
        assert (submission.sender, submission.parameters) == ("", parameters)
        assert raw.count(b"\r\nStatus: 5.7.5\r\n") == 2


def test_received_field_names_the_client_as_far_as_it_is_known() -> None:
    found = session(client=Client(ip="192.0.2.1", host_name="c.test", helo="helo.test", mta="mx.test"))
    first = b"Received: from helo.test (c.test [192.0.2.1])\r\n\tby mx.test (smilla)"
    assert reinject.received(found, "0" * 32, NOW).startswith(first)
    nobody = b"Received: from localhost (unknown)\r\n\tby localhost (smilla)"
    assert reinject.received(session(), "0" * 32, NOW).startswith(nobody)


def test_a_queue_id_of_five_octets_is_one_and_a_date_may_stand_second() -> None:
    fields = [*FIELDS, (b"X-Envelope-ID", b" 4XyZQ at mx")]
    assert whole(session(fields, queue_id="4XyZQ")) == whole(session(queue_id="4XyZQ"))
    dated = [[FIELDS[1], (b"Date", date), FIELDS[2]] for date in (b" Sat, 1", b" Sat, 2")]
    assert whole(session(dated[0])) == whole(session(dated[1]))


def test_before_the_queue_a_copy_keeps_its_parameters_and_a_notification_hides_nothing(place: Place) -> None:
    of = Session(Client(mta="mx.test"), "<sam@s.test>", ("RET=FULL",))
    of.take(session().message)
    with place.attempt(of) as attempt:
        attempt.deliver(copies(ANN), [Decision(BEN, Action.REFUSE, Reason("x", "y"), "rule")], why)
    (copy, _), (_, notification) = place.listener.sent
    assert copy.parameters == ("RET=FULL",)
    assert b"Subject: a" in notification
    assert b"Reporting-MTA: dns; mx.test\r\n" in notification


def test_of_two_spellings_of_a_mailbox_the_first_is_written_and_both_are_served(place: Place) -> None:
    shouted = Recipient("<ann@R.TEST>", parse_address("ann@R.TEST"))
    with place.attempt() as attempt:
        attempt.deliver([Copy(CopyForm.PLAIN, (ANN, shouted), Rewrite())], (), why)
    ((submission, _),) = place.listener.sent
    assert submission.recipients == (ANN,)
    assert place.told == [("copy_accepted", "4Xq1Zz0ABC", "2", "250 ok")]
