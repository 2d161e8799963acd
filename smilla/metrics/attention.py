"""What of a snapshot needs attention, why, and what to do: the one judgement for the screen and the page.  Pure.

Whoever shows it chooses the form and the words around it, never the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from smilla.metrics.snapshot import DELIVERED, FAILED, Snapshot, failures, total, without_resolver

ENDS_SOON_DAYS = 14
_OLD_BACKLOG_S = 600.0
_FAILURES_PART, _FAILURES_FEWEST = 0.1, 10
_PROBE = "smilla config check --probe"


class Cause(StrEnum):
    """What is wrong, in one word for programs."""

    WORKERS = "workers"
    NO_PROOF = "no-proof"  # no nameserver proves that it validates
    SOME_PROOF = "some-proof"  # some do not
    NO_RESOLVER = "no-resolver"  # mail waits though the proof still holds
    STAGE = "stage"
    RELOAD = "reload"
    FILE = "file"
    JOURNAL = "journal"
    BACKLOG = "backlog"
    FAILURES = "failures"
    KEYS = "keys"
    DECRYPT = "decrypt"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem.  ``why`` says what was seen; ``mend`` is a command, and ``gives`` what it does or says."""

    cause: Cause
    why: str
    mend: str
    gives: str

    @property
    def hint(self) -> str:
        """What to do, on one line."""
        return f"{self.mend} {self.gives}"


def findings(found: Snapshot) -> tuple[Finding, ...]:
    """Every problem, the gravest first; none if all is well."""
    return (*_of_processes(found), *_of_mail(found), *_of_keys(found))


def of_file(found: Snapshot, changed_at: float) -> tuple[Finding, ...]:
    """Was the configuration changed after the filter read it?  A reload that failed is told already."""
    if changed_at <= max(found.started_at, found.reloads.read_at) or found.reloads.last_failed:
        return ()
    why = "the configuration was changed after the filter read it, so the filter goes on with the one before"
    return (Finding(Cause.FILE, why, "systemctl reload smilla", "reads it, as HUP to its first process does"),)


def of_decrypt(found: Snapshot | None, problem: str = "") -> tuple[Finding, ...]:
    """Of smilla decrypt: None where it cannot be asked, with the reason why."""
    if found is None:
        why = f"smilla decrypt cannot be asked: {problem}"
        return (Finding(Cause.DECRYPT, why, "systemctl status smilla-decrypt", "says whether it runs"),)
    mend = "journalctl -p err -u smilla-decrypt"
    if found.workers.running < found.workers.wanted:
        why = f"{found.workers.running} of {found.workers.wanted} workers of smilla decrypt run"
        return (Finding(Cause.DECRYPT, why, mend, "says why"),)
    if found.reloads.last_failed:
        why = "smilla decrypt's last reload failed, and the old keys are in force"
        return (Finding(Cause.DECRYPT, why, mend, "names the fault"),)
    return ()


def _of_processes(found: Snapshot) -> Iterator[Finding]:
    workers, stage = found.workers, found.stage
    if workers.running < workers.wanted:
        why = f"{workers.running} of {workers.wanted} workers run"
        yield Finding(Cause.WORKERS, why, "journalctl -p err -u smilla", "says why; a new one starts within 30 s")
    yield from _of_resolver(found)
    if stage.used and stage.problem:
        why = f"nothing is sealed: {stage.problem}"
        yield Finding(Cause.STAGE, why, "smilla config check --postfix", "says what is missing")
    if found.reloads.last_failed:
        why = "the last reload failed, and the old configuration is in force"
        yield Finding(Cause.RELOAD, why, "smilla config check", "names the fault")


def _of_resolver(found: Snapshot) -> Iterator[Finding]:
    resolver = found.resolver
    if resolver.asked and not resolver.proven:
        yield Finding(Cause.NO_PROOF, "no nameserver proves that it validates", _PROBE, "says what it answers")
    elif resolver.proven < resolver.asked:
        why = f"{resolver.proven} of {resolver.asked} nameservers prove that they validate"
        yield Finding(Cause.SOME_PROOF, why, _PROBE, "says which one does not")
    elif waiting := without_resolver(found):
        why = f"no resolver answered for {waiting} recipients within the last minutes (resolver_down)"
        yield Finding(Cause.NO_RESOLVER, why, _PROBE, "says what it answers now")


def _of_mail(found: Snapshot) -> Iterator[Finding]:
    journal = found.journal
    if journal.problem:
        why = f"the journal cannot be read: {journal.problem}"
        yield Finding(Cause.JOURNAL, why, _PROBE, "says more; mail that needs copies waits")
    if journal.unfinished and journal.oldest_s > _OLD_BACKLOG_S:
        owed = f"{journal.owed + journal.unknown} copies of {journal.unfinished} messages are owed"
        why = f"{owed}, the oldest for {round(journal.oldest_s / 60)} min"
        yield Finding(Cause.BACKLOG, why, "smilla journal", "lists them")
    failed, delivered = total(found.minutes, FAILED), total(found.minutes, DELIVERED)
    if failed >= _FAILURES_FEWEST and failed / (failed + delivered) > _FAILURES_PART:
        action, reason, _ = failures(found.minutes)[0]
        part = f"{failed / (failed + delivered):.0%} of the last hour's recipients"
        why = f"{part} failed, most often {action}, reason {reason}"
        yield Finding(Cause.FAILURES, why, "man 8 smilla", f"explains {reason} (DIAGNOSTICS)")


def _of_keys(found: Snapshot) -> Iterator[Finding]:
    soon = [each for each in found.expiring if each.keys and each.days < ENDS_SOON_DAYS]
    if soon:
        keys = sum(each.keys for each in soon)
        why = f"{keys} keys in use end within {ENDS_SOON_DAYS} days, the first in {soon[0].days}"
        yield Finding(Cause.KEYS, why, "smilla expiring", "tells whose; once ended, mail to them is refused (expired)")
