"""The benchmark's load driver (tests/bench/driver.c) notices every wrong answer: no figure praises a filter that does
nothing, or something else.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench import driver as bench_driver
from tests.lab.client import SMTPClient
from tests.lab.processes import Child, free_port, port_answers, wait_until
from tests.lab.programs import require
from tests.milter.client import CHUNK, LEADING_SPACE, NR_BODY, NR_HEADER
from tests.milter.material import CANARY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Smilla

BODY = CANARY + b"\r\n" + b"words " * 500 + b"\r\n"
SMIME = ("h", b"Content-Type\0 application/pkcs7-mime; smime-type=enveloped-data\0")
OPENPGP = ("h", b"Content-Type\0 multipart/encrypted; protocol=application/pgp-encrypted\0")
CHANGED = ("m", b"\0\0\0\1Content-Type\0 application/pkcs7-mime; smime-type=enveloped-data\0")
DELETED = ("m", b"\0\0\0\1Content-Type\0\0")
CIPHERTEXT = ("b", b"MIIF" * 1000)
ACCEPT, GO_ON, LATER, NEVER = ("a", b""), ("c", b""), ("t", b""), ("y", b"550 5.7.5 no\0")


class Scripted:
    """A filter that answers the end of every message with the same packets."""

    def __init__(self, path: Path, *packets: tuple[str, bytes], at_rcpt: tuple[str, bytes] = GO_ON) -> None:
        self.seen: list[str] = []
        self._packets, self._at_rcpt = packets, at_rcpt
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as stream:
                while head := stream.read(4):
                    packet = stream.read(struct.unpack("!I", head)[0])
                    self.seen.append(chr(packet[0]))
                    for command, data in self._answers(packet[:1]):
                        peer.sendall(struct.pack("!I", len(data) + 1) + command.encode() + data)

    def _answers(self, command: bytes) -> tuple[tuple[str, bytes], ...]:
        if command == b"O":
            return (("O", struct.pack("!III", 6, 0x1FF, NR_HEADER | NR_BODY | LEADING_SPACE)),)
        if command == b"E":
            return self._packets
        return () if command in (b"D", b"A", b"Q", b"L", b"B") else (self._at_rcpt if command == b"R" else GO_ON,)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def driver() -> Any:
    require("gcc")
    return bench_driver


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.eml"
    path.write_bytes(b"From: sender@s.test\r\nTo: @RCPT@\r\nSubject: a letter\r\n\r\n" + BODY)
    return path


def measure(driver: Any, address: str, letter: Path, expect: str, to: str = "alice@r.test", **options: Any) -> Any:
    return driver.measure(address, letter, [[to]], expect, canary=CANARY.decode(), **options)


@pytest.mark.parametrize(
    ("expect", "packets", "says"),
    [
        ("smime", (CIPHERTEXT, OPENPGP, ACCEPT), "Content-Type"),
        ("openpgp", (CIPHERTEXT, SMIME, ACCEPT), "Content-Type"),
        ("smime", (CIPHERTEXT, ACCEPT), "Content-Type"),
        ("smime", (CIPHERTEXT, DELETED, ACCEPT), "Content-Type"),
        ("openpgp", (CIPHERTEXT, CHANGED, ACCEPT), "Content-Type"),
        ("encrypted", (ACCEPT,), "not replaced"),
        ("smime", (SMIME, GO_ON), "not replaced"),
        ("smime", (("b", b"MIIF"), SMIME, ACCEPT), "the new body has 4 octets"),
        ("smime", (("b", BODY), SMIME, ACCEPT), "holds the plaintext"),
        ("smime", (("b", BODY[:10]), ("b", BODY[10:20]), ("b", BODY[20:]), SMIME, ACCEPT), "holds the plaintext"),
        ("smime", (CIPHERTEXT, SMIME, LATER), "verdict t"),
        ("smime", (NEVER,), "verdict r 550 5.7.5 no"),
        ("tempfail", (CIPHERTEXT, SMIME, ACCEPT), "verdict a"),
        ("tempfail", (NEVER,), "verdict r"),
        ("unchanged", (SMIME, ACCEPT), "1 edits"),
        ("unchanged", (LATER,), "verdict t"),
    ],
)
def test_the_driver_notices_a_wrong_answer(
    driver: Any, letter: Path, expect: str, packets: tuple[tuple[str, bytes], ...], says: str
) -> None:
    scripted = Scripted(letter.parent / "s", *packets)
    with pytest.raises(driver.WrongAnswerError, match=says):
        measure(driver, f"unix:{letter.parent}/s", letter, expect)
    scripted.close()


@pytest.mark.parametrize(
    ("expect", "packets"),
    [
        ("smime", (CIPHERTEXT, SMIME, ACCEPT)),
        ("smime", (CIPHERTEXT, CHANGED, ACCEPT)),
        ("openpgp", (OPENPGP, CIPHERTEXT, GO_ON)),
        ("encrypted", (("p", b""), CIPHERTEXT, ACCEPT)),
        ("unchanged", (ACCEPT,)),
        ("tempfail", (LATER,)),
        ("tempfail", (("y", b"451 4.3.0 later\0"),)),
    ],
)
def test_the_driver_takes_a_right_answer(
    driver: Any, tmp_path: Path, letter: Path, expect: str, packets: tuple[tuple[str, bytes], ...]
) -> None:
    scripted = Scripted(tmp_path / "s", *packets)
    assert measure(driver, f"unix:{tmp_path}/s", letter, expect, messages=3).messages == 3
    scripted.close()


def test_the_driver_notices_a_refusal_at_rcpt(driver: Any, tmp_path: Path, letter: Path) -> None:
    scripted = Scripted(tmp_path / "s", CIPHERTEXT, SMIME, ACCEPT, at_rcpt=("y", b"550 5.7.5 nobody\0"))
    with pytest.raises(driver.WrongAnswerError, match="before the end: 550 5"):
        measure(driver, f"unix:{tmp_path}/s", letter, "smime")
    scripted.close()


def test_the_driver_speaks_as_an_mta_does(driver: Any, tmp_path: Path, letter: Path) -> None:
    with letter.open("ab") as file:
        file.write(b"x" * CHUNK)
    scripted = Scripted(tmp_path / "s", ("b", b"MIIF" * 20000), SMIME, ACCEPT)
    measure(driver, f"unix:{tmp_path}/s", letter, "smime", messages=2)
    each = "DMDRDTLLLDNBBDE"
    expected = f"ODCDH{each}A{each}A"
    wait_until(lambda: len(scripted.seen) >= len(expected), 30)  # the thread that notes them may lag behind
    assert "".join(scripted.seen).removesuffix("Q") == expected
    scripted.close()


def test_the_sink_counts_what_arrived_in_which_form(driver: Any, tmp_path: Path) -> None:
    port = free_port()
    head = b"Subject: a letter\r\nContent-Type: %s\r\n\r\n"
    with (
        Child("sink", [driver.compiled("sink"), str(port), CANARY.decode()], tmp_path / "log").start(
            ready=lambda: port_answers(port)
        ),
        SMTPClient(port) as client,
    ):
        for kind, body in (
            (b"application/pkcs7-mime", b"MIIF"),
            (b"multipart/encrypted", b"--x"),
            (b"text/plain", b"multipart/encrypted " + CANARY),
        ):
            assert client.send("a@s.test", ["b@r.test"], head % kind + body)[-1].code == 250
        assert client.command("XCOUNT").text == "3 1 1 1"


def test_the_driver_tells_smillas_formats_apart(driver: Any, shared: Smilla, letter: Path) -> None:
    assert measure(driver, shared.milter, letter, "smime", connections=2, messages=4, warm=1).messages == 4
    assert measure(driver, shared.milter, letter, "openpgp", "bob@r.test").messages == 1
    assert measure(driver, shared.milter, letter, "unchanged", "nobody@r.test").messages == 1
    with pytest.raises(driver.WrongAnswerError, match="Content-Type"):
        measure(driver, shared.milter, letter, "smime", "bob@r.test")
    with pytest.raises(driver.WrongAnswerError, match="not replaced"):
        measure(driver, shared.milter, letter, "encrypted", "nobody@r.test")
