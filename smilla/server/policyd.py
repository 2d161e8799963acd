"""The policy server alone: one process that answers Postfix about TLS, and touches no mail.

Promises: the map ``policy`` is served whatever [hop] policy_server says.  SIGHUP reads the file anew and takes it as a
whole, or keeps the former one and logs why.  SIGTERM ends the process at once; Postfix then keeps its mail and asks
again.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path

from smilla import __version__, config, log, log_hops
from smilla.adapters import log_target, stores
from smilla.config import Config
from smilla.config.options import HopOptions
from smilla.keys.discovery import cache
from smilla.ports import HopFinder
from smilla.server import rights, socketmap, systemd
from smilla.server.runtime import make_finder, make_resolver
from smilla.server.service import read_anew

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def run(path: Path, settings: Config) -> int:
    """Answers until SIGTERM or SIGINT.  Raises SmillaError if it cannot start."""
    # Before the first thread begins: whoever sees the socket may end us, and we end well.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    current = _current(settings)
    server = socketmap.Server(settings.hop, settings.milter.user)
    stores.hops(settings).prepare(settings.milter.user)
    rights.drop(settings.milter.user)
    threading.Thread(target=server.answer, args=(lambda: current,), name="socketmap", daemon=True).start()
    log_hops.policyd_started(settings.hop.socket, __version__)
    systemd.notify("READY=1")
    while (received := signal.sigwait(_SIGNALS)) == signal.SIGHUP:
        current = _reloaded(path) or current
    systemd.notify("STOPPING=1")
    log.stopping(signal.Signals(received).name)
    server.remove()
    log.flush()
    return 0


def _current(settings: Config) -> tuple[HopFinder, HopOptions]:
    """Raises ConfigError or EngineMissing."""
    resolver = cache.CachingResolver(make_resolver(settings), settings.dns)
    return make_finder(settings, resolver), replace(settings.hop, policy_server=True)


def _reloaded(path: Path) -> tuple[HopFinder, HopOptions] | None:

    def read() -> tuple[Config, tuple[HopFinder, HopOptions]]:
        fresh = config.load(path)
        return fresh, _current(fresh)

    found = read_anew(read)
    if found is None:
        return None
    fresh, made = found
    log.configure(fresh.log.level, fresh.log.format, log_target.opened(fresh.log.target))
    log.reloaded()
    return made
