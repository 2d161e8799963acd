"""Postfix with smilla, with a no-op pymilter and with none; and one sender over inet against the UNIX socket.

    smtp-source -> smtpd (one listener a filter) -> cleanup -> queue -> smtp -> sink (C, keeps nothing but counts)

smtp-source is Postfix's own load generator: a connection a message, as clients do.  The clock runs until the sink has
got the last message; there each is looked at: encrypted in the right format, and no canary, or (no filter, no-op) as
it was.  The filter in C that replaces the body at once shows what Postfix itself pays for a new body, the pymilter that
makes smilla's edits without a thought what libmilter and pymilter add: nothing that encrypts there can be faster.
Neither sender nor sink is the limit: "sender and sink" is what they reach without Postfix between them.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.bench.driver import WrongAnswerError, compiled
from tests.bench.stage import ENCRYPTED, FORMATS, OPENPGP, RECIPIENTS, SMIME, cpu_of_session
from tests.bench.table import AT_LEAST, AT_MOST, Row, Target, medians, ratios
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, Child, free_port, port_answers
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from tests.bench.stage import Filter, Stage

_TARGET = Target(AT_LEAST, 0.92)  # by rate and by processor time, for both formats
_SENDERS, _MESSAGES = 10, 1000
PARAMETERS = {
    "in_flow_delay": "0",  # or Postfix slows its clients down while the queue is longer than a moment ago
    "initial_destination_concurrency": "20",
    "smtpd_client_connection_rate_limit": "0",
}
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Counts:
    """What the sink has taken, in all and by kind."""

    messages: int
    smime: int
    openpgp: int
    plain: int

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


class FastSink:
    """The sink (sink.c) and a connection to ask it."""

    def __init__(self, stage: Stage) -> None:
        self.port = free_port()
        log = stage.place("sink") / "sink.log"
        self._child = Child("sink", [compiled("sink"), str(self.port), stage.canary], log)

    def counts(self) -> Counts:
        """Asks the sink."""
        self._peer.sendall(b"XCOUNT\r\n")
        return Counts(*map(int, self._stream.readline().split()[1:]))

    def wait_for(self, messages: int) -> Counts:
        """Waits for so many in all; raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE_S
        while (counts := self.counts()).messages < messages:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{counts.messages} of {messages} messages came in {_PATIENCE_S:g} s")
            time.sleep(0.01)
        return counts

    def __enter__(self) -> Self:
        self._child.start(ready=lambda: port_answers(self.port))
        self._peer = socket.create_connection((LOOPBACK, self.port), timeout=_PATIENCE_S)
        self._stream = self._peer.makefile("rb")
        self._stream.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._peer.close()
        self._child.stop()


class Sender:
    """Sends the letter and sees to it that each arrives in its form."""

    def __init__(self, stage: Stage, sink: FastSink) -> None:
        self._sink = sink
        self._letter = stage.place("sender") / "letter.txt"
        # smtp-source ends each line with CRLF itself.
        raw = stage.letter.read_bytes().replace(b"@RCPT@", b"undisclosed-recipients:;").replace(b"\r\n", b"\n")
        self._letter.write_bytes(raw)
        self._program = find_program("smtp-source")

    def send(self, port: int, form: str, messages: int, senders: int = _SENDERS) -> tuple[float, float]:
        """Seconds until all were accepted, and until all had arrived.  Raises WrongAnswerError."""
        before = self._sink.counts()
        recipient = RECIPIENTS.get(form, RECIPIENTS[SMIME])
        command: list[str | Path] = [self._program, "-s", str(senders), "-m", str(messages), "-f", "sender@s.test"]
        command += ["-t", recipient, "-F", self._letter, f"inet:{LOOPBACK}:{port}"]
        began = time.monotonic()
        result = subprocess.run(
            command, env=program_environment(self._program), check=False, capture_output=True, text=True
        )
        accepted_s = time.monotonic() - began
        if result.returncode:
            raise WrongAnswerError(f"smtp-source: {result.stderr.strip()}")
        came = self._sink.wait_for(before.messages + messages) - before
        arrived_s = time.monotonic() - began
        expected = {SMIME: Counts(messages, messages, 0, 0), OPENPGP: Counts(messages, 0, messages, 0)}
        expected["replace"] = expected["ceiling"] = expected[SMIME]
        if came != expected.get(form, Counts(messages, 0, 0, messages)):
            raise WrongAnswerError(f"{messages} messages as {form} arrived as {came}")
        return accepted_s, arrived_s


def measure(stage: Stage) -> list[Row]:
    """Messages a second, ten senders in parallel."""
    rates: dict[str, list[float]] = {name: [] for name in (*FORMATS, "noop", "ceiling", "replace", "none", "direct")}
    costs: dict[str, list[float]] = {name: [] for name in rates if name != "direct"}
    messages = stage.amount(_MESSAGES)
    with contextlib.ExitStack() as stack:
        smilla, noop = stack.enter_context(stage.smilla()), stack.enter_context(stage.noop())
        sink = stack.enter_context(FastSink(stage))
        ceiling = stack.enter_context(stage.noop(octets=ENCRYPTED))
        replace = stack.enter_context(stage.echo(stage.load(noop, "unchanged").steps, ENCRYPTED))
        filters = {"smilla": smilla, "noop": noop, "ceiling": ceiling, "replace": replace}
        listeners = {name: Listener([filter_.address]) for name, filter_ in filters.items()} | {"none": Listener()}
        place = stage.place("postfix")
        postfix = stack.enter_context(Postfix(place, sink.port, list(listeners.values()), PARAMETERS))
        sender = Sender(stage, sink)
        ports = {name: listeners.get(name, listeners["smilla"]).port for name in rates} | {"direct": sink.port}
        for name, port in ports.items():
            sender.send(port, name, 100)
        for name in stage.turns(5, ports):
            before = _cpu_s(postfix, filters.values())
            _, arrived_s = sender.send(ports[name], name, messages)
            rates[name].append(messages / arrived_s)
            if name in costs:
                costs[name].append((_cpu_s(postfix, filters.values()) - before) * 1000 / messages)
    details = {"per_second": medians(**rates), "cpu_ms": medians(**costs)}
    what, against = "Postfix + smilla, 10 KB, 10 senders", "Postfix + no-op pymilter"
    rows = [
        Row(
            f"mta-{name}",
            what,
            against,
            ratios(rates[name], rates["noop"]),
            _TARGET,
            "",
            details,
        )
        for name in FORMATS
    ]
    what = "the same by processor time"
    rows += [Row(f"mta-{name}-cpu", what, against, ratios(costs["noop"], costs[name]), _TARGET) for name in FORMATS]
    rows += [
        Row(f"mta-{name}-cpu", what, against, ratios(costs["noop"], costs[name])) for name in ("ceiling", "replace")
    ]
    what = "a pymilter that makes the same edits at once"
    rows.append(Row("mta-ceiling", what, against, ratios(rates["ceiling"], rates["noop"])))
    what = "a C filter that replaces the body at once"
    rows.append(Row("mta-replace", what, against, ratios(rates["replace"], rates["noop"])))
    rows.append(Row("mta-none", "Postfix without a milter", against, ratios(rates["none"], rates["noop"])))
    rows.append(Row("mta-sender", "sender and sink, no Postfix", against, ratios(rates["direct"], rates["noop"])))
    return rows


def _cpu_s(postfix: Postfix, filters: Iterable[Filter]) -> float:
    return cpu_of_session(postfix.master) + sum(each.cpu_s() for each in filters)


def measure_inet(stage: Stage) -> list[Row]:
    """Milliseconds a message, one sender, one message after the other."""
    port = free_port()
    over_inet = {"milter": {"socket": f"inet:{port}@{LOOPBACK}"}}
    times: dict[str, list[float]] = {"unix": [], "inet": []}
    messages = stage.amount(100)
    with contextlib.ExitStack() as stack:
        unix = stack.enter_context(stage.smilla())
        stack.enter_context(stage.smilla(settings=over_inet))
        sink = stack.enter_context(FastSink(stage))
        listeners = {"unix": Listener([unix.address]), "inet": Listener([f"inet:{LOOPBACK}:{port}"])}
        stack.enter_context(Postfix(stage.place("postfix"), sink.port, list(listeners.values()), PARAMETERS))
        sender = Sender(stage, sink)
        for listener in listeners.values():
            sender.send(listener.port, SMIME, 20, senders=2)
        for name in stage.turns(5, listeners):
            accepted_s, _ = sender.send(listeners[name].port, SMIME, messages, senders=1)
            times[name].append(accepted_s * 1000 / messages)
    what = "Postfix + smilla over inet, one sender"
    details = {f"{name}_ms": figure for name, figure in medians(**times).items()}
    return [
        Row(
            "inet",
            what,
            "over a UNIX socket",
            ratios(times["inet"], times["unix"]),
            Target(AT_MOST, 3.0),
            "",
            details,
        )
    ]
