"""The connection to the provider is kept while a message comes, and is over with the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from smilla.errors import ReinjectError
from smilla.model import Offer
from smilla.server.login import Login

PLAIN = "PLAIN AG1lAHNlY3JldA=="  # me, secret


class Hop:
    """A provider that lets everybody in."""

    offer = Offer(mechanisms=frozenset(("PLAIN",)), size_limit=7)

    def __init__(self) -> None:
        self.kept, self.ended, self.gone = 0, False, False

    @contextmanager
    def connect(self) -> Iterator[Hop]:
        yield self
        self.ended = True

    def exchange(self, _: str) -> tuple[int, str]:
        return 235, "2.7.0 welcome"

    def keep(self) -> None:
        self.kept += 1
        if self.gone:
            raise ReinjectError("gone")


class Said:
    def say(self, *_: str) -> None:
        """The client hears it."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("smilla.server.login.time.monotonic", lambda: now[0])
    return now


def logged_in(hop: Hop) -> Login:
    made = Login(cast("Any", Said()))
    made.auth(PLAIN, hop.offer, cast("Any", hop))
    return made


def test_provider_is_asked_once_a_minute_while_a_message_comes(clock: list[float]) -> None:
    hop = Hop()
    client = logged_in(hop)
    client.check()
    for _ in range(100):
        client.keep()
    assert hop.kept == 1
    clock[0] += 61
    for _ in range(100):
        client.keep()
    assert hop.kept == 2
    hop.gone = True
    clock[0] += 61
    with pytest.raises(ReinjectError):
        client.keep()


def test_connection_ends_with_the_client(clock: list[float]) -> None:
    hop = Hop()
    client = logged_in(hop)
    assert (client.user, client.mailer.size_limit(), hop.ended) == ("me", 7, False)
    with client.mailer.connect():
        pass
    assert not hop.ended
    client.close()
    assert (client.user, hop.ended) == ("", True)
    with pytest.raises(ReinjectError):
        _ = client.mailer
    with pytest.raises(ReinjectError):
        client.check()
