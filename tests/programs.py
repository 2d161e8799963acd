"""Other people's programs that a test needs."""

from __future__ import annotations

import os
import shutil

import pytest


def require(*names: str) -> None:
    """Skips the test where a program is missing; in continuous integration nothing may be skipped unnoticed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
