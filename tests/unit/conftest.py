"""Unit tests open no socket: whoever tries fails.  A busy machine fails none of them, and none silences the log of the
next."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from smilla import log

settings.register_profile("smilla", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("smilla")

_AS_IMPORTED = log._output  # this file is read before any test runs


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> NoReturn:
        raise AssertionError("a unit test opens a socket")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refused)


@pytest.fixture(autouse=True)
def log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever called ``log.silence``, here or in a test of another folder, did not do so for us."""
    monkeypatch.setattr(log, "_output", _AS_IMPORTED)
    log.failing.clear()
