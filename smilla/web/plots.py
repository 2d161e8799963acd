"""Plots as SVG, made here: no script, no style of their own (the style sheet has the colours), and a text for each bar.

A plot has one bar for each slot of time, with what was encrypted below, then what a verified hop protected, plain
mail above it, and failures on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from smilla.metrics.snapshot import BOUND, DELIVERED, FAILED, PROTECTED, Slot, total

WIDTH, HEIGHT = 720, 150  # of the viewBox; the page scales it
_LEFT, _RIGHT, _BOTTOM, _TOP = 40, 12, 22, 12
KINDS = ("protected", "bound", "plain", "failed")
LEGEND = {
    "protected": "encrypted",
    "bound": "verified hop",
    "plain": "plaintext",
    "failed": "deferred, refused or held",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """What happened in one slot: recipients by kind."""

    began_at: int
    protected: int
    bound: int
    plain: int
    failed: int

    @property
    def all(self) -> int:
        """All recipients of the slot."""
        return self.protected + self.bound + self.plain + self.failed


def bars(slots: Sequence[Slot], *, observed: bool) -> list[Bar]:
    """The bars of these slots; ``observed``: of what would have happened."""
    found = []
    for slot in slots:
        protected, bound, delivered, failed = (
            total([slot], actions, observed=observed) for actions in (PROTECTED, BOUND, DELIVERED, FAILED)
        )
        found.append(Bar(slot.began_at, protected, bound, delivered - protected - bound, failed))
    return found


def plot(shown: Sequence[Bar], title: str, step_s: int) -> Markup:
    """One picture; ``step_s`` is the length of a slot in seconds, for the ticks below."""
    highest = _round_up(max((bar.all for bar in shown), default=0))
    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, title),
        *_grid(highest),
        *(_bar(bar, index, len(shown), highest) for index, bar in enumerate(shown)),
        *_ticks(shown, step_s),
        Markup("</svg>"),
    ]
    return Markup("\n").join(parts)


def _round_up(number: int) -> int:
    """The next of 4, 10, 20, 40, 100 … from ``number`` on: half of each is whole, and a single message is no tower."""
    step = 1
    while True:
        for factor in (1, 2, 4):
            if factor * step >= max(number, 4):
                return factor * step
        step *= 10


def _height(number: float, highest: int) -> float:
    return (HEIGHT - _BOTTOM - _TOP) * number / highest


def _grid(highest: int) -> list[Markup]:
    lines = []
    for part in (0, 0.5, 1):
        y = HEIGHT - _BOTTOM - _height(highest * part, highest)
        label = f"{highest * part:g}"
        lines.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(_LEFT, WIDTH - _RIGHT, y, y)
            + Markup('<text class="scale" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                _LEFT - 6, y + 4, label
            )
        )
    return lines


def _bar(bar: Bar, index: int, count: int, highest: int) -> Markup:
    if not bar.all:
        return Markup("")
    room = (WIDTH - _LEFT - _RIGHT) / count
    x, y = _LEFT + index * room, float(HEIGHT - _BOTTOM)
    parts = []
    for kind in KINDS:
        height = _height(getattr(bar, kind), highest)
        y -= height
        if height:
            parts.append(
                Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    kind, x, y, max(1.0, room * 0.85), height
                )
            )
    words = ", ".join(f"{getattr(bar, kind)} {LEGEND[kind]}" for kind in KINDS if getattr(bar, kind))
    return Markup("<g><title>{}: {}</title>{}</g>").format(clock_time(bar.began_at), words, Markup("").join(parts))


def _ticks(shown: Sequence[Bar], step_s: int) -> list[Markup]:
    """About six times below the bars, on round minutes or hours."""
    every_s = 600 if step_s * len(shown) <= 3600 else 4 * 3600
    room = (WIDTH - _LEFT - _RIGHT) / max(1, len(shown))
    return [
        Markup('<text class="scale" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _LEFT + (index + 0.5) * room, HEIGHT - 6, clock_time(bar.began_at)
        )
        for index, bar in enumerate(shown)
        if bar.began_at % every_s == 0 and 20 < (index + 0.5) * room < WIDTH - _LEFT - _RIGHT - 15
    ]


def clock_time(at: float) -> str:
    """Hours and minutes in UTC, as the log of this machine may have it or not: the page says UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")
