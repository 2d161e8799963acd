"""What the disk says of smilla now and then: copies owed, the gate of the stage, the seal keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from smilla.adapters.journal import SQLiteJournal
from smilla.adapters.postfix_lines import PostfixLines
from smilla.adapters.seal_keys import SealKeys
from smilla.config import Config
from smilla.config.options import StageOptions
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Journal, Stage
from smilla.metrics.totals import Sample


@dataclass(frozen=True, slots=True)
class Places:
    """What of the configuration says where to look."""

    spool: str
    remember_s: int
    splits: bool
    seals: bool
    stage: StageOptions

    @staticmethod
    def of(config: Config) -> Places:
        """Those of this configuration."""
        splits = (config.may_split or config.may_seal) and not config.observe
        return Places(config.reinject.spool, config.reinject.remember_s, splits, config.may_seal, config.stage)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(found: Mapping[str, Any]) -> Places:
        """What ``as_dict`` made."""
        return Places(**{**found, "stage": StageOptions(**found["stage"])})


def sample(places: Places, clock: Callable[[], float] = time.time) -> Sample:
    """Looks once.  Raises nothing that a disk can do."""
    return Sample(_journal(places, clock), stage(places))


def _journal(places: Places, clock: Callable[[], float]) -> Journal:
    if not places.splits:
        return Journal()
    try:
        with closing(SQLiteJournal(places.spool, places.remember_s)) as journal:
            found = journal.backlog()
    except SmillaError as error:
        return Journal(problem=str(error))
    oldest_s = max(0.0, clock() - found.oldest_at) if found.messages else 0.0
    return Journal(found.messages, found.owed, found.unknown, oldest_s)


def stage(places: Places) -> Stage:
    """The gate and the seal keys now: a few small files, which wait for nobody."""
    keys = SealKeys(places.stage.keys)
    problem = PostfixLines(places.stage).problem() if places.seals else ""
    try:
        found = keys.all() if keys.exist() else ()
    except SmillaError as error:
        return Stage(places.seals, problem or str(error))
    return Stage(places.seals, problem, len(found), found[-1].made_at if found else 0.0)
