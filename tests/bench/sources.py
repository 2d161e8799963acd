"""Keys from the administrator's folder, which lies still, against the same keys from DNS; without an MTA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.stage import FORMATS, OPENPGP, RECIPIENTS, SMIME
from tests.bench.table import AT_LEAST, Row, Target, medians, ratios
from tests.certificates import to_pem

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.driver import Options
    from tests.bench.stage import Stage
    from tests.lab.smilla import Settings

_OTHERS = 200  # further files in the folder, of people to whom nobody writes


def measure(stage: Stage) -> list[Row]:
    """Messages a second, four connections."""
    folder = _filled(stage, stage.place("keys"))
    settings: Settings = {"keys": {"sources": ["directory"], "directory": str(folder)}}
    rates: dict[str, list[float]] = {f"{source}-{name}": [] for source in ("directory", "dns") for name in FORMATS}
    options: Options = {"connections": 4, "warm": 30, "messages": stage.amount(1500)}
    with stage.smilla(settings=settings) as directory, stage.smilla() as dns:
        filters = {"directory": directory, "dns": dns}
        for turn in stage.turns(5, rates):
            source, _, name = turn.partition("-")
            rates[turn].append(stage.load(filters[source], name, **options).rate)
    details = {"per_second": medians(**rates)}
    target = Target(AT_LEAST, 0.95)  # the same, but for chance
    return [
        Row(
            f"directory-{name}",
            f"keys from a folder of {_OTHERS + 2} files, {name}, 10 KB",
            "the same keys from DNS",
            ratios(rates[f"directory-{name}"], rates[f"dns-{name}"]),
            target,
            details=details,
        )
        for name in FORMATS
    ]


def _filled(stage: Stage, folder: Path) -> Path:
    for number in range(_OTHERS):
        (folder / f"somebody-{number}@r.test.crt").write_bytes(to_pem(stage.certificate))
    (folder / f"{RECIPIENTS[SMIME]}.crt").write_bytes(to_pem(stage.certificate))
    (folder / f"{RECIPIENTS[OPENPGP]}.pgp").write_bytes(stage.key)
    return folder
