"""Has the running Postfix read its files since they were changed?  Part of ``smilla config check --postfix``.

Correct files are not enough while Postfix still works with what it read before: a sealed message would be delivered
sealed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from smilla.adapters import postfix_running
from smilla.adapters.postfix import File
from smilla.adapters.postfix_running import QUEUE_MANAGERS, Process
from smilla.doctor.finding import Finding, Kind, error, hint, warning
from smilla.errors import PostfixUnclear

_WAIT_S = 3.0  # a reload may need this long
_CLOCK_S = 0.01  # a file's time may be a tick of the clock too early
_START_S = 1.0  # from master to its queue manager
_AT_WORK = ("smtpd", "cleanup", "pickup")  # these decide by these lines, as long as the process lives
_UNTOLD = "nobody can tell whether Postfix has read its files: {}, so only the files were checked"


def problems(
    queue: str,
    folder: str,
    files: Mapping[str, File],
    processes: Callable[[str], list[Process] | None] = postfix_running.processes,
    wait_s: float = _WAIT_S,
) -> Iterator[Finding]:
    """The processes that still work with older files; one that was told to end gets a moment to do so."""
    until = time.monotonic() + wait_s
    while True:
        try:
            found = processes(queue)
        except PostfixUnclear as unclear:
            line = f"run 'postfix -c {folder} reload' after each change"
            yield warning(Kind.POSTFIX_NOT_TOLD, "postfix", _UNTOLD.format(unclear), line)
            return
        if found is None:
            yield hint(Kind.POSTFIX_STOPPED, "postfix", "Postfix does not run; it reads its files as it starts")
            return
        late = _late(found, files, folder)
        if not late or time.monotonic() > until:
            break
        time.sleep(0.05)
    yield from late


def _late(found: list[Process], files: Mapping[str, File], folder: str) -> list[Finding]:
    reload = f"postfix -c {folder} reload"
    managers = [process for process in found if process.name in QUEUE_MANAGERS]
    if not managers:
        return [_not_read("its queue manager does not run, so nobody can tell what it has read", reload)]
    unread = {path for process in managers for path in _newer(files, process)}
    if unread:
        return [_not_read(f"was not told to read {', '.join(sorted(unread))}, changed since", reload)]
    reloaded_at = _reloaded_at(found, managers)
    return [
        _not_read(
            f"{process.name} (process {process.pid}) goes on with what it read before the last reload",
            f"wait until it has ended, or: kill {process.pid}",
        )
        for process in found
        if process.name in _AT_WORK
        and (process.started_at + _later_by(process.name) < reloaded_at or _newer(files, process))
    ]


def _later_by(name: str) -> float:
    """How much later than this process the queue manager may have started at the same reload.  master starts pickup
    first, and on a busy machine goes on a good while later; pickup lives long, so it is hardly ever another one."""
    return _START_S if name == "pickup" else _CLOCK_S


def _not_read(text: str, mend: str) -> Finding:
    """It rests on the running processes: somebody who cannot see them cannot say that it is mended."""
    return error(Kind.POSTFIX_NOT_READ, "postfix", text, mend)


def _reloaded_at(found: list[Process], managers: list[Process]) -> float:
    """When the queue manager started, 0 if it started with master: then no process is older than what master read.

    A process that started between a change and the reload has read the present main.cf, but has the options (-o) that
    master knew before.
    """
    began_at = max(process.started_at for process in managers)
    with_master = any(began_at - process.started_at < _START_S for process in found if process.name == "master")
    return 0.0 if with_master else began_at


def _newer(files: Mapping[str, File], process: Process) -> list[str]:
    """The files that changed after it started, or so shortly before that nobody can tell."""
    return [path for path, file in files.items() if file.changed_at + _CLOCK_S > process.started_at]
