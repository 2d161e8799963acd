"""What a worker says of its resolvers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from smilla import config
from smilla.ports import Metrics
from smilla.server import worker
from smilla.server.service import Runtime, Service
from tests.vectors.memory import TableResolver, make_ports


class _Gauges(Metrics):
    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    def gauge(self, name: str, number: float) -> None:
        self.seen[name] = number


class _Over(Exception):
    pass


def test_resolver_that_nobody_asks_any_more_raises_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    def over(_: float) -> None:
        raise _Over

    monkeypatch.setattr("smilla.server.worker.time.sleep", over)
    gauges = _Gauges()
    ports = replace(make_ports(TableResolver()), metrics=gauges, probe=lambda _: [("127.0.0.1", "no proof")])
    for text, asked in (("", 1), ('[keys]\nsources = ["directory"]\ndirectory = "/"\n', 0)):
        service = cast("Service", _Only(Runtime(config.parse(text), ports)))
        with pytest.raises(_Over):
            worker._probe(service)
        assert gauges.seen == {"resolvers_asked": asked, "resolvers_proven": 0}


class _Only:
    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
