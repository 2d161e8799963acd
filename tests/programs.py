"""Other people's programs that a test needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import NoReturn

import pytest

from tests.lab.programs import MissingProgramError, find_program


def require(*names: str) -> None:
    """Skips the test where a program is missing; in continuous integration nothing may be skipped unnoticed."""
    require_nothing_missing([name for name in names if shutil.which(name) is None])


def require_nothing_missing(missing: Sequence[str]) -> None:
    """The same for whatever else was found to be missing."""
    if missing:
        _cannot(f"not installed: {', '.join(missing)}")


def require_servers(*names: str) -> None:
    """The same for what the laboratory runs beside Postfix, unpacked by tests/setup/install or there; and for root."""
    try:
        for name in names:
            find_program(name)
    except MissingProgramError as error:
        _cannot(str(error))
    if os.geteuid() != 0:
        _cannot("Postfix's master needs root: run 'make test'")


def _cannot(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
