"""Several messages on a connection, messages that end early, connections that end anywhere: nothing leaks from one
message into another, and the filter goes on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.milter.client import ALL_NR, MilterClient, Offer, ProtocolError
from tests.milter.material import CANARY, NOBODY, plain_mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients, Mail
    from tests.milter.conftest import Starter

    Opened = Callable[[Mail, Mail, str], None]

OTHER = plain_mail(b"Content-Type: text/x-other", b"X-Smilla: foreign", body=b"another body " + CANARY)


def steps_of(client: MilterClient) -> Iterator[Callable[[], object]]:
    """Each step of a message that must never end well."""
    yield lambda: client.mail("<other@s.test>")
    yield lambda: client.rcpt("<bob@r.test>")
    yield lambda: client.rcpt("<nobody@r.test>")
    yield lambda: client.data("OTHER")
    for each in OTHER.fields:
        yield lambda each=each: client.header(each.name, each.value)  # type: ignore[misc]
    yield client.end_of_headers
    yield lambda: client.body(OTHER.body)
    yield lambda: client.body(OTHER.body)


COUNT = 9 + len(OTHER.fields) - 1


def begin(client: MilterClient, count: int) -> None:
    """The first steps of the other message."""
    for number, step in enumerate(steps_of(client)):
        if number == count:
            return
        step()


def test_messages_on_one_connection_know_nothing_of_each_other(client: MilterClient, opened: Opened) -> None:
    for name in ("alice", "bob", "erin", "alice", "bob"):
        mail = plain_mail(b"X-For: " + name.encode(), body=CANARY + name.encode())
        answer = client.send(mail, [f"<{name}@r.test>"])
        opened(answer.applied(mail, postfix=True), mail, name)
        nothing = client.send(mail, ["<nobody@r.test>"])
        assert (nothing.verdict, nothing.edits) == ("accept", ())


@pytest.mark.parametrize("offer", [Offer(), Offer().without(ALL_NR)], ids=["no-reply", "reply"])
@pytest.mark.parametrize("count", range(COUNT + 1))
def test_a_message_aborted_after_any_step_leaves_nothing_to_the_next(
    shared: Smilla, clients: Clients, opened: Opened, offer: Offer, count: int
) -> None:
    client = clients.open(shared.milter, offer)
    begin(client, count)
    client.abort()
    mail = plain_mail()
    answer = client.send(mail, ["<alice@r.test>"], queue_id=f"AFTER{count}")
    opened(answer.applied(mail, postfix=False), mail, "alice")
    assert client.is_quiet(0.01)
    events = [line.split()[1] for line in shared.log_lines_of(f"AFTER{count}")][-2:]
    assert events == ["encrypted", "message"]


@pytest.mark.parametrize("count", range(COUNT + 1))
def test_a_message_begun_anew_without_an_abort_is_a_new_one(client: MilterClient, opened: Opened, count: int) -> None:
    # libmilter ends the message before when another MAIL comes where it cannot stand.
    begin(client, count)
    mail = plain_mail()
    answer = client.send(mail, ["<alice@r.test>"])
    opened(answer.applied(mail, postfix=True), mail, "alice")


def test_a_connection_lost_after_any_step_holds_nothing_up(start: Starter, clients: Clients, opened: Opened) -> None:
    smilla = start()
    for count in range(COUNT + 1):
        for goodbye in ("quit", "cut"):
            client = clients.open(smilla.milter)
            begin(client, count)
            if goodbye == "quit":
                client.quit()
            client.close()
    cut = clients.open(smilla.milter)
    cut.envelope(["<alice@r.test>"])
    cut.send_packet(b"B", CANARY)
    cut.send_packet(b"E")
    cut.close()  # the answer finds nobody
    client = clients.open(smilla.milter)
    mail = plain_mail()
    opened(client.send(mail, ["<alice@r.test>"]).applied(mail, postfix=True), mail, "alice")
    assert "internal-error" not in smilla.log
    client.close()
    # Were a message still counted as in flight, SIGTERM would wait for it.
    began_at = time.monotonic()
    smilla.stop()
    assert time.monotonic() - began_at < 20  # of [milter] stop_timeout_s, which is 30
    assert smilla.child.returncode == 0
    assert "stopped in_flight=0" in smilla.log


def test_a_packet_cut_in_the_middle_is_no_message(start: Starter, clients: Clients) -> None:
    smilla = start()
    for octets in (b"", b"\0", b"\0\0\0", b"\0\0\1\0Bhalf", b"\0\0\0\0", b"\xff\xff\xff\xffE", b"\0\0\0\1Z"):
        client = clients.open(smilla.milter)
        client.envelope(["<alice@r.test>"])
        client._socket.sendall(octets)
        client.close()
    assert clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


@pytest.mark.parametrize("first", [b"M<a@s.test>\0", b"L", b"E", b"Q", b"GET / HTTP/1.0\r\n\r\n"])
def test_who_speaks_no_milter_protocol_is_cut_off(shared: Smilla, clients: Clients, first: bytes) -> None:
    client = clients.open(shared.milter, greet=False)
    client._socket.sendall(b"\0\0" + len(first).to_bytes(2) + first)
    if first[:1] in b"EQG":
        client._socket.shutdown(1)
        with pytest.raises((ProtocolError, TimeoutError)):
            client.answer()
    assert clients.open(shared.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


@pytest.mark.parametrize("missing", ["mail", "rcpt"])
def test_a_message_without_sender_or_recipient_is_never_accepted(
    start: Starter, clients: Clients, missing: str
) -> None:
    client = clients.open(start().milter)
    if missing == "rcpt":
        client.mail("<a@s.test>")
    client._socket.settimeout(1)
    try:
        verdict = client.content(plain_mail()).verdict
    except (ProtocolError, TimeoutError):  # libmilter waits for the step that is missing
        verdict = "none"
    assert verdict in ("tempfail", "none")
    client._socket.settimeout(20)
    answer = client.send(plain_mail(), ["<alice@r.test>"])
    assert answer.verdict == "accept"
    assert answer.edits


def test_connections_beside_each_other_do_not_mix(shared: Smilla, clients: Clients, opened: Opened) -> None:
    wrong: list[str] = []
    results = []

    def work(name: str, client: MilterClient) -> None:
        for number in range(25):
            mail = plain_mail(body=CANARY + f" {name} {number}".encode() + b"\r\n" * (number * 997))
            answer = client.send(mail, [f"<{name}@r.test>"], queue_id=f"{name}{number}")
            if answer.verdict != "accept" or not answer.edits:
                wrong.append(f"{name}{number} {answer.verdict} {answer.reply}")
            elif number == 24:
                results.append((answer.applied(mail, postfix=True), mail, name))

    names = ["alice", "bob", "erin"] * 3
    threads = [threading.Thread(target=work, args=(name, clients.open(shared.milter))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert len(results) == len(names)
    for result in results:
        opened(*result)


def test_a_connection_may_stay_idle_and_go_on(shared: Smilla, clients: Clients) -> None:
    idle = [clients.open(shared.milter) for _ in range(30)]
    for client in idle:
        client.envelope(["<alice@r.test>"])
    assert clients.open(shared.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"
    for client in idle:
        assert client.content(plain_mail()).verdict == "accept"


def test_the_test_of_these_tests(clients: Clients) -> None:
    with pytest.raises(OSError, match=r"No such file|refused"):
        clients.open(f"unix:/nonexistent/{NOBODY}")
