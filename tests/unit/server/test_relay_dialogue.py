"""The relay's answers if smilla itself fails; the real server is spoken to in tests/milter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from smilla import config, decide, pipeline
from smilla.adapters.journal import SQLiteJournal
from smilla.errors import JournalBusy, ReinjectError
from smilla.model import Offer
from smilla.server import relay_dialogue
from smilla.server.relay_dialogue import Relay, serve_one
from smilla.server.relay_message import RelayRuntime
from smilla.server.service import InFlight
from tests.unit.listener import Listener
from tests.vectors.memory import make_ports

CANARY = "the-canary"
CONTENT = f"Subject: x\r\n\r\n{CANARY}\r\n.\r\n".encode()
TO = ("a@r.test", "b@r.test")


@dataclass
class Lines:
    """The client: says one line after the other, and remembers the replies."""

    said: list[str]
    replies: list[str] = field(default_factory=list)
    has_more: bool = False
    is_encrypted: bool = False
    is_early: bool = False

    def close(self) -> None:
        """There is no connection."""

    def line(self) -> str:
        if not self.said:
            raise EOFError
        return self.said.pop(0)

    def block(self, _: float) -> bytes:
        return CONTENT

    def put_back(self, _: bytes) -> None:
        """Nothing comes behind the content."""

    def has_ended(self) -> bool:
        return False

    def is_refused(self, _: float, *, has_ended: bool, is_here: bool) -> bool:
        return False

    def say(self, code: str, enhanced: str, text: str) -> None:
        self.send(f"{code} {enhanced} {text}")

    def send(self, text: str) -> None:
        assert CANARY not in text
        self.replies.append(text)


class NextHop(Listener):
    def offer(self) -> Offer:
        if self.is_away:
            raise ReinjectError("away")
        return Offer()

    def connect_to_ask(self) -> Any:
        return self.connect()

    def begin(self, _: object) -> None:
        """MAIL."""

    def refusal(self, _: object) -> str:
        return ""

    def forget(self) -> None:
        """RSET."""


class Socket:
    """A connection that nobody uses, because the lines stand in for it."""

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def getpeername(self) -> str:
        return ""


@dataclass
class Lab:
    """One dialogue at a time."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    observe: bool = False
    protocol: str = "smtp"
    hop: NextHop = field(default_factory=NextHop)
    in_flight: int = -1

    def codes(self, *lines: str) -> list[str]:
        """What the client is told."""
        settings = config.parse(f'observe = {str(self.observe).lower()}\n[relay]\nprotocol = "{self.protocol}"\n')
        ports = replace(make_ports(), journal=SQLiteJournal(str(self.folder / "spool"), 1000), mailer=self.hop)
        runtime = RelayRuntime(settings.relaying(), ports, next_hop=cast("Any", self.hop))
        state, made = InFlight(runtime), Lines(list(lines))
        self.monkeypatch.setattr(relay_dialogue, "Lines", lambda _: made)
        ended: list[bool] = []
        serve_one(Relay(state, "relay.test", self.protocol), cast("Any", Socket()), lambda: ended.append(True))
        assert ended == [True]
        self.in_flight = state.in_flight
        return [reply[:3] for reply in made.replies]

    def sent(self) -> list[str]:
        """The codes of the answers to one message, from its end on."""
        hello = "LHLO c" if self.protocol == "lmtp" else "EHLO c"
        codes = self.codes(hello, "MAIL FROM:<s@s.test>", *(f"RCPT TO:<{to}>" for to in TO), "DATA", "QUIT")
        assert codes[:6] == ["220", "250", "250", "250", "250", "354"]
        assert codes[-1] == "221"
        assert self.in_flight == 0
        return codes[6:-1]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def broken(error: Exception) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> Any:
        raise error

    return function


FAULTS: list[tuple[object, str, Exception]] = [
    (decide, "begin_lookup", ZeroDivisionError(CANARY)),
    (pipeline, "process", ZeroDivisionError(CANARY)),
    (pipeline, "process", MemoryError()),
]
PROTOCOLS = pytest.mark.parametrize("protocol", ["smtp", "lmtp"])


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@PROTOCOLS
def test_if_smilla_fails_the_client_keeps_the_message(
    lab: Lab, capfd: pytest.CaptureFixture[str], fault: tuple[object, str, Exception], protocol: str
) -> None:
    owner, name, error = fault
    lab.protocol = protocol
    lab.monkeypatch.setattr(owner, name, broken(error))
    assert lab.sent() == ["451"] * (2 if protocol == "lmtp" else 1)
    assert lab.hop.sent == []
    log = capfd.readouterr().err
    assert "internal-error" in log
    assert "deferred rcpt=a@r.test reason=internal" in log
    assert CANARY not in log


@PROTOCOLS
def test_what_failed_at_rcpt_defers_the_message_though_all_goes_well_at_its_end(lab: Lab, protocol: str) -> None:
    lab.protocol = protocol
    begin, calls = decide.begin_lookup, list[int]()

    def once(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return begin(*arguments, **named)

    lab.monkeypatch.setattr(decide, "begin_lookup", once)
    assert set(lab.sent()) == {"451"}
    assert lab.hop.sent == []


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@PROTOCOLS
def test_while_it_only_observes_the_message_goes_on_as_it_came(
    lab: Lab, fault: tuple[object, str, Exception], protocol: str
) -> None:
    owner, name, error = fault
    lab.observe, lab.protocol = True, protocol
    lab.monkeypatch.setattr(owner, name, broken(error))
    assert lab.sent() == ["250"] * (2 if protocol == "lmtp" else 1)
    [(submission, octets)] = lab.hop.sent
    assert [r.raw for r in submission.recipients] == [f"<{to}>" for to in TO]
    assert octets.endswith(CONTENT.removesuffix(b".\r\n"))


@pytest.mark.parametrize("observe", [True, False])
@PROTOCOLS
def test_message_that_another_connection_handles_now_is_deferred(lab: Lab, protocol: str, observe: bool) -> None:
    lab.observe, lab.protocol = observe, protocol
    lab.monkeypatch.setattr(pipeline, "process", broken(JournalBusy("the same message")))
    assert set(lab.sent()) == {"451"}
    assert lab.hop.sent == []


def test_next_hop_that_is_away_is_told_at_ehlo_and_helo_goes_on(lab: Lab) -> None:
    lab.hop.is_away = True
    assert lab.codes("EHLO c", "NOOP") == ["220", "421"]
    assert lab.codes("HELO c", "NOOP", "MAIL FROM:<a@s.test>", "QUIT") == ["220", "250", "250", "250", "221"]
    assert lab.in_flight == 0


def test_client_that_goes_within_a_message_leaves_nothing_in_flight(lab: Lab) -> None:
    assert lab.codes("EHLO c", "MAIL FROM:<a@s.test>", "RCPT TO:<a@r.test>") == ["220", "250", "250", "250"]
    assert lab.in_flight == 0
