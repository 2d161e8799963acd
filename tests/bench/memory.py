"""Resident memory against the idle workers: of one message of 100 MB, of ten messages of 25 MB at once, and of one of
50 MB in each transfer encoding."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.bench import driver, material
from tests.bench.stage import FORMATS, RECIPIENTS
from tests.bench.table import AT_MOST, Row, Target, differences, medians

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.bench.stage import Filter, Stage

_MB = 1 << 20
_EVERY_S = 0.003


class Sampler:
    """The resident memory of processes and all below them, in MiB, read every few milliseconds while it runs.

    ``peak`` is the largest sum that was seen, or what the kernel noted for the processes themselves (VmHWM) where that
    is more; ``children`` are the names of the programs that they started.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = tuple(pids)
        self.idle = self._sum()
        self.peak = self.idle
        self.children: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark begins anew (proc(5))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, sum(_kib(pid, "VmHWM") for pid in self.pids) / 1024)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.peak = max(self.peak, self._sum())

    def _sum(self) -> float:
        return sum(_kib(pid, "VmRSS") for pid in [*self.pids, *self._below(self.pids)]) / 1024

    def _below(self, pids: Sequence[int]) -> list[int]:
        """The programs that these have started; what still is the parent's image, between fork and exec, has no memory
        of its own."""
        found: list[int] = []
        for pid in pids:
            with contextlib.suppress(OSError):  # gone meanwhile
                below = [int(word) for path in _children_of(pid) for word in path.read_text().split()]
                found += [child for child in below if _program(child) != _program(pid)]
        for pid in found:
            with contextlib.suppress(OSError):
                self.children.add(Path(f"/proc/{pid}/comm").read_text().strip())
        return found + self._below(found) if found else []


def _children_of(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/children"))


def _program(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def _kib(pid: int, name: str) -> int:
    """A line of /proc/PID/status, 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


@dataclass(frozen=True)
class _Burden:
    """``count`` messages of so many MiB at once, to so many workers, and what they may cost."""

    name: str
    what: str
    workers: int
    megabytes: int
    count: int
    limit: float
    rounds: int
    encoding: str = ""

    def message(self, stage: Stage) -> Path:
        """A file with an attachment, or one text in that encoding."""
        octets = self.megabytes * _MB
        if not self.encoding:
            return stage.attachment(octets)
        return material.write_encoded(stage.folder / f"{self.encoding}.eml", octets, self.encoding)


_BURDENS = (
    _Burden("memory", "one message of 100 MB, peak RSS", 1, 100, 1, 48.0, 3),
    _Burden("memory-ten", "ten of 25 MB at once, 2 workers, peak RSS", 2, 25, 10, 200.0, 2),
)
_ENCODINGS = tuple(
    _Burden(f"memory-{name}", f"one of 50 MB in {name}, peak RSS", 1, 50, 1, 16.0, 2, name) for name in material.ENCODED
)


def measure(stage: Stage) -> list[Row]:
    """One message, then ten, then each encoding; a new smilla each round, idle after some letters of each format."""
    rows = [_row(stage, burden, name) for burden in _BURDENS for name in FORMATS]
    return rows + [_row(stage, burden, name) for burden in _ENCODINGS for name in FORMATS]


def _row(stage: Stage, burden: _Burden, name: str) -> Row:
    peaks, idle, children = [], [], set[str]()
    message = burden.message(stage)
    for _ in stage.rounds(burden.rounds):
        with stage.smilla(workers=burden.workers) as smilla:
            _warm_up(stage, smilla)
            with Sampler(smilla.workers) as sampler:
                options: driver.Options = {
                    "connections": burden.count,
                    "messages": burden.count,
                    "canary": stage.canary,
                }
                driver.measure(smilla.address, message, [[RECIPIENTS[name]]], name, **options)
            peaks.append(sampler.peak)
            idle.append(sampler.idle)
            children |= sampler.children
    details = {**medians(peak_mb=peaks, idle_mb=idle), "children": sorted(children)}
    target, figures = Target(AT_MOST, burden.limit), differences(peaks, idle)
    return Row(f"{burden.name}-{name}", burden.what, "idle", figures, target, "MB more", details)


def _warm_up(stage: Stage, smilla: Filter) -> None:
    for name in FORMATS:
        stage.load(smilla, name, connections=4, messages=40)
    time.sleep(0.1)
