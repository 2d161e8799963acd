"""What the log says where copies are handed on: a line that can be read alone, for whoever reads it at night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from smilla.answer import reply
from tests.lab.sink import Sink
from tests.milter.material import directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.smilla import Settings, Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

BOTH = ["<alice@r.test>", "<bob@r.test>"]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The MTA's listener without the filter."""
    with Sink() as listener:
        yield listener


def settings(keys: Keys, sink: Sink, **more: Any) -> Settings:
    """Further copies go to the sink."""
    table = {"mixed": "reinject", **more.pop("policy", {})}
    reinject = {"smtp": f"127.0.0.1:{sink.port}", **more.pop("reinject", {})}
    return directory_settings(keys, policy=table, reinject=reinject, **more)


def lines(smilla: Smilla, queue_id: str = "QID") -> list[str]:
    """The log lines about recipients."""
    return [line for line in smilla.log_lines_of(queue_id) if " rcpt=" in line]


def test_only_what_is_handed_on_is_logged_as_reinjected(
    start: Starter, clients: Clients, keys: Keys, sink: Sink
) -> None:
    smilla = start(settings(keys, sink))
    assert clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="QID").verdict == "accept"
    assert [line.endswith(" via=reinject") for line in lines(smilla)] == [False, True]
    apart = start(settings(keys, sink, policy={"mixed": "defer"}))
    assert clients.open(apart.milter).send(plain_mail(), BOTH, queue_id="QID").reply.startswith("451 ")
    assert not any("via=" in line for line in lines(apart))


def test_who_is_bounced_is_logged_as_refused_since_nobody_tries_again(
    start: Starter, clients: Clients, keys: Keys, sink: Sink
) -> None:
    rule = [{"recipient": "x@r.test", "no_key": "defer"}]
    smilla = start(settings(keys, sink, policy={"one_fails": "bounce"}, rule=rule, internal_networks=["192.0.2.0/24"]))
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>", "<x@r.test>"], queue_id="QID")
    assert answer.verdict == "accept"
    (bounced,) = [line for line in lines(smilla) if "rcpt=x@r.test" in line]
    assert bounced.startswith("QID refused rcpt=x@r.test")
    assert bounced.endswith('reason=no_key rule="rule 1: no_key" via=bounce')
    assert [mail.rcpt_to for mail in sink.messages] == [("sender@s.test",)]


def test_a_notification_hides_what_a_copy_hides(start: Starter, clients: Clients, keys: Keys, sink: Sink) -> None:
    rule = [{"recipient": "alice@r.test", "protect_headers": "hide"}, {"recipient": "x@r.test", "no_key": "refuse"}]
    smilla = start(settings(keys, sink, policy={"one_fails": "bounce"}, rule=rule, internal_networks=["192.0.2.0/24"]))
    mail = plain_mail(b'Content-Type: text/plain; name="letter.txt"')
    assert clients.open(smilla.milter).send(mail, ["<alice@r.test>", "<x@r.test>"]).verdict == "accept"
    (note,) = sink.messages
    assert b"x@r.test" in note.raw
    assert b"letter" not in note.raw


def test_a_journal_that_cannot_be_used_is_told_as_that_and_defers(
    start: Starter, clients: Clients, keys: Keys, sink: Sink, folder: Path
) -> None:
    place = folder / "no-folder"
    place.write_bytes(b"")
    smilla = start(settings(keys, sink, reinject={"spool": str(place)}))
    answer = clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="QID")
    assert answer.reply == "451 4.3.0 The encryption filter cannot keep its journal; try again later"
    assert smilla.wait_for_log("QID journal-failed detail=").endswith(
        "must be a folder that belongs to the filter's user\" severity=error"
    )
    assert lines(smilla) == [f"QID deferred rcpt={name}@r.test reason=journal" for name in ("alice", "bob")]
    assert "internal-error" not in smilla.log
    assert sink.messages == []


def test_a_seal_key_that_is_spoilt_is_told_as_that_and_defers(start: Starter, clients: Clients, keys: Keys) -> None:
    """In place of one that is gone, the parent would make another as soon as anything wakes it."""
    smilla = start(directory_settings(keys, policy={"mixed": "stage"}, stage={"check": False}))
    (key,) = (smilla.folder / "seal").glob("*.key")
    key.write_text("rubbish")
    (key.parent / "x").touch()  # so that the folder has changed
    answer = clients.open(smilla.milter).send(plain_mail(), BOTH, queue_id="QID")
    assert (answer.reply, answer.edits) == (reply.SEAL_KEY.line, ())
    assert smilla.wait_for_log("QID internal-error").count("is no seal key; put it back from the backup") == 1


def test_a_recipient_past_the_bound_is_logged(start: Starter, clients: Clients, keys: Keys, sink: Sink) -> None:
    smilla = start(settings(keys, sink, reinject={"max_copies": 1}))
    client = clients.open(smilla.milter)
    client.mail("<sender@s.test>")
    assert client.rcpt("<alice@r.test>").verdict == "continue"
    assert client.rcpt("<bob@r.test>").reply.startswith("452 4.5.3 ")
    assert "- deferred rcpt=bob@r.test reason=too_many rule=max_copies via=rcpt" in smilla.log
