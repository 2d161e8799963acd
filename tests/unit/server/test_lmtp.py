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


def test_answer_is_one_line_whatever_another_server_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listener says of a copy reaches the MTA, to whom a second line would be the next recipient's answer."""
    said = "The copy was refused: 550 no\\r\\n250 2.0.0 Ok\\n250 Ok"
    answer = reply.Reply(reply.Verb.REJECT, "550", "5.1.1", said.encode().decode("unicode_escape"))
    monkeypatch.setattr(reply, "for_error", lambda _: answer)
    monkeypatch.setattr(stage, "deliver", lambda *_: 1 / 0)
    connection = Connection()
    lmtp._serve_one(Service(Runtime(config.parse(""), make_ports())), cast(Any, connection), lambda: None)
    *_, first, second, bye = connection.answers.decode().splitlines()
    assert first == second == "550 5.1.1 The copy was refused: 550 no  250 2.0.0 Ok 250 Ok"
    assert bye.startswith("221")


def test_reload_in_the_middle_of_a_message_changes_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (Runtime(config.parse(f'append_origin = "{name}.test"'), make_ports()) for name in ("old", "new"))
    service, used = Service(before), list[Any]()

    class Reloading(Connection):
        def sendall(self, octets: bytes) -> None:
            if b"2.1.0 Ok" in octets:
                service.runtime = after
            super().sendall(octets)

    def deliver(handed: Any, ports: Any, settings: Any) -> tuple[reply.Reply, ...]:
        used.append((handed.recipients[0].address.domain, ports, settings.origin))
        return (reply.for_error(SmillaError("x")),) * 2

    monkeypatch.setattr(stage, "deliver", deliver)
    connection = Reloading()
    connection.left = DIALOGUE.replace(b"<a@r.test>", b"<a>")
    lmtp._serve_one(service, cast(Any, connection), lambda: None)
    assert used == [("old.test", before.ports, "old.test")]
