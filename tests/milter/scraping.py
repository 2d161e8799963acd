"""What the tests of the metrics share: a scrape, the snapshot, and the same counts read from the log."""

from __future__ import annotations

import http.client
import os
import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from smilla.adapters import status
from tests.lab.processes import LOOPBACK, processes_in, session_members, wait_until

if TYPE_CHECKING:
    from smilla.metrics.snapshot import Snapshot
    from tests.lab.smilla import Smilla

Samples = dict[tuple[str, tuple[str, ...]], float]
_FATE = ("action", "format", "source", "dnssec", "reason")
_LINE = re.compile(r"(\S+) (encrypted|unchanged|plain|deferred|refused|held|already-sent|sealed) (.*rcpt=.*)")


def scraped(port: int, accept: str = "") -> tuple[bytes, str]:
    """The exposition and its Content-Type."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read(), answer.getheader("Content-Type", "")
    finally:
        connection.close()


def samples(port: int) -> Samples:
    """Every sample by its name and the values of its labels, in the order of a recipient's fields."""
    found = {}
    for metric in text_string_to_metric_families(scraped(port)[0].decode()):
        for sample in metric.samples:
            names = _FATE if set(sample.labels) == set(_FATE) else sorted(sample.labels)
            found[sample.name, tuple(sample.labels[name] for name in names)] = sample.value
    return found


def recipients(port: int, name: str = "smilla_recipients_total") -> Counter[tuple[str, ...]]:
    """The counts of recipients by their fields."""
    return Counter({labels: int(n) for (metric, labels), n in samples(port).items() if metric == name})


def logged(smilla: Smilla) -> Counter[tuple[str, ...]]:
    """The same, from the lines of the log."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in smilla.log.splitlines():
        if match := _LINE.fullmatch(line):
            fields = dict(word.partition("=")[::2] for word in shlex.split(match[3]))
            found[match[2], *(fields.get(name, "") for name in _FATE[1:])] += 1
    return found


def snapshot(smilla: Smilla) -> Snapshot:
    """What smilla status reads."""
    return status.ask(str(smilla.folder / "spool" / "status.sock"))


def reporter_of(smilla: Smilla) -> int:
    """The process that adds up: it has a session of its own."""
    others = {int(line.split()[0]) for line in processes_in(smilla.folder)} - set(session_members(smilla.child.pid))
    (pid,) = (pid for pid in others if os.getsid(pid) == pid)
    return pid


def agree(smilla: Smilla, port: int, timeout_s: float = 30) -> bool:
    """Whether, once all has arrived, the scrape has what the log has."""
    return wait_until(lambda: bool(logged(smilla)) and recipients(port) == logged(smilla), timeout_s)
