"""Other encrypting milters, where somebody has them in a folder: --peer NAME=FOLDER.

FOLDER/bench-start is a program that runs the peer in the foreground, in FOLDER, until SIGTERM.  Its environment says
how: BENCH_SOCKET (unix:PATH, where it shall listen), BENCH_RESOLVER (ADDRESS@PORT of a name server whose answers have
the AD bit), BENCH_KEYS (a folder with the recipient's keys: ADDRESS.pem and ADDRESS.pgp).  The letter goes to the
recipient of one format, smime unless FOLDER/bench-format says openpgp.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.bench import driver
from tests.bench.stage import OPENPGP, RECIPIENTS, SMIME, Filter
from tests.bench.table import Row, medians, ratios
from tests.certificates import to_pem
from tests.lab.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.stage import Stage

_CONNECTIONS = 4


def measure(stage: Stage, name: str, folder: Path) -> list[Row]:
    """Messages a second: smilla's, as so many times the peer's."""
    chosen = folder / "bench-format"
    form = chosen.read_text().strip() if chosen.exists() else SMIME
    place = stage.place("peer")
    place.chmod(0o777)
    (place / f"{RECIPIENTS[SMIME]}.pem").write_bytes(to_pem(stage.certificate))
    (place / f"{RECIPIENTS[OPENPGP]}.pgp").write_bytes(stage.key)
    path = place / "peer.sock"
    said = {"BENCH_SOCKET": f"unix:{path}", "BENCH_RESOLVER": stage.stub.address, "BENCH_KEYS": str(place)}
    child = Child(name, [folder / "bench-start"], place / "log", environment={**os.environ, **said}, folder=folder)
    rates: dict[str, list[float]] = {"smilla": [], "peer": []}
    with child.start(ready=path.exists), stage.smilla() as smilla:
        peer = Filter(f"unix:{path}", (), child)
        for _ in stage.rounds(5):
            rates["smilla"].append(_rate(stage, smilla, form, stage.amount(2000)))
            rates["peer"].append(_rate(stage, peer, form, stage.amount(400)))
    what = f"smilla alone, 10 KB, {form}, 2 workers, {_CONNECTIONS} connections"
    return [Row(f"peer-{name}", what, name, ratios(rates["smilla"], rates["peer"]), details=medians(**rates))]


def _rate(stage: Stage, of: Filter, form: str, messages: int) -> float:
    options: driver.Options = {"connections": _CONNECTIONS, "warm": 10, "messages": messages, "canary": stage.canary}
    expect = form if of.workers else "encrypted"
    return driver.measure(of.address, stage.letter, [[RECIPIENTS[form]]], expect, **options).rate
