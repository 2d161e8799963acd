"""A hundred megabytes through the relay: in bounded memory, on no disk in the clear, and past nobody else's mail.

client -> smilla relay -> a next hop that only counts
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.listening import LoopbackServer
from tests.lab.relay import Relay
from tests.milter.material import CANARY, NOBODY, Keys

ALICE, ZOE = "alice@r.test", "zoe@r.test"
MIB = 1 << 20
SIZE = 100 * MIB
MOST_RSS_KIB = 64 * 1024
LINE = CANARY + b"x" * (76 - len(CANARY)) + b"\r\n"


class Counting(LoopbackServer):
    """Takes everything; of each message it keeps the last recipient, the size, and in how many
    lines the canary stood first."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, int, int]] = []
        super().__init__()

    def talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rwb") as stream:
            self._say(stream, b"220 sink.test")
            to = ""
            while line := stream.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    self._say(stream, b"250-sink.test\r\n250 8BITMIME")
                elif verb == b"DATA":
                    self._say(stream, b"354 go on")
                    size = canaries = 0
                    while (line := stream.readline()) != b".\r\n" and line:
                        size += len(line)
                        canaries += line.startswith(CANARY)
                    self.messages.append((to, size, canaries))
                    self._say(stream, b"250 2.0.0 counted")
                else:
                    if verb == b"RCPT":
                        to = line.decode().partition("<")[2].partition(">")[0]
                    self._say(stream, b"221 bye" if verb == b"QUIT" else b"250 2.0.0 OK")

    @staticmethod
    def _say(stream: object, reply: bytes) -> None:
        stream.write(reply + b"\r\n")  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]


@pytest.fixture
def place(folder: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="large-", dir=folder))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_hundred_megabytes_pass_in_bounded_memory_and_hold_up_nobody(place: Path, keys: Keys) -> None:
    spool = place / "bodies"
    spool.mkdir()
    spool.chmod(0o777)
    settings: dict[str, Any] = {
        "keys": {"sources": ["directory"], "directory": str(keys.directory)},
        "spool": {"folder": str(spool)},
        "relay": {"protocol": "smtp"},
    }
    count = SIZE // len(LINE)
    with Counting() as sink, Relay(place, NOBODY, sink.port, settings).start() as relay:
        before = peak_kib(relay.child.pid)
        with SMTPClient(relay.smtp_port, timeout_s=300) as client, SMTPClient(relay.smtp_port) as other:
            for line in ("MAIL FROM:<s@s.test>", f"RCPT TO:<{ALICE}>", f"RCPT TO:<{ZOE}>"):
                assert client.command(line).code == 250
            assert client.command("DATA").code == 354
            client.send_raw(b"Message-ID: <large@s.test>\r\n\r\n")
            block = LINE * 1000
            for _ in range(count // 1000):
                client.send_raw(block)
            assert other.send("s@s.test", [ZOE], b"X: small\r\n\r\nsmall\r\n", mail_parameters="")[-1].code == 250
            client.send_raw(b".\r\n")
            assert client._read().code == 250
        small, *large = sorted(sink.messages, key=lambda message: message[1])
        assert (small[0], small[2]) == (ZOE, 0)
        sizes = {to: (size, canaries) for to, size, canaries in large}
        assert sizes[ZOE][1] == count // 1000 * 1000
        assert sizes[ALICE][1] == 0
        assert sizes[ALICE][0] > SIZE * 1.3
        assert peak_kib(relay.child.pid) - before < MOST_RSS_KIB
        assert list(spool.iterdir()) == []
