"""One screen about the running filter, for ``smilla status`` and ``smilla top``; it fits in 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from smilla.cli import printable
from smilla.metrics.attention import Finding
from smilla.metrics.snapshot import FAILED, Slot, Snapshot, failures, share_protected, total, without_resolver

WIDTH = 80
_BARS = " ▁▂▃▄▅▆▇█"
_ACTIONS = ("encrypted", "unchanged", "secure-hop", "plain", "deferred", "refused", "held", "sealed")
_BOLD, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"
_MOST_FAILURES, _MOST_EXPIRING = 3, 6


def is_coloured(stream: TextIO) -> bool:
    """On terminals only, and not if NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lines(
    found: Snapshot, problems: Sequence[Finding], *, coloured: bool, decrypting: Snapshot | None = None
) -> list[str]:
    """The screen, line by line.  ``decrypting`` is that of smilla decrypt, where it runs."""
    paint = _Paint(coloured)
    up = _duration(found.taken_at - found.started_at)
    now = datetime.fromtimestamp(found.taken_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = f"smilla {found.version}, running for {up}"
    observing = [paint.bold("observing: mail goes on as it came; the counts say what would happen")]
    return [
        paint.bold(f"{head:<{WIDTH - len(now)}}{now}"),
        *(observing if found.observing else []),
        *_parts(found),
        *_table(found),
        *_chart(found),
        *_failing(found),
        *(decryption(decrypting) if decrypting else []),
        *_expiring(found),
        *_told(problems, paint),
    ]


def decryption(found: Snapshot) -> Iterable[str]:
    """What smilla decrypt did since its start."""
    done = found.decryption
    left = sum(number for _, number in done.left)
    word = "would decrypt" if found.observing else "decrypted"
    yield _cut(
        f"{'decrypt':<12}{done.decrypted} {word}, {left} left, for {_duration(found.taken_at - found.started_at)}"
    )
    if done.left:
        most = sorted(done.left, key=lambda one: (-one[1], one[0]))[:_MOST_FAILURES]
        yield _cut(f"{'left':<12}" + ", ".join(f"{reason}: {n}" for reason, n in most))
    if done.signatures:
        yield _cut(f"{'signatures':<12}" + ", ".join(f"{result}: {n}" for result, n in done.signatures))


class _Paint:
    def __init__(self, coloured: bool) -> None:
        self._coloured = coloured

    def bold(self, text: str) -> str:
        """Bold text."""
        return self._with(_BOLD, text)

    def bad(self, text: str) -> str:
        """A problem."""
        return self._with(_RED + _BOLD, text)

    def good(self, text: str) -> str:
        """All is well."""
        return self._with(_GREEN, text)

    def _with(self, code: str, text: str) -> str:
        return f"{code}{text}{_PLAIN}" if self._coloured else text


def _parts(found: Snapshot) -> Iterable[str]:
    workers, resolver, journal, stage, cache = found.workers, found.resolver, found.journal, found.stage, found.cache
    asked = cache.hits + cache.misses
    yield _two(
        ("workers", f"{workers.running} of {workers.wanted} run, {workers.died} died"),
        ("cache", f"{cache.hits / asked:.0%} of {asked} asked, {cache.entries} kept" if asked else "not asked"),
    )
    proof = f"{resolver.proven} of {resolver.asked} proven" if resolver.asked else "not asked yet"
    proof += ", does not answer" if without_resolver(found) else ""
    yield _two(("resolver", proof), ("spool", f"{found.spool_octets / 2**20:.1f} MiB"))
    owed = "unreadable" if journal.problem else f"{journal.unfinished} unfinished, {journal.owed} owed"
    gate = ("shut" if stage.problem else "open") if stage.used else "not used"
    if stage.newest_key_at:
        gate += f", {stage.keys} keys, newest {_days(found.taken_at - stage.newest_key_at)} d"
    yield _two(("journal", owed), ("stage", gate))
    done = f"{found.reloads.done} done, {found.reloads.failed} failed"
    yield _two(("reloads", done), ("replies", ", ".join(f"{code}: {n}" for code, n in found.replies[:4]) or "none"))
    if found.latencies:
        told = (f"{each.of} {_ms(each.p50_s)} / {_ms(each.p95_s)}" for each in found.latencies)
        yield _cut(f"{'half / 95 %':<12}{', '.join(told)}")


def _table(found: Snapshot) -> Iterable[str]:
    yield ""
    yield f"{'recipients':<12}{'last hour':>12}{'last day':>12}"
    for action in _ACTIONS:
        counts = [total(slots, [action], observed=found.observing) for slots in (found.minutes, found.tens)]
        if any(counts) or action in _ACTIONS[:4]:
            yield f"{action:<12}" + "".join(f"{count:>12}" for count in counts)
    shares = [share_protected(slots, observed=found.observing) for slots in (found.minutes, found.tens)]
    told = ("-" if share is None else f"{share:.1%}" for share in shares)
    yield f"{'share':<12}" + "".join(f"{share:>12}" for share in told) + "  of what went on is encrypted"


def _chart(found: Snapshot) -> Iterable[str]:
    counts = [_all(slot, observed=found.observing) for slot in found.minutes]
    most = max(counts, default=0)
    if most:
        bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)
        yield _cut(f"{'each minute':<12}{bars}  {most}")


def _failing(found: Snapshot) -> Iterable[str]:
    if total(found.tens, FAILED, observed=found.observing):
        told = failures(found.tens, observed=found.observing)[:_MOST_FAILURES]
        yield _cut(f"{'failures':<12}" + ", ".join(f"{action} {reason}: {n}" for action, reason, n in told))


def _expiring(found: Snapshot) -> Iterable[str]:
    if found.expiring:
        told = ", ".join(f"{each.keys} in {each.days} d" for each in found.expiring[:_MOST_EXPIRING])
        yield _cut(f"{'keys end':<12}{told}")


def _told(problems: Sequence[Finding], paint: _Paint) -> Iterable[str]:
    yield ""
    if not problems:
        yield paint.good("all is well")
    for problem in problems:
        yield from (paint.bad(line) for line in _wrapped("! ", problem.why))
        yield from _wrapped("  ", problem.hint)


def _all(slot: Slot, *, observed: bool) -> int:
    return sum(count.recipients for count in slot.counts if count.observed is observed)


def _two(left: tuple[str, str], right: tuple[str, str]) -> str:
    return _cut(f"{left[0]:<12}{left[1]:<26} {right[0]:<9}{right[1]}")


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _wrapped(head: str, text: str) -> list[str]:
    """What to do is told as a whole; a line to paste breaks at its blanks only."""
    return textwrap.wrap(printable(text), WIDTH, initial_indent=head, subsequent_indent="  ", break_on_hyphens=False)


def _days(seconds: float) -> int:
    return max(0, int(seconds // 86400))


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    clock = f"{whole // 3600 % 24:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400} d {clock}" if whole >= 86400 else clock


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
