"""A milter of the tests' own in the place of a DMARC verifier: it says what the message's X-DMARC field asks for.

``python -m tests.lab.dmarc_word SOCKET``.  It writes its field as OpenDMARC does, above all others, and leaves what
others wrote; without X-DMARC it says nothing.
"""

from __future__ import annotations

import os
import sys

import Milter

from tests.lab.opendkim import AUTHSERV_ID
from tests.lab.own_milter import OwnMilter


class DMARCWord(OwnMilter):
    """Says what it is told to."""

    name = "dmarc_word"


class _Connection(Milter.Base):  # type: ignore[misc]
    def envfrom(self, _sender: str, *_parameters: str) -> int:
        self._words: list[str] = []
        return int(Milter.CONTINUE)

    def header(self, name: str, value: str) -> int:
        if name.lower() == "x-dmarc":
            self._words.append(value.strip())
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        for word in self._words:
            self.addheader("Authentication-Results", f"{AUTHSERV_ID}; dmarc={word}", 1)
        return int(Milter.CONTINUE)


def main(socket: str) -> None:
    """Serves until it is killed."""
    os.umask(0)
    Milter.factory = _Connection
    Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS)
    Milter.runmilter("dmarc_word", f"unix:{socket}", 60)


if __name__ == "__main__":
    main(sys.argv[1])
