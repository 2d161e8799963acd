"""Writes the log lines to stderr, to syslog's socket or to journald's.

If stderr is journald's, each line begins with its priority (sd-daemon(3)), which journald takes off again.

Promises: logging never waits, whatever is at the other end: a pipe that nobody reads, a stopped journald, a halted
terminal.  Lines that cannot be written at once wait in a queue of limited size, and a thread writes them in order.
Lines that do not fit are counted, and the count is logged (``log-dropped``) in their place.  A line is written whole or
not at all, since several processes write to one place.

smilla never changes a descriptor that others share: O_NONBLOCK would hold for everybody who has stderr open.  Instead
it opens a pipe or terminal once more, and passes a flag with each call on a socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smilla import log
from smilla.adapters import log_frame
from smilla.log_line import Line

JOURNAL = "/run/systemd/journal/socket"
_LIMIT = 1 << 20  # octets that may wait, in each process
_LAST_WORDS_S = 1.0
_AGAIN_S = 0.02
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Sink(Protocol):
    """Writes octets to one place."""

    def send(self, raw: bytes) -> int:
        """Writes without waiting; returns how many octets were written.  Raises BlockingIOError if none can be now,
        OSError if the sink does not work."""

    def push(self, raw: bytes) -> int:
        """The same, but waits until some can be written."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Octets that wait; ``lines`` is how many lines are lost if they are dropped."""

    raw: bytes
    lines: int


class Target:
    """smilla.log.Target over a sink."""

    def __init__(self, sink: Sink, *, joins: bool, frame: Callable[[Line], bytes] | None = None) -> None:
        self.joins = joins
        self.framed = frame or (log_frame.plain if joins else log_frame.for_syslog)
        self._sink, self._send = sink, sink.send
        self._afresh()
        os.register_at_fork(after_in_child=self._afresh)

    def _afresh(self) -> None:
        """Starts empty: after a fork, what waits and the thread that writes it belong to the parent."""
        self._late = False  # something waits, or was dropped and not reported yet
        self._waiting: deque[_Piece] = deque()
        self._size = self._dropped = 0
        self._is_writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, raw: bytes) -> None:
        """Writes a datagram, or whole lines, each with its line end; if several are joined, at most PIPE_BUF octets."""
        if self._late:
            self._keep(_Piece(raw, self._lines(raw)))
            return
        try:
            taken = self._send(raw)
        except BlockingIOError:
            taken = 0
        except OSError:
            with self._changed:
                self._late = True
                self._dropped += self._lines(raw)
            return
        if taken < len(raw):
            self._keep(_Piece(raw[taken:], self._lines(raw)), begun=taken > 0)

    def flush(self) -> None:
        """Returns once nothing waits, or after a second."""
        with self._changed:
            if self._late:
                self._report_dropped()
                self._start()
                self._changed.wait_for(lambda: not self._waiting and not self._is_writing, _LAST_WORDS_S)

    def _keep(self, piece: _Piece, *, begun: bool = False) -> None:
        """Lets a piece wait.  The rest of a piece that was begun goes first, and is never dropped."""
        with self._changed:
            self._late = True
            if begun:
                self._waiting.appendleft(piece)
            elif self._size + len(piece.raw) > _LIMIT:
                self._dropped += piece.lines
                return
            else:
                self._report_dropped()
                self._waiting.append(piece)
            self._size += len(piece.raw)
            self._start()

    def _report_dropped(self) -> None:
        if self._dropped:
            raw = self.framed(log.lines_dropped(self._dropped))
            self._waiting.append(_Piece(raw, self._dropped))
            self._size += len(raw)
            self._dropped = 0

    def _lines(self, raw: bytes) -> int:
        return max(1, raw.count(b"\n")) if self.joins else 1

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._catch_up, name="log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _catch_up(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                piece = self._first()
                self._is_writing = True
            try:
                taken = self._sink.push(piece.raw)
            except BlockingIOError:
                taken = 0
                time.sleep(_AGAIN_S)
            except OSError:
                self._give_up(piece)
                continue
            self._written(piece, taken)

    def _first(self) -> _Piece:
        """The first waiting piece, joined with as many more as one write may carry."""
        pieces = [self._waiting.popleft()]
        size = len(pieces[0].raw)
        while self.joins and self._waiting and size + len(self._waiting[0].raw) <= select.PIPE_BUF:
            pieces.append(self._waiting.popleft())
            size += len(pieces[-1].raw)
        return _Piece(b"".join(piece.raw for piece in pieces), sum(piece.lines for piece in pieces))

    def _written(self, piece: _Piece, taken: int) -> None:
        with self._changed:
            self._is_writing = False
            self._size -= taken
            if rest := piece.raw[taken:]:
                self._waiting.appendleft(_Piece(rest, piece.lines))
            if not self._waiting:
                self._report_dropped()
            self._late = bool(self._waiting)
            self._changed.notify_all()

    def _give_up(self, piece: _Piece) -> None:
        """The other end is gone: drops what waits.  The next line tries again."""
        with self._changed:
            self._is_writing = False
            self._dropped += piece.lines + sum(other.lines for other in self._waiting)
            self._waiting.clear()
            self._size = 0
            self._changed.notify_all()


class _File:
    """A descriptor that does not block: a file, or a pipe or terminal opened for smilla alone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, raw: bytes) -> int:
        return os.write(self._descriptor, raw)

    def push(self, raw: bytes) -> int:
        _wait_for_room(self._descriptor)
        return os.write(self._descriptor, raw)


class _Shared:
    """A pipe or terminal that another user owns, so smilla cannot open it again: the thread waits for it."""

    def send(self, raw: bytes) -> int:
        raise BlockingIOError

    def push(self, raw: bytes) -> int:
        return os.write(2, raw)


class _Stream:
    """A socket, such as journald's."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(2))

    def send(self, raw: bytes) -> int:
        return self._socket.send(raw, _SEND_FLAGS)

    def push(self, raw: bytes) -> int:
        _wait_for_room(self._socket.fileno())
        return self._socket.send(raw, _SEND_FLAGS)


class _Nowhere:
    """The process began without a stderr, so descriptor 2 is one of our own sockets, pipes or files."""

    def send(self, raw: bytes) -> int:
        return len(raw)

    push = send


class _Syslog:
    """The socket of syslog or journald; it is reopened when that has restarted."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._afresh()
        os.register_at_fork(after_in_child=self._afresh)

    def _afresh(self) -> None:
        """After a fork, a thread of the parent may hold the lock, and nobody here would ever release it."""
        self._opening = threading.Lock()

    def send(self, raw: bytes) -> int:
        current = self._socket
        try:
            if current is not None:
                return current.send(raw, _SEND_FLAGS)
        except BlockingIOError:
            raise
        except OSError:
            pass
        return self._opened(current).send(raw, _SEND_FLAGS)

    def push(self, raw: bytes) -> int:
        if self._socket is not None:
            _wait_for_room(self._socket.fileno())
        return self.send(raw)

    def _opened(self, failed: socket.socket | None) -> socket.socket:
        """A socket other than ``failed``, opened if need be.  Raises OSError."""
        with self._opening:
            if self._socket is not None and self._socket is not failed:
                return self._socket
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                fresh = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
                with contextlib.suppress(OSError):
                    fresh.connect(self._path)
                    self._socket = fresh
                    return fresh
                fresh.close()
            raise ConnectionRefusedError(f"nobody listens on {self._path}")


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def _stderr() -> Sink:
    if sys.__stderr__ is None:
        return _Nowhere()
    mode = os.fstat(2).st_mode
    if stat.S_ISSOCK(mode):
        return _Stream()
    if not stat.S_ISFIFO(mode) and not os.isatty(2):
        return _File(2)
    try:
        return _File(os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        return _Shared()


_opened: dict[str, Target] = {}


def opened(name: str, syslog_socket: str = "/dev/log", journal_socket: str = JOURNAL) -> Target:
    """The target for [log] target.  Each is opened once and for good, while smilla may still have the rights."""
    if name not in _opened:
        if name == "journal":
            _opened[name] = Target(_Syslog(journal_socket), joins=False, frame=log_frame.for_journal)
        elif name == "syslog":
            _opened[name] = Target(_Syslog(syslog_socket), joins=False)
        else:
            frame = log_frame.with_priority if is_journald(2) else None
            _opened[name] = Target(_stderr(), joins=True, frame=frame)
    return _opened[name]


def is_journald(descriptor: int) -> bool:
    """Does this descriptor lead to journald, by what the service manager says (JOURNAL_STREAM, systemd.exec(5))?"""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
