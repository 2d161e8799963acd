"""smilla without an MTA: two workers, four connections kept open, letters of 10 KB; and the limit of the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage import FORMATS
from table import AT_LEAST, Row, Target, medians, ratios

if TYPE_CHECKING:
    from stage import Stage

_TARGETS = {"smime": 0.42, "openpgp": 0.38}
_CONNECTIONS, _WARM = 4, 30
_AGAINST = "preforked no-op pymilter, same driver"


def measure(stage: Stage) -> list[Row]:
    """Messages a second."""
    rates: dict[str, list[float]] = {name: [] for name in (*FORMATS, "noop", "echo")}
    shares: list[float] = []
    messages = stage.amount(4000)
    options = {"connections": _CONNECTIONS, "warm": _WARM, "messages": messages}
    with stage.smilla() as smilla, stage.noop() as noop:
        steps = stage.load(noop, "unchanged").steps
        with stage.echo(steps, 15000) as echo:
            for _ in stage.rounds(7):
                rates["noop"].append(stage.load(noop, "unchanged", **options).rate)
                for name in FORMATS:
                    run = stage.load(smilla, name, **options)
                    rates[name].append(run.rate)
                    shares.append(run.cpu_s / run.seconds)
                rates["echo"].append(stage.load(echo, "smime", **options).rate)
    details = medians(**rates, driver_cpus=shares)
    rows = [
        Row(
            f"alone-{name}",
            "smilla alone, 10 KB, 2 workers, 4 connections",
            _AGAINST,
            ratios(rates[name], rates["noop"]),
            Target(AT_LEAST, _TARGETS[name]),
            details={"per_second": details[name], "noop_per_second": details["noop"]},
        )
        for name in FORMATS
    ]
    what = "the driver against a C milter that answers at once"
    return [*rows, Row("driver", what, "no-op pymilter", ratios(rates["echo"], rates["noop"]), details=details)]
