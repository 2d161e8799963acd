"""What the status page says: a snapshot in words, with what to do about each thing that needs somebody."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from smilla.answer import reply
from smilla.metrics.attention import Cause, Finding, findings
from smilla.metrics.snapshot import (
    DELIVERED,
    FAILED,
    MINUTE_S,
    PROTECTED,
    TEN_S,
    TENS,
    Snapshot,
    failures,
    share_protected,
    total,
)
from smilla.web import plots

_WORDS = {  # the page's own; what is not here says why in the words of the finding
    Cause.WORKERS: "Some workers do not run: {why}.",
    Cause.NO_PROOF: "No resolver proves that it validates. Mail is deferred.",
}
_IN_A_TILE = {Cause.KEYS}  # these need somebody, but no mail waits for them today
_OF_RESOLVER = {Cause.NO_PROOF, Cause.SOME_PROOF, Cause.NO_RESOLVER}
_HINTS = {
    "bogus": "DNSSEC fails for this domain, or your resolver does not validate: smilla lookup ADDRESS",
    "indeterminate": "your resolver could not prove it: smilla config check --probe",
    "unreachable": "name servers do not answer; if it is every domain, look at your resolver",
    "resolver_down": "your resolver does not take questions; smilla config check --probe says more",
    "learned_keys": "the store of learned keys cannot be read: see learned-store-failed in the log",
    "key_folder": "your folder of keys, or a key file, cannot be read; smilla config check --probe says more",
    "expired": "the recipient must publish a new key",
    "mixed": "the recipients need different forms: smilla-postfix(7), SEVERAL RECIPIENTS",
    "stage-not-ready": "smilla config check --postfix names the missing line",
    "reinject": "a copy was not taken: see copy-failed in the log",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One fact at the top of the page: ``state`` is good, bad or quiet."""

    name: str
    figure: str
    text: str
    state: str = "quiet"


def facts(snapshot: Snapshot, *, domains: bool) -> dict[str, Any]:
    """All that the template shows."""
    observed = snapshot.observing
    hour, day = plots.bars(snapshot.minutes, observed=observed), plots.bars(snapshot.tens, observed=observed)
    return {
        "snapshot": snapshot,
        "since": moment(snapshot.started_at),
        "is_fresh": snapshot.taken_at - snapshot.started_at < TENS * TEN_S,
        "taken": moment(snapshot.taken_at),
        "tiles": list(_tiles(snapshot)),
        "alarms": list(alarms(snapshot)),
        "plots": [
            ("The last hour", plots.plot(hour, "Recipients of the last hour, by minute", MINUTE_S), _rows(hour)),
            ("The last day", plots.plot(day, "Recipients of the last day, by ten minutes", TEN_S), _rows(day)),
        ],
        "has_mail": any(bar.all for bar in (*hour, *day)),
        "legend": plots.LEGEND,
        "failures": [
            (action, reason, reply.TEXTS.get(reason, ""), _HINTS.get(reason, "smilla(8), DIAGNOSTICS"), number)
            for action, reason, number in failures(snapshot.tens, observed=observed)
        ],
        "expiring": [(_days(each.days), each.keys) for each in snapshot.expiring if each.keys],
        "domains": _by_domain(snapshot) if domains else None,
    }


def _tiles(snapshot: Snapshot) -> Iterator[Tile]:
    observed = snapshot.observing
    causes = {finding.cause for finding in findings(snapshot)}
    for name, slots in (("hour", snapshot.minutes), ("day", snapshot.tens)):
        share = share_protected(slots, observed=observed)
        text = "no mail went on" if share is None else "of what went on"  # "none" alone would say: all is plaintext
        yield Tile(f"encrypted, last {name}", _percent(share), text)
    failed = total(snapshot.tens, FAILED, observed=observed)
    state = _state(Cause.FAILURES in causes, is_good=not failed)
    yield Tile("not delivered, last day", str(failed), "deferred, refused or held", state)
    workers = snapshot.workers
    state = _state(Cause.WORKERS in causes)
    yield Tile("workers", f"{workers.running} of {workers.wanted}", f"{workers.died} died since the start", state)
    yield _resolver_tile(snapshot, causes)
    yield _journal_tile(snapshot, causes)
    if snapshot.stage.used:
        figure = "shut" if snapshot.stage.problem else "open"
        yield Tile("stage", figure, "messages are split", _state(Cause.STAGE in causes))
    soon = sum(each.keys for each in snapshot.expiring if each.days < 30)
    state = _state(Cause.KEYS in causes, is_good=False)
    yield Tile("keys about to end", str(soon), "within 30 days, of those used", state)


def _state(is_bad: bool, *, is_good: bool = True) -> str:
    """A tile is bad where a finding says so, never by a judgement of its own."""
    return "bad" if is_bad else "good" if is_good else "quiet"


def _resolver_tile(snapshot: Snapshot, causes: Set[Cause]) -> Tile:
    resolver, is_bad = snapshot.resolver, bool(causes & _OF_RESOLVER)
    if not resolver.asked:
        return Tile("resolver", "not asked", "no proof was needed yet", _state(is_bad, is_good=False))
    return Tile("resolver", f"{resolver.proven} of {resolver.asked}", "prove that they validate", _state(is_bad))


def _journal_tile(snapshot: Snapshot, causes: Set[Cause]) -> Tile:
    journal = snapshot.journal
    if journal.problem:
        return Tile("journal", "unreadable", "copies wait", _state(Cause.JOURNAL in causes))
    state = _state(Cause.BACKLOG in causes, is_good=not journal.unfinished)
    return Tile("copies owed", str(journal.owed), f"of {journal.unfinished} messages", state)


def alarms(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """What is wrong now, and what to do about it."""
    for finding in findings(snapshot):
        if finding.cause not in _IN_A_TILE:
            yield _in_words(finding), finding.mend


def _in_words(finding: Finding) -> str:
    if finding.cause in _WORDS:
        return _WORDS[finding.cause].format(why=finding.why)
    return f"{finding.why[:1].upper()}{finding.why[1:].rstrip('.')}."


def _rows(shown: list[plots.Bar]) -> list[plots.Bar]:
    """For the table below a plot: what is empty is left out."""
    return [bar for bar in shown if bar.all]


def _by_domain(snapshot: Snapshot) -> list[tuple[str, str, int]]:
    """Domain, share encrypted and recipients of the last day; the busiest first."""
    found: dict[str, dict[str, int]] = {}
    for each in snapshot.domains:
        found.setdefault(each.domain, {})[each.action] = each.recipients
    rows = []
    for domain, actions in found.items():
        protected = sum(actions.get(action, 0) for action in PROTECTED)
        delivered = sum(actions.get(action, 0) for action in DELIVERED)
        # What is sealed will be counted once more, by what becomes of it; what was sent already has been.
        recipients = delivered + sum(actions.get(action, 0) for action in FAILED)
        if recipients:
            rows.append((domain, _percent(protected / delivered if delivered else None), recipients))
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f} %"


def _days(days: int) -> str:
    return "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"


def moment(at: float) -> str:
    """An instant in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
