"""A server of Dovecot's authentication protocol, version 1.1: whom Postfix asks about AUTH PLAIN."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType


class DovecotAuth:
    """Listens on a UNIX socket; ``users`` are passwords by name."""

    def __init__(self, path: Path, users: Mapping[str, str]) -> None:
        self._users = dict(users)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen()
        self._path = path
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._path.unlink()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw", newline="\n") as stream, contextlib.suppress(OSError):
            stream.write("VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t" + "0" * 32 + "\nDONE\n")
            stream.flush()
            for line in stream:
                words = line.rstrip("\n").split("\t")
                if words[0] == "AUTH":
                    (given,) = [word.removeprefix("resp=") for word in words if word.startswith("resp=")]
                    _, user, password = base64.b64decode(given).decode().split("\0")
                    known = self._users.get(user) == password
                    stream.write(f"OK\t{words[1]}\tuser={user}\n" if known else f"FAIL\t{words[1]}\tuser={user}\n")
                    stream.flush()
