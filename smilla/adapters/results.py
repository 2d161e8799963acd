"""The results of a long piece of work, a line each, so that it goes on where it was killed.

Promises: what ``add`` has written survives a kill of the process and a crash of the machine.  A line is there as a
whole or not at all: half a line, which a kill in the middle of a write leaves, is cut off when the file is opened
again.  Two processes never write into the same file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Self, TypeVar

from smilla.errors import FileProblem, ParseError

_Result = TypeVar("_Result")
_MODE = 0o644


class Results(Generic[_Result]):
    """``known`` are the results that the file has, in its order."""

    def __init__(self, path: Path, read: Callable[[str], _Result], beginning: str) -> None:
        """``read`` makes a result of a line, or raises ParseError; every line begins with ``beginning``.  Raises
        FileProblem, also for a file that is something else, which stays as it is."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, _MODE)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileProblem(f"{path}: another process writes there") from error
        except OSError as error:
            raise FileProblem(f"{path}: cannot be opened: {error.strerror}") from error
        self.known: list[_Result] = self._all(read, beginning)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _all(self, read: Callable[[str], _Result], beginning: str) -> list[_Result]:
        raw = self._path.read_bytes()
        *whole, half = raw.split(b"\n")
        found = []
        for number, line in enumerate(whole, 1):
            try:
                found.append(read(line.decode("utf-8")))
            except (ParseError, UnicodeDecodeError) as error:
                raise FileProblem(f"{self._path}, line {number}: {error}; give another file") from error
        if half:
            known = beginning.encode("utf-8")
            if half[: len(known)] != known[: len(half)]:
                raise FileProblem(f"{self._path}, line {len(whole) + 1}: is no result; give another file")
            os.ftruncate(self._descriptor, len(raw) - len(half))
            os.fsync(self._descriptor)
        return found

    def add(self, line: str) -> None:
        """Writes a line, which has no line break.  Raises FileProblem."""
        octets = line.encode("utf-8") + b"\n"
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets) :]
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise FileProblem(f"{self._path}: cannot be written: {error.strerror}") from error
