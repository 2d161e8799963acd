"""The benchmark: every figure is a ratio (or a difference) of two things measured in turn, in the same run.

    bench.py [--quick] [--rows JOB,JOB] [--json FILE] [--peer NAME=FOLDER]

Prints one table, and writes the same as JSON with all rounds.  Needs what ``make setup`` makes, gcc, and root for the
rows behind Postfix.  Ends with 1 where a row could not be measured; a target that is not reached is no failure, since
a busy machine can be the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import (
    alone,
    dead,
    large,
    letters,
    memory,
    mixed,
    mta,
    peers,
    plain,
    recipients,
    sources,
    start,
    stranger,
)
from tests.bench.driver import WrongAnswerError
from tests.bench.stage import Stage
from tests.bench.stub import Stub
from tests.bench.table import Row, machine, rendered, write_json
from tests.lab.processes import processes_in
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOBS: dict[str, Callable[[Stage], list[Row]]] = {
    "mta": mta.measure,
    "inet": mta.measure_inet,
    "mixed": mixed.measure,
    "plain": plain.measure,
    "alone": alone.measure,
    "sources": sources.measure,
    "letters": letters.measure,
    "large": large.measure,
    "memory": memory.measure,
    "stranger": stranger.measure,
    "dead": dead.measure,
    "recipients": recipients.measure,
    "start": start.measure,
}


def main() -> int:
    """Measures what was asked for."""
    words = argparse.ArgumentParser(description="smilla's benchmark")
    words.add_argument("--quick", action="store_true", help="fewer messages and two rounds: a look, not a measurement")
    words.add_argument("--rows", default="", metavar="JOB,JOB", help=f"only these of {', '.join(JOBS)}")
    words.add_argument("--json", type=Path, default=REPOSITORY / ".cache" / "bench.json", metavar="FILE")
    words.add_argument("--peer", action="append", default=[], type=_peer, metavar="NAME=FOLDER", help="see peers.py")
    options = words.parse_args()
    jobs = JOBS | {name: partial(peers.measure, name=name, folder=folder) for name, folder in options.peer}
    wanted = options.rows.split(",") if options.rows else list(jobs)
    if unknown := set(wanted) - set(jobs):
        words.error(f"no such job: {', '.join(sorted(unknown))}; there are {', '.join(jobs)}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: sys.exit(1))  # so that every server is ended
    began, rows, failures = machine(), list[Row](), dict[str, str]()
    with _folder() as folder, Stub() as stub:
        stage = Stage(folder, stub, quick=options.quick)
        for name in wanted:
            _say(f"{name} …")
            started_at = time.monotonic()
            try:
                rows += jobs[name](stage)
            except Exception as error:  # the other rows shall be measured nevertheless
                failures[name] = f"{type(error).__name__}: {error}"
                if not isinstance(error, WrongAnswerError):
                    traceback.print_exc()
            _say(f"{name} took {time.monotonic() - started_at:.0f} s")
    print(rendered(rows))
    before, after = began["load"][0], os.getloadavg()[0]
    print(f"\n{os.cpu_count()} CPUs, load {before:.1f} at the start, {after:.1f} at the end; spread is over the rounds")
    for name, why in failures.items():
        print(f"error: {name} could not be measured: {why}", file=sys.stderr)
    write_json(options.json, rows, failures, began)
    print(f"written: {options.json}")
    return 1 if failures else 0


def _peer(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not Path(folder, "bench-start").is_file():
        raise argparse.ArgumentTypeError(f"not NAME=FOLDER with FOLDER/bench-start: {text}")
    return name, Path(folder).resolve()


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, since smilla gives up root's rights."""
    path = Path(tempfile.mkdtemp(prefix="smilla-bench-"))
    path.chmod(0o755)
    try:
        yield path
        if left := processes_in(path):
            print(f"warning: left behind: {left}", file=sys.stderr)
    finally:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
