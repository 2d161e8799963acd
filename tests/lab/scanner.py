"""A milter of another kind, which does what a message's own field ``X-Scan`` asks for: "quarantine" holds the message,
"suspicious" adds a field of that name.  ``python -m tests.lab.scanner SOCKET`` runs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

import Milter

from tests.lab.processes import Child
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Scanner:
    """Starts with ``with``, on a UNIX socket in its folder."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "scanner.sock"
        self._child = Child(
            "scanner",
            [sys.executable, "-m", "tests.lab.scanner", self.socket],
            folder / "scanner.log",
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    @property
    def milter(self) -> str:
        """As Postfix's smtpd_milters has it."""
        return f"unix:{self.socket}"

    def start(self) -> Self:
        """Starts it and waits until it listens."""
        self._child.start(ready=self.socket.exists)
        return self

    def stop(self) -> None:
        """Safe to repeat."""
        self._child.stop()
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Connection(Milter.Base):  # type: ignore[misc]
    def __init__(self) -> None:
        self._wanted = ""

    def envfrom(self, _sender: str, *_parameters: str) -> int:
        self._wanted = ""
        return int(Milter.CONTINUE)

    def header(self, name: str, value: str) -> int:
        if name.lower() == "x-scan":
            self._wanted = value.strip()
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        if self._wanted == "quarantine":
            self.quarantine("asked for")
        elif self._wanted == "suspicious":
            self.addheader("X-Suspicious", "yes")
        return int(Milter.ACCEPT)


def _main(path: str) -> None:
    os.umask(0)
    Milter.factory = _Connection
    Milter.set_flags(Milter.ADDHDRS | Milter.QUARANTINE)
    Milter.runmilter("scanner", f"unix:{path}", 600)


if __name__ == "__main__":
    _main(sys.argv[1])
