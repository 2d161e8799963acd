"""Bars as SVG, made here: no script and no style of their own; the style sheet has the colours."""

from __future__ import annotations

from markupsafe import Markup

from smilla.survey.totals import Table

WIDTH = 420  # of the viewBox; the page scales it
_ROW, _BAR, _LEFT, _RIGHT = 26, 16, 150, 105


def plot(table: Table) -> Markup:
    """One bar a kind, with its name before it and its count and share after it."""
    shown = [kind for kind in table.kinds if kind.count] or table.kinds[:1]
    highest, room = max(1, *(kind.count for kind in shown)), WIDTH - _LEFT - _RIGHT
    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, _ROW * len(shown) + 4, table.title
        )
    ]
    for index, kind in enumerate(shown):
        y, width = index * _ROW + 4, room * kind.count / highest
        share = f"{kind.count} ({share_of(kind.count, table.of)})"
        parts += [
            Markup('<text class="label" x="{}" y="{}" text-anchor="end">{}</text>').format(
                _LEFT - 8, y + 13, kind.name
            ),
            Markup('<rect class="{}" x="{}" y="{}" width="{:.1f}" height="{}"/>').format(
                kind.tone, _LEFT, y, max(width, 1.0), _BAR
            ),
            Markup('<text class="count" x="{:.1f}" y="{}">{}</text>').format(
                _LEFT + max(width, 1.0) + 6, y + 13, share
            ),
        ]
    return Markup("\n").join([*parts, Markup("</svg>")])


def share_of(part: int, whole: int) -> str:
    """In per cent; "none" of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "none"
