"""TCP connections without pauses: the right sockets are found, and none is kept."""

from __future__ import annotations

import os
import resource
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.server.acknowledge import Acknowledger, without_nagle

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def descriptors() -> int:
    """What is open now; of what earlier tests left, some may be closed at any moment."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_accepted_connections_inherit_tcp_nodelay(listener: socket.socket) -> None:
    without_nagle()
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_only_connections_that_were_accepted_are_acknowledged(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()), socket.socketpair()[0]:
        accepted, _ = listener.accept()
        with accepted:
            acknowledger = Acknowledger()
            acknowledger.opened()
            assert acknowledger._descriptors == (accepted.fileno(),)


def test_nothing_is_left_open_whatever_else_the_process_has_open(listener: socket.socket, tmp_path: Path) -> None:
    acknowledger = Acknowledger()
    acknowledger.opened()
    with (tmp_path / "file").open("wb"), socket.socketpair()[0], socket.create_connection(listener.getsockname()):
        before = descriptors()
        for _ in range(20):
            acknowledger.opened()
            acknowledger.wake()
        assert descriptors() <= before


def test_a_socket_that_has_become_a_file_meanwhile_leaves_nothing_open(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledger = Acknowledger()
    with (tmp_path / "file").open("wb"):
        before = descriptors()
        monkeypatch.setattr(stat, "S_ISSOCK", lambda _: True)
        acknowledger.opened()
        assert descriptors() <= before


def test_without_descriptors_to_look_with_nothing_is_raised(listener: socket.socket) -> None:
    acknowledger = Acknowledger()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        acknowledger.opened()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_over_unix_sockets_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "Thread", lambda **_: pytest.fail("a thread"))
    acknowledger = Acknowledger()
    acknowledger.opened()
    acknowledger.wake()


def test_a_descriptor_that_is_something_else_by_now_does_no_harm(listener: socket.socket) -> None:
    acknowledger = Acknowledger()
    reading, writing = os.pipe()
    acknowledger._descriptors = (reading, 99_999)
    acknowledger.wake()
    while acknowledger._has_work.is_set():
        pass
    os.write(writing, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)
