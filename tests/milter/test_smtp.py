"""The listener of [reinject], played by the laboratory's SMTP server: what goes over the wire, and how it may end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from smilla.adapters.smtp import Listener, problems
from smilla.errors import JournalError, ReinjectError
from smilla.model import Client, Handover, Recipient, Submission
from tests.lab.processes import free_port
from tests.lab.sink import Sink

RAW = b"Subject: x\r\n\r\n.a\r\n..\r\n.\r\nb.\r\n\r\n.\r\nK\xe4se\0\r\n"
ALICE, BOB = Recipient("<alice@r.test>", None), Recipient("<bob@r.test>", None)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as server:
        yield server


def listener(sink: Sink, timeout_s: float = 5) -> Listener:
    return Listener(f"127.0.0.1:{sink.port}", timeout_s)


def submission(*recipients: Recipient, blocks: Sequence[bytes] = (RAW,), **more: Any) -> Submission:
    usual: dict[str, Any] = {"sender": "sam@s.test", "parameters": (), "client": Client(), "queue_id": "4QUEUE"}
    return Submission(recipients=recipients or (ALICE,), octets=lambda: iter(blocks), **{**usual, **more})


def send(
    sink: Sink, message: Submission, before_dot: Callable[[Sequence[Recipient]], None] = lambda _: None
) -> Handover:
    with listener(sink).connect() as connection:
        return connection.send(message, before_dot)


@pytest.mark.parametrize("size", [1, 2, 3, 5, len(RAW)])
def test_octets_arrive_as_they_are_however_they_are_cut(sink: Sink, size: int) -> None:
    blocks = [RAW[start : start + size] for start in range(0, len(RAW), size)]
    assert send(sink, submission(blocks=blocks)).accepted == (ALICE,)
    assert sink.messages[0].raw == RAW


@pytest.mark.parametrize("blocks", [[b"a\n.\r\n"], [b"a\n", b".\r\nRSET\r\n"], [b"a", b"\n", b"."], [b"\r\n\n."]])
def test_a_dot_after_a_bare_line_feed_is_never_sent(sink: Sink, blocks: list[bytes]) -> None:
    with pytest.raises(ReinjectError, match="bare line feed"):
        send(sink, submission(blocks=[b"Subject: x\r\n\r\n", *blocks]))
    assert sink.messages == []


def test_a_bare_line_feed_elsewhere_goes_as_it_is(sink: Sink) -> None:
    raw = b"Subject: x\r\n\r\na\nb\r\n.\r\n"
    send(sink, submission(blocks=[raw[:19], raw[19:]]))
    assert sink.messages[0].raw == raw


def test_a_missing_line_end_is_added_and_nothing_else(sink: Sink) -> None:
    send(sink, submission(blocks=[b"Subject: x\r\n\r\n", b"end"]))
    assert sink.messages[0].raw == b"Subject: x\r\n\r\nend\r\n"


def refusing(*answers: tuple[bytes, bytes]) -> Callable[[bytes], bytes | None]:
    return lambda line: next((answer for start, answer in answers if line.upper().startswith(start)), None)


def test_a_recipient_who_is_refused_is_told_and_the_others_are_served(sink: Sink) -> None:
    sink.answer = refusing((b"RCPT TO:<BOB", b"550 5.1.1 nobody"))
    told: list[Recipient] = []
    found = send(sink, submission(ALICE, BOB), told.extend)
    assert (found.accepted, found.refused) == ((ALICE,), ((BOB, "550 5.1.1 nobody"),))
    assert told == [ALICE]
    assert sink.messages[0].rcpt_to == ("alice@r.test",)


def test_a_reply_of_several_lines_is_told_as_one(sink: Sink) -> None:
    sink.answer = refusing((b"RCPT", b"550-5.1.1 no\r\n550-250 \r\t2.0.0 Ok\r\n550 5.1.1 more"))
    assert send(sink, submission(ALICE)).refused == ((ALICE, "550 5.1.1 no 250 2.0.0 Ok 5.1.1 more"),)


def test_where_all_are_refused_nothing_is_sent_and_the_connection_goes_on(sink: Sink) -> None:
    sink.answer = refusing((b"RCPT", b"450 4.2.0 later"))
    with listener(sink).connect() as connection:
        assert connection.send(submission(), lambda _: pytest.fail("no dot")).accepted == ()
        sink.answer = lambda _: None
        assert connection.send(submission(BOB), lambda _: None).accepted == (BOB,)
    assert [mail.rcpt_to for mail in sink.messages] == [("bob@r.test",)]


@pytest.mark.parametrize("reply", [b"451 4.3.0 later", b"552 5.3.4 too large", b"554 5.7.1 no"])
def test_a_refused_message_is_accepted_by_nobody(sink: Sink, reply: bytes) -> None:
    sink.answer = refusing((b".", reply))
    found = send(sink, submission(ALICE, BOB))
    assert (found.accepted, found.unknown) == ((), False)
    assert found.refused == ((ALICE, reply.decode()), (BOB, reply.decode()))


def broken(verb: bytes) -> Callable[[bytes], bytes | None]:
    def answer(line: bytes) -> bytes | None:
        if line.upper().startswith(verb):
            raise OSError("the listener dies")
        return None

    return answer


@pytest.mark.parametrize("verb", [b"EHLO", b"MAIL", b"RCPT", b"DATA"])
def test_a_listener_that_dies_before_the_final_dot_has_accepted_nothing(sink: Sink, verb: bytes) -> None:
    sink.answer = broken(verb)
    with pytest.raises(ReinjectError):
        send(sink, submission(), lambda _: pytest.fail("no dot"))
    assert sink.messages == []


def test_a_listener_that_dies_after_the_final_dot_leaves_it_unknown(sink: Sink) -> None:
    sink.answer = broken(b".")
    assert send(sink, submission()) == Handover((), (), unknown=True)


@pytest.mark.parametrize("early", [b"250 2.0.0 queued", b"421 4.4.2 timeout"])
@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b"DATA"])
def test_a_reply_that_comes_too_early_is_never_taken_for_that_to_the_final_dot(
    sink: Sink, verb: bytes, early: bytes
) -> None:
    sink.answer = refusing((verb, (b"354 go ahead" if verb == b"DATA" else b"250 2.0.0 OK") + b"\r\n" + early))
    with suppress(ReinjectError):
        assert send(sink, submission(), lambda _: pytest.fail("no dot")).accepted == ()
    assert sink.messages == []


@pytest.mark.parametrize("verb", [b"MAIL", b"DATA"])
def test_a_refused_command_ends_the_attempt(sink: Sink, verb: bytes) -> None:
    sink.answer = refusing((verb, b"451 4.3.0 later"))
    with pytest.raises(ReinjectError, match=r"451 4\.3\.0 later"):
        send(sink, submission())


def test_a_journal_that_cannot_be_written_stops_the_final_dot(sink: Sink) -> None:
    def full(_: object) -> None:
        raise JournalError("full")

    with pytest.raises(JournalError):
        send(sink, submission(), full)
    assert sink.messages == []


def test_octets_that_cannot_be_made_are_never_accepted_in_part(sink: Sink) -> None:
    def octets() -> Iterator[bytes]:
        yield b"Subject: x\r\n\r\n"
        raise ValueError("broken")

    message = Submission("sam@s.test", (), (ALICE,), octets, Client(), "")
    with pytest.raises(ValueError, match="broken"):
        send(sink, message)
    assert sink.messages == []


@pytest.mark.parametrize("raw", ["<a\r\nRCPT TO:<x@y>", "<a b@r.test>", "<a\0@r.test>", "<a\x7f@r.test>"])
def test_an_address_cannot_end_a_command(sink: Sink, raw: str) -> None:
    with pytest.raises(ReinjectError):
        send(sink, submission(Recipient(raw, None)))
    with pytest.raises(ReinjectError):
        send(sink, submission(sender=raw.strip("<>")))


def test_a_parameter_cannot_end_a_command(sink: Sink) -> None:
    with pytest.raises(ReinjectError):
        send(sink, submission(parameters=("ENVID=a\r\nRSET",)))


def test_parameters_are_passed_on_as_they_came(sink: Sink) -> None:
    sink.extensions = ("8BITMIME", "DSN", "SMTPUTF8")
    bob = Recipient("<bob@r.test>", None, ("NOTIFY=NEVER", "ORCPT=rfc822;b+2Bob@r.test", "X=y"))
    send(sink, submission(bob, parameters=("RET=HDRS", "ENVID=a+2B", "BODY=8BITMIME", "SIZE=99", "AUTH=<>")))
    (mail,) = sink.messages
    assert mail.mail_parameters == ("RET=HDRS", "ENVID=a+2B", "BODY=8BITMIME")
    assert mail.rcpt_parameters == (("NOTIFY=NEVER", "ORCPT=rfc822;b+2Bob@r.test"),)


def test_parameters_of_extensions_that_are_not_offered_stay_away(sink: Sink) -> None:
    sink.extensions = ("SIZE 1000",)
    send(sink, submission(parameters=("RET=HDRS", "BODY=8BITMIME")))
    assert sink.messages[0].mail_parameters == ()


def test_copy_whose_text_may_be_in_no_bounce_waits_for_a_listener_that_has_dsn(sink: Sink) -> None:
    sink.extensions = ("SIZE 1000",)
    with pytest.raises(ReinjectError, match="DSN"):
        send(sink, submission(parameters=("RET=HDRS",), needs_dsn=True))
    assert sink.messages == []


def test_mail_that_needs_smtputf8_waits_for_a_listener_that_has_it(sink: Sink) -> None:
    with pytest.raises(ReinjectError, match="SMTPUTF8"):
        send(sink, submission(sender="käse@s.test"))


def test_the_client_is_told_by_xforward_as_far_as_it_is_offered(sink: Sink) -> None:
    lines: list[bytes] = []

    def answer(line: bytes) -> bytes | None:
        lines.append(line)
        return b"250 2.0.0 ok" if line.startswith(b"XFORWARD") else None

    sink.answer = answer
    sink.extensions = ("XFORWARD NAME ADDR PROTO HELO SOURCE PORT",)
    client = Client(ip="2001:db8::1", host_name="a=b.test", helo="[x y]", port=4711)
    send(sink, submission(client=client))
    (line,) = [line for line in lines if line.startswith(b"XFORWARD")]
    assert line == (b"XFORWARD NAME=a+3Db.test ADDR=IPV6:2001:db8::1 PROTO=ESMTP HELO=[x+20y] SOURCE=REMOTE PORT=4711")
    assert not [line for line in lines if line.startswith(b"XCLIENT")]


def test_what_the_listener_lacks_is_told(sink: Sink) -> None:
    sink.extensions = ("8BITMIME",)
    found = problems(f"127.0.0.1:{sink.port}", 5)
    assert [severity for severity, _ in found] == ["warning"] * 3
    assert problems(f"127.0.0.1:{free_port()}", 5)[0][0] == "error"


def test_blanks_within_the_brackets_are_no_part_of_an_address(sink: Sink) -> None:
    send(sink, submission(Recipient("< bob@r.test >", None)))
    assert sink.messages[0].rcpt_to == ("bob@r.test",)


def test_the_reply_to_the_final_dot_may_take_its_time(sink: Sink) -> None:
    waited: list[int] = []

    def slow(line: bytes) -> None:
        if line == b".":
            time.sleep(1.5)

    sink.answer = slow
    with listener(sink, timeout_s=20).connect() as connection:

        def impatient(_: object) -> None:
            assert connection._client.sock is not None
            connection._client.sock.settimeout(0.5)

        found = connection.send(submission(), impatient, lambda: waited.append(1))
    assert (found.accepted, found.unknown) == ((ALICE,), False)


def test_no_name_server_is_asked_for_our_own_name(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("the machine's own name was looked up, which may take as long as the name servers like")

    monkeypatch.setattr("socket.getfqdn", asked)
    monkeypatch.setattr("socket.gethostbyaddr", asked)
    assert send(sink, submission()).accepted == (ALICE,)


def test_size_that_the_listener_takes_is_remembered_for_a_while_and_kept_while_it_is_away() -> None:
    with Sink(extensions=("SIZE 12345",)) as sink:
        known = listener(sink)
        assert known.size_limit() == 12345
        sink.extensions = ("SIZE 777",)
        assert known.size_limit() == 12345
        known._limit_until = 0
        assert known.size_limit() == 777
    known._limit_until = 0
    assert known.size_limit() == 777
    assert Listener(f"127.0.0.1:{free_port()}", 5).size_limit() == 0


@pytest.mark.parametrize("said", ["SIZE", "SIZE 0", "SIZE x", "DSN"])
def test_size_that_the_listener_does_not_name_is_not_known(said: str) -> None:
    with Sink(extensions=(said,)) as sink:
        assert listener(sink).size_limit() == 0
