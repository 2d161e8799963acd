"""The master property: where encryption was required, no octet that leaves the filter contains what it should have
hidden, whatever goes wrong.

That no packet and no log line contains the canary is asserted for every test, when its connections and filters end.
Here it is the faults that matter, and that each of them ends in "try again later".
"""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.processes import session_members, wait_until
from tests.milter.client import ProtocolError
from tests.milter.dns_stub import ABSENT, FAILED, DNSStub, Fault, Scripted
from tests.milter.material import (
    CANARY,
    assert_without_canary,
    directory_settings,
    edits_of,
    fill_directory,
    make_certificate_for_anybody,
    plain_mail,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Answer, Clients, Mail, MilterClient
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

    Opened = Callable[[Mail, Mail, str], None]

# Whoever has no key is refused: what passes here passes encrypted.
STRICT: dict[str, Any] = {"no_key": "refuse", "insecure": "refuse"}
WIRE_FAULTS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.MALFORMED_RECORD)]


def with_dns(timeout_s: int = 15, **policy: str) -> dict[str, Any]:
    """Keys from DNS; ``policy`` beside the strict one."""
    return {"dns": {"timeout_s": timeout_s}, "policy": {**STRICT, **policy}}


def record(anybody: bytes) -> Scripted:
    """A certificate as an SMIMEA record."""
    return Scripted((b"\3\0\0" + anybody,))


@pytest.fixture(scope="module")
def anybody() -> bytes:
    """A certificate for every address: answers are kept, so each message here goes to another one."""
    return make_certificate_for_anybody()


@pytest.fixture(scope="module")
def unanswered(start_once: Starter) -> Iterator[tuple[Smilla, DNSStub]]:
    """A filter whose policy lets pass what has no key, and its name server."""
    with DNSStub() as stub:
        yield start_once(with_dns(4, no_key="plain", insecure="plain"), resolver=stub.address), stub


_MAY_BE_THEIRS = (Fault.SILENCE, Fault.EMPTY, Fault.WRONG_ID, Fault.MALFORMED_RECORD)


@pytest.mark.parametrize("fault", WIRE_FAULTS, ids=lambda fault: fault.name.lower())
def test_whatever_the_resolver_does_instead_of_answering_defers(
    unanswered: tuple[Smilla, DNSStub], clients: Clients, fault: Fault
) -> None:
    smilla, stub = unanswered
    stub.default = Scripted(fault=fault)
    began_at = time.monotonic()
    client = clients.open(smilla.milter)
    answer = client.send(plain_mail(), [f"<{fault.name}@r.test>"])
    # Whose fault it is: a resolver that breaks off or talks nonsense is ours, one that is silent may wait for theirs.
    whose = "the name servers" if fault in _MAY_BE_THEIRS else "this system cannot look up keys"
    assert answer.reply.startswith(f"451 4.7.5 <{fault.name}@r.test>: {whose}")
    assert time.monotonic() - began_at < 15
    # It must not poison what comes after: absence, now proven.  (A failure itself is remembered for a while.)
    stub.default = Scripted()
    assert client.send(plain_mail(), [f"<after-{fault.name}@r.test>"]).verdict == "accept"


def test_no_resolver_at_all_defers(start: Starter, clients: Clients) -> None:
    answer = clients.open(start(with_dns(no_key="plain")).milter).send(plain_mail(), ["<alice@r.test>"])
    assert answer.reply.startswith("451 4.7.5 ")


def test_the_second_nameserver_answers_where_the_first_is_gone(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default = record(anybody)
    settings = with_dns()
    settings["dns"] |= {"nameservers": ["127.0.0.1@9", stub.address]}
    assert edits_of(clients.open(start(settings).milter).send(plain_mail(), ["<alice@r.test>"])).startswith("b")


def test_a_resolver_that_closes_after_each_answer_is_asked_again(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default = record(anybody)
    stub.closes_after_each = True
    client = clients.open(start(with_dns(20), resolver=stub.address).milter)
    for number in range(20):
        assert client.send(plain_mail(), [f"<{number}@r.test>"]).verdict == "accept"
    assert stub.connections >= 20


def test_connections_cut_while_a_question_is_under_way_are_opened_again(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default = Scripted(record(anybody).rdata, delay_s=0.3)
    client = clients.open(start(with_dns(30), resolver=stub.address).milter)
    client.envelope(["<alice@r.test>"])
    assert wait_until(lambda: len(stub.asked) >= 2, 30)
    stub.cut_connections()
    assert client.content(plain_mail()).verdict == "accept"


def test_a_slow_answer_within_the_time_encrypts_and_one_after_it_defers(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    client = clients.open(start(with_dns(4), resolver=stub.address).milter)
    stub.default = Scripted(record(anybody).rdata, delay_s=0.5)
    assert client.send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"
    stub.default = Scripted(record(anybody).rdata, delay_s=6)
    assert client.send(plain_mail(), ["<erin@r.test>"]).reply.startswith("451 4.7.5 ")


def test_the_look_up_begins_at_rcpt_and_costs_no_time_while_the_body_arrives(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default = Scripted(record(anybody).rdata, delay_s=0.5)
    client = clients.open(start(with_dns(4), resolver=stub.address).milter)
    client.envelope(["<alice@r.test>"])

    def asked() -> list[int]:
        return sorted(rdtype for _, rdtype in stub.asked if rdtype in (53, 61))

    assert wait_until(lambda: asked() == [53, 61], 10)
    assert client.content(plain_mail()).verdict == "accept"
    assert asked() == [53, 61]


def test_one_silent_domain_delays_its_own_mail_only(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default = record(anybody)
    stub.answers["silent.test."] = Scripted(fault=Fault.SILENCE)
    smilla = start({**with_dns(8), "milter": {"workers": 1}}, resolver=stub.address)
    waiting: list[Answer] = []
    slow = [clients.open(smilla.milter, timeout_s=60) for _ in range(40)]
    for number, client in enumerate(slow):
        client.envelope([f"<{number}@silent.test>"])
    threads = [
        threading.Thread(target=lambda client=client: waiting.append(client.content(plain_mail()))) for client in slow
    ]
    for thread in threads:
        thread.start()
    fast = clients.open(smilla.milter)
    for number in range(20):
        assert fast.send(plain_mail(), [f"<{number}@r.test>"]).verdict == "accept"
    assert len(waiting) < len(slow)
    for thread in threads:
        thread.join(30)
    assert {answer.reply[:9] for answer in waiting} == {"451 4.7.5"}


def test_one_silent_zone_with_many_names_delays_its_own_mail_only(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.default, stub.at_once = record(anybody), 32
    stub.answers["silent.test."] = Scripted(fault=Fault.SILENCE)
    smilla = start({**with_dns(8), "milter": {"workers": 1}}, resolver=stub.address)
    waiting: list[Answer] = []
    slow = [clients.open(smilla.milter, timeout_s=60) for _ in range(12)]
    for number, client in enumerate(slow):
        client.envelope([f"<x@a{number}-{each}.silent.test>" for each in range(99)])
    threads = [
        threading.Thread(target=lambda client=client: waiting.append(client.content(plain_mail()))) for client in slow
    ]
    for thread in threads:
        thread.start()
    fast = clients.open(smilla.milter)
    answers = [fast.send(plain_mail(), [f"<{number}@{number}.r{number % 25}.test>"]) for number in range(50)]
    assert {answer.verdict for answer in answers} == {"accept"}
    for thread in threads:
        thread.join(60)
    assert {answer.reply[:9] for answer in waiting} == {"451 4.7.5"}
    assert len(waiting) == len(slow)


def test_a_resolver_that_does_not_validate_never_looks_like_nobody_has_a_key(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    stub.validates = False
    smilla = start(with_dns(no_key="plain", insecure="plain"), resolver=stub.address)
    client = clients.open(smilla.milter)
    for name, scripted in (("a", Scripted()), ("b", record(anybody))):
        stub.default = scripted
        answer = client.send(plain_mail(), [f"<{name}@r.test>"])
        assert answer.reply.startswith(f"451 4.7.5 <{name}@r.test>: no resolver could prove")
    assert "resolver-not-validating" in smilla.log


def test_a_resolver_that_validates_may_say_that_a_zone_is_not_signed(
    start: Starter, clients: Clients, stub: DNSStub, anybody: bytes
) -> None:
    smilla = start(with_dns(no_key="plain", insecure="plain"), resolver=stub.address)
    client = clients.open(smilla.milter)
    for name, scripted in (
        ("a", Scripted(authenticated=False)),
        ("b", Scripted(record(anybody).rdata, authenticated=False)),
    ):
        stub.default = scripted
        answer = client.send(plain_mail(), [f"<{name}@r.test>"])
        assert (answer.verdict, answer.edits) == ("accept", ())
    # One proof is enough for both questions of both messages; another was for the look at the start.
    assert stub.asked.count(("test.", 6)) == 2


DS = Scripted((bytes.fromhex("04d20d02") + bytes(32),))


@pytest.mark.parametrize(
    "case",
    [
        (Scripted(authenticated=False, zone="r.test."), DS, ""),  # the validator's word: opt-out, say
        (Scripted(authenticated=False, own=True, zone="r.test."), ABSENT, "451"),
        (Scripted(authenticated=False, own=True, zone="r.test."), Scripted(authenticated=False), ""),
        (Scripted(authenticated=False, own=True, zone="r.test."), replace(DS, authenticated=False), ""),
        (Scripted(authenticated=False, own=True, zone="r.test."), DS, "451"),
        (Scripted(authenticated=False, own=True, zone="r.test."), FAILED, "451"),
        (Scripted(authenticated=False), Scripted(), ""),
        (Scripted(authenticated=False), DS, "451"),
        (Scripted(authenticated=False, own=True), Scripted(), "451"),
        (Scripted(authenticated=False, own=True, zone="r.test."), Scripted(), ""),
        (Scripted(authenticated=False, own=True, zone="r.test."), Scripted(authenticated=False, own=True), "451"),
        (Scripted(authenticated=False, own=True, zone="other.test."), Scripted(), "451"),
        (Scripted(authenticated=False, zone="r.test.", extended_error=6), Scripted(), "451"),
        (Scripted(authenticated=False, zone="r.test.", extended_error=22), Scripted(), "451"),
        (Scripted(authenticated=False, zone="r.test.", extended_error=1), Scripted(), ""),
    ],
)
def test_only_what_the_parent_proves_is_a_zone_that_is_not_signed(
    start: Starter, clients: Clients, stub: DNSStub, case: tuple[Scripted, Scripted, str]
) -> None:
    stub.default, stub.parent, told = case
    smilla = start(with_dns(no_key="plain", insecure="plain"), resolver=stub.address)
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"])
    assert answer.reply.startswith(told) if told else (answer.verdict, answer.edits) == ("accept", ())


def test_a_name_in_a_signed_zone_is_no_delegation(start: Starter, clients: Clients, stub: DNSStub) -> None:
    """Its parent has no DS record for it, and that proves nothing."""
    stub.default = Scripted(authenticated=False, own=True, zone="a.r.test.")
    stub.probes["r.test."] = stub.probes["a.r.test."] = Scripted()
    client = clients.open(start(with_dns(no_key="plain"), resolver=stub.address).milter)
    assert client.send(plain_mail(), ["<alice@a.r.test>"]).reply.startswith("451 4.7.5 ")
    stub.default = Scripted(authenticated=False)
    assert client.send(plain_mail(), ["<bob@a.r.test>"]).reply.startswith("451 4.7.5 ")


def test_a_name_outside_of_the_probed_zone_needs_a_trust_anchor_of_its_own(
    start: Starter, clients: Clients, stub: DNSStub
) -> None:
    settings = with_dns(no_key="plain")
    settings["dns"] |= {"probe": "island.test"}
    stub.default = Scripted(authenticated=False, zone="r.test.")
    stub.probes["."] = Scripted(authenticated=False)
    client = clients.open(start(settings, resolver=stub.address).milter)
    assert client.send(plain_mail(), ["<alice@r.test>"]).reply.startswith("451 4.7.5 ")
    stub.probes["."] = Scripted()
    client = clients.open(start(settings, resolver=stub.address).milter)
    assert client.send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


def test_a_probe_that_gets_no_answer_defers(start: Starter, clients: Clients, stub: DNSStub) -> None:
    settings = with_dns(1, no_key="plain")
    settings["dns"] |= {"probe": "silent.test"}
    stub.default = Scripted(authenticated=False)
    stub.probe = Scripted(fault=Fault.SILENCE)
    smilla = start(settings, resolver=stub.address)
    assert clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"]).reply.startswith("451 4.7.5 ")


def test_a_usable_key_in_a_later_source_is_used_where_the_first_source_fails(
    start: Starter, clients: Clients, stub: DNSStub, keys: Keys
) -> None:
    stub.default = FAILED
    sources = {"sources": ["smimea", "openpgpkey", "directory"], "directory": str(keys.directory)}
    smilla = start({**with_dns(), "keys": sources}, resolver=stub.address)
    client = clients.open(smilla.milter)
    assert edits_of(client.send(plain_mail(), ["<alice@r.test>"])).startswith("b")
    assert client.send(plain_mail(), ["<nobody@r.test>"]).reply.startswith("451 4.7.5 ")


@pytest.fixture(scope="module")
def spoilt(start_once: Starter, folder: Path) -> tuple[Smilla, Path]:
    """A filter with a folder of keys that a test may spoil."""
    place = folder / "spoilt"
    place.mkdir()
    place.chmod(0o755)
    policy = {"no_key": "plain", "unusable_key": "defer"}
    return start_once({"keys": {"sources": ["directory"], "directory": str(place)}, "policy": policy}), place


GARBAGE = {
    "empty": b"",
    "zeros": b"\0" * 5000,
    "pem-of-nothing": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "packets-of-nothing": b"\xc6\xff" * 99,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_key_file_spoilt_between_rcpt_and_the_end_never_lets_plaintext_out(
    spoilt: tuple[Smilla, Path], clients: Clients, keys: Keys, garbage: bytes, name: str
) -> None:
    smilla, place = spoilt
    fill_directory(place, getattr(keys, name))
    client = clients.open(smilla.milter)
    assert edits_of(client.send(plain_mail(), [f"<{name}@r.test>"])).startswith("b")
    client.envelope([f"<{name}@r.test>"])
    (file,) = place.glob(f"{name}@*")
    file.write_bytes(garbage)
    answer = client.content(plain_mail())
    assert answer.reply.startswith(f"451 4.7.5 <{name}@r.test>: the published key cannot be used")
    assert answer.edits == ()


@pytest.mark.parametrize("kind", ["folder", "too-large", "dangling-link", "loop", "fifo"])
def test_a_key_file_that_cannot_be_read_is_no_absence(spoilt: tuple[Smilla, Path], clients: Clients, kind: str) -> None:
    smilla, place = spoilt
    file = place / f"{kind}@r.test.pem"
    if kind == "folder":
        file.mkdir()
    elif kind == "too-large":
        file.write_bytes(b"x" * (1 << 20) + b"x")
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to(file if kind == "loop" else place / "gone")
    answer = clients.open(smilla.milter).send(plain_mail(), [f"<{kind}@r.test>"])
    assert answer.reply.startswith("451 4.7.5 ")


GPG = {
    "fails": "exit 2",
    "fails-after-reading": "cat >/dev/null; exit 2",
    "repeats-the-plaintext": "cat; exit 0",
    "repeats-the-plaintext-and-fails": "cat; exit 2",
    "says-nothing": "cat >/dev/null; exit 0",
    "killed": "kill -9 $$",
    "half-a-message": "cat >/dev/null; echo -----BEGIN PGP MESSAGE-----; echo; echo hQEM; exit 2",
    "does-not-read": "exit 0",
}


@pytest.fixture(scope="module")
def failing_gpg(start_once: Starter, keys: Keys, folder: Path) -> tuple[Smilla, Path]:
    """A filter that uses gpg, and what stands in its place."""
    place = folder / "bin"
    place.mkdir()
    place.chmod(0o755)
    script = place / "script"
    script.write_text("exit 0\n")
    gpg = place / "gpg"
    gpg.write_text(f'#!/bin/sh\ncase "$*" in *--list-config*) echo cfg:version:2.2.40; exit 0;; esac\n. {script}\n')
    gpg.chmod(0o755)
    settings = directory_settings(keys, openpgp={"engine": "gnupg"}, policy=STRICT)
    return start_once(settings, environment={"PATH": f"{place}:{os.environ['PATH']}"}), script


@pytest.mark.parametrize("script", GPG.values(), ids=GPG)
def test_a_gpg_that_fails_in_any_way_defers(failing_gpg: tuple[Smilla, Path], clients: Clients, script: str) -> None:
    smilla, file = failing_gpg
    file.write_text(script + "\n")
    client = clients.open(smilla.milter)
    for body in (b"", CANARY * 20000):
        assert client.send(plain_mail(body=body), ["<bob@r.test>"]).reply.startswith("451 4.3.0 ")
    # S/MIME does not need it, and the connection goes on.
    assert client.send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


def test_gnupg_encrypts_and_leaves_nothing_behind(start: Starter, clients: Clients, keys: Keys, opened: Opened) -> None:
    smilla = start(directory_settings(keys, openpgp={"engine": "gnupg"}, policy=STRICT))
    mail = plain_mail(b"Content-Type: text/plain; charset=utf-8", body=b"\xff\0" + CANARY * 9000)
    answer = clients.open(smilla.milter).send(mail, ["<bob@r.test>"])
    opened(answer.applied(mail, postfix=True), mail, "bob")


def kill_worker(smilla: Smilla) -> None:
    """Kills the filter's one worker: a child of a process that this test started."""
    (worker,) = set(session_members(smilla.child.pid)) - {smilla.child.pid}
    os.kill(worker, signal.SIGKILL)


def has_worker(smilla: Smilla) -> bool:
    return len(session_members(smilla.child.pid)) == 2


def test_a_worker_killed_between_any_two_steps_lets_nothing_out_and_is_replaced(
    start: Starter, clients: Clients, keys: Keys, opened: Opened
) -> None:
    smilla = start(directory_settings(keys, policy=STRICT))
    mail = plain_mail(b"Content-Type: text/plain")
    steps: list[Callable[[MilterClient], object]] = [
        lambda client: client.mail("<a@s.test>"),
        lambda client: client.rcpt("<alice@r.test>"),
        lambda client: client.header(b"Subject", b" x"),
        lambda client: client.end_of_headers(),
        lambda client: client.body(mail.body),
    ]
    for count in (0, 2, 3, 5):
        client = clients.open(smilla.milter)
        for step in steps[:count]:
            step(client)
        kill_worker(smilla)
        with pytest.raises((ProtocolError, OSError)):
            client.content(mail)
        assert b"\0\0\0\1a" not in client.received
        assert_without_canary(bytes(client.received))
        assert wait_until(lambda: has_worker(smilla), 30)
        again = clients.open(smilla.milter)
        opened(again.send(mail, ["<alice@r.test>"]).applied(mail, postfix=True), mail, "alice")
        again.close()
    assert smilla.log.count("worker-died") == 4


def test_a_worker_killed_while_it_writes_sends_no_verdict(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, policy=STRICT))
    mail = plain_mail(body=CANARY + b"x" * 20_000_000)
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    for at in range(0, len(mail.body), 65535):
        client.body(mail.body[at : at + 65535])
    client.send_packet(b"E")
    client.read_packet()
    kill_worker(smilla)
    with pytest.raises(ProtocolError):
        client.answer()


def test_nothing_of_a_message_is_left_on_disk(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, openpgp={"engine": "gnupg"}, policy=STRICT))
    client = clients.open(smilla.milter)
    for name in ("alice", "bob"):
        assert client.send(plain_mail(body=CANARY * 200_000), [f"<{name}@r.test>"]).verdict == "accept"
    for path in smilla.folder.rglob("*"):
        if stat.S_ISREG(path.stat().st_mode):
            assert CANARY not in path.read_bytes(), path
