"""What of a snapshot needs attention, and what to do about it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from smilla.metrics.snapshot import DELIVERED, FAILED, Snapshot, failures, total, without_resolver

_OLD_BACKLOG_S = 600.0
_ENDS_SOON_DAYS = 14
_FAILURES_PART, _FAILURES_FEWEST = 0.1, 10


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and what to do."""

    text: str
    hint: str


def findings(found: Snapshot) -> tuple[Finding, ...]:
    """Every problem, the gravest first; none if all is well."""
    return (*_of_processes(found), *_of_mail(found), *_of_keys(found))


def of_file(found: Snapshot, changed_at: float) -> tuple[Finding, ...]:
    """Was the configuration changed after the filter read it?  A reload that failed is told already."""
    if changed_at <= max(found.started_at, found.reloads.read_at) or found.reloads.last_failed:
        return ()
    text = "the configuration was changed after the filter read it, so the filter goes on with the one before"
    return (Finding(text, "systemctl reload smilla, or HUP to its first process"),)


def _of_processes(found: Snapshot) -> Iterator[Finding]:
    workers, resolver, stage = found.workers, found.resolver, found.stage
    if workers.running < workers.wanted:
        text = f"{workers.running} of {workers.wanted} workers run"
        yield Finding(text, "the log says why one died (worker-died); a new one starts within 30 s")
    if resolver.asked and not resolver.proven:
        yield Finding("no nameserver proves that it validates", "smilla config check --probe says what it answers")
    elif resolver.proven < resolver.asked:
        text = f"{resolver.proven} of {resolver.asked} nameservers prove that they validate"
        yield Finding(text, "smilla config check --probe says which one does not")
    elif waiting := without_resolver(found):
        text = f"no resolver answered for {waiting} recipients within the last minutes (resolver_down)"
        yield Finding(text, "smilla config check --probe says what it answers now")
    if stage.used and stage.problem:
        yield Finding(f"nothing is sealed: {stage.problem}", "smilla config check --postfix says what is missing")
    if found.reloads.last_failed:
        text = "the last reload failed, and the old configuration is in force"
        yield Finding(text, "smilla config check names the fault")


def _of_mail(found: Snapshot) -> Iterator[Finding]:
    journal = found.journal
    if journal.problem:
        yield Finding(f"the journal cannot be read: {journal.problem}", "mail that needs copies is deferred until then")
    if journal.unfinished and journal.oldest_s > _OLD_BACKLOG_S:
        text = f"{journal.owed + journal.unknown} copies of {journal.unfinished} messages are owed"
        yield Finding(f"{text}, the oldest for {round(journal.oldest_s / 60)} min", "smilla journal lists them")
    failed = total(found.minutes, FAILED)
    part = failed / (failed + total(found.minutes, DELIVERED)) if failed else 0.0
    if failed >= _FAILURES_FEWEST and part > _FAILURES_PART:
        action, reason, _ = failures(found.minutes)[0]
        text = f"{part:.0%} of the last hour's recipients failed, most often {action}, reason {reason}"
        yield Finding(text, f"smilla(8), DIAGNOSTICS, explains {reason}")


def _of_keys(found: Snapshot) -> Iterator[Finding]:
    soon = [each for each in found.expiring if each.days < _ENDS_SOON_DAYS]
    if soon:
        keys = sum(each.keys for each in soon)
        text = f"{keys} keys in use end within {_ENDS_SOON_DAYS} days, the first in {soon[0].days}"
        yield Finding(text, "their owners must publish new ones; afterwards mail to them is refused (expired)")
