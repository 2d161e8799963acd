"""What works at the start: the resolver, the journal, the listener; for the event ``started``.

A child process looks, so that the parent has no thread and no connection when it forks its workers.  The start waits
for it at most five seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from smilla import log, log_recovery
from smilla.config import Config
from smilla.config.options import WITHOUT_RESOLVER
from smilla.errors import ReinjectError, SmillaError
from smilla.ports import Ports

_LONGEST_S = 5.0
_NO_ANSWER = ("got no answer", "no answer within", "is unreachable")  # of a resolver, adapters/proof.py and others


def seen(config: Config, ports: Ports) -> dict[str, str]:
    """observe (true or false); resolver (ok, no-proof, unreachable), journal (ok, failed) and listener (ok,
    unreachable), each "unused" if nobody needs it.  Raises OSError if there is no room for a process."""
    state = {"observe": str(config.observe).lower(), "resolver": "unreachable", "journal": "failed"}
    state |= {"listener": "unreachable"} | _asked(config, ports)
    if state["listener"] == "unreachable":
        log_recovery.listener_fails()
    return state


def _asked(config: Config, ports: Ports) -> dict[str, str]:
    """What a child process finds out in time."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        try:
            os.close(reading)
            log.silence()
            _tell(writing, config, ports)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return dict(json.loads(line) for line in _read(reading).splitlines())
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _read(descriptor: int) -> bytes:
    """What comes until the other end is closed, or until it is late; whole lines."""
    raw, until, poll = b"", time.monotonic() + _LONGEST_S, select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        block = os.read(descriptor, 4096)
        if not block:
            break
        raw += block
    return raw[: raw.rfind(b"\n") + 1]


def _tell(descriptor: int, config: Config, ports: Ports) -> None:
    """Asks all three at once, and writes a line for each that is known."""

    def tell(name: str, ask: Callable[[Config, Ports], str]) -> None:
        os.write(descriptor, json.dumps([name, ask(config, ports)]).encode("ascii") + b"\n")

    asked = {"resolver": _resolver, "journal": _journal, "listener": _listener}
    threads = [threading.Thread(target=tell, args=one, daemon=True) for one in asked.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _resolver(config: Config, ports: Ports) -> str:
    """The best of several nameservers counts."""
    if ports.hops is None and set(config.keys.sources) <= set(WITHOUT_RESOLVER):
        return "unused"
    problems = [problem for _, problem in ports.probe(config.dns.timeout_s)]
    if not all(problems):
        return "ok"
    return "unreachable" if all(any(words in text for words in _NO_ANSWER) for text in problems) else "no-proof"


def _journal(config: Config, ports: Ports) -> str:
    """It is made when a copy is first owed; until then its folder counts."""
    if ports.journal is None or config.observe:
        return "unused"
    with suppress(SmillaError):
        is_made = ports.journal.is_there()
        return "ok" if is_made or os.access(Path(config.reinject.spool), os.W_OK | os.X_OK) else "failed"
    return "failed"


def _listener(config: Config, ports: Ports) -> str:
    if ports.mailer is None or config.observe:
        return "unused"
    try:
        with ports.mailer.connect():
            return "ok"
    except ReinjectError:
        return "unreachable"
