"""Bars as long as their numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from smilla.survey import plots
from smilla.survey.totals import Kind, Table

TABLE = Table("A & B", "", (Kind("<good>", "good", 30), Kind("none", "bad", 10), Kind("empty", "fair")))


def test_bars_are_as_long_as_their_numbers_and_empty_ones_are_left_out() -> None:
    svg = str(plots.plot(TABLE))
    widths = {kind: float(width) for kind, width in re.findall(r'<rect class="(\w+)".*?width="([\d.]+)"', svg)}
    assert widths["good"] == pytest.approx(3 * widths["bad"], rel=0.01)
    assert "fair" not in widths
    assert "30 (75.0 %)" in svg


def test_plot_is_well_formed_and_escaped() -> None:
    root = ElementTree.fromstring(str(plots.plot(TABLE)))
    assert root.attrib["aria-label"] == "A & B"
    assert "<good>" in "".join(root.itertext())


def test_plot_of_nothing_has_a_row() -> None:
    assert "0 (none)" in str(plots.plot(Table("t", "", (Kind("a", "good"), Kind("b", "bad")))))
