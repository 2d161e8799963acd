"""One laboratory for all cases, and a resolver for each way of knowing that DNS is authentic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.programs import MissingProgramError, find_program
from tests.live.conftest import cannot
from tests.live.dnssec import cases_aliases, cases_keys, cases_proofs, cases_servers
from tests.live.dnssec.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.dnssec.bench import Case

CASES: list[Case] = [*cases_proofs.CASES, *cases_aliases.CASES, *cases_servers.CASES, *cases_keys.CASES]


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """The laboratory with the zones of every case."""
    try:
        for program in ("nsd", "unbound", "ldns-signzone"):
            find_program(program)
    except MissingProgramError as error:
        cannot(str(error))
    with tempfile.TemporaryDirectory(prefix="smilla-dnssec-") as name:
        made = Bench(Path(name))
        for case in CASES:
            case.put(made)
        made.start()
        try:
            yield made
        finally:
            made.stop()
