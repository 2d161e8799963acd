"""The relay: one process that takes messages by SMTP and hands every copy to the next hop.

Promises: SIGHUP reads the file anew and takes it as a whole, for messages that begin afterwards, or keeps the former
one and logs why.  After SIGTERM, messages whose envelope has begun may finish within [milter] stop_timeout_s; what is
cut off then stays with its client.  Each connection has a thread of its own, so that a slow client, domain or next hop
holds up nobody else.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from smilla import __version__, config, log, log_relay
from smilla.adapters import log_target
from smilla.config import Config, relay_faults
from smilla.errors import ConfigError, JournalError
from smilla.server import rights, systemd
from smilla.server.listener import LocalSocket
from smilla.server.relay_client import Callers
from smilla.server.relay_counts import Counts
from smilla.server.relay_dialogue import Relay, serve_one
from smilla.server.relay_message import RelayRuntime
from smilla.server.runtime import make_next_hop, make_relay_ports, make_relay_tls
from smilla.server.service import InFlight, read_anew

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_FIXED_OPTIONS = ("protocol", "auth", "socket", "socket_group", "socket_mode", "connections", "metrics")
_STEP_S, _WAIT_S = 0.02, 3600.0


def run(path: Path, settings: Config) -> int:
    """Serves until SIGTERM or SIGINT.  Raises SmillaError if it cannot start."""
    if not settings.relay.next_hop:
        raise ConfigError([f"{path}: [relay] next_hop is not set: nobody would get the mail"])
    # Before the first thread begins: whoever sees the socket may end us, and we end well.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    counts = Counts(settings)
    runtime = _made(settings, counts)
    listening = LocalSocket("relay", settings.relay, settings.milter.user, is_guarded=True)
    _prepare_journal(runtime, settings.milter.user)
    counts.open(runtime.config)
    rights.drop(settings.milter.user)
    counts.start()
    relay = InFlight(runtime)
    options = settings.relay
    callers = Callers(max(1, options.connections // 2))
    own_name = os.uname().nodename or "localhost"
    serve = partial(serve_one, Relay(relay, own_name, options.protocol, options.auth, callers))
    threading.Thread(target=listening.serve, args=(serve, options.connections), name="relay", daemon=True).start()
    log_relay.started(options.socket, options.next_hop, options.tls, __version__, observe=settings.observe)
    systemd.notify("READY=1")
    while (received := _next_signal(relay, counts)) == signal.SIGHUP:
        _reload(relay, path, counts)
    systemd.notify("STOPPING=1")
    log.stopping(signal.Signals(received).name)
    listening.remove()
    _drain(relay, counts)
    return 0


def _next_signal(relay: InFlight[RelayRuntime], counts: Counts) -> int:
    while True:
        pause_s = counts.tell(relay.runtime.config)
        received = signal.sigtimedwait(_SIGNALS, min(pause_s, _WAIT_S))
        if received is not None:
            return received.si_signo


def _made(settings: Config, counts: Counts) -> RelayRuntime:
    """Raises ConfigError, EngineMissing."""
    next_hop = make_next_hop(settings)
    relaying = settings.relaying()
    ports = make_relay_ports(relaying, next_hop, counts.metrics)
    return RelayRuntime(relaying, ports, next_hop=next_hop, tls=make_relay_tls(settings.relay))


def _prepare_journal(runtime: RelayRuntime, user: str) -> None:
    """Makes the journal's folder while we may still have the rights to; without it no mail goes on."""
    try:
        if runtime.ports.journal is not None:
            runtime.ports.journal.prepare(user)
    except JournalError as error:
        log.journal_failed(str(error))


def _reload(relay: InFlight[RelayRuntime], path: Path, counts: Counts) -> None:
    systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    read_at = time.time()

    def read() -> tuple[Config, RelayRuntime]:
        fresh = config.load(path)
        if not fresh.relay.next_hop:
            raise ConfigError([f"{path}: [relay] next_hop is not set"])
        return fresh, _made(_beside_fixed(path, fresh, relay.runtime.config), counts)

    found = read_anew(read)
    if found is None:
        counts.reloaded(done=False, read_at=read_at)
    else:
        fresh, made = found
        for name in _FIXED_OPTIONS:
            if getattr(fresh.relay, name) != getattr(relay.runtime.config.relay, name):
                log.restart_needed(f"[relay] {name}")
        log.configure(fresh.log.level, fresh.log.format, log_target.opened(fresh.log.target))
        relay.runtime = made
        log.reloaded()
        counts.reloaded(done=True, read_at=read_at)
    systemd.notify("READY=1")


def _beside_fixed(path: Path, fresh: Config, in_force: Config) -> Config:
    """The new configuration, with what only a restart changes as it is now.  Raises ConfigError if the two do not fit,
    as where the socket that other machines reach would lose its certificate."""
    fixed = {name: getattr(in_force.relay, name) for name in _FIXED_OPTIONS}
    both = replace(fresh, relay=replace(fresh.relay, **fixed))
    if faults := [
        f"{path}: until a restart, [relay] {name} {problem}" for name, problem in relay_faults.of_relay(both)
    ]:
        raise ConfigError(faults)
    return both


def _drain(relay: InFlight[RelayRuntime], counts: Counts) -> None:
    """Begins nothing new, waits for what is in flight, and ends the process."""
    relay.draining = True
    deadline = time.monotonic() + relay.runtime.config.milter.stop_timeout_s
    while relay.in_flight and time.monotonic() < deadline:
        time.sleep(_STEP_S)
    counts.stop()
    log.stopped(relay.in_flight)
    log.flush()
    os._exit(0)
