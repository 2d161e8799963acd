"""Who a client of the relay is: from where it connects, whether it may, and what it says of its own client."""

from __future__ import annotations

import ipaddress
import re
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from smilla.model import Client

_HERE = "127.0.0.1"


class Connection(Protocol):
    """A socket."""

    def getpeername(self) -> object:
        """The address of the other end."""


def peer(connection: Connection) -> str:
    """The client's address; a UNIX socket is this machine, too."""
    with suppress(OSError):
        name = connection.getpeername()
        if isinstance(name, tuple):
            return str(name[0])
        return _HERE
    return ""


def is_here(address: str) -> bool:
    """Does it connect from this machine?"""
    return _parsed(address).is_loopback


def may_send(address: str, networks: Sequence[str]) -> bool:
    """Is it this machine, or in one of these networks?"""
    found = _parsed(address)
    return found.is_loopback or any(found in ipaddress.ip_network(each, strict=False) for each in networks)


class Callers:
    """How many connections each machine has, so that none of them takes all that there may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """One more; False if that is too many.  ``leave`` it in either case."""
        with self._lock:
            self._counts[address] += 1
            return self._counts[address] <= self._most

    def leave(self, address: str) -> None:
        """One less."""
        with self._lock:
            self._counts[address] -= 1
            if self._counts[address] <= 0:
                del self._counts[address]


def described(client: Client, forwarded: dict[str, str]) -> Client:
    """The client as the MTA describes its own (XFORWARD), or as it is."""
    if "ADDR" not in forwarded:
        return client
    address = re.sub("^ipv6:", "", forwarded["ADDR"], flags=re.IGNORECASE)
    port = forwarded.get("PORT", "")
    return replace(
        client,
        ip=address,
        host_name=forwarded.get("NAME", ""),
        helo=forwarded.get("HELO", ""),
        port=int(port) if re.fullmatch("[0-9]{1,5}", port) else 0,
    )


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Nobody's address (::) if it is none, which is the case once the client has gone."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ipaddress.IPv6Address(0)
    return getattr(found, "ipv4_mapped", None) or found
