"""A client of the relay uses TLS, and may be another machine.

client -> STARTTLS -> smilla relay -> sink

Where a test needs another machine, this one connects from its own address on the network.
"""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import SMTPClient, stuffed
from tests.lab.loopback_tls import authorities, context, pem
from tests.lab.mail import inside
from tests.lab.processes import LOOPBACK, wait_until
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.milter.material import CANARY, NOBODY, Keys, assert_ended_well

ALICE, ZOE = "alice@r.test", "zoe@r.test"
LETTER = b"From: me@s.test\r\nTo: alice@r.test\r\nMessage-ID: <1@s.test>\r\n\r\n" + CANARY + b"\r\n"


@dataclass
class Lab:
    """The relay, whose certificate is in ``pem``, and the sink behind it."""

    relay: Relay
    sink: Sink
    pem: Path

    def client(self, **options: Any) -> SMTPClient:
        return SMTPClient(self.relay.smtp_port, **options)

    @property
    def copies(self) -> Counter[str]:
        return Counter(address for mail in self.sink.messages for address in mail.rcpt_to)

    def configure(self, **relay: Any) -> None:
        """Other options of [relay], and a reload."""
        settings: Any = dict(self.relay.settings)
        self.relay.write_config({**settings, "relay": {**settings["relay"], **relay}})
        self.relay.reload()


Make = Callable[..., Lab]


@pytest.fixture
def make(keys: Keys, folder: Path) -> Iterator[Make]:
    made: list[Lab] = []

    def start(host: str = LOOPBACK, tls: Any = None, **relay: Any) -> Lab:
        place = Path(tempfile.mkdtemp(prefix="tls-", dir=folder))
        place.chmod(0o755)
        (place / "relay.pem").write_bytes(pem())
        sink = Sink(tls=tls(place), extensions=("AUTH PLAIN", "8BITMIME")) if tls else Sink()
        settings: dict[str, Any] = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            "relay": {"tls_certificate": str(place / "relay.pem"), "timeout_s": 5, **relay},
        }
        if tls:
            settings["relay"] |= {"tls": "starttls", "ca_file": str(authorities(place))}
        lab = Lab(Relay(place, NOBODY, sink.port, settings, host), sink, place / "relay.pem")
        made.append(lab)
        lab.relay.start()
        return lab

    yield start
    for lab in made:
        assert_ended_well(lab.relay, lab.sink)
        assert "PRIVATE KEY" not in lab.relay.log
        shutil.rmtree(lab.relay.folder)


@pytest.fixture
def lab(make: Make) -> Lab:
    return make()


@pytest.fixture(scope="module")
def own_address() -> str:
    """An address of this machine that is not on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        return str(asked.getsockname()[0])


# --- the dialogue


def test_message_comes_over_tls_and_leaves_as_ever(lab: Lab, keys: Keys) -> None:
    letter = LETTER + b"\xff\r\n.\r\n" + b"x" * 2_000_000 + b"\r\n"
    with lab.client() as client:
        assert "STARTTLS" in client.ehlo.text.splitlines()
        client.start_tls()
        assert "STARTTLS" not in client.ehlo.text
        assert client.command("STARTTLS").code == 503
        for _ in range(2):
            assert client.send("s@s.test", [ALICE, ZOE], letter)[-1].code == 250
    assert lab.copies == Counter({ALICE: 2, ZOE: 2})
    for mail in lab.sink.messages:
        if mail.rcpt_to == (ALICE,):
            file = lab.relay.folder / "copy.eml"
            file.write_bytes(mail.raw)
            assert keys.alice.open(file) == inside(letter)
            file.unlink()
        else:
            assert mail.raw.endswith(letter)


def test_nothing_is_sent_in_the_clear_where_tls_is_required(lab: Lab) -> None:
    with lab.client() as client:
        for command in ("MAIL FROM:<a@s.test>", "RCPT TO:<a@s.test>", "DATA", "XFORWARD NAME=x", "VRFY x"):
            assert str(client.command(command)).startswith("530 5.7.0"), command
        assert client.command("NOOP").code == 250
        assert client.command("STARTTLS now").code == 501
        client.start_tls()
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ZOE: 1})


def test_where_it_is_not_required_both_ways_are_open(make: Make) -> None:
    lab = make(tls_required=False)
    with lab.client() as client:
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
        client.start_tls()
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
        assert client.command("MAIL FROM:<s@s.test>").code == 250
    with lab.client() as client:
        assert client.command("MAIL FROM:<s@s.test>").code == 250
        assert client.command("STARTTLS").code == 503
        assert client.command("RSET").code == 250


def test_without_a_certificate_there_is_no_starttls(make: Make) -> None:
    with make(tls_certificate="").client() as client:
        assert "STARTTLS" not in client.ehlo.text
        assert client.command("STARTTLS").code == 502
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250


def test_nothing_that_was_said_before_tls_counts_within(make: Make) -> None:
    lab = make(tls_required=False)
    with lab.client() as client:
        assert client.command("XFORWARD NAME=injected.test ADDR=198.51.100.7 HELO=injected.test").code == 250
        client.start_tls(ehlo=False)
        assert client.command("MAIL FROM:<s@s.test>").code == 503
        client.command("EHLO inside.test")
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    [mail] = lab.sink.messages
    assert mail.raw.startswith(b"Received: from inside.test (unknown [127.0.0.1])")


@pytest.mark.parametrize("is_one_packet", [True, False])
def test_command_that_is_pushed_in_before_tls_is_never_obeyed(make: Make, is_one_packet: bool) -> None:
    """CVE-2011-0411: plaintext behind STARTTLS that is obeyed after the handshake."""
    lab = make(tls_required=False)
    pushed = b"EHLO x\r\nMAIL FROM:<evil@s.test>\r\nRCPT TO:<zoe@r.test>\r\nDATA\r\n"
    with lab.client() as client:
        if is_one_packet:
            client.send_raw(b"STARTTLS\r\n" + pushed)
            assert client._read().code == 421
        else:
            assert client.command("STARTTLS").code == 220
            client.send_raw(pushed)
            lab.relay.wait_for_log("tls-failed client=127.0.0.1 detail=")
        with pytest.raises((EOFError, OSError, ValueError)):  # the end, or an alert of TLS, and no reply
            client._read()
    assert lab.sink.messages == []
    with lab.client() as client:
        client.start_tls()
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ZOE: 1})


def test_over_lmtp_it_is_the_same(make: Make) -> None:
    lab = make(protocol="lmtp")
    with lab.client(lmtp=True) as client:
        assert client.command("MAIL FROM:<a@s.test>").code == 530
        client.start_tls()
        assert [reply.code for reply in client.send("s@s.test", [ALICE, ZOE], LETTER)[-2:]] == [250, 250]
    assert lab.copies == Counter({ALICE: 1, ZOE: 1})


def test_client_that_never_shakes_hands_holds_up_nobody_else(make: Make) -> None:
    lab = make(connections=3)
    silent = [lab.client() for _ in range(2)]
    for client in silent:
        assert client.command("STARTTLS").code == 220
    silent[1].send_raw(b"\x16\x03\x01\x40")
    with lab.client() as client:
        client.start_tls()
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    for client in silent:
        client._stream.close()
        client._socket.close()
    assert wait_until(lambda: lab.relay.log.count("tls-failed client=127.0.0.1") == 2, 30)


def test_openssl_gets_no_old_tls_and_no_renegotiation(lab: Lab) -> None:
    where = ["-connect", f"{LOOPBACK}:{lab.relay.smtp_port}", "-starttls", "smtp"]

    def ran(*words: str, said: str) -> str:
        argv = ["openssl", "s_client", *where, *words]
        done = subprocess.run(argv, input=said, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    assert "221 2.0.0 Bye" in ran("-tls1_2", "-ign_eof", said="QUIT\r\n")
    assert "221 2.0.0 Bye" in ran("-tls1_3", "-ign_eof", said="QUIT\r\n")
    assert "Cipher is (NONE)" in ran("-tls1_1", "-cipher", "ALL:@SECLEVEL=0", said="")
    told = ran("-tls1_2", said="R\n")
    assert "RENEGOTIATING" in told
    assert "no renegotiation" in told


@pytest.mark.parametrize("is_polite", [True, False])
def test_client_that_dies_before_its_answer_gets_no_second_copy_when_it_comes_again(lab: Lab, is_polite: bool) -> None:
    """``is_polite``: its library says close_notify, as where a program ends by itself."""
    go_on, has_begun = threading.Event(), threading.Event()

    def wait(line: bytes) -> None:
        if line == b".":
            has_begun.set()
            go_on.wait(10)

    lab.sink.answer = wait
    client = lab.client()
    client.start_tls()
    for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
        client.command(command)
    client.send_raw(stuffed(LETTER))
    assert has_begun.wait(10)
    if is_polite:
        tls: Any = client._socket
        tls.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
    client._stream.close()
    client._socket.close()
    go_on.set()
    lab.sink.answer = lambda _: None
    lab.sink.wait_for(1)
    lab.relay.wait_for_log("message .*reply=.250")
    for copies in (1, 2):  # the second time it is sent once more
        with lab.client() as client:
            client.start_tls()
            assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
        assert lab.copies[ZOE] == copies


# --- other machines


def test_machine_that_is_not_listed_is_turned_away_and_one_that_is_may_send(make: Make, own_address: str) -> None:
    lab = make(host=own_address, clients=["198.51.100.0/24"])
    with socket.create_connection((own_address, lab.relay.smtp_port), timeout=20) as stranger:
        assert stranger.recv(1000).startswith(b"554 5.7.1 ")
        assert stranger.recv(1000) == b""
    lab.relay.wait_for_log(f"client-refused client={own_address}")
    lab.configure(clients=[f"{own_address}/32"])
    with lab.client(host=own_address) as client:
        assert "XFORWARD" not in client.ehlo.text
        assert client.command("XFORWARD ADDR=127.0.0.1").code == 502
        assert client.command("MAIL FROM:<s@s.test>").code == 530
        client.start_tls()
        assert client.command("XFORWARD ADDR=127.0.0.1").code == 502
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
        lab.configure(clients=["198.51.100.0/24"])
        assert client.command("MAIL FROM:<s@s.test>").code == 554
    [mail] = lab.sink.messages
    assert f"[{own_address}]".encode() in mail.raw_header


def test_this_machine_may_use_the_socket_that_others_reach_and_needs_tls_too(make: Make) -> None:
    lab = make(host="0.0.0.0", clients=["198.51.100.0/24"])
    with lab.client() as client:
        assert client.command("MAIL FROM:<s@s.test>").code == 530
        client.start_tls()
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250


def test_password_goes_over_tls_only_where_others_reach_the_socket(make: Make, own_address: str) -> None:
    options: dict[str, Any] = {"clients": ["0.0.0.0/0"], "auth": True, "tls_required": False}
    lab = make(host=own_address, tls=context, **options)
    lab.sink.answer = lambda line: b"235 2.7.0 welcome" if line.upper().startswith(b"AUTH") else None
    plain = "AUTH PLAIN " + base64.b64encode(b"\0me\0pw").decode()
    with lab.client(host=own_address) as client:
        assert "AUTH" not in client.ehlo.text
        assert client.command(plain).code == 530
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        client.start_tls()
        assert "AUTH PLAIN" in client.ehlo.text.splitlines()
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        assert client.command(plain).code == 235
        assert client.send("me@s.test", [ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ZOE: 1})


def test_one_machine_takes_half_of_the_connections_at_most_and_this_one_is_never_kept_out(
    make: Make, own_address: str
) -> None:
    lab = make(host="0.0.0.0", clients=[f"{own_address}/32"], connections=5)
    first, second = lab.client(host=own_address), lab.client(host=own_address)
    with socket.create_connection((own_address, lab.relay.smtp_port), timeout=20) as third:
        assert third.recv(1000).startswith(b"421 4.7.0 ")
    with lab.client() as here:
        here.start_tls()
        assert here.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    first.close()
    assert wait_until(lambda: _is_let_in(own_address, lab.relay.smtp_port), 20)
    second.close()


def _is_let_in(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=20) as client:
        return client.recv(1000).startswith(b"220 ")


def test_login_in_the_clear_on_loopback_does_not_outlive_starttls(make: Make) -> None:
    lab = make(tls=context, auth=True, tls_required=False)
    lab.sink.answer = lambda line: b"235 2.7.0 welcome" if line.upper().startswith(b"AUTH") else None
    plain = "AUTH PLAIN " + base64.b64encode(b"\0me\0pw").decode()
    with lab.client() as client:
        assert client.command(plain).code == 235
        client.start_tls()
        assert client.command("MAIL FROM:<me@s.test>").code == 530
        assert client.command(plain).code == 235
        assert client.send("me@s.test", [ZOE], LETTER)[-1].code == 250


# --- reloads


def shown(lab: Lab) -> bytes:
    """The certificate that the relay shows, in DER."""
    with lab.client() as client:
        client.start_tls()
        tls: Any = client._socket
        raw = tls.getpeercert(binary_form=True)
        assert raw
        return bytes(raw)


def test_reload_takes_the_new_certificate_and_a_message_under_way_goes_on(lab: Lab) -> None:
    before = shown(lab)
    with lab.client() as client:
        client.start_tls()
        for command in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ZOE}>", "DATA"):
            client.command(command)
        client.send_raw(LETTER)
        lab.pem.write_bytes(pem(number=4))
        lab.relay.reload()
        assert shown(lab) != before
        client.send_raw(b".\r\n")
        assert client._read().code == 250
        assert client.send("s@s.test", [ZOE], LETTER)[-1].code == 250
    assert lab.copies == Counter({ZOE: 2})


def test_certificate_that_cannot_be_used_changes_nothing(lab: Lab) -> None:
    before = shown(lab)
    lab.pem.write_bytes(pem()[:100])
    lab.relay.reload()
    lab.relay.wait_for_log("reload-failed .*tls_certificate")
    assert shown(lab) == before


def test_socket_that_others_reach_keeps_its_certificate_until_a_restart(make: Make, own_address: str) -> None:
    """The file alone is in order: its socket is on loopback.  The one in use is not."""
    lab = make(host=own_address, clients=[f"{own_address}/32"])
    lab.configure(socket=f"inet:{lab.relay.smtp_port}@{LOOPBACK}", tls_certificate="")
    lab.relay.wait_for_log("reload-failed .*until a restart.*without tls_certificate")
    with lab.client(host=own_address) as client:
        assert client.command("MAIL FROM:<s@s.test>").code == 530
