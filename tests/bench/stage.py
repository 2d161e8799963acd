"""What all rows share: a temporary folder, keys in DNS, messages, and the filters that are compared."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import material
from tests.bench.driver import HERE, Load, Run, compiled
from tests.bench.stub import Stub
from tests.lab.processes import Child, session_members
from tests.lab.smilla import Settings, Smilla

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SMIME, OPENPGP = "smime", "openpgp"
FORMATS = (SMIME, OPENPGP)
RECIPIENTS = {SMIME: "smime@r.test", OPENPGP: "openpgp@r.test"}
WORKERS = 2
ENCRYPTED = 15000  # octets of the letter's new body, about
_UNEVEN_TRIES = 60


@dataclass(frozen=True)
class Filter:
    """A running filter: its address as milter clients write it, the processes that serve, and their parent."""

    address: str
    workers: tuple[int, ...]
    child: Child

    def cpu_s(self) -> float:
        """The processor time that it has used."""
        return cpu_of_session(self.child.pid)


class Stage:
    """``quick`` measures less; ``stub`` answers for all addresses of the benchmark."""

    def __init__(self, folder: Path, stub: Stub, *, quick: bool = False) -> None:
        self.folder = folder
        self.stub = stub
        self.quick = quick
        self.canary = material.CANARY
        self.letter = material.write_letter(folder / "letter.eml")
        self.certificate = material.certificate(RECIPIENTS[SMIME])
        self.key = material.openpgp_key(RECIPIENTS[OPENPGP])
        stub.publish(RECIPIENTS[SMIME], certificate=self.certificate)
        stub.publish(RECIPIENTS[OPENPGP], key=self.key)
        self._count = 0

    def rounds(self, usual: int) -> range:
        """How often the two things that are compared take turns."""
        return range(min(usual, 2) if self.quick else usual)

    def turns(self, usual: int, names: Iterable[str]) -> Iterator[str]:
        """The names, once a round, another one first each time: what one leaves behind shall not burden always the
        same other."""
        order = list(names)
        for number in self.rounds(usual):
            first = number % len(order)
            yield from order[first:] + order[:first]

    def amount(self, usual: int) -> int:
        """Messages in a round."""
        return max(1, usual // 4) if self.quick else usual

    def place(self, name: str) -> Path:
        """A new folder that every user may enter."""
        self._count += 1
        path = self.folder / f"{self._count}-{name}"
        path.mkdir(mode=0o755)
        return path

    def attachment(self, octets: int) -> Path:
        """A message of that size."""
        path = self.folder / f"attachment-{octets}.eml"
        return path if path.exists() else material.write_attachment(path, octets)

    def new_smilla(self, workers: int = WORKERS, settings: Settings | None = None) -> Smilla:
        """smilla with the usual configuration, not started: keys from DNS, everything else by default."""
        given = dict(settings or {})
        milter = given.get("milter", {})
        given["milter"] = {"workers": workers, **(milter if isinstance(milter, dict) else {})}
        return Smilla(self.place("smilla"), self.stub.address, given)

    @contextlib.contextmanager
    def smilla(self, workers: int = WORKERS, settings: Settings | None = None) -> Iterator[Filter]:
        """smilla, running."""
        with self.new_smilla(workers, settings) as smilla:
            pid = smilla.child.pid
            pids = tuple(sorted(set(session_members(pid)) - {pid}))
            yield Filter(smilla.milter, pids, smilla.child)

    @contextlib.contextmanager
    def noop(self, workers: int = WORKERS, octets: int = 0) -> Iterator[Filter]:
        """A pymilter that does nothing; with ``octets`` it gives each message a new body of that size."""
        path = self.place("noop") / "noop.sock"
        command: list[str | Path] = [sys.executable, HERE / "noop.py", path, str(workers), str(octets)]
        child = Child("noop", command, path.with_suffix(".log"))
        with child.start(ready=lambda: len(session_members(child.pid)) > workers and _answers(path)):
            pids = tuple(sorted(set(session_members(child.pid)) - {child.pid}))
            yield Filter(f"unix:{path}", pids, child)

    @contextlib.contextmanager
    def echo(self, steps: int, octets: int) -> Iterator[Filter]:
        """A milter in C that answers without a thought."""
        path = self.place("echo") / "echo.sock"
        child = Child("echo", [compiled("echo"), path, str(steps), str(octets)], path.with_suffix(".log"))
        with child.start(ready=path.exists):
            yield Filter(f"unix:{path}", (child.pid,), child)

    def load(self, of: Filter, expect: str, **options: float | str) -> Run:
        """A run with 10 KB letters to the recipient whose key has that format."""
        with self.spread_evenly(of, addressed(expect), expect, **options) as load:
            return load.go().result()

    @contextlib.contextmanager
    def spread_evenly(
        self, to: Filter, recipients: Sequence[Sequence[str]], expect: str, **options: float | str
    ) -> Iterator[Load]:
        """A driver whose connections are spread evenly over the workers: which of them takes a connection is chance,
        and four connections at one of two workers would measure that chance."""
        for last in range(_UNEVEN_TRIES + 1):
            before = _settled_sockets(to.workers)
            with Load(to.address, self.letter, recipients, expect, canary=self.canary, **options) as load:
                load.wait_until_connected()
                after = _sockets(to.workers)
                shares = [after[pid] - before[pid] for pid in to.workers]
                if max(shares) - min(shares) <= 1 or last == _UNEVEN_TRIES:
                    yield load.wait_until_ready()
                    return


def addressed(expect: str) -> list[list[str]]:
    """The one recipient whose key has that format; a filter that changes nothing gets the same letters."""
    return [[RECIPIENTS.get(expect, RECIPIENTS[SMIME])]]


def cpu_of_session(session: int) -> float:
    """Seconds of processor time, user and system, that the processes of a session have used, those that ended and were
    waited for included (proc(5), stat)."""
    ticks = 0
    for pid in session_members(session):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        return True
    return False


def _settled_sockets(pids: Sequence[int]) -> Mapping[int, int]:
    """The open sockets, once those of connections that ended are closed."""
    before: Mapping[int, int] = {}
    for _ in range(50):
        now = _sockets(pids)
        if now == before:
            return now
        before = now
        time.sleep(0.03)
    return before


def _sockets(pids: Sequence[int]) -> Mapping[int, int]:
    """How many sockets each process has open."""
    counts = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        links = []
        for name in os.listdir(folder):  # noqa: PTH208 - numbers, not paths
            with contextlib.suppress(OSError):
                links.append(str(Path(folder, name).readlink()))
        counts[pid] = sum(link.startswith("socket:") for link in links)
    return counts
