"""Plots: bars as high as their numbers, and a text for each."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from smilla.metrics.snapshot import MINUTE_S, Count, Slot
from smilla.web import plots
from tests.unit.web.snapshots import snapshot

_SVG = "{http://www.w3.org/2000/svg}"


def _heights(svg: str) -> dict[str, float]:
    return {kind: float(height) for kind, height in re.findall(r'<rect class="(\w+)".*?height="([\d.]+)"', svg)}


def test_bar_has_each_kind_in_its_height() -> None:
    svg = plots.plot(plots.bars(snapshot().minutes, observed=False), "an hour", MINUTE_S)
    heights = _heights(svg)
    assert heights["protected"] == pytest.approx(6 * heights["failed"], rel=0.05)
    assert heights["plain"] == pytest.approx(2 * heights["failed"], rel=0.05)
    assert "6 encrypted, 2 plaintext, 1 deferred, refused or held" in svg


def test_what_came_encrypted_counts_as_encrypted() -> None:
    [bar] = plots.bars(
        [Slot(0, (Count("unchanged", "already_encrypted", 3), Count("held", "no_key", 1)))], observed=False
    )
    assert (bar.protected, bar.plain, bar.failed) == (3, 0, 1)


def test_what_left_over_a_verified_hop_is_neither_encrypted_nor_plain() -> None:
    [bar] = plots.bars([Slot(0, (Count("secure-hop", "no_key", 5), Count("plain", "no_key", 1)))], observed=False)
    assert (bar.protected, bar.bound, bar.plain, bar.all) == (0, 5, 1, 6)
    assert "5 verified hop, 1 plaintext" in plots.plot([bar], "an hour", MINUTE_S)


def test_observed_counts_stand_apart_from_real_ones() -> None:
    slot = Slot(0, (Count("encrypted", "usable", 3, observed=True), Count("plain", "no_key", 1)))
    [observed], [real] = plots.bars([slot], observed=True), plots.bars([slot], observed=False)
    assert (observed.protected, observed.plain) == (3, 0)
    assert (real.protected, real.plain) == (0, 1)


def test_plot_is_well_formed_and_escapes_its_title() -> None:
    svg = plots.plot(plots.bars(snapshot().tens, observed=False), 'a "day" <b>', MINUTE_S)
    root = ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
    assert root.attrib["aria-label"] == 'a "day" <b>'
    assert root.findall(f"{_SVG}g")


def test_plot_of_nothing_has_axes_and_no_bar() -> None:
    svg = plots.plot([], "nothing", MINUTE_S)
    assert "<rect" not in svg
    assert svg.count("<line") == 3


def test_no_bar_is_higher_than_the_plot() -> None:
    for number in (1, 3, 4, 5, 7, 19, 51, 999, 1001):
        svg = plots.plot([plots.Bar(0, number, 0, 0, 0)], "one", MINUTE_S)
        height = _heights(svg)["protected"]
        assert 0 < height <= plots.HEIGHT - 30, number
        assert number < 4 or height > (plots.HEIGHT - 30) * 0.39, number


def test_scale_has_whole_numbers_and_bars_end_before_the_frame() -> None:
    for number in (1, 5, 21, 26, 101):
        svg = plots.plot([plots.Bar(60 * each, number, 0, 0, 0) for each in range(60)], "an hour", MINUTE_S)
        assert all(label.isdecimal() for label in re.findall(r'text-anchor="end">([^<]*)<', svg)), number
        ends = [float(x) + float(width) for x, width in re.findall(r'<rect .*?x="([\d.]+)".*?width="([\d.]+)"', svg)]
        assert max(ends) < plots.WIDTH - 10
