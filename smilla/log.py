"""The log: one function an event, one line an event, every event described in smilla(8), DIAGNOSTICS.

A line is ``queue-id event key=value …`` (or one JSON object with the same names).  Never a subject, a body or key
material; what comes from outside is quoted, so that no sender can write a line of their own.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smilla.errors import SmillaError
from smilla.model import Action, Decision, HeaderProtection, Outcome, Reason

_logger = logging.getLogger("smilla")
_BARE = re.compile(r"""[!#-&(-<>-\[\]-~]+""")  # no white space, quote, backslash or equals sign
# A line names its event; the source line, thread and process of the caller would cost more than all the rest of it.
logging._srcfile = None
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
_EVENTS = {
    Action.ENCRYPT: "encrypted",
    Action.UNCHANGED: "unchanged",
    Action.PLAIN: "plain",
    Action.DEFER: "deferred",
    Action.REFUSE: "refused",
    Action.HOLD: "held",
    Action.DONE: "already-sent",
}


def configure(level: str, log_format: str, target: str) -> None:
    """Sets up the log for this process ([log] in smilla.toml(5)); called again at a reload."""
    handler: logging.Handler
    if target == "syslog":
        handler = logging.handlers.SysLogHandler("/dev/log", logging.handlers.SysLogHandler.LOG_MAIL)
        handler.ident = "smilla: "
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter() if log_format == "json" else _TextFormatter())
    _logger.handlers[:] = [handler]
    _logger.propagate = False
    _logger.setLevel(level.upper())


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        head = f"{getattr(record, 'queue_id', '') or '-'} {record.getMessage()}"
        return " ".join([head, *(f"{key}={_quoted(str(value))}" for key, value in fields.items() if value != "")])


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "queue_id": getattr(record, "queue_id", ""),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line)


def _quoted(value: str) -> str:
    """Bare where nothing in it could be taken for something else, quoted with escapes otherwise."""
    if _BARE.fullmatch(value):
        return value
    return json.dumps(value)


def _event(event_level: int, event: str, queue_id: str = "", **fields: Any) -> None:
    if _logger.isEnabledFor(event_level):
        _logger.log(event_level, event, extra={"queue_id": queue_id, "fields": fields})


def recipient_decided(
    queue_id: str, decision: Decision, became: tuple[Action, Reason], *, observed: bool, via: str = ""
) -> None:
    """What happened for one recipient: the line an administrator looks for.

    ``became`` is what the message as a whole made of the decision.  ``via`` is
    empty for who stays with the MTA's message, else reinject, bounce or rcpt.
    """
    lookup, key, (action, reason) = decision.lookup, decision.key, became
    level = logging.WARNING if action in (Action.DEFER, Action.REFUSE, Action.HOLD) else logging.INFO
    _event(
        level,
        _EVENTS[action],
        queue_id,
        rcpt=decision.recipient.shown,
        format=key.format.value if key else "",
        source=lookup.source if lookup else "",
        dnssec=lookup.status.value if lookup and lookup.status else "",
        reason=reason.code,
        rule=decision.rule,
        via=via,
        **({"observe": "true"} if observed else {}),
    )


def undecided(queue_id: str, recipients: Iterable[str], *, observed: bool, reason: str = "internal") -> None:
    """An internal error ended the message before or while it was handed back, or another worker has the same one: it
    is deferred for all of them."""
    observe = {"observe": "true"} if observed else {}
    for recipient in recipients:
        _event(logging.WARNING, "deferred", queue_id, rcpt=recipient, reason=reason, **observe)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ``message`` event tells besides the outcome; ``would`` is the reply that observing held back."""

    sender: str
    reply: str
    would: str
    reason: str
    size: int
    ms: int


def message_done(queue_id: str, outcome: Outcome, facts: Facts) -> None:
    """The message as a whole: how it was handed back and how long that took."""
    _event(
        logging.INFO,
        "message",
        queue_id,
        **{"from": facts.sender or "<>"},
        kind=outcome.classification.kind.value,
        direction=outcome.direction,
        rcpts=len(outcome.decisions),
        copies=len(outcome.copies),
        reply=facts.reply,
        would=facts.would,
        reason=facts.reason,
        size=facts.size,
        ms=facts.ms,
    )


def lookup_trouble(queue_id: str, recipient: str, where: str, detail: str) -> None:
    """A source was bogus or unreachable, or had keys that may not be used."""
    _event(logging.WARNING, "lookup", queue_id, rcpt=recipient, where=where, detail=detail)


def copy_accepted(queue_id: str, rcpts: int, listener_reply: str) -> None:
    """The listener accepted a further copy."""
    _event(logging.DEBUG, "copy-accepted", queue_id, rcpts=rcpts, reply=listener_reply)


def copy_failed(queue_id: str, recipient: str, detail: str) -> None:
    """The listener did not take a copy for this recipient; the message is deferred, and what is owed is remembered."""
    _event(logging.ERROR, "copy-failed", queue_id, rcpt=recipient, detail=detail)


def copy_unknown(queue_id: str, recipient: str) -> None:
    """An earlier attempt ended between the final dot and the reply, so that nobody knows whether the MTA has this copy:
    it is sent again, and may come twice."""
    _event(logging.WARNING, "copy-unknown", queue_id, rcpt=recipient)


def own_copy(queue_id: str) -> None:
    """A copy of ours came back to the filter: the listener of [reinject] has this milter."""
    _event(logging.ERROR, "own-copy", queue_id, hint="set smtpd_milters= (empty) on the listener of [reinject] smtp")


def reader_missing(queue_id: str, reader: str, detail: str) -> None:
    """A further reader (also_to) has no usable key of the form that is sent, and cannot read this copy."""
    _event(logging.WARNING, "reader-missing", queue_id, reader=reader, detail=detail)


def headers_bare(queue_id: str, rcpt: str, protection: HeaderProtection, *, observed: bool) -> None:
    """The header fields of a copy could not be protected as was asked for; where the Subject should have been hidden,
    it is not."""
    reason, observe = protection.problem.code if protection.problem else "", {"observe": "true"} if observed else {}
    level = logging.WARNING if protection.asked == "hide" else logging.INFO
    _event(level, "headers-bare", queue_id, rcpt=rcpt, protect=protection.asked, reason=reason, **observe)


def journal_failed(detail: str) -> None:
    """The journal cannot be used: messages whose recipients need different bytes are deferred."""
    _event(logging.ERROR, "journal-failed", detail=detail)


def internal_error(queue_id: str, where: str) -> None:
    """An exception that ended a message, which is deferred.  Logged with the places that it came through."""
    kind, error, trace = sys.exc_info()
    # Only our own errors and the system's are quoted: the text of any other exception may hold what it stumbled over.
    quoted = str(error) if isinstance(error, (SmillaError, OSError)) else ""
    frames = [f"{Path(f.filename).name}:{f.lineno}:{f.name}" for f in traceback.extract_tb(trace)]
    name = kind.__name__ if kind else ""
    _event(logging.ERROR, "internal-error", queue_id, where=where, error=name, detail=quoted, at=" ".join(frames))


def started(socket: str, workers: int, version: str) -> None:
    """The socket is open and the workers run."""
    _event(logging.INFO, "started", socket=socket, workers=workers, version=version)


def stopping(signal_name: str) -> None:
    """A signal asked smilla to stop; messages in flight may finish."""
    _event(logging.INFO, "stopping", signal=signal_name)


def stopped(in_flight: int) -> None:
    """All workers are gone; ``in_flight`` messages were cut off (the MTA keeps them)."""
    _event(logging.INFO, "stopped", in_flight=in_flight)


def reloaded() -> None:
    """The new configuration is in force for messages that begin from now on."""
    _event(logging.INFO, "reloaded")


def reload_failed(fault: str) -> None:
    """The new configuration has a fault; the old one stays in force."""
    _event(logging.ERROR, "reload-failed", fault=fault)


def restart_needed(option: str) -> None:
    """An option was changed that a reload cannot change."""
    _event(logging.WARNING, "restart-needed", option=option)


def worker_died(pid: int, status: str, wait_s: float) -> None:
    """A worker ended by itself and is replaced after ``wait_s`` seconds."""
    _event(logging.ERROR, "worker-died", pid=pid, status=status, wait_s=wait_s)


def runs_as_root() -> None:
    """smilla keeps root's rights because [milter] user is empty."""
    _event(logging.WARNING, "runs-as-root", hint="set [milter] user")


def resolver_not_validating(nameserver: str, probe: str, detail: str) -> None:
    """The probe got an answer without AD: nothing that this resolver says is believed."""
    _event(logging.ERROR, "resolver-not-validating", nameserver=nameserver, probe=probe, detail=detail)


def silence() -> None:
    """No log at all: a command tells on stdout and stderr what there is to tell."""
    _logger.handlers[:] = [logging.NullHandler()]
    _logger.propagate = False
