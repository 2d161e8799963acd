"""The load driver (driver.c), compiled when it is needed, and what it measured."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

Options = dict[str, float | str]

HERE = Path(__file__).resolve().parent
CACHE = REPOSITORY / ".cache" / "bench"
_COMPILER = ("gcc", "-O2", "-pthread")


class WrongAnswerError(Exception):
    """A filter did not do what was measured; the text says what it did instead."""


def compiled(name: str) -> Path:
    """The program made from NAME.c beside this file.  Raises CalledProcessError where the compiler fails."""
    source = HERE / f"{name}.c"
    read = b"".join(path.read_bytes() for path in (source, *sorted(HERE.glob("*.h"))))
    program = CACHE / f"{name}-{hashlib.sha256(read).hexdigest()[:12]}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        subprocess.run([*_COMPILER, "-o", made, source], check=True, capture_output=True)
        made.rename(program)
    return program


@dataclass(frozen=True)
class Times:
    """Milliseconds over the messages of one run."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class Run:
    """One run: ``end_ms`` from before the last body chunk to the last reply, ``whole_ms`` from MAIL to there;
    ``cpu_s`` is the driver's own time, ``steps`` the SMFIP_* flags that the filter negotiated."""

    messages: int
    seconds: float
    cpu_s: float
    end_ms: Times
    whole_ms: Times
    replaced: int
    steps: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


class Load:
    """A driver that runs: connected, then (after the warm-up) ready, then going, each when it is told to."""

    def __init__(
        self, address: str, message: Path, recipients: Sequence[Sequence[str]], expect: str, **options: float | str
    ) -> None:
        """``options`` are those of driver.c, ``recipients`` those of each message in turn."""
        text = "\n".join(" ".join(line) for line in recipients) + "\n"
        lines = CACHE / f"recipients-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        CACHE.mkdir(parents=True, exist_ok=True)
        if not lines.exists():
            lines.write_text(text)
        self._is_connected = False
        words = [f"{name}={value}" for name, value in options.items()]
        command = [compiled("driver"), address, message, lines, expect, "go=1", *words]
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_connected(self) -> Self:
        """Waits until every connection is there.  Raises WrongAnswerError."""
        if not self._is_connected:
            self._wait_for("connected")
            self._is_connected = True
        return self

    def wait_until_ready(self) -> Self:
        """Waits for the end of the warm-up.  Raises WrongAnswerError."""
        self.wait_until_connected().go()
        self._wait_for("ready")
        return self

    def go(self) -> Self:
        """Starts the clock."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self

    def _wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{word}\n":
            raise WrongAnswerError(self._process.communicate()[1].strip())

    def result(self) -> Run:
        """Waits for the end.  Raises WrongAnswerError where one answer was not the expected one."""
        found = self._found()
        if found.pop("wrong"):
            raise WrongAnswerError(found["why"])
        del found["why"]
        found |= {name: Times(**found[name]) for name in ("end_ms", "whole_ms")}
        return Run(**found)

    def wrong(self) -> float:
        """Waits for the end: which part of the answers was not the expected one, 0 to 1.  Raises WrongAnswerError where
        the driver did not come to its end."""
        found = self._found()
        return float(found["wrong"] / found["messages"])

    def _found(self) -> dict[str, Any]:
        out, err = self._process.communicate()
        if self._process.returncode:
            raise WrongAnswerError(err.strip() or f"the driver ended with {self._process.returncode}")
        found: dict[str, Any] = json.loads(out)
        return found

    def stop(self) -> None:
        """Ends the driver, whatever it is doing.  Safe to repeat."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def measure(
    address: str, message: Path, recipients: Sequence[Sequence[str]], expect: str, **options: float | str
) -> Run:
    """One whole run.  Raises WrongAnswerError."""
    with Load(address, message, recipients, expect, **options) as load:
        return load.wait_until_ready().go().result()
