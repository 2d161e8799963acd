"""The relay, its client and its next hop played by the laboratory: what it takes, and who gets what.

client -> smilla relay -> sink
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smilla.adapters.journal import SQLiteJournal
from tests.lab.client import Reply, SMTPClient
from tests.lab.mail import inside
from tests.lab.processes import LOOPBACK, processes_in, wait_until
from tests.lab.relay import Relay
from tests.lab.sink import ReceivedMail, Sink
from tests.milter.material import CANARY, NOBODY, Keys, assert_without_canary

ALICE, BOB, ERIN, ZOE = "alice@r.test", "bob@r.test", "erin@r.test", "zoe@r.test"
# The next hop is not asked at RCPT, so it refuses when the copies come.
LATE: dict[str, Any] = {"relay": {"ask_recipients": False}}
LETTER = (
    b"From: sender@s.test\r\nTo: alice@r.test, bob@r.test, zoe@r.test\r\nSubject: a letter\r\n"
    b"Message-ID: <1@s.test>\r\n\r\n" + CANARY + b"\r\n.\r\n..\r\nend\r\n"
)


@dataclass
class Lab:
    """A relay and its next hop."""

    relay: Relay
    sink: Sink

    def client(self, **options: Any) -> SMTPClient:
        return SMTPClient(self.relay.smtp_port, **options)

    def send(self, to: Sequence[str], message: bytes = LETTER, sender: str = "sender@s.test") -> Reply:
        """One message over a connection of its own; the last reply."""
        with self.client() as client:
            return client.send(sender, to, message)[-1]

    @property
    def copies(self) -> Counter[str]:
        """How many copies the next hop has taken for each."""
        return Counter(address for mail in self.sink.messages for address in mail.rcpt_to)

    def copy(self, address: str) -> ReceivedMail:
        """The one copy for this recipient."""
        [found] = [mail for mail in self.sink.messages if address in mail.rcpt_to]
        return found

    @property
    def owes_nobody(self) -> bool:
        """Whether all messages are over for the journal: the same once more is another one."""
        with contextlib.closing(SQLiteJournal(str(self.relay.folder / "spool"), 0)) as journal:
            return journal.backlog().messages == 0

    def refuse(self, start: bytes, reply: bytes) -> None:
        """Commands to the next hop that begin so are refused."""
        self.sink.answer = lambda line: reply if line.upper().startswith(start) else None

    def take_all(self) -> None:
        self.sink.answer = lambda _: None


Make = Callable[..., Lab]


@pytest.fixture
def make(keys: Keys, folder: Path) -> Iterator[Make]:
    made: list[Relay] = []
    sinks: list[Sink] = []
    places: list[Path] = []

    def start(extensions: tuple[str, ...] | None = None, **more: Any) -> Lab:
        place = Path(tempfile.mkdtemp(prefix="relay-", dir=folder))
        places.append(place)
        sink = Sink(extensions=extensions) if extensions is not None else Sink()
        sinks.append(sink)
        settings = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            **more,
            "relay": {"timeout_s": 5, **more.get("relay", {})},
        }
        relay = Relay(place, NOBODY, sink.port, settings)
        made.append(relay)
        return Lab(relay.start(), sink)

    yield start
    for relay in made:
        relay.stop()
        assert_without_canary(relay.log.encode())
        assert "internal-error" not in relay.log
        assert "Traceback" not in relay.log
    for sink in sinks:
        sink.close()
    for place in places:
        assert processes_in(place) == []
        assert not [p for p in place.rglob("*") if p.is_file() and CANARY in p.read_bytes()]
        shutil.rmtree(place)


@pytest.fixture
def lab(make: Make) -> Lab:
    return make()


def test_each_recipient_gets_a_copy_of_their_own_form_and_the_client_hears_250(lab: Lab, keys: Keys) -> None:
    reply = lab.send([ALICE, BOB, ZOE])
    assert (reply.code, lab.copies) == (250, Counter({ALICE: 1, BOB: 1, ZOE: 1}))
    for name, key in (("alice", keys.alice), ("bob", keys.bob)):
        raw = lab.copy(f"{name}@r.test").raw
        assert_without_canary(raw)
        file = lab.relay.folder / "copy.eml"
        file.write_bytes(raw)
        assert key.open(file) == inside(LETTER)
        file.unlink()
    assert lab.copy(ZOE).raw.endswith(LETTER)
    assert lab.copy(ZOE).raw.startswith(b"Received: from client.test (unknown [127.0.0.1])\r\n\tby ")


def test_envelope_and_parameters_arrive_as_they_were_given(lab: Lab) -> None:
    with lab.client() as client:
        assert client.command("MAIL FROM:<> RET=HDRS ENVID=q+2B1 BODY=8BITMIME").code == 250
        assert client.command("RCPT TO:<zoe@r.test> NOTIFY=NEVER ORCPT=rfc822;z@r.test").code == 250
        assert client.command("DATA").code == 354
        client.send_raw(b"X: y\r\n\r\n\xff\r\n.\r\n")
        assert client._read().code == 250
    mail = lab.copy(ZOE)
    assert (mail.mail_from, mail.mail_parameters) == ("", ("RET=HDRS", "ENVID=q+2B1", "BODY=8BITMIME"))
    assert mail.rcpt_parameters == (("NOTIFY=NEVER", "ORCPT=rfc822;z@r.test"),)
    assert mail.raw.endswith(b"X: y\r\n\r\n\xff\r\n")


def test_extensions_are_those_of_the_next_hop(make: Make) -> None:
    with make().client() as client:
        offered = client.ehlo.text.splitlines()[1:]
    assert "SIZE 104857600" in offered
    assert {"8BITMIME", "DSN"} <= set(offered)
    assert "SMTPUTF8" not in offered
    assert not [line for line in offered if line.startswith(("AUTH", "STARTTLS", "CHUNKING"))]
    with make(extensions=()).client() as client:
        words = {line.split()[0] for line in client.ehlo.text.splitlines()[1:]}
        assert words == {"ENHANCEDSTATUSCODES", "PIPELINING", "XFORWARD"}
        assert client.command("MAIL FROM:<a@s.test> BODY=8BITMIME").code == 555


def test_message_larger_than_the_next_hop_takes_is_refused_at_its_end_and_an_endless_one_is_cut_off(
    make: Make,
) -> None:
    lab = make(extensions=("SIZE 1000",))
    with lab.client() as client:
        body = b"X: y\r\n\r\n" + b"z" * 1490 + b"\r\n"
        assert str(client.send("a@s.test", [ZOE], body, mail_parameters="")[-1]).startswith("552 5.3.4")
        assert client.send("a@s.test", [ZOE], b"X: y\r\n\r\nz\r\n", mail_parameters="")[-1].code == 250
        for command in ("MAIL FROM:<a@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(command)
        client.send_raw(b"X: y\r\n\r\n" + b"z" * 2100)
        assert client._read().code == 421
    assert lab.copies[ZOE] == 1


def test_nobody_logs_in_where_that_is_not_asked_for_though_the_next_hop_offers_it(make: Make) -> None:
    with make(extensions=("8BITMIME", "AUTH PLAIN")).client() as client:
        assert "AUTH" not in client.ehlo.text
        assert client.command("AUTH PLAIN AHgAeQ==").code == 502
        assert client.command("MAIL FROM:<a@s.test> AUTH=<>").code == 555


def test_several_messages_over_one_connection_and_one_that_was_begun_and_dropped(lab: Lab) -> None:
    with lab.client() as client:
        assert client.send("a@s.test", [ZOE], LETTER)[-1].code == 250
        assert client.command("MAIL FROM:<b@s.test>").code == 250
        assert client.command("RCPT TO:<bob@r.test>").code == 250
        assert client.command("RSET").code == 250
        assert client.send("c@s.test", [ALICE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ZOE: 1, ALICE: 1})


def test_same_message_sent_twice_comes_twice(lab: Lab) -> None:
    assert [lab.send([ZOE]).code, lab.send([ZOE]).code] == [250, 250]
    assert lab.copies[ZOE] == 2


@pytest.mark.parametrize("reply", [b"451 4.3.0 not now", b"550 5.1.1 never"])
def test_one_recipient_whom_the_next_hop_does_not_take_and_the_retry_gives_nobody_a_second_copy(
    make: Make, reply: bytes
) -> None:
    lab = make(**LATE)
    lab.refuse(b"RCPT TO:<BOB@", reply)
    answer = lab.send([ALICE, BOB, ZOE])
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})
    if reply.startswith(b"451"):
        assert answer.code == 451
        lab.take_all()
        assert lab.send([ALICE, BOB, ZOE]).code == 250
        assert lab.copies == Counter({ALICE: 1, BOB: 1, ZOE: 1})
    else:
        assert (answer.code, answer.text[:22]) == (550, "5.1.1 <bob@r.test>: Th")
        assert "all others have their copy" in answer.text
        lab.relay.wait_for_log("refused rcpt=bob@r.test .*reason=reinject")
        lab.relay.wait_for_log("encrypted rcpt=alice@r.test")


def test_one_fails_bounce_has_the_sender_told_of_whom_the_next_hop_refuses_for_good(make: Make) -> None:
    lab = make(policy={"one_fails": "bounce"}, **LATE)
    lab.refuse(b"RCPT TO:<BOB@", b"550 5.1.1 no such user")
    assert lab.send([ALICE, BOB, ZOE]).code == 250
    assert lab.copies == Counter({ALICE: 1, ZOE: 1, "sender@s.test": 1})
    note = lab.copy("sender@s.test")
    assert note.mail_from == ""
    assert b"Final-Recipient: rfc822; bob@r.test\r\nAction: failed\r\nStatus: 5.1.1\r\n" in note.raw
    assert b"encrypted for them" not in note.raw
    assert_without_canary(note.raw)


def test_notification_that_the_next_hop_does_not_take_leaves_the_message_with_the_client(make: Make) -> None:
    lab = make(policy={"one_fails": "bounce"}, **LATE)
    refused = (b"RCPT TO:<BOB@", b"RCPT TO:<SENDER@")
    lab.sink.answer = lambda line: b"550 5.1.1 no" if line.upper().startswith(refused) else None
    assert lab.send([ALICE, BOB]).code == 451
    lab.refuse(b"RCPT TO:<BOB@", b"550 5.1.1 no such user")
    assert lab.send([ALICE, BOB]).code == 250
    assert lab.copies == Counter({ALICE: 1, "sender@s.test": 1})


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_reply_of_several_lines_is_passed_on_as_one_or_the_client_takes_a_line_for_its_next_answer(
    make: Make, protocol: str
) -> None:
    lab = make(relay={"protocol": protocol})
    lab.refuse(b"RCPT TO:<BOB@", b"550-5.1.1 no such user\r\n550-250 2.0.0 \rOk\r\n550 5.1.1 at all")
    with lab.client(lmtp=protocol == "lmtp") as client:
        *_, told = client.send("sender@s.test", [BOB], LETTER)
        assert told.code == 550
        assert "no such user 250 2.0.0 Ok 5.1.1 at all" in told.text
        assert client.command("VRFY x").code == 252


def test_null_sender_and_the_only_recipient_get_the_refusal_itself(make: Make) -> None:
    lab = make(policy={"one_fails": "bounce"}, **LATE)
    lab.refuse(b"RCPT TO:<BOB@", b"550 5.1.1 no such user")
    assert lab.send([ALICE, BOB], sender="").code == 550
    assert lab.send([BOB]).code == 550
    assert lab.copies == Counter({ALICE: 1})


def test_recipient_who_must_not_get_plaintext_holds_up_the_whole_message(make: Make) -> None:
    lab = make(policy={"no_key": "refuse"})
    reply = lab.send([ALICE, ZOE])
    assert (reply.code, reply.text[:19]) == (550, "5.7.5 <zoe@r.test>:")
    assert not lab.copies


def test_next_hop_that_is_gone_has_the_client_come_again(lab: Lab) -> None:
    lab.sink.close()
    with socket.create_connection((LOOPBACK, lab.relay.smtp_port)) as client:
        client.settimeout(20)
        client.sendall(b"EHLO c.test\r\n")
        said = b""
        while block := client.recv(4096):
            said += block
    assert said.splitlines()[-1].startswith(b"421 4.4.1 ")
    assert "next-hop-gone" in lab.relay.log


def test_next_hop_that_goes_while_the_message_comes_leaves_it_with_the_client(lab: Lab) -> None:
    with lab.client() as client:
        lab.sink.close()
        assert client.send("sender@s.test", [ALICE, ZOE], LETTER)[-1].code == 451
    lab.relay.wait_for_log("copy-failed rcpt=zoe@r.test")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"X: y\r\n\r\na\n.\nMAIL FROM:<x@s.test>\r\n.\r\n", "550 5.6.0"),
        (b"X: y\r\n\r\na\n.\r\nMAIL FROM:<x@s.test>\r\n.\r\n", "550 5.6.0"),
        (b"X: y\r\n\r\na\r\n.\nMAIL FROM:<x@s.test>\r\n.\r\n", "550 5.6.0"),
        (b"X: y\r\n\r\na\r.\rMAIL FROM:<x@s.test>\r\n.\r\n", "550 5.6.0"),
        (b"X: y\r\n\r\na\r\n.\rMAIL FROM:<x@s.test>\r\n.\r\n", "550 5.6.0"),
        (b"X: y\n\na\r\n.\r\n", "550 5.6.0"),
        (b"X: y\r\n\r\na\0b\r\n.\r\n", "550 5.6.0"),
        (b"X: " + b"y" * (5 << 20) + b"\r\n\r\na\r\n.\r\n", "552 5.3.4"),
        (b"Received: x\r\n" * 101 + b"\r\na\r\n.\r\n", "554 5.4.6"),
    ],
)
def test_what_servers_read_in_different_ways_is_refused_whole_and_ends_nothing(
    lab: Lab, content: bytes, code: str
) -> None:
    with lab.client() as client:
        for line in ("MAIL FROM:<a@s.test>", f"RCPT TO:<{ZOE}>"):
            assert client.command(line).code == 250
        assert client.command("DATA").code == 354
        client.send_raw(content)
        assert str(client._read()).startswith(code)
        assert client.send("a@s.test", [ZOE], LETTER)[-1].code == 250
    assert [mail.raw.endswith(LETTER) for mail in lab.sink.messages] == [True]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_content_may_be_cut_anywhere_on_its_way(lab: Lab, size: int) -> None:
    with lab.client() as client:
        for line in ("MAIL FROM:<a@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(line)
        client._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stuffed = b"..\r\n" + LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        for at in range(0, len(stuffed), size):
            client.send_raw(stuffed[at : at + size])
        assert client._read().code == 250
    # Postfix and others do the same with a first line that is no header field.
    assert lab.copy(ZOE).raw.endswith(b"\r\n\r\n.\r\n" + LETTER)


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@s.test>\r\n",
        b"EHLO x\r\nMAIL FROM:<a@s.test>\r\n",
        b"EHLO x\n",
        b"EHLO \x00x\r\n",
        b"NOOP " + b"x" * 20_000 + b"\r\n",
        b"x" * 100_000,
        b"FOO\r\n" * 30,
    ],
)
def test_client_that_does_not_keep_to_the_protocol_is_cut_off(lab: Lab, octets: bytes) -> None:
    with socket.create_connection((LOOPBACK, lab.relay.smtp_port)) as client:
        client.settimeout(20)
        client.recv(4096)
        client.sendall(octets)
        said = b""
        try:
            while block := client.recv(4096):
                said += block
        except ConnectionResetError:
            pass  # it had sent more than was read
    assert b"421 4.7.0 " in said or not said
    assert not lab.copies


def test_data_is_not_taken_before_it_was_asked_for(lab: Lab) -> None:
    with lab.client() as client:
        client.command("MAIL FROM:<a@s.test>")
        client.command(f"RCPT TO:<{ZOE}>")
        assert client.command(b"DATA\r\nX: y\r\n\r\nz\r\n.").code == 421
    assert not lab.copies


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["MAIL FROM:<a@s.test> SIZE=104857601"], 552),
        (["MAIL FROM:<a@s.test> SIZE=x"], 501),
        (["MAIL FROM:<a@s.test> FOO=1"], 555),
        (["MAIL FROM:<a@s.test> RET=HDRS RET=FULL"], 555),
        (["MAIL FROM:a@s.test"], 501),
        (["MAIL FROM:<\xe4@s.test>"], 550),
        (["RCPT TO:<a@s.test>"], 503),
        (["DATA"], 503),
        (["MAIL FROM:<a@s.test>", "DATA"], 503),
        (["MAIL FROM:<a@s.test>", "MAIL FROM:<a@s.test>"], 503),
        (["MAIL FROM:<a@s.test>", "RCPT TO:<>"], 501),
        (["MAIL FROM:<a@s.test>", "RCPT TO:<zoe@r.test> NOTIFY=NEVER FOO"], 555),
        (["MAIL FROM:<a@s.test>", "XFORWARD NAME=x"], 503),
        (["XFORWARD FOO=x"], 501),
        (["STARTTLS"], 502),
        (["BDAT 3 LAST"], 502),
        (["AUTH PLAIN AHgAeQ=="], 502),
        (["EHLO"], 501),
    ],
)
def test_what_is_not_as_the_protocol_says_is_refused_and_the_connection_goes_on(
    lab: Lab, lines: list[str], code: int
) -> None:
    with lab.client() as client:
        for line in lines[:-1]:
            assert client.command(line).code == 250
        assert client.command(lines[-1]).code == code
        assert client.command("NOOP").code == 250


def test_client_of_the_mta_is_described_by_xforward_and_passed_on_so(make: Make) -> None:
    lab = make(extensions=("XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",))
    said: list[bytes] = []
    lab.sink.answer = lambda line: said.append(line) or (b"250 ok" if line.startswith(b"XFORWARD") else None)  # type: ignore[func-returns-value]
    with lab.client() as client:
        assert client.command("XFORWARD NAME=c.test ADDR=IPV6:2001:db8::1 PORT=25 HELO=h.test IDENT=4FbX").code == 250
        assert client.command("XFORWARD PROTO=ESMTP SOURCE=REMOTE").code == 250
        assert client.send("a@s.test", [ZOE], LETTER, mail_parameters="")[-1].code == 250
        assert client.send("b@s.test", [ALICE], LETTER, mail_parameters="")[-1].code == 250
    [asked, first, _, second] = [line for line in said if line.startswith(b"XFORWARD")]
    assert asked == first
    assert b" ADDR=IPV6:2001:db8::1 " in first
    assert first.endswith(b" IDENT=4FbX")
    assert b" ADDR=127.0.0.1 " in second
    assert b"Received: from h.test (c.test [2001:db8::1])\r\n" in lab.copy(ZOE).raw
    assert "\n4FbX plain rcpt=zoe@r.test" in lab.relay.log


def test_client_that_the_mta_does_not_know_is_not_taken_for_this_machine(make: Make) -> None:
    lab = make(mode="auto", local_domains=["r.test"], policy={"no_key": "plain"})
    for address, direction in (("[UNAVAILABLE]", "inbound"), ("127.0.0.1", "outbound")):
        with lab.client() as client:
            assert client.command(f"XFORWARD NAME=x ADDR={address}").code == 250
            assert client.send("a@s.test", ["a@elsewhere.test"], LETTER)[-1].code == 250
        lab.relay.wait_for_log(f"message .*direction={direction} ")
    assert b"[127.0.0.1]" not in lab.sink.messages[0].raw_header.partition(b"\r\n\tby")[0]


def test_mixed_defer_keeps_only_what_needs_several_forms(make: Make) -> None:
    lab = make(policy={"mixed": "defer"})
    assert lab.send([ALICE, ZOE]).code == 451
    assert [lab.send([ALICE]).code, lab.send([ZOE]).code] == [250, 250]
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})


def test_too_many_recipients_come_in_another_transaction(make: Make) -> None:
    lab = make(reinject={"max_copies": 1})
    with lab.client() as client:
        replies = client.send("a@s.test", [ALICE, BOB], LETTER)
    assert [reply.code for reply in replies] == [250, 250, 452, 354, 250]
    assert lab.copies == Counter({ALICE: 1})


def test_observing_relay_passes_everything_on_and_says_what_it_would_do(make: Make) -> None:
    lab = make(observe=True, policy={"no_key": "refuse"})
    assert lab.send([ALICE, ZOE]).code == 250
    [mail] = lab.sink.messages
    assert (mail.rcpt_to, mail.raw.endswith(LETTER)) == ((ALICE, ZOE), True)
    lab.relay.wait_for_log("observed would=refused rcpt=zoe@r.test")


def test_slow_next_hop_holds_up_its_own_message_only(make: Make) -> None:
    lab = make(relay={"ask_recipients": False, "timeout_s": 60})
    go_on, slow = threading.Event(), b"RCPT TO:<ZOE@"

    def wait(line: bytes) -> None:
        if line.upper().startswith(slow):
            go_on.wait(50)

    lab.sink.answer = wait
    with lab.client() as client:
        for line in ("MAIL FROM:<a@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(line)
        client.send_raw(b"X: slow\r\n\r\n.\r\n")
        assert lab.send([ALICE]).code == 250
        assert lab.copies == Counter({ALICE: 1})
        go_on.set()
        assert client._read().code == 250
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})


@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("is_lmtp", [False, True])
@pytest.mark.parametrize("group", [b"", b"QUIT\r\n"], ids=["dot", "dot and QUIT"])  # the latter is what Postfix sends
def test_client_that_dies_before_its_answer_gets_no_second_copy_when_it_comes_again(
    make: Make, is_lmtp: bool, is_reset: bool, group: bytes
) -> None:
    """The kernel says that a process has died by FIN, or by RST if something was left unread."""
    lab = make(**(LMTP if is_lmtp else {}))
    go_on, has_begun = threading.Event(), threading.Event()

    def wait(line: bytes) -> None:
        if line == b".":
            has_begun.set()
            go_on.wait(50)

    lab.sink.answer = wait
    client = lab.client(lmtp=is_lmtp)
    for command in ("MAIL FROM:<sender@s.test> BODY=8BITMIME", f"RCPT TO:<{ZOE}>", "DATA"):
        client.command(command)
    client.send_raw(LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n" + group)
    assert has_begun.wait(50)
    if is_reset:
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client._stream.close()
    client._socket.close()
    go_on.set()
    lab.take_all()
    lab.sink.wait_for(1)
    lab.relay.wait_for_log("message .*reply=.250")
    assert each(lab, [ZOE]) == [250] if is_lmtp else lab.send([ZOE]).code == 250
    assert lab.copies[ZOE] == 1
    lab.relay.wait_for_log("already-sent rcpt=zoe@r.test")
    assert each(lab, [ZOE]) == [250] if is_lmtp else lab.send([ZOE]).code == 250
    assert lab.copies[ZOE] == 2  # sent once more


@pytest.mark.parametrize("left_unread", [True, False], ids=["as Postfix", "to the end"])
def test_client_that_says_quit_beside_the_dot_and_reads_the_answer_may_send_the_same_again(
    lab: Lab, left_unread: bool
) -> None:
    """Postfix leaves the answer to QUIT unread (smtp_skip_quit_response), which its system then refuses."""
    for times in (1, 2):
        client = lab.client(timeout_s=20)
        for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(command)
        client.send_raw(b"Message-ID: <group@s.test>\r\n\r\nin a group\r\n.\r\nQUIT\r\n")
        told = b""
        while told.count(b"\n") < (1 if left_unread else 2):
            told += client._socket.recv(1)
        assert re.fullmatch(rb"250 .*\r\n" if left_unread else rb"250 .*\r\n221 .*\r\n", told)
        client._stream.close()
        client._socket.close()
        assert lab.copies[ZOE] == times
        assert wait_until(lambda: lab.owes_nobody, 30)  # the relay has seen that the client read the answer


def test_two_messages_in_a_group_may_both_be_sent_again(lab: Lab) -> None:
    letter = b"Message-ID: <%d@s.test>\r\n\r\nin a group\r\n.\r\n"
    begin = f"MAIL FROM:<s@s.test>\r\nRCPT TO:<{ZOE}>\r\nDATA\r\n".encode()
    for times in (2, 4):
        with lab.client(timeout_s=20) as client:
            client.send_raw(begin)
            assert [client._read().code for _ in range(3)] == [250, 250, 354]
            client.send_raw(letter % 1 + begin)
            assert [client._read().code for _ in range(4)] == [250, 250, 250, 354]
            client.send_raw(letter % 2)
            assert client._read().code == 250
        assert lab.copies[ZOE] == times


def test_client_that_says_no_more_but_reads_the_answer_may_send_the_same_again(lab: Lab) -> None:
    for _ in range(2):
        with lab.client(timeout_s=20) as client:
            for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
                client.command(command)
            client.send_raw(b"Message-ID: <half@s.test>\r\n\r\nhalf closed\r\n.\r\n")
            client._socket.shutdown(socket.SHUT_WR)
            assert client._read().code == 250
            with pytest.raises(EOFError):
                client._read()
    assert lab.copies[ZOE] == 2


@pytest.mark.parametrize("command", [b"MAIL", b"DATA"])
def test_client_hears_why_the_next_hop_refuses_a_message(make: Make, command: bytes) -> None:
    lab = make(**LATE)
    lab.refuse(command, b"554 5.7.1 Sender address rejected: not owned by user")
    told = lab.send([ZOE])
    assert (told.code, told.text.partition(" ")[0]) == (550, "5.7.1")
    assert told.text.endswith("The copy was refused: 554 5.7.1 Sender address rejected: not owned by user")
    lab.refuse(command, b"451 4.7.1 later")
    assert lab.send([ZOE]).code == 451
    lab.take_all()
    assert lab.send([ZOE]).code == 250
    assert lab.copies == Counter({ZOE: 1})


def test_stopping_relay_ends_what_it_has_begun_and_begins_nothing_new(lab: Lab) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(line: bytes) -> None:
        if line == b".":
            begun.set()
            go_on.wait(50)

    lab.sink.answer = wait
    with lab.client() as client, lab.client() as late:
        for command in ("MAIL FROM:<a@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(command)
        client.send_raw(b"X: y\r\n\r\n.\r\n")
        assert begun.wait(50)
        lab.relay.child.tell_to_end()
        lab.relay.wait_for_log("stopping")

        def is_turned_away() -> bool:
            code = late.command("MAIL FROM:<b@s.test>").code
            return code == 421 or late.command("RSET").code != 250

        assert wait_until(is_turned_away, 30)
        go_on.set()
        assert client._read().code == 250
    assert wait_until(lambda: not lab.relay.running, 30)
    assert lab.copies == Counter({ZOE: 1})


def test_reload_counts_for_what_begins_afterwards_and_a_faulty_file_changes_nothing(lab: Lab) -> None:
    settings: Any = dict(lab.relay.settings)
    lab.relay.write_config({**settings, "policy": {"no_key": "hold"}})
    lab.relay.reload()
    lab.relay.wait_for_log("reload-failed")
    assert lab.send([ZOE]).code == 250
    lab.relay.write_config({**settings, "relay": {**settings["relay"], "next_hop": ""}})
    lab.relay.reload()
    lab.relay.wait_for_log("reload-failed .*next_hop")
    assert lab.send([ALICE]).code == 250
    lab.relay.write_config({**settings, "policy": {"no_key": "refuse"}})
    lab.relay.reload()
    assert lab.send([ZOE]).code == 550


def probed(lab: Lab) -> dict[str, tuple[str, str]]:
    """What the doctor says of the relay and its next hop: severity and text by subject."""
    argv = [sys.executable, "-m", "smilla", "config", "check", "--probe", "--json", "--config", str(lab.relay.config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["findings"]
    assert not {each["kind"] for each in found} & {"socket", "not-running", "stage-way", "listener"}
    return {each["text"]: (each["severity"], each["subject"]) for each in found if each["kind"] == "next-hop"}


def test_doctor_asks_the_next_hop_and_nothing_that_only_the_filter_needs(make: Make) -> None:
    lab = make(extensions=("8BITMIME", "DSN"))
    hop, own = f"next hop 127.0.0.1:{lab.sink.port}", f"relay inet:{lab.relay.smtp_port}@127.0.0.1"
    assert probed(lab) == {
        "answers, in the clear, on loopback": ("ok", hop),
        "does not offer SMTPUTF8, so it is not passed on": ("warning", hop),
        "answers": ("ok", own),
    }
    lab.sink.close()
    assert probed(lab) == {"[Errno 111] Connection refused": ("error", hop)}


LMTP: dict[str, Any] = {"relay": {"protocol": "lmtp"}}
LATE_LMTP: dict[str, Any] = {"relay": {"protocol": "lmtp", "ask_recipients": False}}


def each(lab: Lab, to: Sequence[str], message: bytes = LETTER) -> list[int]:
    """The codes that the recipients are told over LMTP."""
    with lab.client(lmtp=True) as client:
        replies = client.send("sender@s.test", to, message)
    return [reply.code for reply in replies[2 + len(to) :]]


def test_over_lmtp_each_recipient_is_told_their_own_answer(make: Make) -> None:
    lab = make(policy={"no_key": "refuse", "one_fails": "bounce"}, **LATE_LMTP)
    lab.refuse(b"RCPT TO:<BOB@", b"451 4.2.1 not now")
    assert each(lab, [ALICE, BOB, ZOE, ALICE]) == [250, 451, 550, 250]
    assert lab.copies == Counter({ALICE: 1})
    lab.refuse(b"RCPT TO:<BOB@", b"550 5.1.1 never")
    assert each(lab, [BOB]) == [550]
    assert lab.copies == Counter({ALICE: 1})
    line = lab.relay.wait_for_log("message .*The copy was refused")
    assert "reply=" in line
    for told in ("encrypted rcpt=alice", "deferred rcpt=bob", "refused rcpt=zoe", "refused rcpt=bob"):
        lab.relay.wait_for_log(told)


def test_over_lmtp_whoever_has_a_copy_gets_no_second_one_though_the_mta_asks_for_all(make: Make) -> None:
    lab = make(**LATE_LMTP)
    lab.refuse(b"RCPT TO:<BOB@", b"451 4.2.1 not now")
    assert each(lab, [ALICE, BOB]) == [250, 451]
    lab.take_all()
    assert each(lab, [BOB]) == [250]
    assert lab.copies == Counter({ALICE: 1, BOB: 1})
    assert each(lab, [ALICE, BOB]) == [250, 250]  # sent once more
    assert lab.copies == Counter({ALICE: 2, BOB: 2})


def test_over_lmtp_what_is_wrong_with_the_message_is_told_to_each(make: Make) -> None:
    lab = make(**LMTP)
    assert each(lab, [ALICE, BOB], b"X: y\r\n\r\na\nb\r\n") == [550, 550]
    assert each(lab, [ALICE, BOB], b"Received: x\r\n" * 101 + b"\r\n") == [554, 554]
    lab.sink.close()
    assert each(make(observe=True, **LMTP), [ALICE, ZOE]) == [250, 250]


def test_over_lmtp_a_next_hop_that_goes_leaves_all_that_it_has_not_taken_with_the_mta(make: Make) -> None:
    lab = make(**LMTP)

    def gone(line: bytes) -> bytes | None:
        if line.upper().startswith(b"RCPT TO:<BOB@"):
            lab.sink.cut_connections()
        return None

    lab.sink.answer = gone
    assert each(lab, [ALICE, BOB, ZOE]) == [250, 451, 451]
    lab.take_all()
    assert each(lab, [BOB, ZOE]) == [250, 250]
    assert lab.copies == Counter({ALICE: 1, BOB: 1, ZOE: 1})


def test_each_protocol_refuses_the_greeting_of_the_other(make: Make, lab: Lab) -> None:
    with lab.client() as client:
        assert client.command("LHLO x").code == 502
    with make(**LMTP).client(lmtp=True) as client:
        assert client.command("EHLO x").code == 502
        assert client.greeting.text.endswith("LMTP smilla")


def test_observing_over_lmtp_tells_each_what_the_next_hop_says(make: Make) -> None:
    lab = make(observe=True, policy={"no_key": "refuse"}, **LATE_LMTP)
    lab.refuse(b"RCPT TO:<BOB@", b"550 5.1.1 never")
    assert each(lab, [ALICE, BOB, ZOE]) == [250, 550, 250]
    [mail] = lab.sink.messages
    assert (mail.rcpt_to, mail.raw.endswith(LETTER)) == ((ALICE, ZOE), True)
