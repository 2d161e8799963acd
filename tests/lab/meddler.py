"""A milter of the tests' own that does what a message asks for, as filters do that stand behind smilla: a virus
scanner, a moderator, a program that adds footers.

``python -m tests.lab.meddler SOCKET`` takes its orders from X-Meddle fields: ``reject``, ``tempfail``, ``discard``,
``quarantine``, ``delete ADDRESS``, ``add ADDRESS``, ``sender ADDRESS``, ``field NAME VALUE``, ``subject TEXT``,
``footer`` (after all that there is) and ``alter`` (an octet of the longest line that has no space).
"""

from __future__ import annotations

import os
import sys
from typing import Any

import Milter

from tests.lab.own_milter import OwnMilter

_ANSWERS = {"reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL, "discard": Milter.DISCARD}
_ACTIONS = (
    Milter.ADDHDRS | Milter.CHGHDRS | Milter.MODBODY | Milter.QUARANTINE | Milter.ADDRCPT | Milter.DELRCPT
) | Milter.CHGFROM


class Meddler(OwnMilter):
    """Obeys."""

    name = "meddler"


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
