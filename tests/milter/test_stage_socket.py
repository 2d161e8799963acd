"""What smilla config check --probe says of whoever listens at the stage's socket."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.as_user import User
from smilla.config import Config, parse
from smilla.doctor import stage_check
from smilla.doctor.rights import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


NOBODY = Service(User("nobody"), drops_rights=False)


def config(path: Path) -> Config:
    return parse(f'[policy]\nmixed = "stage"\n[stage]\nsocket = "unix:{path}"\n[dns]\ntimeout_s = 5\n')


@contextmanager
def answering(path: Path, *lines: bytes) -> Iterator[None]:
    """Somebody who listens there, and says these lines: the first at once, one after each that comes."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(5)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # who only tries whether anybody listens is gone at once
                    for number, line in enumerate(lines):
                        if number and not connection.recv(1000):
                            break
                        connection.sendall(line)

        threading.Thread(target=answer, daemon=True).start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def test_a_stage_that_answers_lhlo_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with answering(path, b"220 smilla\r\n", b"250-smilla\r\n250 DSN\r\n", b"221 bye\r\n"):
        (told,) = stage_check.socket(config(path), NOBODY)
        assert (told.severity, told.line) == ("", f"stage unix:{path}: answers")


@pytest.mark.parametrize("lines", [(b"220 x\r\n", b"502 no LHLO here\r\n"), (b"554 no\r\n",), (b"rubbish\r\n",)])
def test_somebody_else_at_the_socket_of_the_stage_is_an_error(tmp_path: Path, lines: tuple[bytes, ...]) -> None:
    path = tmp_path / "s.sock"
    with answering(path, *lines):
        (told,) = stage_check.socket(config(path), NOBODY)
    assert told.severity == "error"
    assert told.line.startswith(f"stage unix:{path}: ")
