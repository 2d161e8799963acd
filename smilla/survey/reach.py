"""Did connections reach anybody at all?  Many networks forbid outgoing connections to port 25.  Pure."""

from __future__ import annotations

from smilla.survey.found import Found
from smilla.survey.providers import registered

_ENOUGH_ADDRESSES, _ENOUGH_PROVIDERS = 20, 5  # silent ones after which it makes no sense to go on
_FEWEST_PROVIDERS = 2  # one alone may be down


class Reach:
    """What is known so far, from one result after the other."""

    def __init__(self) -> None:
        self.is_proven = False  # somebody answered
        self._silent: set[str] = set()
        self._providers: set[str] = set()

    def learn(self, found: Found) -> None:
        """From one more result."""
        for host in found.hosts:
            for server in host.servers:
                if server.is_connected:
                    self.is_proven = True
                else:
                    self._silent.add(server.address)
                    self._providers.add(registered(host.name))

    @property
    def silent(self) -> int:
        """How many addresses did not answer."""
        return len(self._silent)

    @property
    def is_in_doubt(self) -> bool:
        """Nobody answered yet, and somebody was silent."""
        return not self.is_proven and bool(self._silent)

    @property
    def seems_blocked(self) -> bool:
        """Several providers were silent, and nobody answered."""
        return self.is_in_doubt and len(self._providers) >= _FEWEST_PROVIDERS

    @property
    def is_hopeless(self) -> bool:
        """The same of so many that to go on makes no sense."""
        return self.is_in_doubt and self.silent >= _ENOUGH_ADDRESSES and len(self._providers) >= _ENOUGH_PROVIDERS


def is_silent(found: Found) -> bool:
    """Were there servers to ask, and did none of them answer?"""
    servers = [server for host in found.hosts for server in host.servers]
    return bool(servers) and not any(server.is_connected for server in servers)
