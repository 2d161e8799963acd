"""The places of the status page and of the socketmap server in the daemon: each is opened where the configuration asks
for it, and a failure of one must not hold up all mail."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from smilla import log_hops, log_web
from smilla.adapters import stores
from smilla.config import Config
from smilla.errors import SmillaError
from smilla.server import socketmap
from smilla.server.runtime import needs_hops
from smilla.server.service import Service


class Page(Protocol):
    """An open port, ``end``, which only the page's own process and the parent may keep open: whoever else had it would
    hold it after they are gone, and no other smilla could open it."""

    end: int

    def serve(self, service: Service) -> object:
        """In the page's own process, until it ends."""


def open_page(config: Config) -> list[Page]:
    """What serves the page, in a process of its own; nothing if there is none.  A failure is logged: mail goes on."""
    if not config.web.listen:
        return []
    try:
        web = importlib.import_module("smilla.server.web")
        return [cast("Page", web.Web(config.web.listen))]
    except ImportError as error:
        log_web.closed(f"{error}; pip install 'smilla[web]' (the Debian package has it)")
    except SmillaError as error:
        log_web.closed(str(error))
    return []


def open_hops(config: Config) -> socketmap.Server | None:
    """What Postfix asks how to protect connections.  Where it cannot be opened, Postfix keeps the mail that it would
    ask about, and a line in the log says so."""
    if not needs_hops(config):
        return None
    stores.hops(config).prepare(config.milter.user)
    try:
        return socketmap.Server(config.hop, config.milter.user)
    except SmillaError as error:
        log_hops.closed(str(error))
        return None
