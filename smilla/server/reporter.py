"""The process that adds up what the workers count, and answers scrapers and ``smilla status``.

The parent forks it before the workers, since a parent that forks must have no threads; so no scrape, however slow or
wrong, can reach the parent or a worker.  Workers and parent send datagrams to one socket, and never wait.  The totals
live in this process only.  It ends when its pipe from the parent closes.  If it dies, the parent forks another, and
the counts begin at 0, as Prometheus expects of a restart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from smilla import __version__, log, log_metrics
from smilla.adapters.journal_store import make_folder
from smilla.config import Config
from smilla.config.options import MetricsOptions
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Reloads, Workers
from smilla.metrics.totals import Facts, Totals
from smilla.server.listener import UnixPath, is_listening
from smilla.server.sampler import Places, sample, stage
from smilla.server.scrape import serve

_DATAGRAM = 1 << 18
_BACKLOG = 16
_SAMPLE_EVERY_S = 5.0
_AGAIN_S = 1.0  # after a datagram that was not taken
_HEALTHY_S, _LONGEST_WAIT_S = 60.0, 30.0
_BEGUN_S, _LAST_WORDS_S = 10.0, 2.0
_PREDECESSOR_S = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Reporter:
    """The parent's side."""

    def __init__(self) -> None:
        self._receiving, self._sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._metrics: _Listening | None = None
        self._status: _Listening | None = None
        self._pid = self._life = 0
        self._forked_at = self._fork_again_at = 0.0
        self._failures = self._died = 0
        self._reloads = Reloads()
        self._started_at = time.time()
        self._told = b""

    def open(self, config: Config) -> None:
        """Opens the sockets, while smilla may still have the rights.  Raises SmillaError for [metrics] listen; without
        the status socket, the mail goes on."""
        options, user = config.metrics, config.milter.user
        if options.listen:
            self._metrics = _opened(options.listen, options, user)
        try:
            with contextlib.suppress(OSError, KeyError):
                make_folder(Path(config.reinject.spool), user)
            self._status = _opened(f"unix:{config.status_socket}", options, user)
        except SmillaError as error:
            log_metrics.status_closed(str(error))

    @property
    def ends(self) -> tuple[int, ...]:
        """Descriptors that no other process may keep open."""
        ends = (self._receiving.fileno(), *(each.socket.fileno() for each in self._listening()))
        return (*ends, self._life) if self._life else ends

    def send(self, raw: bytes) -> bool:
        """From any process: a datagram for the reporter; False if it is not taken now."""
        try:
            self._sending.send(raw, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def worker_died(self) -> None:
        """A worker ended by itself."""
        self._died += 1

    def reloaded(self, *, done: bool, read_at: float = 0.0) -> None:
        """The configuration was read again at this time, and taken or not."""
        before = self._reloads
        self._reloads = Reloads(
            before.done + done, before.failed + (not done), not done, read_at if done else before.read_at
        )

    def start(self, ends_of_others: Iterable[int]) -> None:
        """Forks the process.  It has a session of its own: what ends a group of processes, such as Ctrl-C, is for the
        parent to obey.  Returns once it has.  If there is no room for a process, ``see`` tries again: mail goes on."""
        self._forked_at, self._told = time.monotonic(), b""
        pipes: list[int] = []
        try:
            pipes += [*os.pipe(), *os.pipe()]
            pid = os.fork()
        except OSError as error:
            for end in pipes:
                os.close(end)
            self._try_again(0, error.strerror or "no process")
            return
        reading, life, begun, begin = pipes
        if pid == 0:
            try:
                os.setsid()
                for descriptor in (begun, begin, life, *ends_of_others):
                    os.close(descriptor)
                self._sending.close()
                _forget_listening({each.socket.fileno() for each in self._listening()})
                _Process(self._receiving, self._metrics, self._status).run(reading)
            except BaseException:
                log.internal_error("", "reporter")
            finally:
                log.flush()
                os._exit(1)
        os.close(reading)
        os.close(begin)
        select.select([begun], [], [], _BEGUN_S)  # the end of the pipe
        os.close(begun)
        self._pid, self._life = pid, life

    def see(self, config: Config, wanted: int, pids: Iterable[int], ends_of_others: Iterable[int]) -> float:
        """Forks the process again if it has died, and tells it what is new.  Returns after how many seconds to call
        again; inf if only after something has happened."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._died_itself()
        if not self._pid:
            left_s = self._fork_again_at - time.monotonic()
            if left_s > 0:
                return left_s
            self.start(ends_of_others)
            if not self._pid:
                return max(0.0, self._fork_again_at - time.monotonic())
        return self._tell(config, wanted, frozenset(pids))

    def tell(self, config: Config) -> float:
        """``see`` for the one process that both serves and has threads, so that it cannot fork again: once the reporter
        has died, nobody can ask any more.  Returns after how many seconds to call again."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            log_metrics.reporter_gone(self._pid)
            os.close(self._life)
            self._pid = self._life = 0
        if self._pid:
            return min(_SAMPLE_EVERY_S, self._tell(config, 1, frozenset((os.getpid(),))))
        for each in self._listening():
            each.remove()
            each.socket.close()
        self._metrics = self._status = None
        return float("inf")

    def _died_itself(self) -> None:
        pid, self._pid = self._pid, 0
        os.close(self._life)
        self._life = 0
        self._try_again(pid, "ended")

    def _try_again(self, pid: int, why: str) -> None:
        lived_s = time.monotonic() - self._forked_at
        self._failures = 1 if lived_s > _HEALTHY_S else self._failures + 1
        wait_s = min(_LONGEST_WAIT_S, 0.05 * 2.0 ** min(self._failures, 10))
        self._fork_again_at = time.monotonic() + wait_s
        log_metrics.reporter_died(pid, why, wait_s)

    def _tell(self, config: Config, wanted: int, pids: frozenset[int]) -> float:
        workers = Workers(wanted, len(pids), self._died)
        facts = Facts(__version__, self._started_at, config.observe, workers, self._reloads, pids)
        news = json.dumps([0, "facts", [_facts_as_dict(facts), Places.of(config).as_dict()]]).encode("ascii")
        if news != self._told:
            if not self.send(news):
                return _AGAIN_S
            self._told = news
        return float("inf")

    def stop(self) -> None:
        """Ends the process and removes the sockets' paths."""
        for each in self._listening():
            each.remove()
        if not self._pid:
            return
        os.close(self._life)
        deadline = time.monotonic() + _LAST_WORDS_S
        while not os.waitpid(self._pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)

    def _listening(self) -> list[_Listening]:
        return [each for each in (self._metrics, self._status) if each is not None]


class Measuring:
    """Asks for the numbers of gauges: a failure costs its number and nothing else, and is logged once a gauge."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def __call__(self, name: str, function: Callable[[], float]) -> float | None:
        """The number, or None if there is none now."""
        try:
            number = float(function())
            if math.isfinite(number):
                return number
            raise ValueError(number)
        except Exception:
            if name not in self._failed:
                self._failed.add(name)
                log_metrics.gauge_failed(name)
            return None


class _Listening:
    """A listening socket: unix:PATH or ADDRESS:PORT."""

    def __init__(self, specification: str, options: MetricsOptions, user: str) -> None:
        """Raises SmillaError."""
        self._path: UnixPath | None = None
        try:
            if UnixPath.fits(specification):
                path = UnixPath(specification)
                self.socket = _bound(path.prepare().partition(":")[2])
                path.publish(options.socket_group, options.socket_mode, user)
                self._path = path
            else:
                host, _, port = specification.rpartition(":")
                family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
                self.socket = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise SmillaError(f"[metrics] {specification}: {error.strerror or error}") from error

    def remove(self) -> None:
        """Removes the socket's path."""
        if self._path is not None:
            self._path.remove()


def _opened(specification: str, options: MetricsOptions, user: str) -> _Listening:
    """The socket; if it is still in use, as it is for a moment where smilla was killed, waits a little.  Raises
    SmillaError."""
    deadline = time.monotonic() + _PREDECESSOR_S
    while True:
        try:
            return _Listening(specification, options, user)
        except SmillaError as error:
            if not _is_in_use(specification, error) or time.monotonic() > deadline:
                raise
            time.sleep(_PREDECESSOR_S / 40)


def _is_in_use(specification: str, error: SmillaError) -> bool:
    if UnixPath.fits(specification):
        return is_listening(Path(specification.partition(":")[2]))
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _forget_listening(kept: Collection[int]) -> None:
    """Closes every listening socket but these: as long as the MTA's were open here, no other smilla could begin."""
    for name in [path.name for path in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # no socket, or the folder itself
            found = socket.socket(fileno=int(name))
            if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or int(name) in kept:
                found.detach()


def _bound(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


class _Process:
    """The child: threads that receive, look at the disk and answer."""

    def __init__(self, receiving: socket.socket, metrics: _Listening | None, status: _Listening | None) -> None:
        self._receiving, self._metrics, self._status = receiving, metrics, status
        self._totals = Totals()
        self._places: Places | None = None
        self._news = threading.Event()

    def run(self, life: int) -> NoReturn:
        """Until the parent is gone, or closes the pipe."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._start("receive", self._receive)
        self._start("sample", self._sample)
        if self._metrics is not None:
            self._start("metrics", serve, self._metrics.socket, {"/metrics": self._exposition})
        if self._status is not None:
            pages = {"/metrics": self._exposition, "/status.json": self._snapshot}
            self._start("status", serve, self._status.socket, pages)
        with contextlib.suppress(OSError):
            os.read(life, 1)
        log.flush()
        os._exit(0)

    def _start(self, name: str, target: Any, *arguments: Any) -> None:
        threading.Thread(target=_or_end, args=(target, *arguments), name=name, daemon=True).start()

    def _receive(self) -> NoReturn:
        while True:
            raw = self._receiving.recv(_DATAGRAM)
            if raw.startswith(b'[0, "facts"'):
                facts, places = json.loads(raw)[2]
                self._places = Places.from_dict(places)
                self._totals.tell(_facts_from_dict(facts))
                self._news.set()
            else:
                self._totals.take(raw)

    def _sample(self) -> NoReturn:
        while True:
            self._news.wait(_SAMPLE_EVERY_S)
            self._news.clear()
            if self._places is not None:
                self._totals.sampled(sample(self._places))

    def _exposition(self, accept: str) -> tuple[bytes, str]:
        from smilla.metrics.exposition import exposition  # noqa: PLC0415 - nobody may ever ask

        return exposition(self._totals.state(), accept)

    def _snapshot(self, _: str) -> tuple[bytes, str]:
        if self._places is not None:
            self._totals.staged(stage(self._places))
        return self._totals.snapshot().to_json().encode("ascii"), "application/json"


def _or_end(target: Any, *arguments: Any) -> NoReturn:
    """A thread that fails ends the process, and the parent forks another."""
    try:
        target(*arguments)
    except BaseException:
        log.internal_error("", "reporter")
    log.flush()
    os._exit(1)


def _facts_as_dict(facts: Facts) -> dict[str, Any]:
    return asdict(facts) | {"pids": sorted(facts.pids)}


def _facts_from_dict(found: dict[str, Any]) -> Facts:
    workers, reloads = Workers(**found["workers"]), Reloads(**found["reloads"])
    return Facts(**{**found, "workers": workers, "reloads": reloads, "pids": frozenset(found["pids"])})
