"""The next hop is asked about each recipient at RCPT, and its word is the client's answer there.

client -> RCPT -> smilla relay -> RCPT -> sink
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.processes import wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.milter.material import CANARY, NOBODY, Keys, assert_ended_well

ALICE, BOB, ZOE = "alice@r.test", "bob@r.test", "zoe@r.test"
LETTER = b"From: s@s.test\r\nTo: alice@r.test\r\nMessage-ID: <1@s.test>\r\n\r\n" + CANARY + b"\r\n"


@dataclass
class Lab:
    """``heard`` are the commands that the next hop got; ``replies`` what it says to whom it does not take."""

    relay: Relay
    sink: Sink
    heard: list[str] = field(default_factory=list)
    replies: dict[str, bytes] = field(default_factory=dict)
    other: Callable[[str], bytes | None] = lambda _: None

    def answer(self, line: bytes) -> bytes | None:
        said = line.decode()
        self.heard.append(said)
        for address, reply in self.replies.items():
            if said.startswith(f"RCPT TO:<{address}>"):
                return reply
        return self.other(said)

    def client(self, **options: Any) -> SMTPClient:
        return SMTPClient(self.relay.smtp_port, **options)

    def codes(self, *to: str) -> list[int]:
        with self.client() as client:
            return [reply.code for reply in client.send("s@s.test", to, LETTER)]

    def count(self, verb: str) -> int:
        return sum(line.split()[0].upper() == verb for line in self.heard)

    @property
    def copies(self) -> Counter[str]:
        return Counter(address for mail in self.sink.messages for address in mail.rcpt_to)


Make = Callable[..., Lab]


@pytest.fixture
def make(keys: Keys, folder: Path) -> Iterator[Make]:
    made: list[Lab] = []

    def start(**relay: Any) -> Lab:
        place = Path(tempfile.mkdtemp(prefix="asking-", dir=folder))
        place.chmod(0o755)
        sink = Sink()
        settings = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            "relay": {"timeout_s": 20, **relay},
        }
        lab = Lab(Relay(place, NOBODY, sink.port, settings), sink)
        sink.answer = lab.answer
        made.append(lab)
        lab.relay.start()
        return lab

    yield start
    for lab in made:
        assert_ended_well(lab.relay, lab.sink)
        shutil.rmtree(lab.relay.folder)


@pytest.fixture
def lab(make: Make) -> Lab:
    return make()


def test_client_hears_at_rcpt_whom_the_next_hop_refuses_and_the_others_get_their_copy(lab: Lab) -> None:
    lab.replies = {BOB: b"550 5.1.1 <bob@r.test>: no such user", "late@r.test": b"450 4.2.0 greylisted"}
    with lab.client() as client:
        replies = client.send("s@s.test", [ALICE, BOB, "late@r.test", ZOE], LETTER)
    assert [str(reply) for reply in replies[1:5]] == [
        "250 2.1.5 Ok",
        "550 5.1.1 The next hop says: <bob@r.test>: no such user",
        "450 4.2.0 The next hop says: greylisted",
        "250 2.1.5 Ok",
    ]
    assert replies[-1].code == 250
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})
    lab.relay.wait_for_log("refused rcpt=bob@r.test .*reason=reinject")
    lab.relay.wait_for_log("deferred rcpt=late@r.test .*reason=reinject")


def test_where_nobody_is_left_there_is_no_message(lab: Lab) -> None:
    lab.replies = {BOB: b"550 5.1.1 no"}
    assert lab.codes(BOB) == [250, 550]
    with lab.client() as client:
        for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{BOB}>"):
            client.command(command)
        assert client.command("DATA").code == 503
    assert lab.sink.messages == []
    assert lab.count("DATA") == 0


def test_transaction_that_asks_ends_with_rset_and_quit_before_the_content_comes(lab: Lab) -> None:
    with lab.client() as client:
        for command in ("MAIL FROM:<s@s.test> RET=HDRS", f"RCPT TO:<{ZOE}> NOTIFY=NEVER", f"RCPT TO:<{ALICE}>"):
            assert client.command(command).code == 250
        lab.heard.clear()
        assert client.command("DATA").code == 354
        assert lab.heard == ["RSET", "QUIT"]
        client.send_raw(LETTER + b".\r\n")
        assert client._read().code == 250
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})


def test_next_hop_hears_what_the_client_said_of_sender_and_recipient(lab: Lab) -> None:
    with lab.client() as client:
        client.command("MAIL FROM:<s@s.test> RET=HDRS ENVID=x BODY=8BITMIME")
        client.command(f"RCPT TO:<{ZOE}> NOTIFY=NEVER")
        said = [line for line in lab.heard if line.startswith(("MAIL", "RCPT"))]
        assert said == ["MAIL FROM:<s@s.test> RET=HDRS ENVID=x BODY=8BITMIME", f"RCPT TO:<{ZOE}> NOTIFY=NEVER"]


@pytest.mark.parametrize("ending", ["RSET", "QUIT", ""])
def test_client_that_gives_up_leaves_no_transaction_open(lab: Lab, ending: str) -> None:
    with lab.client() as client:
        for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ZOE}>"):
            client.command(command)
        if ending:
            client.command(ending)
        else:
            client._stream.close()
            client._socket.close()
        assert wait_until(lambda: lab.heard[-2:] == ["RSET", "QUIT"], 20), lab.heard


@pytest.mark.parametrize(
    "reply", [b"421 4.3.2 going down", b"354 go on", b"99 odd", b"250-never\r\n550 5.1.1 mixed", b"999 odd"]
)
def test_next_hop_whose_word_is_not_clear_turns_nobody_away_and_is_not_asked_again(lab: Lab, reply: bytes) -> None:
    """Nothing is sent because of it, and nothing refused: what is said to the copies rules."""
    lab.replies = {BOB: reply}
    with lab.client() as client:
        client.command("MAIL FROM:<s@s.test>")
        assert client.command(f"RCPT TO:<{BOB}>").code in (250, 550)
        lab.replies = {ZOE: b"550 5.1.1 no"}
        before = lab.count("RCPT")
        code = client.command(f"RCPT TO:<{ZOE}>").code
        assert (code, lab.count("RCPT")) in ((250, before), (550, before + 1))
    assert lab.sink.messages == []


def test_next_hop_that_refuses_the_sender_or_is_away_is_for_the_end(lab: Lab) -> None:
    for reply, code in ((b"553 5.7.1 not yours", 550), (b"451 4.7.1 later", 451), (b"530 5.7.0 log in", 451)):
        lab.other = lambda said, reply=reply: reply if said.startswith("MAIL") else None  # type: ignore[misc]
        assert lab.codes(ZOE) == [250, 250, 354, code]
    lab.other = lambda _: None
    with lab.client() as client:
        lab.sink.close()
        assert [reply.code for reply in client.send("s@s.test", [ZOE], LETTER)] == [250, 250, 354, 451]
    assert not lab.copies


def test_next_hop_that_lets_nobody_in_is_tried_once_a_message(lab: Lab) -> None:
    with lab.client() as client:
        lab.other = lambda said: b"451 4.3.0 too busy" if said.upper().startswith("EHLO") else None
        before = lab.count("EHLO")
        client.command("MAIL FROM:<s@s.test>")
        for address in (ALICE, BOB, ZOE):
            assert client.command(f"RCPT TO:<{address}>").code == 250
        assert lab.count("EHLO") == before + 1


def test_next_hop_that_does_not_answer_holds_up_rcpt_once_and_the_message_goes_on(make: Make) -> None:
    lab, go_on = make(timeout_s=5), threading.Event()

    def wait(said: str) -> None:
        if said.startswith(f"RCPT TO:<{BOB}>"):
            go_on.wait(50)

    lab.other = wait
    with lab.client() as client:
        client.command("MAIL FROM:<s@s.test>")
        assert client.command(f"RCPT TO:<{BOB}>").code == 250
        go_on.set()
        asked = lab.count("RCPT")
        assert client.command(f"RCPT TO:<{ALICE}>").code == 250
        assert lab.count("RCPT") == asked
        assert client.command("DATA").code == 354
        client.send_raw(LETTER + b".\r\n")
        assert client._read().code == 250
    assert lab.copies == Counter({ALICE: 1, BOB: 1})


def test_what_the_next_hop_says_to_the_copies_rules(lab: Lab) -> None:
    """It takes a recipient at first, and not when the copy comes."""
    asked: list[str] = []

    def once(said: str) -> bytes | None:
        if said.startswith(f"RCPT TO:<{BOB}>"):
            asked.append(said)
            return b"451 4.2.1 not now" if len(asked) == 2 else None
        return None

    lab.other = once
    assert lab.codes(ALICE, BOB) == [250, 250, 250, 354, 451]
    assert lab.copies == Counter({ALICE: 1})
    assert lab.codes(ALICE, BOB)[-1] == 250
    assert lab.copies == Counter({ALICE: 1, BOB: 1})


def test_whom_a_rule_turns_away_alone_is_asked_for_too_and_over_lmtp_all_is_the_same(make: Make) -> None:
    lab = make(protocol="lmtp")
    lab.replies = {BOB: b"550 no"}
    with lab.client(lmtp=True) as client:
        replies = client.send("s@s.test", [ALICE, BOB, ZOE], LETTER)
    assert [reply.code for reply in replies] == [250, 250, 550, 250, 354, 250, 250]
    assert str(replies[2]) == "550 5.0.0 The next hop says: no"


def test_where_it_is_not_to_be_asked_it_hears_of_no_recipient_before_the_copies(make: Make) -> None:
    lab = make(ask_recipients=False)
    lab.replies = {BOB: b"550 5.1.1 no"}
    with lab.client() as client:
        for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{BOB}>"):
            assert client.command(command).code == 250
        assert lab.count("RCPT") == 0
