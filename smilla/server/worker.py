"""A worker, from the fork to its end: it answers the MTA and obeys the parent's orders from a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from smilla import config, log
from smilla.adapters import log_target
from smilla.config.options import WITHOUT_RESOLVER
from smilla.errors import SmillaError
from smilla.server.runtime import make_ports
from smilla.server.service import Runtime, Service

Serve = Callable[[Service], object]
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}  # what the parent waits for
GRACE_S = 0.2  # a draining worker waits so long after its last answer, so that libmilter can send it
# Less than a proof lasts, so that no message has to wait for one.  A proof ends with the connection, so log and metrics
# soon say that a resolver is down, and that it works again; a proof that still holds asks nobody.
_PROBE_EVERY_S = 15.0
_COUNTS_S = 0.5  # how long the last counts may take to be handed on


def work(runtime: Runtime, control: int, acknowledge: int, serve: Serve) -> NoReturn:
    """Runs a worker, from the fork to its end.  ``control`` carries the parent's orders; a byte goes to ``acknowledge``
    after each reload.  Only the parent reacts to signals and passes them on through the pipe, so that a signal to the
    whole group (Ctrl-C, a service manager) cuts nothing off.

    libmilter blocks these signals in the thread that serves and waits for them in a thread of its own, which would end
    all connections within five seconds.  So we ignore them.  Linux discards an ignored signal at once only if the main
    thread does not block it, so the main thread must not be the one that serves.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        service = Service(runtime)
        threading.Thread(target=_answer, args=(service, serve), name="serve", daemon=True).start()
        threading.Thread(target=_probe, args=(service,), name="probe", daemon=True).start()
        _obey(service, control, acknowledge)
    except BaseException:
        log.internal_error("", "worker")
    log.flush()
    os._exit(1)


def _answer(service: Service, serve: Serve) -> NoReturn:
    """Answers the MTA; when that ends, so does the worker."""
    try:
        serve(service)
    except BaseException:
        log.internal_error("", "worker")
    service.runtime.ports.metrics.flush(_COUNTS_S)
    log.flush()
    os._exit(1)


def _probe(service: Service) -> NoReturn:
    """At the start and every few seconds: does the resolver still prove that it validates?  Mail does not wait for
    this.  If it does not, answers without the AD bit are not believed, and the resolver's adapter logs it."""
    while True:
        runtime, proven = service.runtime, list[bool]()
        if runtime.ports.hops is not None or not set(runtime.config.keys.sources) <= set(WITHOUT_RESOLVER):
            proven = [not problem for _, problem in runtime.ports.probe(runtime.config.dns.timeout_s)]
        runtime.ports.metrics.gauge("resolvers_asked", len(proven))  # 0 too: a reload may have taken DNS away
        runtime.ports.metrics.gauge("resolvers_proven", sum(proven))
        time.sleep(_PROBE_EVERY_S)


def _obey(service: Service, control: int, acknowledge: int) -> NoReturn:
    """Carries out the parent's orders, one per line; the end of the pipe means that the parent is gone."""
    with os.fdopen(control, "rb") as pipe:
        for line in pipe:
            message = json.loads(line)
            if "reload" in message:
                _reload(service, message["reload"])
                with contextlib.suppress(OSError):
                    os.write(acknowledge, b".")
            elif "stop" in message:
                _drain(service, float(message["stop"]))
    _drain(service, float(service.runtime.config.milter.stop_timeout_s))


def _reload(service: Service, text: str) -> None:
    """Switches to a configuration that the parent has checked."""
    try:
        fresh = config.parse(text)
        role = service.runtime.role
        ports = service.runtime.ports
        service.runtime = role.renewed(text) if role else Runtime(fresh, make_ports(fresh, ports.metrics))
        log.configure(fresh.log.level, fresh.log.format, log_target.opened(fresh.log.target))
    except Exception as error:  # whatever it is, this thread must live on for the next order
        log.reload_failed(str(error) if isinstance(error, (SmillaError, OSError)) else type(error).__name__)


def _drain(service: Service, timeout_s: float) -> NoReturn:
    """Starts nothing new, waits for what is in flight, and ends the process."""
    service.draining = True
    deadline = time.monotonic() + timeout_s
    while service.in_flight and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(GRACE_S)
    service.runtime.ports.metrics.flush(_COUNTS_S)
    log.flush()
    os._exit(0)
