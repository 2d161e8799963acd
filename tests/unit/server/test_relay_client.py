"""From where a client of the relay connects, and whether it may."""

from __future__ import annotations

import pytest

from smilla.model import Client
from smilla.server.relay_client import described, is_here, may_send, peer

OURS = ("192.0.2.0/24", "2001:db8::/32")


class _Connection:
    def __init__(self, name: object) -> None:
        self.name = name

    def getpeername(self) -> object:
        if isinstance(self.name, OSError):
            raise self.name
        return self.name


@pytest.mark.parametrize(
    ("name", "address"),
    [(("192.0.2.1", 25), "192.0.2.1"), ("", "127.0.0.1"), (("::1", 25, 0, 0), "::1"), (OSError(), "")],
)
def test_unix_socket_is_this_machine_and_a_client_that_has_gone_is_nobody(name: object, address: str) -> None:
    assert peer(_Connection(name)) == address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_always_send(address: str) -> None:
    assert is_here(address)
    assert may_send(address, ())


@pytest.mark.parametrize("address", ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::9"])
def test_machine_of_a_network_that_is_listed_may_send(address: str) -> None:
    assert not is_here(address)
    assert may_send(address, OURS)
    assert not may_send(address, ())


@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db9::1", "fe80::1%eth0", "::", "", "localhost"])
def test_nobody_else_may(address: str) -> None:
    assert not is_here(address)
    assert not may_send(address, OURS)


def test_what_is_said_of_the_client_s_own_client_counts_as_a_whole() -> None:
    client = Client(ip="127.0.0.1", helo="mta", mta="relay")
    assert described(client, {"NAME": "x.test"}) is client
    told = described(client, {"ADDR": "IPv6:2001:db8::1", "NAME": "x.test", "HELO": "x", "PORT": "123456"})
    assert told == Client(ip="2001:db8::1", host_name="x.test", helo="x", port=0, mta="relay")
