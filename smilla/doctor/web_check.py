"""Does HTTPS go out from this machine, as the source wkd needs it?  Asks one domain, as the filter's user.

Promises: it ends within half a minute, and sends no address of anybody: it asks for the key of postmaster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict

from smilla.adapters import as_user
from smilla.address import parse
from smilla.config import Config
from smilla.doctor.finding import Finding, Kind, error, fine, hint
from smilla.doctor.rights import Service
from smilla.errors import SmillaError
from smilla.model import DNSSECStatus
from smilla.server.runtime import KeyServer, make_resolver

_ASK_S, _CHILD_S = 15.0, 25.0
_SUBJECT = "wkd"
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_WHY = "mail to every domain whose name may have a web server is deferred, unless an earlier source has a key"
_OUT = "let HTTPS out (TCP, port 443), name another domain in [keys] wkd_probe if this one is down"
_REMOVE = "or take wkd out of [keys] sources"
_NO_PROXY = "{} is set, but smilla asks no proxy, since that would see whom you write to"
_INTERCEPTED = (
    "if a proxy in between opens TLS, take wkd out of [keys] sources; if it is your own authority, name its file in "
    "[keys] wkd_ca_file"
)


def problems(config: Config, service: Service) -> Iterator[Finding]:
    """Nothing where no source is wkd, or nobody may be asked."""
    if "wkd" not in config.keys.sources or not config.keys.wkd_probe:
        return
    try:
        told = as_user.answer(service.user, lambda: [asdict(_asked(config))], _CHILD_S)
    except (SmillaError, OSError) as unclear:
        yield hint(Kind.ASKS, _SUBJECT, f"not tried as {service.user.name}, whose filter it is: {unclear}")
        return
    yield from (Finding(**{**each, "kind": Kind(each["kind"])}) for each in told)


def _asked(config: Config) -> Finding:
    domain = config.keys.wkd_probe
    server = KeyServer(config.keys.wkd_ca_file, make_resolver(config))
    found = server.find(parse(f"postmaster@{domain}"), time.monotonic() + _ASK_S)
    if found.dns is not None and found.dns.status not in (DNSSECStatus.SECURE, DNSSECStatus.INSECURE):
        text = f"nobody can tell whether HTTPS goes out, since the resolver does not say where {domain} is"
        return hint(Kind.HTTPS, _SUBJECT, f"{text}: {found.detail}")
    if server.has_answered:
        return fine(Kind.HTTPS, _SUBJECT, f"HTTPS goes out ({domain} answers)")
    if server.failure is None:
        return hint(Kind.HTTPS, _SUBJECT, f"{found.detail}, so nobody was asked", "name another in [keys] wkd_probe")
    what = f"no HTTPS to {domain}: {server.failure}"
    if not server.failure.temporary:
        return error(Kind.HTTPS, _SUBJECT, what, _INTERCEPTED, _WHY)
    proxy = next((name for name in _PROXIES if os.environ.get(name)), "")
    why = f"{_WHY}; {_NO_PROXY.format(proxy)}" if proxy else _WHY
    return error(Kind.HTTPS, _SUBJECT, what, f"{_OUT}, {_REMOVE}", why)
