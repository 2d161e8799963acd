"""Unit tests open no socket: whoever tries fails.  A busy machine fails none of them."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("smilla", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("smilla")


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> NoReturn:
        raise AssertionError("a unit test opens a socket")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refused)
