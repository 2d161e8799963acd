"""Checks what the relay needs, for ``smilla config check --probe``: its next hop, and its own socket."""

from __future__ import annotations

from collections.abc import Iterator

from smilla.config import Config
from smilla.doctor.finding import Finding, Kind, error, fine, warning
from smilla.errors import ConfigError, ReinjectError
from smilla.server import listener
from smilla.server.login import Login
from smilla.server.runtime import make_next_hop

_PASSED_ON = ("8BITMIME", "DSN", "SMTPUTF8")
_IN_THE_CLEAR = "answers, in the clear, on loopback"


def problems(config: Config) -> Iterator[Finding]:
    """Does the next hop answer, over verified TLS where that is asked for, and what does it lack?"""
    options = config.relay
    subject = f"next hop {options.next_hop}"
    try:
        offer = make_next_hop(config).offer()
    except (ReinjectError, ConfigError) as failed:
        yield error(Kind.NEXT_HOP, subject, str(failed).removeprefix(f"{options.next_hop}: "))
        return
    yield fine(Kind.NEXT_HOP, subject, _IN_THE_CLEAR if options.tls == "none" else "answers, over verified TLS")
    for name in _PASSED_ON:
        if name not in offer.keywords:
            yield warning(Kind.NEXT_HOP, subject, f"does not offer {name}, so it is not passed on")
    if options.auth and not Login.offered(offer):
        yield error(Kind.NEXT_HOP, subject, "offers no way to log in that can be passed on, so nobody can send")
    answers = listener.can_connect(options.socket)
    yield fine(Kind.NEXT_HOP, f"relay {options.socket}", "answers" if answers else "nobody listens yet")
