"""The command line in this process, as in tests/unit/cli."""

from __future__ import annotations

from tests.unit.cli.conftest import commands

__all__ = ["commands"]
