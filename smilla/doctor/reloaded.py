"""Does the filter that runs have the configuration that is checked, or the one before?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from smilla.adapters import status
from smilla.config import DEFAULT_PATH, Config
from smilla.doctor.finding import Finding, Kind, warning
from smilla.doctor.rights import Service
from smilla.errors import SmillaError
from smilla.metrics import attention


def problems(config: Config, configuration: Path, service: Service) -> Iterator[Finding]:
    """A warning if the file was changed after the filter read it.  Only of the file that an installed unit names, or of
    the usual one: a filter does not say which file it has read."""
    if not service.unit and configuration.resolve() != Path(DEFAULT_PATH).resolve():
        return
    with suppress(SmillaError, OSError):
        changed_at = configuration.stat().st_mtime
        for found in attention.of_file(status.ask(config.status_socket), changed_at):
            yield warning(Kind.NOT_RELOADED, f"configuration {configuration}", found.why, found.mend)
