"""Children of the laboratory: started into their own session, awaited, and ended by their own numbers.

No process is ever looked up by its name to be ended.  Each child has one log file for stdout and stderr.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

LOOPBACK = "127.0.0.1"
_STOP_TIMEOUT_S = 10.0


class ChildError(Exception):
    """A child ended before it was ready, or never became ready; the text ends with its log."""


_FIRST_PORT, _BLOCK, _BLOCKS = 20000, 100, 120
_MOST_BLOCKS = 40  # of one process, so that a long run leaves some for whoever begins later


class _Ports:
    """Of one network: the blocks that are this process's own, the ports in them that nobody has had, and the others."""

    def __init__(self) -> None:
        self.blocks: list[socket.socket] = []
        self.fresh: deque[int] = deque()
        self.given: deque[int] = deque()


_ports: defaultdict[int, _Ports] = defaultdict(_Ports)


def free_port() -> int:
    """A loopback port that is free for TCP and UDP, below the range from which the kernel takes client ports.

    A port stays free until the child binds it: a process takes ports out of blocks that are its own, so that no two
    test runs and no two workers of one are given the same, and none is given twice while there are others.
    """
    # A block that is ours in the network of a test (lab/network.py) may be another's in this machine's.
    ours = _ports[Path("/proc/thread-self/ns/net").stat().st_ino]
    while ours.fresh or _take_block(ours):
        port = ours.fresh.popleft()
        if _is_free(port):
            ours.given.append(port)
            return port
    for _ in range(len(ours.given)):  # no further block; of our own, the one that was given first
        port = ours.given.popleft()
        ours.given.append(port)
        if _is_free(port):
            return port
    raise OSError("no free loopback port")


def _take_block(ours: _Ports) -> bool:
    """Whether there was one.  The name of an abstract socket holds it: such names belong to the network, as ports do,
    and go with the process."""
    if len(ours.blocks) == _MOST_BLOCKS:
        return False
    for block in random.SystemRandom().sample(range(_BLOCKS), _BLOCKS):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0smilla-lab-ports-{block}")
        except OSError:
            holder.close()
            continue
        ours.blocks.append(holder)
        first = _FIRST_PORT + block * _BLOCK
        ours.fresh.extend(range(first, first + _BLOCK))
        return True
    return False


def _is_free(port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        try:
            tcp.bind((LOOPBACK, port))
            udp.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.02) -> bool:
    """Asks until the condition holds; False where it did not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def port_answers(port: int, address: str = LOOPBACK) -> bool:
    """Whether somebody accepts TCP connections on this port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def socket_answers(path: Path) -> bool:
    """Whether somebody accepts connections on this UNIX socket: its file is there a moment before."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(str(path))
        return True
    return False


class Closing:
    """What ``with`` closes."""

    def close(self) -> None:
        """Safe to repeat."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Running:
    """What ``with`` starts, where it does not run already, and stops."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        raise NotImplementedError

    def start(self) -> Self:
        """Returns once it is ready.  Raises ChildError, and MissingProgramError."""
        raise NotImplementedError

    def stop(self) -> None:
        """Safe to repeat."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Child(Running):
    """A program that runs until it is stopped.  Use as a context manager, or call start and stop."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stop_timeout_s: float = _STOP_TIMEOUT_S,
    ) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        self.environment = environment
        self.folder = folder
        self.stop_timeout_s = stop_timeout_s
        self.returncode: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    @property
    def pid(self) -> int:
        """The number of the process, which is also that of its session and its process group."""
        if self._process is None:
            raise ChildError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], bool] | None = None, timeout_s: float = 60) -> Self:
        """Starts the program and waits until ``ready`` holds.  Raises ChildError, with the process ended."""
        self.launch()
        if ready is not None:
            self.await_ready(ready, timeout_s)
        return self

    def launch(self) -> None:
        """Starts the program and waits for nothing."""
        self._told = False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def await_ready(self, ready: Callable[[], bool], timeout_s: float = 60) -> None:
        """Waits until ``ready`` holds.  Raises ChildError, with the process ended."""
        try:
            answered = wait_until(lambda: not self.running or ready(), timeout_s)
            if not answered or not self.running:
                how = "ended" if answered else f"was not ready within {timeout_s:g} s"
                raise ChildError(f"{self.name} {how}; its log says:\n{self.log_tail()}")
        except BaseException:
            self.stop()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process itself, not to its children."""
        os.kill(self.pid, number)

    def tell_to_end(self) -> None:
        """TERM to the process, once, and waits for nothing: stop does."""
        if self._process is not None and not self._told:
            self._process.terminate()
            self._told = True

    def stop(self) -> None:
        """TERM to the process, KILL to whatever is left of its session after a while.  Safe to repeat."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self.tell_to_end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.stop_timeout_s)
            # Children of a leader that ended in order end with it, or a moment later.
            wait_until(lambda: not session_members(process.pid), 1)
        for pid in session_members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.returncode = process.wait(self.stop_timeout_s)
        wait_until(lambda: not session_members(process.pid), self.stop_timeout_s)
        self._process = None

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the child's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class Server(Running):
    """A server of the laboratory that is one child, made by ``start``."""

    _child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether its child was started and has not ended."""
        return self._child is not None and self._child.running

    def stop(self) -> None:
        """Ends it with all its children.  Safe to repeat."""
        if self._child is not None:
            self._child.stop()
            self._child = None


def session_members(session: int) -> list[int]:
    """The living processes of a session, its leader included."""
    return [pid for pid in _process_ids() if _session_of(pid) == session]


def processes_in(folder: Path) -> list[str]:
    """Every process but this one that works in the folder or names it on its command line, as ``PID command``."""
    found = []
    for pid in _process_ids():
        if pid == os.getpid() or _session_of(pid) is None:
            continue
        command, place = b"", ""
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        with contextlib.suppress(OSError):
            place = str(Path(f"/proc/{pid}/cwd").readlink())
        if os.fsencode(folder) in command or Path(place).is_relative_to(folder):
            found.append(f"{pid} {command.replace(bytes(1), b' ').decode(errors='replace').strip()}")
    return found


def _process_ids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208 - a Path a process is slow


def _session_of(pid: int) -> int | None:
    """The session of a living process; None for one that is gone or only waits to be reaped (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[3])
