"""The manual has every metric with its labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from smilla.metrics.catalogue import COUNTER, FAMILIES, Family

MANUAL = (Path(__file__).resolve().parents[3] / "man" / "smilla-metrics.7").read_text("utf-8")


def _exposed(family: Family) -> str:
    return f"smilla_{family.name}{'_total' if family.kind is COUNTER else ''}"


def _entry(family: Family) -> str:
    by = f", by {', '.join(family.labels)}" if family.labels else ""
    return f".It Cm {_exposed(family)}\n.Pq {family.kind}{by}\n"


def test_the_manual_has_every_metric_in_order_with_its_kind_and_labels() -> None:
    assert re.findall(r"^\.It Cm (smilla_\w+)$", MANUAL, re.MULTILINE) == [*map(_exposed, FAMILIES)]
    assert [family.name for family in FAMILIES if _entry(family) not in MANUAL] == []


def test_the_manual_says_of_each_metric_what_its_help_says() -> None:
    text = re.sub(r"\s+", " ", MANUAL)
    assert [family.name for family in FAMILIES if family.help not in text] == []
