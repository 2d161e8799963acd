"""Is the next hop of the relay the relay itself?  Other faults are in tests/bad_configs."""

from __future__ import annotations

import pytest

from smilla.config.options import Config, RelayOptions
from smilla.config.relay_faults import of_relay


def faulty(socket: str, next_hop: str) -> bool:
    options = RelayOptions(socket=f"inet:10026@{socket}", next_hop=next_hop, clients=("192.0.2.0/24",), tls="starttls")
    return "next_hop" in dict(of_relay(Config(relay=options)))


@pytest.mark.parametrize(
    ("socket", "next_hop"),
    [
        ("127.0.0.1", "127.0.0.1:10026"),
        ("127.0.0.1", "localhost:10026"),
        ("localhost", "127.0.0.1:10026"),
        ("::1", "[::1]:10026"),
        ("0.0.0.0", "127.0.0.1:10026"),
        ("::", "[::1]:10026"),
        ("192.0.2.1", "192.0.2.1:10026"),
        ("relay.example.org", "relay.example.org:10026"),
    ],
)
def test_relay_that_hands_over_to_itself_is_a_fault(socket: str, next_hop: str) -> None:
    assert faulty(socket, next_hop)


@pytest.mark.parametrize(
    ("socket", "next_hop"),
    [
        ("127.0.0.1", "127.0.0.1:10025"),
        ("127.0.0.1", "127.0.0.2:10026"),
        ("127.0.0.1", "[::1]:10026"),
        ("0.0.0.0", "[::1]:10026"),
        ("127.0.0.1", "mail.example.org:10026"),
        ("0.0.0.0", "192.0.2.9:10026"),
        ("127.0.0.1", ""),
    ],
)
def test_another_server_is_none(socket: str, next_hop: str) -> None:
    assert not faulty(socket, next_hop)
