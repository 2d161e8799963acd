"""A copy that may leave over a verified hop only comes back from the queue (postsuper -r)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.seal_keys import SealKeys
from smilla.address import NO_COMPLETION
from smilla.config import parse as parse_config
from smilla.handover import binding
from smilla.message import parse
from smilla.ports import Ports
from smilla.server import stage
from smilla.server.handed import Handed
from smilla.session import parsed_recipient
from tests.unit.listener import Listener
from tests.vectors.memory import StillClock, TableResolver, make_ports

SAM, ZOE, MIA = "sam@sender.example", "zoe@example.org", "mia@example.org"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CANARY = b"Kanarienvogel"
CONFIG = parse_config('[policy]\nmixed = "stage"\nno_key = "secure-hop"\n')


@dataclass
class Lab:
    """The stage, and both listeners."""

    folder: Path
    mailer: Listener = field(default_factory=Listener)
    secure_mailer: Listener = field(default_factory=Listener)
    now: datetime = NOW
    problem: str = ""

    def __post_init__(self) -> None:
        self.keys = SealKeys(str(self.folder / "seal"))
        self.keys.prepare("", 90)

    @property
    def ports(self) -> Ports:
        journal = SQLiteJournal(str(self.folder / "spool"), 1000)
        ports = replace(make_ports(TableResolver()), clock=StillClock(self.now), seal_keys=self.keys, journal=journal)
        ports = replace(ports, stage_problem=lambda: self.problem)
        return replace(ports, mailer=self.mailer, secure_mailer=self.secure_mailer)

    def copy(self, *fields: bytes) -> bytes:
        """As it lies in the queue; by default with a field of ours."""
        bound = b"".join(fields) or binding.field(SAM, self.keys.current())
        date = b"Fri, 20 Nov 2026 11:59:00 +0000"
        return (
            b"Received: from c (c [127.0.0.1])\r\n\tby mx.example (Postfix) with ESMTP id 4AbC;\r\n\t" + date + b"\r\n"
            b"Subject: hello\r\n" + bound + b"To: zoe@example.org\r\n\r\n" + CANARY + b"\r\n"
        )

    def deliver(self, raw: bytes, *to: str, sender: str = SAM, parameters: tuple[str, ...] = ("ENVID=x",)) -> list[str]:
        recipients = tuple(parsed_recipient(f"<{address}>", ("NOTIFY=NEVER",), NO_COMPLETION) for address in to)
        handed = Handed(sender, recipients, parse(raw).message, "4AbC", parameters)
        answers = stage.deliver(handed, self.ports, CONFIG)
        assert not any(CANARY.decode() in answer.text for answer in answers)
        assert not self.mailer.sent
        return [answer.code for answer in answers]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_requeued_copy_is_bound_anew_octet_for_octet(lab: Lab) -> None:
    raw = lab.copy()
    assert lab.deliver(raw, ZOE, MIA) == ["250", "250"]
    ((submission, octets),) = lab.secure_mailer.sent
    assert submission.parameters == ("ENVID=x", "RET=HDRS")
    assert [r.parameters for r in submission.recipients] == [("NOTIFY=NEVER",)] * 2
    fields = [line for line in octets.split(b"\r\n") if line.startswith(b"X-Smilla-Hop: ")]
    assert len(fields) == 1
    assert fields[0] not in raw
    assert binding.verified_id(parse(octets).message.headers, SAM, lab.keys)
    before = [line for line in raw.split(b"\r\n") if not line.startswith(b"X-Smilla-Hop: ")]
    assert octets.endswith(b"\r\n".join(before))


@pytest.mark.parametrize(
    "fields",
    [
        (b"X-Smilla-Hop: \r\n",),
        (b"X-Smilla-Hop: " + b"0" * 32 + b" " + b"0" * 16 + b" " + b"0" * 64 + b"\r\n",),
        (b"x-smilla-hop: yes\r\n", b"X-Smilla-Hop: no\r\n"),
    ],
)
def test_forged_field_leads_nowhere(lab: Lab, fields: tuple[bytes, ...]) -> None:
    assert lab.deliver(lab.copy(*fields), ZOE) == ["451"]
    lab.now += timedelta(days=2)
    assert lab.deliver(lab.copy(*fields), ZOE)[0] in ("451", "550")
    assert not lab.secure_mailer.sent


@pytest.mark.parametrize("sender", ["", "eve@sender.example"])
def test_field_of_another_sender_leads_nowhere(lab: Lab, sender: str) -> None:
    assert lab.deliver(lab.copy(), ZOE, sender=sender) == ["451"]
    assert not lab.secure_mailer.sent


def test_field_of_a_key_that_is_gone_waits_for_the_key(lab: Lab) -> None:
    raw = lab.copy()
    for stored in lab.keys.all():
        lab.keys.remove(stored)
    lab.now += timedelta(days=5)
    assert lab.deliver(raw, ZOE) == ["451"]


def test_retry_serves_only_who_is_owed_a_copy(lab: Lab) -> None:
    raw = lab.copy()
    lab.secure_mailer.refuses = {ZOE: "451 4.3.0 later"}
    assert lab.deliver(raw, ZOE, MIA) == ["451", "250"]
    lab.secure_mailer.refuses = {}
    assert lab.deliver(raw, ZOE, MIA) == ["250", "250"]
    assert set(lab.secure_mailer.copies()) == {ZOE, MIA}


def test_field_in_another_message_swallows_nothing(lab: Lab) -> None:
    """Whoever got the field with a bounce sends something else with it."""
    raw = lab.copy()
    assert lab.deliver(raw, ZOE) == ["250"]
    assert lab.deliver(b"Received: by mx.example (Postfix)\r\n\tid 4NeW; today\r\n" + raw, ZOE) == ["250"]
    assert len(lab.secure_mailer.sent) == 1  # the same copy once more, requeued: its answer may have got lost
    assert lab.deliver(raw.replace(CANARY, CANARY + b" 2"), ZOE) == ["250"]
    assert lab.deliver(raw.replace(b"Subject: hello", b"Subject: bye"), ZOE) == ["250"]
    assert len(lab.secure_mailer.sent) == 3


def test_listener_that_is_away_owes_all(lab: Lab) -> None:
    raw, lab.secure_mailer.is_away = lab.copy(), True
    assert lab.deliver(raw, ZOE, MIA) == ["451", "451"]
    lab.secure_mailer.is_away = False
    assert lab.deliver(raw, ZOE, MIA) == ["250", "250"]


def test_refused_copy_is_refused(lab: Lab) -> None:
    lab.secure_mailer.refuses = {ZOE: "550 5.1.1 nobody"}
    assert lab.deliver(lab.copy(), ZOE, MIA) == ["550", "250"]


def test_answer_that_got_lost_is_sent_again(lab: Lab) -> None:
    raw, lab.secure_mailer.loses = lab.copy(), True
    assert lab.deliver(raw, ZOE) == ["451"]
    lab.secure_mailer.loses = False
    assert lab.deliver(raw, ZOE) == ["250"]
    assert len(lab.secure_mailer.sent) == 2


def test_copy_that_is_requeued_twice_is_two_copies_to_the_journal(lab: Lab) -> None:
    first = lab.copy()
    lab.deliver(first, ZOE)
    again = lab.secure_mailer.sent[0][1]
    lab.secure_mailer.sent.clear()
    assert lab.deliver(again, ZOE) == ["250"]
    assert set(lab.secure_mailer.copies()) == {ZOE}


def test_requeued_copy_waits_while_postfix_may_lack_the_lines_for_it(lab: Lab) -> None:
    lab.problem = "master.cf was changed"
    assert lab.deliver(lab.copy(), ZOE) == ["451"]
    assert not lab.secure_mailer.sent
