"""One parent owns the socket and forks the workers; it never touches mail.

Promises: after SIGTERM, messages whose envelope has begun may finish within [milter] stop_timeout_s.  SIGHUP switches
to the new configuration as a whole, for messages that begin afterwards, or keeps the old one and logs why.  A worker
that dies harms no other and is replaced.  Workers stop with ``os._exit``, because libmilter's own shutdown takes up to
five seconds; the MTA retries what was in flight.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from smilla import __version__, config, log
from smilla.adapters import log_target, postfix, spool
from smilla.adapters.look import Look
from smilla.adapters.postfix_lines import PostfixLines
from smilla.config import Config
from smilla.errors import SmillaError
from smilla.keys.discovery import directory, rule
from smilla.metrics.meter import Meter
from smilla.ports import SealKeyStore
from smilla.server import health, lmtp, milter, rights, socketmap, systemd
from smilla.server.child import Child, in_words
from smilla.server.listener import UnixPath
from smilla.server.page import Page, open_hops, open_page
from smilla.server.reporter import Measuring, Reporter
from smilla.server.runtime import make_ports, needs_hops
from smilla.server.service import Runtime, read_anew
from smilla.server.worker import SIGNALS, Serve, work

_FIXED_OPTIONS = {
    "milter": ("socket", "workers", "timeout_s", "user", "socket_group", "socket_mode"),
    "stage": ("socket", "socket_group", "socket_mode", "connections"),
    "metrics": ("listen", "status", "socket_group", "socket_mode"),
    "hop": ("socket", "socket_group", "socket_mode"),
    "web": ("listen", "token_file", "hosts", "domains", "lookups_per_minute"),
}
_LAST_WORDS_S = 2.5  # worker.GRACE_S, plus a moment in case nobody reads the log
_HEALTHY_S = 60.0
_LONGEST_WAIT_S = 30.0
_KEY_EVERY_S = 3600.0  # [stage] key_days counts days
_RELOAD_TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 15.0  # and twice as long after each look that changed nothing
_LONGEST_LOOK_S = 300.0
_NO_ROOM = (
    "cannot start: the machine has no room for one of {} processes ({}); raise TasksMax= of the unit or the limit of "
    "its user (ulimit -u), free memory, or write fewer [milter] workers"
)
_LOOKING = "nobody has looked yet whether Postfix has the lines for the stage; smilla is doing so now"


class Daemon:
    """The parent process."""

    def __init__(self, path: Path, settings: Config) -> None:
        # Before the first thread begins: whoever sees the socket may end us, and we end well.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._path = path
        self._config = settings
        self._meter, self._reporter = Meter(Measuring(), keeps_domains=settings.web.domains), Reporter()
        self._meter.measure("spool_bytes", spool.octets_in_files)
        self._runtime = Runtime(settings, make_ports(settings, self._meter))
        self._workers: dict[int, Child] = {}
        self._socket: UnixPath | None = None
        self._stage: lmtp.Server | None = None
        self._hops: socketmap.Server | None = None
        self._pages: list[Page] = []
        self._look: Look | None = None
        self._look_is_due = False  # a further look, once this one is over
        self._logged_problem = ""  # of the stage
        self._looked_at, self._look_again_s = 0.0, _LOOK_AGAIN_S
        self._failures = self._wanted = 0
        self._respawn_at: list[tuple[float, Serve]] = []

    def run(self) -> int:
        """Opens the socket, forks, and watches until SIGTERM or SIGINT.  Raises SmillaError if it cannot start."""
        self._open_socket()
        self._prepare_journal()
        self._open_stage()
        self._hops = open_hops(self._config)
        self._reporter.open(self._config)
        self._pages = open_page(self._config)
        rights.drop(self._config.milter.user)
        self._reporter.start(self._ends())
        count = self._config.milter.workers or os.cpu_count() or 1
        servers = [server for server in (self._stage, self._hops) if server is not None]
        others: list[Serve] = [server.serve for server in (*servers, *self._pages)]
        state = self._begin([milter.serve] * count + others)
        log.started(self._config.milter.socket, count, __version__, state)
        systemd.notify("READY=1")
        self._look_at_keys()
        name = self._watch()
        systemd.notify("STOPPING=1")
        log.stopping(name)
        self._stop()
        log.flush()
        return 0

    def _begin(self, served: list[Serve]) -> dict[str, str]:
        """Finds out what works, and forks the first workers.  If there is no room for all, ends those that began and
        raises SmillaError: the service manager tries again."""
        self._wanted = len(served)
        try:
            state = health.seen(self._config, self._runtime.ports)
            for serve in served:
                self._fork(serve)
        except OSError as error:
            self._stop()
            raise SmillaError(_NO_ROOM.format(len(served), error.strerror or error)) from error
        return state

    def _open_socket(self) -> None:
        options = self._config.milter
        if not UnixPath.fits(options.socket):
            milter.listen(options.socket, options.timeout_s)
            return
        self._socket = UnixPath(options.socket)
        before = os.umask(0o177)
        try:
            milter.listen(self._socket.prepare(), options.timeout_s)
        finally:
            os.umask(before)
        self._socket.publish(options.socket_group, options.socket_mode, options.user)

    def _look_at_keys(self) -> None:
        """Logs the useless files in the administrator's folder of keys, and what is wrong with the key files of rules,
        once at the start and at each reload."""
        ports = self._runtime.ports
        for path in dict.fromkeys(each.key for each in self._config.rule if each.key):
            for problem in rule.problems(path, ports.read_key_file):
                log.key_file(path, problem)
        if "directory" not in self._config.keys.sources:
            return
        try:
            for name, problem in directory.problems(ports.folder):
                log.key_file(name, problem)
        except SmillaError as error:
            log.key_file(self._config.keys.directory, str(error))

    def _prepare_journal(self) -> None:
        """Makes the journal's folder while we may still have the rights to.  Without it, only mail that needs one copy
        goes on."""
        journal, keys = self._runtime.ports.journal, self._runtime.ports.seal_keys
        if journal is None or (self._config.observe and keys is None):
            return
        try:
            journal.prepare(self._config.milter.user)
        except SmillaError as error:
            log.journal_failed(str(error))

    def _open_stage(self) -> None:
        """Prepares the stage's keys and socket if messages are sealed, or if a key is left from when they were.  Raises
        SmillaError only if messages are sealed now; otherwise a failure must not hold up all mail."""
        keys, user = self._runtime.ports.seal_keys, self._config.milter.user
        if keys is None:
            return
        try:
            if self._config.may_seal:
                self._renew_key(keys, user)
            self._stage = lmtp.Server(self._config.stage, user)
        except SmillaError as error:
            if self._config.policy.mixed == "stage":
                raise
            if self._config.may_seal:
                # We do not know yet which MTA this is.  If it is Postfix, messages that need splitting are deferred.
                log.stage_not_ready("", str(error))
                PostfixLines(self._config.stage).stage_began(f"the stage could not be started: {error}")
            else:
                log.stage_closed(str(error))
            return
        if self._config.may_seal:
            PostfixLines(self._config.stage).stage_began("")
        self._look_at_lines()

    def _look_at_lines(self) -> None:
        """Does Postfix have the lines for the stage?  The systemd unit checks before it starts or reloads the filter.
        Without a service manager a child process checks, and nothing is sealed until it is done."""
        if not self._needs_lines():
            return
        if systemd.is_there():
            self._log_lines()
            return
        PostfixLines(self._config.stage).stage_began(_LOOKING)
        if self._look is None:
            self._begin_look([""])
        else:
            self._look_is_due = True

    def _needs_lines(self) -> bool:
        return self._stage is not None and self._config.may_seal and self._config.stage.check

    def _begin_look(self, folders: list[str]) -> None:
        self._looked_at = time.monotonic()
        try:
            self._look = Look(self._path, folders, [*self._ends(), *self._reporter.ends])
        except OSError as error:  # nothing is sealed until a later look
            log.stage_not_ready("", f"no process to look at Postfix's lines: {error.strerror or error}")

    def _ends(self, serve: Serve | None = None) -> list[int]:
        """What no new process may keep open, besides the reporter's; one that runs ``serve`` keeps what it serves."""
        ends = [page.end for page in self._pages if page.serve != serve]
        ends += [self._look.end] if self._look is not None else []
        return [*ends, *(end for worker in self._workers.values() for end in worker.ends)]

    def _retry_look(self) -> None:
        """While nothing may be sealed, looks again now and then, so that a mend counts without a reload.  If nobody has
        looked at any instance, it looks at the usual one, if there is one."""
        if self._look is not None or not self._needs_lines():
            return
        lines, now = PostfixLines(self._config.stage), time.monotonic()
        problem = lines.problem()
        if problem and self._logged_problem not in ("", problem):
            self._logged_problem, self._look_again_s = "another", _LOOK_AGAIN_S  # what the next look finds is news
        if problem and now < self._looked_at + self._look_again_s:
            return
        if problem and (folders := lines.instances() or ([""] if postfix.is_installed() else [])):
            self._begin_look(folders)
        else:  # somebody else has looked meanwhile, or there is nothing to look at
            self._looked_at = now
            self._log_lines()

    def _see_look(self) -> None:
        """Once a look is over, allows sealing or logs why not."""
        if self._look is None or not self._look.is_over():
            return
        self._look, self._looked_at = None, time.monotonic()
        if self._look_is_due:
            self._look_is_due = False
            self._look_at_lines()
            return
        PostfixLines(self._config.stage).stage_began("")
        self._log_lines()

    def _log_lines(self) -> None:
        """Logs a problem that is new, and that there is none any more."""
        problem, before = self._runtime.ports.stage_problem(), self._logged_problem
        self._logged_problem, same = problem, problem and problem == before
        self._look_again_s = min(2 * self._look_again_s, _LONGEST_LOOK_S) if same else _LOOK_AGAIN_S
        if problem and problem != before:
            log.stage_not_ready("", problem, is_error=not PostfixLines(self._config.stage).is_next_step())
        elif before and not problem:
            log.stage_ready()

    def _renew_key(self, keys: SealKeyStore, user: str = "") -> None:
        """Makes a seal key if there is none or the newest is too old.  Raises SmillaError."""
        if (made := keys.prepare(user, self._config.stage.key_days)) is not None:
            log.seal_key(made.raw_id.hex(), self._config.stage.keys, is_made=True)

    def _renew_key_if_due(self) -> None:
        """The same while the filter runs; if it fails, the old key goes on sealing."""
        keys = self._runtime.ports.seal_keys
        if keys is None or self._stage is None or not self._config.may_seal:
            return
        try:
            self._renew_key(keys)
        except SmillaError as error:
            log.seal_key_missing("", str(error))

    def _fork(self, serve: Serve) -> None:
        """Raises OSError if there is no room for a process."""
        pipes: list[int] = []
        try:
            pipes += [*os.pipe(), *os.pipe()]
            pid = os.fork()
        except OSError:
            for end in pipes:
                os.close(end)
            raise
        reading, writing, acknowledged, acknowledge = pipes
        os.set_blocking(acknowledged, False)
        if pid == 0:
            for mine in (writing, acknowledged, *self._ends(serve), *self._reporter.ends):
                os.close(mine)
            self._meter.start(self._reporter.send)
            work(self._runtime, reading, acknowledge, serve)
        os.close(reading)
        os.close(acknowledge)
        self._workers[pid] = Child(pid, writing, acknowledged, time.monotonic(), serve)

    def _watch(self) -> str:
        """Waits for signals; returns the name of the one that ends smilla."""
        while True:
            self._renew_key_if_due()
            self._see_look()
            self._retry_look()
            told_s = self._reporter.see(self._config, self._wanted, self._workers, self._ends())
            until = time.monotonic() + min(told_s, _LOOK_AGAIN_S if self._needs_lines() else _KEY_EVERY_S)
            pause = min([until, *(at for at, _ in self._respawn_at)]) - time.monotonic()
            received = signal.sigtimedwait(SIGNALS, max(0.0, pause))
            if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                return signal.Signals(received.si_signo).name
            if received is not None and received.si_signo == signal.SIGHUP:
                self._reload()
            self._reap(replace=True)
            now = time.monotonic()
            due = [serve for at, serve in self._respawn_at if at <= now]
            self._respawn_at = [(at, serve) for at, serve in self._respawn_at if at > now]
            for serve in due:
                try:
                    self._fork(serve)
                except OSError as error:  # the others go on, and this one is tried again
                    log.worker_died(0, error.strerror or "no process", self._fork_later(serve))

    def _reap(self, *, replace: bool) -> None:
        """Collects workers that ended; one that keeps dying is replaced after longer and longer waits."""
        for pid in list(self._workers):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            worker = self._workers.pop(pid)
            for end in worker.ends:
                os.close(end)
            if replace:
                log.worker_died(pid, in_words(status), self._fork_later(worker.serve, worker.started_at))
                self._reporter.worker_died()

    def _fork_later(self, serve: Serve, started_at: float = float("inf")) -> float:
        """After how many seconds another worker follows one that was started then; inf: one that was not."""
        lived = time.monotonic() - started_at
        self._failures = 1 if lived > _HEALTHY_S else self._failures + 1
        wait_s = min(_LONGEST_WAIT_S, 0.05 * 2.0 ** min(self._failures, 10))
        self._respawn_at.append((time.monotonic() + wait_s, serve))
        return wait_s

    def _reload(self) -> None:
        """Reads the file.  The workers get the new configuration as a whole, and only if it has no fault."""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        read_at = time.time()
        read = read_anew(self._read)
        if read is None:
            self._reporter.reloaded(done=False)
        else:
            text, fresh, runtime = read
            for section, names in _FIXED_OPTIONS.items():
                before, after = getattr(self._config, section), getattr(fresh, section)
                for option in names:
                    if getattr(after, option) != getattr(before, option):
                        log.restart_needed(f"[{section}] {option}")
            if self._stage is None and fresh.may_seal:
                log.restart_needed("[policy] mixed")
            if self._hops is None and needs_hops(fresh):
                log.restart_needed("[hop]")
            self._config, self._runtime = fresh, runtime
            log.configure(fresh.log.level, fresh.log.format, log_target.opened(fresh.log.target))
            self._hand_over(text)
            self._look_at_lines()
            self._look_at_keys()
            log.reloaded()
            self._reporter.reloaded(done=True, read_at=read_at)
        systemd.notify("READY=1")

    def _read(self) -> tuple[str, Config, Runtime]:
        text = self._path.read_text("utf-8")
        fresh = config.parse(text, str(self._path))
        return text, fresh, Runtime(fresh, make_ports(fresh, self._meter))

    def _hand_over(self, text: str) -> None:
        """Sends the configuration to every worker; returns once it is in force in all healthy ones."""
        for worker in self._workers.values():
            worker.forget_acknowledgements()
        self._tell({"reload": text})
        deadline = time.monotonic() + _RELOAD_TIMEOUT_S
        for worker in self._workers.values():
            worker.wait_for_acknowledgement(deadline)

    def _tell(self, message: dict[str, str]) -> None:
        line = json.dumps(message).encode("ascii") + b"\n"
        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                _write_all(worker.control, line)

    def _stop(self) -> None:
        """Accepts no new connections, lets the workers finish, then kills those that are late."""
        if self._look is not None:
            self._look.stop()
        for listening in (self._socket, self._stage, self._hops):
            if listening is not None:
                listening.remove()
        timeout_s = self._config.milter.stop_timeout_s
        self._tell({"stop": str(timeout_s)})
        deadline = time.monotonic() + timeout_s + _LAST_WORDS_S
        while self._workers and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self._reap(replace=False)
        late = list(self._workers)
        for pid in late:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._reporter.stop()
        log.stopped(len(late))


def _write_all(descriptor: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets) :]
