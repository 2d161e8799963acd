"""A milter of another kind, which does what a message's own field ``X-Scan`` asks for: "quarantine" holds the message,
"suspicious" adds a field of that name.  ``python -m tests.lab.scanner SOCKET`` runs it."""

from __future__ import annotations

import os
import sys

import Milter

from tests.lab.own_milter import OwnMilter


class Scanner(OwnMilter):
    """Looks at X-Scan."""

    name = "scanner"


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
