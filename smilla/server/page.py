"""The status page's place in the daemon: opened where [web] listen is set, and missed by nobody where it fails."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from smilla import log_web
from smilla.config import Config
from smilla.errors import SmillaError
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
