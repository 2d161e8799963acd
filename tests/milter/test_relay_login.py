"""A mail program logs in at its provider through the relay, both played by the laboratory.

client -> AUTH -> smilla relay -> AUTH over verified TLS -> sink

Nothing that the relay logs has a password, and nothing that the provider hears in the clear.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import Reply, SMTPClient
from tests.lab.loopback_tls import OTHER, ROOT, authorities, context
from tests.lab.processes import wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.milter.material import CANARY, NOBODY, Keys, assert_ended_well, assert_without_canary

ALICE, BOB, ZOE = "alice@r.test", "bob@r.test", "zoe@r.test"
LETTER = b"From: me@s.test\r\nTo: alice@r.test\r\nMessage-ID: <1@s.test>\r\n\r\n" + CANARY + b"\r\n"
PASSWORD = "the-password-is-swordfish"
_EXTENSIONS = ("8BITMIME", "SIZE 104857600", "AUTH PLAIN LOGIN XOAUTH2 SCRAM-SHA-256-PLUS EXTERNAL")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLAIN = b64(f"\0me\0{PASSWORD}")


@dataclass
class Provider:
    """Lets in who gives the password; ``heard`` are all lines."""

    sink: Sink
    heard: list[bytes] = field(default_factory=list)
    waits_for: str = ""
    refuse: Callable[[bytes], bytes | None] = lambda _: None

    def answer(self, line: bytes) -> bytes | None:
        self.heard.append(line)
        if (other := self.refuse(line)) is not None:
            return other
        if line.upper().startswith(b"EHLO"):
            self.waits_for = ""
        if self.waits_for:
            return self._step(line.decode())
        verb, _, rest = line.decode("utf-8", "replace").partition(" ")
        if verb.upper() != "AUTH":
            return None
        mechanism, _, initial = rest.partition(" ")
        self.waits_for = mechanism
        if initial:
            return self._step(initial)
        return b"334 VXNlcm5hbWU6" if mechanism == "LOGIN" else b"334 "

    def _step(self, line: str) -> bytes | None:
        mechanism, self.waits_for = self.waits_for, ""
        if line == "*":
            return b"501 5.7.0 cancelled"
        if mechanism == "LOGIN" and base64.b64decode(line) == b"me":
            self.waits_for = "LOGIN"
            return b"334 UGFzc3dvcmQ6"
        good = PASSWORD in base64.b64decode(line).decode()
        if mechanism == "XOAUTH2" and not good and line:
            self.waits_for = "XOAUTH2"
            return b"334 eyJzdGF0dXMiOiI0MDEifQ=="
        return b"235 2.7.0 welcome" if good else b"535 5.7.8 no"


@dataclass
class Lab:
    """The relay, and the provider behind it."""

    relay: Relay
    sink: Sink
    provider: Provider

    def client(self) -> SMTPClient:
        return SMTPClient(self.relay.smtp_port)

    @property
    def copies(self) -> Counter[str]:
        return Counter(address for mail in self.sink.messages for address in mail.rcpt_to)


Make = Callable[..., Lab]


@pytest.fixture
def make(keys: Keys, folder: Path) -> Iterator[Make]:
    made: list[Lab] = []

    def start(issuer: Any = ROOT, extensions: tuple[str, ...] = _EXTENSIONS, **more: Any) -> Lab:
        place = Path(tempfile.mkdtemp(prefix="login-", dir=folder))
        place.chmod(0o755)
        sink = Sink(extensions=extensions, tls=context(place, issuer=issuer))
        provider = Provider(sink)
        sink.answer = provider.answer
        settings = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            **more,
            "relay": {"tls": "starttls", "auth": True, "ca_file": str(authorities(place)), "timeout_s": 5},
        }
        lab = Lab(Relay(place, NOBODY, sink.port, settings), sink, provider)
        made.append(lab)
        lab.relay.start()
        return lab

    yield start
    for lab in made:
        assert_ended_well(lab.relay, lab.sink)
        log = lab.relay.log
        assert PASSWORD not in log
        assert PLAIN not in log
        assert b64(PASSWORD)[:12] not in log
        shutil.rmtree(lab.relay.folder)


@pytest.fixture
def lab(make: Make) -> Lab:
    return make()


def plain(client: SMTPClient, name: str = "me", password: str = PASSWORD) -> Reply:
    return client.command("AUTH PLAIN " + b64(f"\0{name}\0{password}"))


def xoauth2(client: SMTPClient) -> Reply:
    return client.command("AUTH XOAUTH2 " + b64(f"user=me\1auth=Bearer {PASSWORD}\1\1"))


def login(client: SMTPClient) -> Reply:
    assert client.command("AUTH LOGIN").code == 334
    assert client.command(b64("me")).code == 334
    return client.command(b64(PASSWORD))


def plain_in_two_steps(client: SMTPClient) -> Reply:
    assert client.command("AUTH PLAIN").code == 334
    return client.command(PLAIN)


def login_in_one_step_less(client: SMTPClient) -> Reply:
    assert client.command(f"AUTH login {b64('me')}").code == 334
    return client.command(b64(PASSWORD))


@pytest.mark.parametrize("way", [plain, xoauth2, login, plain_in_two_steps, login_in_one_step_less])
def test_who_logs_in_sends_over_the_connection_that_the_provider_accepted(
    lab: Lab, way: Callable[[SMTPClient], Reply]
) -> None:
    with lab.client() as client:
        assert way(client).code == 235
        for _ in range(2):
            assert client.send("me@s.test", [ALICE, ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ALICE: 2, ZOE: 2})
    assert all(mail.over_tls for mail in lab.sink.messages)
    assert sum(line.upper().startswith(b"AUTH ") for line in lab.provider.heard) == 1
    assert lab.sink.connections == 2  # what is offered was asked for over the other one
    lab.relay.wait_for_log("authenticated user=me mechanism=")
    for mail in lab.sink.messages:
        if mail.rcpt_to == (ALICE,):
            assert_without_canary(mail.raw)


def test_mechanisms_are_those_of_the_provider_that_can_be_passed_on(make: Make) -> None:
    with make().client() as client:
        assert "AUTH PLAIN LOGIN XOAUTH2" in client.ehlo.text.splitlines()
        assert "XFORWARD" not in client.ehlo.text
        for mechanism in ("EXTERNAL", "SCRAM-SHA-256-PLUS", "CRAM-MD5"):
            assert client.command(f"AUTH {mechanism}").code == 504
    with make(extensions=("8BITMIME",)).client() as client:
        assert "AUTH" not in client.ehlo.text
        assert client.command("MAIL FROM:<me@s.test>").code == 530


def test_nobody_sends_who_has_not_logged_in(lab: Lab) -> None:
    with lab.client() as client:
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        assert plain(client, password="wrong").code == 535
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        assert client.command("XFORWARD ADDR=192.0.2.1").code == 502
        assert plain(client).code == 235
        assert plain(client).code == 503
        assert client.send("me@s.test", [ZOE], LETTER)[-1].code == 250
    lab.relay.wait_for_log("auth-failed mechanism=PLAIN reply=535")
    assert "wrong" not in lab.relay.log


def test_login_of_one_client_is_nobody_else_s(lab: Lab) -> None:
    with lab.client() as client, lab.client() as other:
        assert plain(client).code == 235
        assert other.command("MAIL FROM:<me@s.test>").code == 530


@pytest.mark.parametrize(
    "lines",
    [
        ["AUTH PLAIN !!!"],
        ["AUTH PLAIN " + b64("me")],
        ["AUTH PLAIN " + b64(f"\0\0{PASSWORD}")],
        ["AUTH XOAUTH2 " + b64(f"auth=Bearer {PASSWORD}")],
        ["AUTH LOGIN", "*"],
        ["AUTH PLAIN", ""],
    ],
)
def test_what_is_no_login_is_refused_and_the_connection_goes_on(lab: Lab, lines: list[str]) -> None:
    with lab.client() as client:
        replies = [client.command(line).code for line in lines]
        assert replies[-1] == 501
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        assert plain(client).code == 235


def test_xoauth2_that_fails_ends_with_the_provider_s_words(lab: Lab) -> None:
    with lab.client() as client:
        assert client.command("AUTH XOAUTH2 " + b64("user=me\1auth=Bearer old\1\1")).code == 334
        assert client.command("").code == 535


def test_provider_without_a_valid_certificate_hears_no_password(make: Make) -> None:
    lab = make(issuer=OTHER)
    with pytest.raises((EOFError, OSError)), lab.client() as client:
        assert client.ehlo.code == 421
        client.command("AUTH PLAIN " + PLAIN)
    assert not [line for line in lab.provider.heard if b"AUTH" in line.upper()]


def test_provider_that_ends_the_connection_has_the_client_log_in_again(lab: Lab) -> None:
    with lab.client() as client:
        assert plain(client).code == 235
        lab.sink.cut_connections()
        assert client.command("MAIL FROM:<me@s.test>").code == 421
    with lab.client() as client:
        assert plain(client).code == 235
        assert client.command("MAIL FROM:<me@s.test>").code == 250
        assert client.command(f"RCPT TO:<{ZOE}>").code == 250
        assert client.command("DATA").code == 354
        lab.sink.cut_connections()
        client.send_raw(LETTER + b".\r\n")
        assert client._read().code == 451
    assert not lab.copies


def test_connection_of_a_client_that_goes_ends_at_the_provider_too(lab: Lab) -> None:
    with lab.client() as client:
        assert plain(client).code == 235
    assert wait_until(lambda: not lab.sink.open, 30)
    assert lab.provider.heard[-1].upper() == b"QUIT"


def test_login_that_fails_or_breaks_off_keeps_no_connection_and_says_nothing_that_could_be_an_answer(lab: Lab) -> None:
    with lab.client() as client:
        assert plain(client, password="wrong").code == 535
        assert wait_until(lambda: not lab.sink.open, 30)
        assert client.command("AUTH PLAIN").code == 334
        client._stream.close()
        client._socket.close()
    assert wait_until(lambda: not lab.sink.open, 30)
    assert lab.provider.heard[-1] == b"AUTH PLAIN"


@pytest.mark.parametrize("said", [b"250 ok", b"334 Z28gb24="])
def test_provider_that_neither_lets_in_nor_refuses_has_let_nobody_in(lab: Lab, said: bytes) -> None:
    lab.provider.refuse = lambda line: None if line.upper().startswith((b"EHLO", b"STARTTLS", b"QUIT")) else said
    with lab.client() as client:
        reply = client.command("AUTH PLAIN " + PLAIN)
        for _ in range(20):
            if reply.code != 334:
                break
            reply = client.command(PLAIN)
        assert reply.code == 501
        lab.provider.refuse = lambda _: None
        assert client.command("MAIL FROM:<me@s.test>").code == 530


def test_user_s_name_counts_for_rules(make: Make) -> None:
    lab = make(rule=[{"user": "me", "no_key": "refuse"}])
    with lab.client() as client:
        assert plain(client).code == 235
        assert client.send("me@s.test", [ZOE], LETTER)[-1].code == 550


def test_parameter_auth_of_mail_is_taken_and_goes_nowhere(lab: Lab) -> None:
    with lab.client() as client:
        assert plain(client).code == 235
        assert client.send("me@s.test", [ZOE], LETTER, mail_parameters="AUTH=<>")[-1].code == 250
    assert lab.sink.messages[0].mail_parameters == ()


def test_recipient_whom_the_provider_refuses_is_refused_at_once_and_the_connection_goes_on(lab: Lab) -> None:
    lab.provider.refuse = lambda line: b"550 5.1.1 no" if line.upper().startswith(b"RCPT TO:<BOB@") else None
    with lab.client() as client:
        assert plain(client).code == 235
        replies = client.send("me@s.test", [ALICE, BOB], LETTER)
        assert [reply.code for reply in replies] == [250, 250, 550, 354, 250]
        assert str(replies[2]) == "550 5.1.1 The next hop says: no"
        assert client.send("me@s.test", [ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})


def test_body_that_has_no_room_is_deferred_and_the_connection_goes_on(make: Make, folder: Path) -> None:
    room = Path(tempfile.mkdtemp(prefix="room-", dir=folder))
    room.chmod(0o777)
    lab = make(spool={"folder": str(room), "threshold_kib": 0})
    with lab.client() as client:
        assert plain(client).code == 235
        room.rmdir()
        assert client.send("me@s.test", [ZOE], LETTER + b"x" * 600_000 + b"\r\n")[-1].code == 451
        room.mkdir(mode=0o777)
        room.chmod(0o777)
        assert client.send("me@s.test", [ZOE], LETTER + b"x" * 600_000 + b"\r\n")[-1].code == 250
    assert list(room.iterdir()) == []
    log = lab.relay.folder / "smilla.log"
    assert log.read_text().count("internal-error where=spool error=SpoolError") == 1
    log.write_text("")
    room.rmdir()


def test_slow_provider_holds_up_nobody_else_s_login(lab: Lab) -> None:
    go_on, waits = threading.Event(), threading.Event()

    def slow(line: bytes) -> None:
        if b64("\0slow\0x")[:8].encode() in line:
            waits.set()
            go_on.wait(10)

    lab.provider.refuse = slow
    with lab.client() as client, lab.client() as other:
        client.send_raw(b"AUTH PLAIN " + b64("\0slow\0x").encode() + b"\r\n")
        assert waits.wait(10)
        lab.provider.waits_for = ""
        assert plain(other).code == 235
        go_on.set()
        assert client._read().code == 535
