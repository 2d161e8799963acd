"""What was measured: a row is one figure of two things that took turns, with its spread and its target."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AT_LEAST, AT_MOST = "at least", "at most"
_HEADINGS = ("row", "what", "against", "median", "spread", "target", "reached")


@dataclass(frozen=True)
class Target:
    """``bound`` is AT_LEAST or AT_MOST."""

    bound: str
    value: float

    def is_reached(self, figure: float) -> bool:
        """Whether the figure is on the right side."""
        return figure >= self.value if self.bound == AT_LEAST else figure <= self.value


@dataclass(frozen=True)
class Row:
    """``rounds`` are the figures of each round, in ``unit`` ("" is a ratio); ``details`` are medians of both sides and
    whatever else explains the figure.  Without a target the row is there for information."""

    name: str
    what: str
    against: str
    rounds: Sequence[float]
    target: Target | None = None
    unit: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.rounds)

    @property
    def reached(self) -> bool | None:
        """None where there is no target."""
        return None if self.target is None else self.target.is_reached(self.median)

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        aim = f"{self.target.bound} {self.target.value:g}{self._unit}" if self.target else "-"
        spread = f"{self._number(min(self.rounds))}-{self._number(max(self.rounds))} ({len(self.rounds)})"
        reached = {True: "yes", False: "NO", None: "-"}[self.reached]
        return (self.name, self.what, self.against, self._number(self.median) + self._unit, spread, aim, reached)

    def as_json(self) -> dict[str, Any]:
        """The row for a machine."""
        target = {"bound": self.target.bound, "value": self.target.value} if self.target else None
        return {
            "row": self.name,
            "what": self.what,
            "against": self.against,
            "unit": self.unit or "ratio",
            "median": self.median,
            "rounds": list(self.rounds),
            "target": target,
            "reached": self.reached,
            "details": self.details,
        }

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _number(self, value: float) -> str:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(of, to, strict=True)]


def differences(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a - b for a, b in zip(of, to, strict=True)]


def medians(**sides: Sequence[float]) -> dict[str, float]:
    """The medians of the sides, for ``details``."""
    return {name: round(statistics.median(values), 3) for name, values in sides.items()}


def rendered(rows: Sequence[Row]) -> str:
    """The table as text."""
    lines = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write_json(path: Path, rows: Sequence[Row], failures: dict[str, str], began: dict[str, Any]) -> None:
    """All rows, the jobs that failed and why, and the machine at the beginning and at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": {"before": began, "after": machine()}, "rows": [row.as_json() for row in rows]}
    path.write_text(json.dumps({**document, "failed": failures}, indent=1) + "\n")
