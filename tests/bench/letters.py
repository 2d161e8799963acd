"""Real letters, from the public suites that tests/setup/corpus fetches, against the synthetic one of 10 KB.

Each is sent as often as the others; the figure is the processor time of smilla and the driver for one of them, on
average, as so many times that for the synthetic letter.  Where the suites are not there, there is no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla import message
from smilla.classify import classify
from smilla.model import MessageKind
from tests.bench import driver
from tests.bench.stage import FORMATS, RECIPIENTS
from tests.bench.table import Row, ratios
from tests.interop import corpus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.stage import Filter, Stage

_LETTERS = 24
_MOST_FIELDS = 60  # driver.c has room for so many
_SMALLEST, _LARGEST = 1000, 60_000


def measure(stage: Stage) -> list[Row]:
    """Both formats, one connection."""
    letters = _letters(stage.place("letters"))
    if not letters:
        return []
    octets = sum(path.stat().st_size for path in letters) // len(letters)
    messages = stage.amount(100)
    costs: dict[str, list[float]] = {f"{kind}-{name}": [] for kind in ("real", "usual") for name in FORMATS}
    with stage.smilla(workers=1) as smilla:
        for turn in stage.turns(3, costs):
            kind, _, name = turn.partition("-")
            if kind == "real":
                each = [_cost_ms(smilla, path, name, messages) for path in letters]
                costs[turn].append(sum(each) / len(each))
            else:
                costs[turn].append(_cost_ms(smilla, stage.letter, name, messages * 10))
    return [
        Row(
            f"letters-{name}",
            f"{len(letters)} real letters, {octets // 1024} KB on average, processor time",
            "the letter of 10 KB",
            ratios(costs[f"real-{name}"], costs[f"usual-{name}"]),
            details={turn: list(figures) for turn, figures in costs.items()},
        )
        for name in FORMATS
    ]


def _cost_ms(smilla: Filter, path: Path, name: str, messages: int) -> float:
    options: driver.Options = {"messages": messages, "warm": 3}
    with driver.Load(smilla.address, path, [[RECIPIENTS[name]]], name, **options) as load:
        load.wait_until_ready()
        before = smilla.cpu_s()
        run = load.go().result()
    return (smilla.cpu_s() - before + run.cpu_s) * 1000 / run.messages


def _letters(folder: Path) -> Sequence[Path]:
    """Letters of every suite in turn, the longest of each first, as an MTA would hand them over, each in a file."""
    suites: dict[str, list[bytes]] = {}
    for sample in corpus.samples():
        raw = message.with_crlf(sample.octets)
        if _is_letter(raw):
            suites.setdefault(sample.suite, []).append(raw)
    for raws in suites.values():
        raws.sort(key=len, reverse=True)
    found: list[Path] = []
    while len(found) < _LETTERS and any(suites.values()):
        for suite, raws in suites.items():
            if raws and len(found) < _LETTERS:
                path = folder / f"{len(found)}-{suite}.eml"
                path.write_bytes(raws.pop(0))
                found.append(path)
    return found


def _is_letter(raw: bytes) -> bool:
    """Is it a usual one, which smilla encrypts, and which the driver can read?"""
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found or not body or not _SMALLEST < len(raw) < _LARGEST or b"\0" in raw:
        return False
    parsed = message.parse(raw).message
    fields = parsed.headers
    if len(fields) > _MOST_FIELDS or b"".join(field.raw for field in fields) != head + b"\r\n":
        return False
    return classify(parsed).kind is not MessageKind.ENCRYPTED and all(field.raw_value[:1] == b" " for field in fields)
