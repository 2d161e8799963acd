"""The log: one function an event, one line an event, every event described in smilla(8), DIAGNOSTICS.

A line is ``queue-id event key=value …`` (or one JSON object with the same names).  It never has a subject, a body or
key material.  Text from outside is quoted, so no sender can forge a line.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from smilla import log_line
from smilla.errors import SmillaError
from smilla.log_line import Line
from smilla.model import Action, Decision, HeaderProtection, Outcome, Reason, Recipient
from smilla.value import value

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
_LEVELS = {"debug": _DEBUG, "info": _INFO, "warning": _WARNING, "error": _ERROR}
_NAMES = {number: name for name, number in _LEVELS.items()}
_TROUBLE = (Action.DEFER, Action.REFUSE, Action.HOLD)
EVENTS = {
    Action.ENCRYPT: "encrypted",
    Action.UNCHANGED: "unchanged",
    Action.PLAIN: "plain",
    Action.SECURE_HOP: "secure-hop",
    Action.DEFER: "deferred",
    Action.REFUSE: "refused",
    Action.HOLD: "held",
    Action.DONE: "already-sent",
}


class Target(Protocol):
    """Where lines go; ``joins`` says whether one write may carry several."""

    joins: bool

    def framed(self, line: Line) -> bytes:
        """The line in the target's own form, with its severity and fields where that has a place for them."""

    def write(self, raw: bytes) -> None:
        """Writes what ``framed`` made, several if it joins.  Never waits, and raises nothing."""

    def flush(self) -> None:
        """At the end of the process: gives waiting lines a moment to be written."""


class _Stderr:
    """Plain stderr, until the log is configured."""

    joins = True

    def framed(self, line: Line) -> bytes:
        return line.raw

    def write(self, raw: bytes) -> None:
        # If the process began without a stderr, descriptor 2 is one of our own sockets, pipes or files.
        if sys.__stderr__ is not None:
            with suppress(OSError):
                os.write(2, raw)

    def flush(self) -> None:
        """Nothing waits."""


class _Output:
    """Where lines go, and in which form.  Python's logging would cost more than the rest of a message's work."""

    def __init__(self, level: int, target: Target, *, as_json: bool) -> None:
        self.level = level
        self.target = target
        self._as_json = as_json

    def write(self, level: int, event: str, queue_id: str, fields: dict[str, Any]) -> None:
        """Writes one line with one write, so that the lines of several workers do not mix.  If the log cannot be
        written, the mail goes on."""
        raw = self.target.framed(self.line(level, event, queue_id, fields))
        held: list[bytes] | None = getattr(_held, "lines", None)
        if held is None or not self.target.joins:
            self.target.write(raw)
        else:
            held.append(raw)

    def line(self, level: int, event: str, queue_id: str, fields: dict[str, Any]) -> Line:
        """The line, in the form that [log] asks for."""
        raw = log_line.made(_NAMES[level], event, queue_id, fields, as_json=self._as_json)
        return Line(level, raw, event, queue_id, fields)


_held = threading.local()
failing: set[str] = set()  # what this process has logged as failing; log_recovery tells when it works again


@contextmanager
def together() -> Iterator[None]:
    """Joins the lines about one message into few writes.  A write has at most PIPE_BUF octets, so that the lines of
    several workers do not mix."""
    lines: list[bytes] = []
    _held.lines = lines
    try:
        yield
    finally:
        _held.lines = None
        if lines and _output is not None:
            _write_joined(_output.target, lines)


def _write_joined(target: Target, lines: list[bytes]) -> None:
    block = b""
    for line in lines:
        if len(block) + len(line) > select.PIPE_BUF:
            target.write(block)
            block = b""
        block += line
    target.write(block)


_output: _Output | None = _Output(_INFO, _Stderr(), as_json=False)


def configure(level: str, log_format: str, target: Target) -> None:
    """Sets up the log for this process ([log] in smilla.toml(5)); called again at a reload."""
    global _output  # noqa: PLW0603 - the one place that all events go through
    _output = _Output(_LEVELS[level], target, as_json=log_format == "json")


def flush() -> None:
    """Before the process ends: gives waiting lines a moment to be written."""
    if _output is not None:
        _output.target.flush()


def _event(level: int, event: str, queue_id: str = "", **fields: Any) -> None:
    if _output is not None and level >= _output.level:
        _output.write(level, event, queue_id, fields)


def recipient_decided(
    queue_id: str, decision: Decision, applied: tuple[Action, Reason], *, observed: bool, via: str = ""
) -> None:
    """What happened for one recipient: the line an administrator looks for.

    ``applied`` is the action and reason after the message as a whole had its say.  ``via`` is empty for a recipient who
    stays in the MTA's message, otherwise reinject, bounce or rcpt.
    """
    action, reason = applied
    level = _WARNING if action in _TROUBLE else _INFO
    fields = _decision_fields(decision, reason)
    fields["via"] = via
    _of_recipient(level, EVENTS[action], queue_id, fields, observed=observed)


def _of_recipient(level: int, event: str, queue_id: str, fields: dict[str, str], *, observed: bool) -> None:
    """While observing, no line begins like one about mail that was really encrypted, deferred or refused."""
    if observed:
        _event(level, "observed", queue_id, would=event, **fields, observe="true")
    else:
        _event(level, event, queue_id, **fields)


def _decision_fields(decision: Decision, reason: Reason) -> dict[str, str]:
    lookup, key = decision.lookup, decision.key
    return {
        "rcpt": decision.recipient.shown,
        "format": key.format.value if key else "",
        "source": lookup.source if lookup else "",
        "dnssec": lookup.proof if lookup else "",
        "hop": decision.hop.way.value if decision.hop and decision.hop.way else "",
        "reason": reason.code,
        "rule": decision.rule,
    }


def undecided(queue_id: str, recipients: Iterable[str], *, observed: bool, reason: str) -> None:
    """The message is deferred for all recipients: an internal error or the journal stopped it before or while it was
    handed back, or another worker has the same message."""
    for recipient in recipients:
        _of_recipient(_WARNING, "deferred", queue_id, {"rcpt": recipient, "reason": reason}, observed=observed)


@value
class Facts:
    """What the ``message`` event has besides the outcome; ``would`` is the reply held back while observing."""

    sender: str
    reply: str
    would: str
    reason: str
    size: int
    ms: int


def message_done(queue_id: str, outcome: Outcome, facts: Facts) -> None:
    """The message as a whole: how it was handed back, and how long it took."""
    _event(
        _INFO,
        "message",
        queue_id,
        **{"from": facts.sender or "<>"},
        kind=outcome.classification.kind.value,
        direction=outcome.direction,
        transport=outcome.arrival.way,
        rcpts=len(outcome.decisions),
        copies=len(outcome.copies),
        reply=facts.reply,
        would=facts.would,
        reason=facts.reason,
        size=facts.size,
        ms=facts.ms,
    )


def lookup_trouble(queue_id: str, recipient: str, where: str, detail: str) -> None:
    """A source was bogus or unreachable, or its keys may not be used."""
    _event(_WARNING, "lookup", queue_id, rcpt=recipient, where=where, detail=detail)


def copy_accepted(queue_id: str, rcpts: int, listener_reply: str) -> None:
    """The listener accepted a further copy."""
    _event(_DEBUG, "copy-accepted", queue_id, rcpts=rcpts, reply=listener_reply)


def copy_failed(queue_id: str, recipient: str, detail: str) -> None:
    """The listener did not take this recipient's copy; the message is deferred, and the journal has what is owed."""
    _event(_ERROR, "copy-failed", queue_id, rcpt=recipient, detail=detail)


def copy_unknown(queue_id: str, recipient: str) -> None:
    """An earlier attempt ended between the final dot and the reply, so nobody knows whether the MTA has this copy.  It
    is sent again, and may come twice."""
    _event(_WARNING, "copy-unknown", queue_id, rcpt=recipient)


def too_many(queue_id: str, recipient: str) -> None:
    """A recipient beyond [reinject] max_copies got 452 at RCPT, and must come in another transaction."""
    _event(_INFO, "deferred", queue_id, rcpt=recipient, reason="too_many", rule="max_copies", via="rcpt")


def own_copy(queue_id: str) -> None:
    """A copy of ours came back to the filter: the listener of [reinject] has this milter."""
    _event(_ERROR, "own-copy", queue_id, hint="set smtpd_milters= (empty) on the listener of [reinject] smtp")


def reader_missing(queue_id: str, reader: str, detail: str) -> None:
    """A further reader (also_to) has no usable key of this form, and cannot read this copy."""
    _event(_WARNING, "reader-missing", queue_id, reader=reader, detail=detail)


def relayed(queue_id: str, client: str, recipients: tuple[Recipient, ...]) -> None:
    """In mode auto, the MTA relays a message that none of our clients handed in; it is treated as outbound."""
    hint = "add the client to internal_networks, or the domain to local_domains"
    _event(_WARNING, "relayed", queue_id, client=client, rcpt=recipients[0].shown, rcpts=len(recipients), hint=hint)


def headers_bare(queue_id: str, rcpt: str, protection: HeaderProtection, *, observed: bool) -> None:
    """The header fields of a copy could not be protected as requested; if the Subject should be hidden, it is not."""
    reason, observe = protection.problem.code if protection.problem else "", {"observe": "true"} if observed else {}
    level = _WARNING if protection.asked == "hide" else _INFO
    _event(level, "headers-bare", queue_id, rcpt=rcpt, protect=protection.asked, reason=reason, **observe)


def journal_failed(detail: str, queue_id: str = "") -> None:
    """The journal cannot be used, so we do not know who is owed a copy and who has one."""
    failing.add("journal")
    _event(_ERROR, "journal-failed", queue_id, detail=detail)


def sealed(queue_id: str, decision: Decision) -> None:
    """The sealed message waits in the MTA's queue for the stage, which will log what happens for this recipient.  Until
    then ``action`` is the decision, or wait if the recipient may be an alias."""
    level = _WARNING if decision.action in _TROUBLE and not decision.awaits_expansion else _INFO
    action = "wait" if decision.awaits_expansion else decision.action.value
    _event(level, "sealed", queue_id, **_decision_fields(decision, decision.reason), action=action)


def stage_not_ready(queue_id: str, detail: str, *, is_error: bool = True) -> None:
    """Nothing is sealed, since it would not reach the stage; a message that needs sealing is deferred."""
    _event(_ERROR if is_error else _WARNING, "stage-not-ready", queue_id, detail=detail)


def stage_ready() -> None:
    """What stage-not-ready told of is mended: messages are sealed again."""
    _event(_INFO, "stage-ready")


def seal_key_missing(queue_id: str, detail: str) -> None:
    """A message cannot be sealed or opened, since the key is missing; it is deferred."""
    _event(_ERROR, "seal-key-missing", queue_id, detail=detail)


def seal_key(key: str, folder: str, *, is_made: bool) -> None:
    """A new key seals from now on, and the backup lacks it; or a key that no queued message needs was removed."""
    _event(_INFO, "seal-key-made" if is_made else "seal-key-removed", key=key, folder=folder)


def stage_closed(detail: str) -> None:
    """Nothing is sealed any more, but there are seal keys, and the stage cannot listen: sealed mail waits."""
    _event(_ERROR, "stage-closed", detail=detail)


def seal_broken(queue_id: str, detail: str, *, gives_up: bool) -> None:
    """What the MTA handed over is not what was sealed, or not for this use: another filter changed it, or somebody
    forged it.  It is deferred for a day, then refused."""
    _event(_ERROR, "seal-broken", queue_id, detail=detail, reply="550" if gives_up else "451")


def sealed_opened(queue_id: str, message_id: str, shown: str, by: Mapping[str, str]) -> None:
    """An administrator has opened a sealed message; ``shown`` is message or facts, ``by`` says who."""
    _event(_WARNING, "sealed-opened", queue_id, message_id=message_id, shown=shown, **by)


def mta_lost(queue_id: str) -> None:
    """The MTA was gone before it had the whole answer; it keeps the message, or its client does."""
    _event(_WARNING, "mta-lost", queue_id)


def internal_error(queue_id: str, where: str) -> None:
    """An exception ended a message, which is deferred.  The line has the exception's stack frames."""
    _event(_ERROR, "internal-error", queue_id, where=where, **_raised())


def _raised() -> dict[str, str]:
    """The exception that is being handled."""
    kind, error, trace = sys.exc_info()
    # We quote only our own errors and the system's: the text of any other exception may contain parts of the message.
    quoted = str(error) if isinstance(error, (SmillaError, OSError)) else ""
    frames = [f"{Path(f.filename).name}:{f.lineno}:{f.name}" for f in traceback.extract_tb(trace)]
    return {"error": kind.__name__ if kind else "", "detail": quoted, "at": " ".join(frames)}


def started(socket: str, workers: int, version: str, state: Mapping[str, str]) -> None:
    """The socket is open and the workers run; ``state`` has observe, resolver, journal and listener."""
    _event(_INFO, "started", socket=socket, workers=workers, version=version, **state)


def stopping(signal_name: str) -> None:
    """A signal asked smilla to stop; messages in flight may finish."""
    _event(_INFO, "stopping", signal=signal_name)


def stopped(in_flight: int) -> None:
    """All workers are gone; ``in_flight`` messages were cut off (the MTA keeps them)."""
    _event(_INFO, "stopped", in_flight=in_flight)


def reloaded() -> None:
    """The new configuration is in force for messages that begin from now on."""
    _event(_INFO, "reloaded")


def reload_failed(fault: str) -> None:
    """The new configuration has a fault; the old one stays in force."""
    _event(_ERROR, "reload-failed", fault=fault)


def restart_needed(option: str) -> None:
    """An option was changed that a reload cannot change."""
    _event(_WARNING, "restart-needed", option=option)


def worker_died(pid: int, status: str, wait_s: float) -> None:
    """A worker ended by itself and is replaced after ``wait_s`` seconds."""
    _event(_ERROR, "worker-died", pid=pid, status=status, wait_s=wait_s)


def key_file(name: str, problem: str) -> None:
    """A file in the folder of keys is useless to every address, or holds a private key."""
    _event(_WARNING, "key-file", file=name, detail=problem)


def runs_as_root() -> None:
    """smilla keeps root's rights because [milter] user is empty."""
    _event(_WARNING, "runs-as-root", hint="set [milter] user")


def resolver_not_validating(nameserver: str, probe: str, detail: str) -> None:
    """The probe got no answer with the AD bit: what this resolver says without it is not believed."""
    failing.add(f"{nameserver} {probe}")
    _event(_ERROR, "resolver-not-validating", nameserver=nameserver, probe=probe, detail=detail)


def lines_dropped(lines: int) -> Line:
    """The line that reports lines the target could not take."""
    output = _output or _Output(_INFO, _Stderr(), as_json=False)
    return output.line(_WARNING, "log-dropped", "", {"lines": lines})


def silence() -> None:
    """Turns the log off: a command writes to stdout and stderr instead."""
    global _output  # noqa: PLW0603
    _output = None
