"""A milter of the tests' own that does what a message asks for, as filters do that stand behind smilla: a virus
scanner, a moderator, a program that adds footers.

``python -m tests.lab.meddler SOCKET`` takes its orders from X-Meddle fields: ``reject``, ``tempfail``, ``discard``,
``quarantine``, ``delete ADDRESS``, ``add ADDRESS``, ``sender ADDRESS``, ``field NAME VALUE``, ``subject TEXT``,
``footer`` (after all that there is) and ``alter`` (an octet of the longest line that has no space).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Self

import Milter

from tests.lab.processes import Child
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_ANSWERS = {"reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL, "discard": Milter.DISCARD}
_ACTIONS = (
    Milter.ADDHDRS | Milter.CHGHDRS | Milter.MODBODY | Milter.QUARANTINE | Milter.ADDRCPT | Milter.DELRCPT
) | Milter.CHGFROM


class Meddler:
    """The child; starts with ``with`` or start()."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child = Child(
            "meddler",
            [sys.executable, "-m", "tests.lab.meddler", self.milter.partition(":")[2]],
            folder / "meddler.log",
            stop_timeout_s=0.5,  # libmilter itself takes longer, and has nothing to lose here
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    @property
    def milter(self) -> str:
        """The socket as Postfix's smtpd_milters has it."""
        return f"unix:{self._folder}/meddler.sock"

    def start(self) -> Self:
        """Raises ChildError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o777)
        self._child.start(ready=(self._folder / "meddler.sock").exists)
        return self

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        self._child.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Connection(Milter.Base):  # type: ignore[misc]
    def envfrom(self, _sender: str, *_parameters: str) -> int:
        self._orders: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        return int(Milter.CONTINUE)

    def header(self, name: str, value: str) -> int:
        if name.lower() == "x-meddle":
            word, _, rest = value.strip().partition(" ")
            self._orders.append((word, rest))
        return int(Milter.CONTINUE)

    def body(self, block: bytes) -> int:
        self._body.append(block)
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        answer = Milter.CONTINUE
        for word, rest in self._orders:
            if word in _ANSWERS:
                answer = _ANSWERS[word]
            else:
                self._edit(word, rest)
        return int(answer)

    def _edit(self, word: str, rest: str) -> None:
        edits: dict[str, Any] = {
            "quarantine": lambda: self.quarantine("for moderation"),
            "delete": lambda: self.delrcpt(f"<{rest}>"),
            "add": lambda: self.addrcpt(f"<{rest}>"),
            "sender": lambda: self.chgfrom(f"<{rest}>"),
            "subject": lambda: self.chgheader("Subject", 1, rest),
            "field": lambda: self.addheader(*rest.split(" ", 1)),
            "footer": lambda: self.replacebody(b"".join(self._body) + b"\r\nA footer.\r\n"),
            "alter": lambda: self.replacebody(_altered(b"".join(self._body))),
        }
        edits[word]()


def _altered(body: bytes) -> bytes:
    longest = max((line for line in body.split(b"\r\n") if b" " not in line), key=len)
    at = body.index(longest) + len(longest) // 2
    return body[:at] + (b"A" if body[at : at + 1] != b"A" else b"B") + body[at + 1 :]


def main(socket: str) -> None:
    """Serves until it is ended."""
    os.umask(0)
    Milter.factory = _Connection
    Milter.set_flags(_ACTIONS)
    Milter.runmilter("meddler", f"unix:{socket}", 60)


if __name__ == "__main__":
    main(sys.argv[1])
