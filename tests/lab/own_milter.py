"""A milter of the tests' own, run as a child: ``python -m tests.lab.NAME SOCKET``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

from tests.lab.processes import Child, Running, socket_answers
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


class OwnMilter(Running):
    """Starts with ``with`` or start(), on a UNIX socket in its folder; ``name`` is that of its module in tests.lab."""

    name: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / f"{self.name}.sock"
        self._child = Child(
            self.name,
            [sys.executable, "-m", f"tests.lab.{self.name}", self.socket],
            folder / f"{self.name}.log",
            stop_timeout_s=0.5,  # libmilter itself takes longer, and has nothing to lose here
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    @property
    def milter(self) -> str:
        """The socket as Postfix's smtpd_milters has it."""
        return f"unix:{self.socket}"

    def start(self) -> Self:
        """Starts it and waits until it listens.  Raises ChildError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._child.start(ready=lambda: socket_answers(self.socket))
        return self

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child.running

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        self._child.stop()
        self.socket.unlink(missing_ok=True)
