"""The stage's answers if smilla itself fails; the real server is spoken to in tests/live."""

from __future__ import annotations

from typing import Any, cast

import pytest

from smilla import config
from smilla.answer import reply
from smilla.errors import JournalBusy, SealKeyMissing, SmillaError
from smilla.server import lmtp, stage
from smilla.server.service import Runtime, Service
from tests.vectors.memory import make_ports

DIALOGUE = (
    b"LHLO mta\r\nMAIL FROM:<s@s.test>\r\nRCPT TO:<a@r.test>\r\nRCPT TO:<b@r.test>\r\nDATA\r\nX: y\r\n\r\n.\r\nQUIT\r\n"
)


class Connection:
    """The MTA's side: says all at once, and remembers the answers."""

    def __init__(self) -> None:
        self.left, self.answers = DIALOGUE, b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def settimeout(self, _: float) -> None:
        return None

    def recv(self, _: int) -> bytes:
        said, self.left = self.left, b""
        return said

    def sendall(self, octets: bytes) -> None:
        self.answers += octets


@pytest.mark.parametrize("error", [SmillaError("x"), JournalBusy("x"), SealKeyMissing("x"), ValueError("x")])
def test_an_error_in_the_stage_gets_its_own_reply_for_each_recipient(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(stage, "deliver", fails)
    connection, ended = Connection(), []
    service = Service(Runtime(config.parse(""), make_ports()))
    lmtp._serve_one(service, cast(Any, connection), lambda: ended.append(True))
    *_, first, second, bye = connection.answers.decode().splitlines()
    assert first == second == reply.for_error(error).line
    assert first.startswith("451 4.3.0 ")
    assert (bye, ended, service.in_flight) == ("221 2.0.0 Bye", [True], 0)
