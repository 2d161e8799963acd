"""The second milter, which decrypts: a parent that owns the socket and its workers, which have the private keys.

Promises: it is a process of its own with a user of its own, and the filter that encrypts never sees a private key.
SIGHUP reads the file and the keys anew and takes them as a whole, or keeps the former ones and logs why.  After SIGTERM
messages whose envelope has begun may finish within [milter] stop_timeout_s.  A worker that dies is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from smilla import __version__, config, log, log_decrypt
from smilla.adapters import log_target
from smilla.adapters.clock import SystemClock
from smilla.adapters.folder import KeyDirectory
from smilla.adapters.openpgp import NoEngine
from smilla.config import Config
from smilla.config.options import TransportOptions
from smilla.decrypting import Believed, Decrypting, Reader
from smilla.errors import SmillaError
from smilla.keys.discovery import directory
from smilla.keys.validity.x509_paths import load_trust_store
from smilla.metrics.meter import Meter
from smilla.ports import Metrics, PendingAnswer, Ports
from smilla.server import milter, rights, systemd
from smilla.server.child import Child, in_words
from smilla.server.listener import UnixPath
from smilla.server.readers import cleaner, detached, readers
from smilla.server.reporter import Measuring, Reporter
from smilla.server.runtime import raw_authorities, raw_crls
from smilla.server.service import Runtime, read_anew
from smilla.server.worker import SIGNALS, work
from smilla.session import Session

_LAST_WORDS_S = 2.5
_RESPAWN_S = 1.0
_WAIT_S = 3600.0
_FIXED_OPTIONS = ("socket", "socket_group", "socket_mode", "status", "user", "workers")


@dataclass(frozen=True, slots=True)
class Role:
    """See service.Role: what a worker does with a message."""

    readers: tuple[Reader, ...]
    believed: Believed

    def begin(self, session: Session, settings: Config, busy: AbstractContextManager[object]) -> Decrypting:
        """A message has begun."""
        return Decrypting(session, self.readers, settings, self.believed, busy)

    def renewed(self, text: str) -> Runtime:
        """Another configuration is in force.  Raises ConfigError or EngineMissing."""
        return runtime(config.parse(text), self.believed.metrics)


def runtime(settings: Config, metrics: Metrics | None = None) -> Runtime:
    """Reads the keys; ``metrics`` outlive it.  Raises ConfigError or EngineMissing."""
    metrics = metrics or Metrics()
    ports, raw, raw_lists = _without_dns(settings, metrics), raw_authorities(settings), raw_crls(settings)
    trusted = load_trust_store(raw, raw_lists) if raw or raw_lists else None
    believed = Believed(ports.clock, ports.folder, trusted, detached(), metrics, cleaner(settings))
    return Runtime(_narrowed(settings), ports, Role(readers(settings), believed))


def _narrowed(settings: Config) -> Config:
    """The configuration as this milter has it: another socket, no look-ups, nothing about how the message came."""
    options = settings.decrypt
    listening = replace(
        settings.milter,
        socket=options.socket,
        socket_group=options.socket_group,
        socket_mode=options.socket_mode,
        user=options.user,
    )
    keys = replace(settings.keys, sources=())
    return replace(settings, milter=listening, keys=keys, transport=TransportOptions())


class _NoDNS:
    """This milter asks nobody."""

    def ask(self, owner: str, rdtype: int) -> PendingAnswer:
        raise SmillaError(f"smilla decrypt asks no DNS, but was to ask for {owner} ({rdtype})")


def _without_dns(settings: Config, metrics: Metrics) -> Ports:
    folder = KeyDirectory(settings.keys.directory, directory.address_of)
    return Ports(clock=SystemClock(), resolver=_NoDNS(), folder=folder, openpgp=NoEngine(), metrics=metrics)


def _counted(settings: Config) -> Config:
    """The configuration as the process that adds up has it: a socket of its own, and neither journal nor seal keys,
    which are the other milter's."""
    folder = str(Path(settings.decrypt_status).parent)
    return replace(
        _narrowed(settings),
        metrics=replace(settings.metrics, listen="", status=settings.decrypt_status),
        policy=replace(settings.policy, mixed="defer"),
        reinject=replace(settings.reinject, spool=folder),
        stage=replace(settings.stage, keys=f"{folder}/none"),
    )


class Decrypter:
    """The parent process."""

    def __init__(self, path: Path, settings: Config) -> None:
        self._path, self._config = path, settings
        self._workers: dict[int, Child] = {}
        self._respawn_at: list[float] = []
        self._meter, self._reporter = Meter(Measuring()), Reporter()

    def run(self) -> int:
        """Opens the socket, forks, and watches until SIGTERM or SIGINT.  Raises SmillaError if it cannot start."""
        options = self._config.decrypt
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # whoever sees the socket may end us, and we end well
        listening = self._opened()
        try:
            if self._config.decrypt_status:
                self._reporter.open(_counted(self._config))
            rights.drop(options.user)
            self._runtime = runtime(self._config, self._meter)
        except SmillaError:
            if listening is not None:
                listening.remove()
            self._reporter.stop()
            raise
        self._reporter.start(())
        for _ in range(options.workers):
            self._fork()
        log_decrypt.started(options.socket, len(self._config.decrypt_rule), options.workers, __version__)
        systemd.notify("READY=1")
        name = self._watch()
        systemd.notify("STOPPING=1")
        log.stopping(name)
        if listening is not None:
            listening.remove()
        self._stop()
        log.flush()
        return 0

    def _opened(self) -> UnixPath | None:
        options, timeout_s = self._config.decrypt, self._config.milter.timeout_s
        if not UnixPath.fits(options.socket):
            milter.listen(options.socket, timeout_s)
            return None
        path = UnixPath(options.socket)
        before = os.umask(0o177)
        try:
            milter.listen(path.prepare(), timeout_s)
        finally:
            os.umask(before)
        path.publish(options.socket_group, options.socket_mode, options.user)
        return path

    def _fork(self) -> None:
        reading, writing = os.pipe()
        acknowledged, acknowledge = os.pipe()
        os.set_blocking(acknowledged, False)
        pid = os.fork()
        if pid == 0:
            for mine in (writing, acknowledged, *self._ends(), *self._reporter.ends):
                os.close(mine)
            self._meter.start(self._reporter.send)
            work(self._runtime, reading, acknowledge, milter.serve)
        os.close(reading)
        os.close(acknowledge)
        self._workers[pid] = Child(pid, writing, acknowledged, time.monotonic(), milter.serve)

    def _ends(self) -> list[int]:
        """What no new process may keep open, besides the reporter's."""
        return [end for worker in self._workers.values() for end in worker.ends]

    def _watch(self) -> str:
        while True:
            wanted = self._config.decrypt.workers
            told_s = self._reporter.see(_counted(self._config), wanted, self._workers, self._ends())
            pause = min([_WAIT_S, told_s, *(at - time.monotonic() for at in self._respawn_at)])
            received = signal.sigtimedwait(SIGNALS, max(0.0, pause))
            if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                return signal.Signals(received.si_signo).name
            if received is not None and received.si_signo == signal.SIGHUP:
                self._reload()
            self._reap(replaces=True)
            due = [at for at in self._respawn_at if at <= time.monotonic()]
            self._respawn_at = [at for at in self._respawn_at if at not in due]
            for _ in due:
                try:
                    self._fork()
                except OSError as error:
                    self._respawn_at.append(time.monotonic() + _RESPAWN_S)
                    log.worker_died(0, error.strerror or "no process", _RESPAWN_S)

    def _reap(self, *, replaces: bool) -> None:
        for pid in list(self._workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            for end in self._workers.pop(pid).ends:
                os.close(end)
            if replaces:
                self._respawn_at.append(time.monotonic() + _RESPAWN_S)
                log.worker_died(pid, in_words(status), _RESPAWN_S)
                self._reporter.worker_died()

    def _reload(self) -> None:
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        read_at = time.time()
        read = read_anew(self._read)
        if read is None:
            self._reporter.reloaded(done=False)
        else:
            text, fresh, self._runtime = read
            for name in _FIXED_OPTIONS:
                if getattr(fresh.decrypt, name) != getattr(self._config.decrypt, name):
                    log.restart_needed(f"[decrypt] {name}")
            self._config = fresh
            log.configure(fresh.log.level, fresh.log.format, log_target.opened(fresh.log.target))
            self._hand_over(text)
            log.reloaded()
            self._reporter.reloaded(done=True, read_at=read_at)
        systemd.notify("READY=1")

    def _read(self) -> tuple[str, Config, Runtime]:
        text = self._path.read_text("utf-8")
        fresh = config.parse(text, str(self._path))
        return text, fresh, runtime(fresh, self._meter)

    def _hand_over(self, text: str) -> None:
        """Returns once the configuration is in force in all healthy workers."""
        for worker in self._workers.values():
            worker.forget_acknowledgements()
        self._say({"reload": text})
        deadline = time.monotonic() + 5.0
        for worker in self._workers.values():
            worker.wait_for_acknowledgement(deadline)

    def _say(self, message: dict[str, str]) -> None:
        line = json.dumps(message).encode("ascii") + b"\n"
        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                octets = line
                while octets:
                    octets = octets[os.write(worker.control, octets) :]

    def _stop(self) -> None:
        """Lets the workers finish, then kills those that are late."""
        timeout_s = self._config.milter.stop_timeout_s
        self._say({"stop": str(timeout_s)})
        deadline = time.monotonic() + timeout_s + _LAST_WORDS_S
        while self._workers and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap(replaces=False)
        late = list(self._workers)
        for pid in late:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._reporter.stop()
        log.stopped(len(late))
