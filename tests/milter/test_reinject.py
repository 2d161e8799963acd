"""Several copies of one message, the MTA and its listener played by the laboratory: who gets what when things go wrong
in between, and what is remembered of it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from smilla.adapters.seal_keys import SealKeys
from smilla.answer import reply
from smilla.handover import seal
from smilla.message import parse
from smilla.model import Action
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.milter.client import Answer, Clients, Mail, MilterClient
from tests.milter.conftest import Starter
from tests.milter.material import Keys, plain_mail

ALICE, BOB, ERIN, ZOE = "<alice@r.test>", "<bob@r.test>", "<erin@r.test>", "<zoe@r.test>"
TO = "alice@r.test, bob@r.test, erin@r.test"
NAMELESS = plain_mail(to=TO)  # neither Message-ID nor Received
NAMED = plain_mail(b"Message-ID: <1@s.test>", to=TO)


@dataclass
class Lab:
    """A filter, the listener behind it, and the folder of keys, each the test's own."""

    smilla: Smilla
    sink: Sink
    directory: Path
    clients: Clients

    def send(self, mail: Mail, recipients: Sequence[str], sender: str = "<sender@s.test>") -> Answer:
        """One message over a connection of its own, from near, which then ends in order."""
        with self.clients.open(self.smilla.milter, greet=False) as client:
            client.connect("127.0.0.1")
            answer = client.send(mail, recipients, sender=sender)
            client.quit()
            client.wait_until_closed()
            return answer

    @property
    def copies(self) -> Counter[str]:
        """How many copies the listener has taken for each."""
        return Counter(address for mail in self.sink.messages for address in mail.rcpt_to)

    def refuse(self, start: bytes, reply: bytes) -> None:
        """Commands of the listener's client that begin so are refused."""
        self.sink.answer = lambda line: reply if line.upper().startswith(start) else None

    def take_all(self) -> None:
        self.sink.answer = lambda _: None


@pytest.fixture
def lab(start: Starter, keys: Keys, folder: Path, clients: Clients) -> Iterator[Callable[..., Lab]]:
    place = Path(tempfile.mkdtemp(prefix="keys-", dir=folder))
    shutil.copytree(keys.directory, place, dirs_exist_ok=True)
    place.chmod(0o755)
    with Sink() as sink:

        def make(**more: Any) -> Lab:
            usual: dict[str, Any] = {"mixed": "reinject", "no_key": "defer"}
            settings: dict[str, Any] = {
                "keys": {"sources": ["directory"], "directory": str(place)},
                **more,
                "policy": {**usual, **more.get("policy", {})},
                "reinject": {"smtp": f"127.0.0.1:{sink.port}", "timeout_s": 5, **more.get("reinject", {})},
            }
            return Lab(start(settings), sink, place, clients)

        yield make
    shutil.rmtree(place)


@pytest.mark.parametrize("mail", [NAMELESS, NAMED], ids=["nameless", "named"])
def test_who_has_a_copy_is_not_forgotten_while_the_client_is_told_to_try_again(
    lab: Callable[..., Lab], mail: Mail
) -> None:
    here = lab()
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(mail, [ALICE, BOB, ERIN]).verdict == "tempfail"
    here.take_all()
    key = here.directory / "alice@r.test.pem"
    away = key.rename(key.with_suffix(".away"))
    assert here.send(mail, [ALICE, BOB, ERIN]).reply.startswith("451 4.7.5 <alice@r.test>")
    away.rename(key)
    assert here.send(mail, [ALICE, BOB, ERIN]).verdict == "accept"
    assert here.copies == Counter(["bob@r.test", "erin@r.test"])


def test_mta_that_dies_before_it_has_the_answer_is_no_sign_that_the_client_has_it(lab: Callable[..., Lab]) -> None:
    """libmilter ends the connection in the same way, whether an answer was read or not."""
    here = lab()
    has_begun, go_on = threading.Event(), threading.Event()

    def wait(line: bytes) -> None:
        if line == b".":
            has_begun.set()
            go_on.wait(50)

    here.sink.answer = wait
    client = here.clients.open(here.smilla.milter, greet=False)
    client.connect("127.0.0.1")
    client.envelope([ALICE, BOB, ERIN])
    for field in NAMED.fields:
        client.header(field.name, field.value)
    client.end_of_headers()
    client.body(NAMED.body)
    client.send_packet(b"E", b"")
    assert has_begun.wait(50)
    client.close()
    go_on.set()
    here.sink.wait_for(2)
    here.smilla.wait_for_log(" message .*reply=")
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "accept"
    assert here.copies == Counter(["bob@r.test", "erin@r.test"])


def test_after_a_copy_was_taken_nobody_is_told_for_good_that_the_message_is_too_large(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "tempfail"
    here.refuse(b".", b"552 5.3.4 too large")
    assert here.send(NAMED, [ALICE, BOB, ERIN]).reply.startswith("451 4.3.0")


def test_a_nameless_message_that_needs_no_further_copy_any_more_is_forgotten_once_it_is_answered(
    lab: Callable[..., Lab],
) -> None:
    here = lab()
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(NAMELESS, [ALICE, BOB, ERIN]).verdict == "tempfail"
    here.take_all()
    assert here.send(NAMELESS, [ALICE, BOB]).verdict == "accept"
    assert here.copies == Counter(["bob@r.test"])
    here.smilla.wait_for_log("already-sent rcpt=bob@r.test")
    assert here.send(NAMELESS, [ALICE, BOB]).verdict == "accept"
    assert here.copies == Counter({"bob@r.test": 2}), "the same words, another message"


def test_what_was_bounced_may_be_sent_once_more(lab: Callable[..., Lab], keys: Keys) -> None:
    here = lab(policy={"one_fails": "bounce", "no_key": "refuse"})
    assert here.send(NAMED, [ALICE, ZOE]).verdict == "accept"
    assert here.send(NAMED, [ALICE, ZOE]).verdict == "accept", "the same once more is another message"
    assert here.copies == Counter(["sender@s.test"] * 2)
    assert here.send(NAMED, [ZOE]).reply.startswith("550 5.7.5 <zoe@r.test>"), "nothing is accepted and forgotten"
    (here.directory / "zoe@r.test.pem").write_bytes(keys.alice.certificate_file.read_bytes())
    assert here.send(NAMED, [ZOE]).edits != ()
    assert here.send(NAMED, [BOB, ZOE]).verdict == "accept"
    assert here.copies["sender@s.test"] == 2


@pytest.mark.parametrize(
    ("macros", "told"),
    [
        ({"v": "Postfix 3.10.13"}, reply.NOT_READY.line),
        ({"v": "8.17.1.9"}, ""),
        ({"v": "", "{if_name}": "localhost"}, ""),
        ({"v": ""}, "451 4.3.0 The recipients need 2 different forms of this message; send it to them one by one"),
    ],
)
def test_recipients_are_split_as_the_mta_can(lab: Callable[..., Lab], macros: dict[str, str], told: str) -> None:
    here = lab(policy={"mixed": ""}, stage={"check": True})
    with here.clients.open(here.smilla.milter, greet=False) as client:
        client.connect("127.0.0.1", macros=macros)
        answer = client.send(NAMED, [ALICE, BOB], sender="<sender@s.test>")
        assert answer.reply.startswith(told) if told else answer.verdict == "accept"
    assert bool(here.copies) is not bool(told)


def test_who_is_answered_apart_makes_nobody_else_forgotten(lab: Callable[..., Lab]) -> None:
    """As an MTA does that splits a list of recipients: the retry of the first part must not repeat bob's copy."""
    here = lab()
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "tempfail"
    here.take_all()
    assert here.send(NAMED, [ERIN]).verdict == "accept"
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "accept"
    assert here.copies["bob@r.test"] == 1


def connect(client: MilterClient, port: int) -> None:
    data = b"client.test\0" + b"4" + port.to_bytes(2, "big") + b"127.0.0.1\0"
    client._step(b"C", data, {"j": "mta.test"})


def test_brackets_left_out_are_no_way_around_the_bound(lab: Callable[..., Lab]) -> None:
    here = lab(reinject={"max_copies": 2})
    with here.clients.open(here.smilla.milter, greet=False) as client:
        connect(client, 40000)
        client.mail("sender@s.test")
        answers = [client.rcpt(recipient.strip("<>")) for recipient in (ALICE, BOB, ERIN)]
        assert [answer.verdict for answer in answers] == ["continue", "continue", "tempfail"]
        assert answers[2].reply.startswith("452 4.5.3")


def test_sendmail_1_is_never_refused_at_rcpt(lab: Callable[..., Lab]) -> None:
    here = lab(reinject={"max_copies": 2}, rule=[{"recipient": "*@r.test", "at_rcpt": True}])
    with here.clients.open(here.smilla.milter, greet=False) as client:
        connect(client, 0)  # as Postfix's cleanup tells of it
        client.mail("sender@s.test")
        answers = [client.rcpt(recipient.strip("<>")) for recipient in (ALICE, BOB, ERIN, ZOE)]
        assert [answer.verdict for answer in answers] == ["continue"] * 4


def test_a_notification_tells_why_and_nothing_of_the_configuration(lab: Callable[..., Lab], keys: Keys) -> None:
    sources = {"sources": ["directory", "smimea"], "directory": str(keys.directory)}
    here = lab(policy={"one_fails": "bounce"}, keys=sources)
    assert here.send(NAMED, [ALICE, ZOE]).verdict == "accept"
    (notification,) = here.sink.messages
    assert b"<zoe@r.test>" not in notification.raw
    assert b"zoe@r.test: this system cannot look up keys at the moment" in notification.raw
    assert b"127.0.0.1" not in notification.raw, "where the resolver is"


def test_the_same_message_in_two_transactions_at_once_is_no_reason_to_send_either_later(
    lab: Callable[..., Lab],
) -> None:
    here = lab()
    held, go = threading.Event(), threading.Event()

    def answer(line: bytes) -> bytes | None:
        if line == b"." and not held.is_set():
            held.set()
            go.wait(20)
        return None

    here.sink.answer = answer
    answers: list[str] = []
    first = threading.Thread(target=lambda: answers.append(here.send(NAMED, [ALICE, BOB]).verdict))
    first.start()
    assert held.wait(20)
    second = threading.Thread(target=lambda: answers.append(here.send(NAMED, [ALICE, ERIN]).verdict))
    second.start()
    second.join(0.5)
    go.set()
    first.join()
    second.join()
    assert answers == ["accept", "accept"]
    assert here.copies == Counter(["bob@r.test", "erin@r.test"])


def test_what_is_sealed_says_what_was_decided_and_by_which_rule(lab: Callable[..., Lab]) -> None:
    here = lab(policy={"mixed": "stage", "no_key": "hold"})
    answer = here.send(NAMED, [ALICE, ZOE])
    assert (answer.verdict, answer.quarantined is not None) == ("accept", True)
    alice = 'format=smime source=directory reason=usable rule="usable key" action=encrypt'
    here.smilla.wait_for_log(f"sealed rcpt=alice@r.test {alice}")
    here.smilla.wait_for_log('sealed rcpt=zoe@r.test .*reason=no_key rule="policy: no_key" action=hold')
    here.smilla.wait_for_log("message from=sender@s.test .*reply=quarantine reason=sealed")


def test_what_reinjection_began_goes_on_where_a_recipient_waits_for_the_expansion(lab: Callable[..., Lab]) -> None:
    here, team = lab(policy={"no_key": "plain"}), "<team@inside.test>"
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(NAMED, [team, BOB, ERIN]).verdict == "tempfail"
    here.take_all()
    assert here.copies == Counter(["bob@r.test"])
    settings: dict[str, Any] = {**here.smilla.settings, "mode": "auto", "local_domains": ["inside.test"]}
    settings["keys"] = {**settings["keys"], "aliases": "expanded"}
    settings["policy"] = {"mixed": "stage", "no_key": "plain"}
    here.smilla.write_config(settings)
    here.smilla.stop()
    here.smilla.start()
    answer = here.send(NAMED, [team, BOB, ERIN])
    assert answer.verdict == "accept"
    here.smilla.wait_for_log("already-sent rcpt=bob@r.test")
    here.smilla.wait_for_log("sealed rcpt=team@inside.test .*action=wait")
    here.smilla.wait_for_log("sealed rcpt=erin@r.test .*action=encrypt")
    assert here.copies == Counter(["bob@r.test"])
    answer = replace(answer, edits=tuple(edit for edit in answer.edits if edit.command != b"e"))  # the sender
    queued = parse(answer.applied(NAMED, postfix=True).raw).message
    mark, store = seal.mark(queued.headers), SealKeys(str(here.smilla.folder / "seal"))
    assert mark is not None
    inside = seal.opened(queued, store.find(mark.raw_key_id)).facts.recipients
    assert {r.raw: (r.action, r.waits) for r in inside if r.raw != team} == {
        BOB: (Action.DONE, False),
        ERIN: (Action.ENCRYPT, False),
    }
    assert next(r.waits for r in inside if r.raw == team)
    assert here.send(NAMED, [team, BOB, ERIN]).verdict == "accept", "the same once more is another message"
    here.smilla.wait_for_log("sealed rcpt=bob@r.test .*action=encrypt")


def test_what_reinjection_began_ends_so_where_nobody_waits(lab: Callable[..., Lab]) -> None:
    here = lab(policy={"no_key": "plain"})
    here.refuse(b"RCPT TO:<ERIN", b"450 4.2.0 later")
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "tempfail"
    here.take_all()
    here.smilla.write_config({**here.smilla.settings, "policy": {"mixed": "stage"}})
    here.smilla.reload()
    assert here.send(NAMED, [ALICE, BOB, ERIN]).verdict == "accept"
    assert here.copies == Counter(["bob@r.test", "erin@r.test"])
