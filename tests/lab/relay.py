"""smilla's relay, run as an administrator would: ``python -m smilla relay --config FILE`` as a child."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.lab.processes import LOOPBACK, free_port
from tests.lab.smilla import Settings, Smilla

if TYPE_CHECKING:
    from pathlib import Path


class Relay(Smilla):
    """A running relay on a port of its own, at ``host``, which hands copies to a port of this machine.  [relay] socket
    and next_hop are filled in where ``settings`` do not name them."""

    def __init__(
        self, folder: Path, resolver: str, next_hop: int, settings: Settings | None = None, host: str = LOOPBACK
    ) -> None:
        self.smtp_port = free_port()
        usual = {"socket": f"inet:{self.smtp_port}@{host}", "next_hop": f"{LOOPBACK}:{next_hop}"}
        super().__init__(folder, resolver, relaying(settings or {}, usual), command="relay")


def relaying(settings: Settings, usual: Mapping[str, str]) -> Settings:
    """The settings with what [relay] lacks."""
    given: Any = settings.get("relay", {})
    return {**settings, "relay": {**usual, **given}}
