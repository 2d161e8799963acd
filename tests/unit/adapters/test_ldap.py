"""Bounds of what an LDAP server may send, and the password that it gets; a real one is in tests/live/test_ldap.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from smilla.adapters import ldap
from smilla.adapters.ldap import Directory
from smilla.errors import DirectoryError


class Raw:
    """A socket that sends without end."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []
        self.sent = b""

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def recv(self, size: int) -> bytes:
        return bytes(size)

    def sendall(self, octets: bytes) -> None:
        self.sent += octets

    def fileno(self) -> int:
        return 7


def bounded(raw: Raw, seconds: float = 60) -> Any:
    return ldap._VerifiedTLS(None, "x", time.monotonic() + seconds).bounded(raw)


def test_an_answer_has_a_largest_size() -> None:
    connection, received = bounded(Raw()), 0
    with pytest.raises(OSError, match="more than 1048576 octets"):
        while True:
            received += len(connection.recv(65536))
    assert received == 1 << 20


def test_each_step_has_what_is_left_of_the_time() -> None:
    raw = Raw()
    connection = bounded(raw)
    connection.recv(1)
    connection.sendall(b"x")
    assert raw.sent == b"x"
    assert all(0 < seconds <= 60 for seconds in raw.timeouts)
    assert connection.fileno() == 7


def test_once_the_time_is_over_nothing_is_sent_or_read() -> None:
    raw = Raw()
    connection = bounded(raw, -1)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    with pytest.raises(TimeoutError):
        connection.sendall(b"x")
    assert raw.sent == b""


def test_authorities_that_cannot_be_read_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no PEM")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(DirectoryError):
            Directory("ldaps://localhost", str(tmp_path / name), (), 1)


@pytest.mark.parametrize("octets", [b"", b"\n", b"\xff\n", None])
def test_without_a_password_nobody_binds(tmp_path: Path, octets: bytes | None) -> None:
    """A bind with an empty password would succeed as nobody (RFC 4513 section 5.1.2)."""
    path = tmp_path / "password"
    if octets is not None:
        path.write_bytes(octets)
    with pytest.raises(DirectoryError, match="password"):
        Directory("ldaps://localhost:1", "", (), 1).search("", "(mail=x)", "cn=smilla", str(path))
