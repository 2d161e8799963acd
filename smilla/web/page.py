"""What the status page says: a snapshot in words, with what to do about each thing that needs somebody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from smilla.answer import reply
from smilla.metrics.snapshot import (
    FAILED,
    MINUTE_S,
    TEN_S,
    Snapshot,
    failures,
    share_protected,
    total,
    without_resolver,
)
from smilla.web import plots

_NEAR_DAYS = 7
_HINTS = {
    "bogus": "DNSSEC fails for this domain, or your resolver does not validate: smilla lookup ADDRESS",
    "indeterminate": "your resolver could not prove it: smilla config check --probe",
    "unreachable": "name servers do not answer; if it is every domain, look at your resolver",
    "resolver_down": "your resolver does not take questions; smilla config check --probe says more",
    "key_folder": "your folder of keys cannot be read; smilla config check --probe says more",
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
        "taken": moment(snapshot.taken_at),
        "tiles": list(_tiles(snapshot)),
        "alarms": list(alarms(snapshot)),
        "plots": [
            ("The last hour", plots.plot(hour, "Recipients of the last hour, by minute", MINUTE_S), _rows(hour)),
            ("The last day", plots.plot(day, "Recipients of the last day, by ten minutes", TEN_S), _rows(day)),
        ],
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
    yield Tile(
        "encrypted, last hour", _percent(share_protected(snapshot.minutes, observed=observed)), "of what went on"
    )
    yield Tile("encrypted, last day", _percent(share_protected(snapshot.tens, observed=observed)), "of what went on")
    failed = total(snapshot.tens, FAILED, observed=observed)
    yield Tile("not delivered, last day", str(failed), "deferred, refused or held", "bad" if failed else "good")
    workers = snapshot.workers
    state = "good" if workers.running >= workers.wanted else "bad"
    yield Tile("workers", f"{workers.running} of {workers.wanted}", f"{workers.died} died since the start", state)
    yield _resolver_tile(snapshot)
    journal = snapshot.journal
    if journal.problem:
        yield Tile("journal", "unreadable", journal.problem, "bad")
    else:
        waiting = "bad" if journal.owed else "good"
        yield Tile("copies owed", str(journal.owed), f"of {journal.unfinished} messages", waiting)
    if snapshot.stage.used:
        is_open = not snapshot.stage.problem
        yield Tile("stage", "open" if is_open else "shut", "messages are split", "good" if is_open else "bad")
    soon = sum(each.keys for each in snapshot.expiring if each.days < 30)
    is_near = any(each.keys for each in snapshot.expiring if each.days < _NEAR_DAYS)
    yield Tile("keys about to end", str(soon), "within 30 days, of those used", "bad" if is_near else "quiet")


def _resolver_tile(snapshot: Snapshot) -> Tile:
    resolver = snapshot.resolver
    if not resolver.asked:
        return Tile("resolver", "not asked", "no proof was needed yet")
    text = "prove that they validate"
    return Tile("resolver", f"{resolver.proven} of {resolver.asked}", text, "good" if resolver.proven else "bad")


def alarms(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """What is wrong now, and what to do about it."""
    if snapshot.resolver.asked and not snapshot.resolver.proven:
        yield "No resolver proves that it validates. Mail is deferred.", "smilla config check --probe"
    elif waiting := without_resolver(snapshot):
        yield f"No resolver answered for {waiting} recipients just now.", "smilla config check --probe"
    if snapshot.stage.problem:
        yield f"Nothing is sealed now: {snapshot.stage.problem}", "smilla config check --postfix"
    if snapshot.journal.problem:
        yield f"The journal cannot be read: {snapshot.journal.problem}", "smilla config check --probe"
    if snapshot.reloads.last_failed:
        yield "The last reload failed, and the old configuration is in force.", "smilla config check"
    if snapshot.workers.running < snapshot.workers.wanted:
        yield "Some workers do not run.", "journalctl -p err -u smilla"


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
        protected = actions.get("encrypted", 0) + actions.get("unchanged", 0)
        delivered = protected + actions.get("plain", 0)
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
