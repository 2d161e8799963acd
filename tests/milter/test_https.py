"""Answers of web servers are bounded whatever the servers say, and whole or an error."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.https import Client
from smilla.errors import FetchError
from tests.lab.listening import LoopbackServer
from tests.lab.loopback_tls import authorities, context

if TYPE_CHECKING:
    from pathlib import Path

MOST = 65536
MIB = b"x" * (1 << 20)


class Web(LoopbackServer):
    """Says the same to everybody, then up to ``more`` MiB."""

    def __init__(self, folder: Path, says: bytes, more: int = 0) -> None:
        self.says, self.more, self.taken = says, more, 0
        self.context = context(folder)
        super().__init__()

    def talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(65536)
            wrapped.sendall(self.says)
            for _ in range(self.more):
                wrapped.sendall(MIB)
                self.taken += 1
        self.open.discard(connection)


def asked(folder: Path, server: Web) -> bytes:
    url = f"https://127.0.0.1:{server.port}/"
    return Client(str(authorities(folder)), 20, MOST).request("GET", url, {}).body


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "says",
    [
        OK + b"Content-Length: 7\r\n\r\ncontent",
        CHUNKED + b"3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n",
        CHUNKED + b"7;of=us\r\ncontent\r\n0\r\nX: y\r\n\r\n",
    ],
)
def test_whole_answer_is_read(tmp_path: Path, says: bytes) -> None:
    with Web(tmp_path, says) as server:
        assert asked(tmp_path, server) == b"content"


@pytest.mark.parametrize(
    "says",
    [CHUNKED + size + b"\r\n" for size in (b"-1", b"-5", b"-0", b"fffffff")]
    + [OK + b"Content-Length: 9999999999\r\n\r\n"],
)
def test_answer_without_an_end_takes_no_room(tmp_path: Path, says: bytes) -> None:
    """Python reads all that comes where the size of a chunk is less than nothing."""
    with Web(tmp_path, says, more=200) as server:
        with pytest.raises(FetchError):
            asked(tmp_path, server)
        assert server.taken < 60  # what the system keeps for both ends


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (OK + b"Content-Length: 8\r\n\r\ncontent", "cut off"),
        (OK + b"\r\ncontent", "how long"),
        (CHUNKED + b"7\r\ncont", "IncompleteRead|more expected"),
        (CHUNKED + b"7\r\ncontent\r\n", "."),
        (CHUNKED + b"none\r\ncontent\r\n0\r\n\r\n", "."),
        (OK + b"Content-Length: 65537\r\n\r\n" + b"x" * 65537, "more than 65536"),
    ],
)
def test_answer_that_is_not_whole_is_an_error(tmp_path: Path, says: bytes, told: str) -> None:
    with Web(tmp_path, says) as server, pytest.raises(FetchError, match=told):
        asked(tmp_path, server)
