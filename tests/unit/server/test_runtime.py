"""Which parts a configuration asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smilla.config import Config
from smilla.config.options import KEY_FAILURES, Circle, HopOptions, PolicyOptions, Rule
from smilla.server.runtime import make_ports, needs_hops

CONFIG = Config()


@pytest.mark.parametrize("name", KEY_FAILURES)
def test_secure_hop_anywhere_asks_for_hops(name: str) -> None:
    wanted: dict[str, Any] = {name: "secure-hop"}
    assert needs_hops(replace(CONFIG, policy=replace(PolicyOptions(), **wanted)))
    assert needs_hops(replace(CONFIG, rule=(Rule(), replace(Rule(), **wanted))))


def test_circle_or_policy_server_asks_for_hops_and_nothing_else_does() -> None:
    assert needs_hops(replace(CONFIG, circle=(Circle("ours", ("example.org",), "/etc/ca.pem"),)))
    assert needs_hops(replace(CONFIG, hop=HopOptions(policy_server=True)))
    assert not needs_hops(replace(CONFIG, hop=HopOptions(attributes=True)))
    assert not needs_hops(CONFIG)


def test_ports_have_hops_only_where_somebody_asks() -> None:
    config = replace(CONFIG, keys=replace(CONFIG.keys, sources=("smimea",)))
    assert make_ports(config).hops is None
    assert make_ports(replace(config, hop=HopOptions(policy_server=True))).hops is not None
