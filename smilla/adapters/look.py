"""Checks Postfix's lines in the background: runs ``smilla config check --postfix`` in a child process.

The child may run as root after the parent has dropped its rights, and then the parent could not kill it.  So the child
ends by itself when the pipe from its parent closes, and kills whatever it has started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from smilla.adapters import postfix


class Look:
    """A look under way; ``end`` is the parent's end of the pipe, which no other process may keep open."""

    def __init__(self, configuration: Path, folders: Iterable[str], ends_of_others: Iterable[int]) -> None:
        """``folders`` are of Postfix's configuration, "" for the usual one.  ``ends_of_others`` are descriptors of the
        parent that the look must not keep open.  Raises OSError if there is no room for a process."""
        reading, self.end = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(self.end)
            raise
        if self._pid == 0:
            try:
                for descriptor in (self.end, *ends_of_others):
                    os.close(descriptor)
                _look(configuration, folders, reading)
            finally:
                os._exit(1)
        os.close(reading)

    def is_over(self) -> bool:
        """Asks without waiting.  Do not call it again once it was true."""
        if os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            return False
        os.close(self.end)
        return True

    def stop(self) -> None:
        """Makes the look end at once, without waiting for it."""
        os.close(self.end)


def _look(configuration: Path, folders: Iterable[str], reading: int) -> NoReturn:
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    threading.Thread(target=_end_with_parent, args=(reading,), daemon=True).start()
    postfix.look(configuration, folders)
    os._exit(0)


def _end_with_parent(reading: int) -> None:
    with contextlib.suppress(OSError):
        os.read(reading, 1)
    os.killpg(0, signal.SIGKILL)
