"""smilla without an MTA: two workers, four connections kept open, letters of 10 KB; and the limit of the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench.driver import WrongAnswerError
from tests.bench.stage import ENCRYPTED, FORMATS, SMIME, addressed
from tests.bench.table import AT_LEAST, Row, Target, medians, ratios

if TYPE_CHECKING:
    from tests.bench.driver import Options
    from tests.bench.stage import Filter, Stage

_TARGETS = {"smime": 0.42, "openpgp": 0.38}
_CONNECTIONS, _WARM = 4, 30
_IDLE_TIMES = 8  # as many messages to what does nothing: else its turn would last a tenth of a second


@dataclass
class _Side:
    """What was found about one filter, round by round."""

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    driver_ms: list[float] = field(default_factory=list)

    def add(self, stage: Stage, of: Filter, expect: str, options: Options) -> None:
        """One round; the filter's processor time, warm-up left out, does not depend on who else is busy here."""
        with stage.spread_evenly(of, addressed(expect), expect, **options) as load:
            before = of.cpu_s()
            run = load.go().result()
        self.rates.append(run.rate)
        self.cpu_ms.append((of.cpu_s() - before) * 1000 / run.messages)
        self.driver_ms.append(run.cpu_s * 1000 / run.messages)

    @property
    def costs(self) -> list[float]:
        """Processor time of both ends, milliseconds a message."""
        return [a + b for a, b in zip(self.cpu_ms, self.driver_ms, strict=True)]


def measure(stage: Stage) -> list[Row]:
    """Messages a second."""
    sides = {name: _Side() for name in (*FORMATS, "noop", "ceiling", "echo")}
    options: Options = {"connections": _CONNECTIONS, "warm": _WARM, "messages": stage.amount(3000)}
    idle_options: Options = {**options, "messages": _IDLE_TIMES * stage.amount(3000)}
    with stage.smilla() as smilla, stage.noop() as noop, stage.noop(octets=ENCRYPTED) as ceiling:
        steps = stage.load(noop, "unchanged").steps
        for other, expect in ((smilla, SMIME), (ceiling, SMIME)):
            if (found := stage.load(other, expect).steps) != steps:
                raise WrongAnswerError(f"steps {found:#x} are compared with the no-op's {steps:#x}")
        with stage.echo(steps, ENCRYPTED) as echo:
            filters = {"noop": (noop, "unchanged"), "ceiling": (ceiling, SMIME), "echo": (echo, SMIME)}
            filters |= {name: (smilla, name) for name in FORMATS}
            for name in stage.turns(7, filters):
                sides[name].add(stage, *filters[name], options if name in FORMATS else idle_options)
    details = {
        "per_second": medians(**{name: side.rates for name, side in sides.items()}),
        "filter_cpu_ms": medians(**{name: side.cpu_ms for name, side in sides.items()}),
        "driver_cpu_ms": medians(**{name: side.driver_ms for name, side in sides.items()}),
    }
    what = "smilla alone, 10 KB, 4 connections kept"
    against = "preforked no-op pymilter"
    noop_rates = sides["noop"].rates
    rows = [
        Row(
            f"alone-{name}",
            what,
            against,
            ratios(sides[name].rates, noop_rates),
            Target(AT_LEAST, _TARGETS[name]),
            details=details,
        )
        for name in FORMATS
    ]
    rows += [
        Row(f"alone-{name}-cpu", "the same by processor time", against, ratios(sides["noop"].costs, sides[name].costs))
        for name in (*FORMATS, "ceiling")
    ]
    rows.append(
        Row(
            "alone-ceiling",
            "a pymilter that makes the same edits at once",
            against,
            ratios(sides["ceiling"].rates, noop_rates),
        )
    )
    what = "a C milter that answers at once"
    return [*rows, Row("driver", what, "no-op pymilter", ratios(sides["echo"].rates, noop_rates), details=details)]
