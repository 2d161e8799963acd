"""The database of [store] url: does it answer smilla's user, and has it the tables that this smilla needs?"""

from __future__ import annotations

from collections.abc import Iterator

from smilla.adapters import as_user, stores
from smilla.config import Config, database_url
from smilla.doctor.finding import Finding, Kind, error, fine, hint
from smilla.doctor.rights import Service
from smilla.errors import SmillaError

_PATIENCE_S = 30.0  # the adapter is done before
_WAITS = "mail that needs what is remembered there is deferred"
_SET_UP = "smilla-store(7) says how the database is set up"


def problems(config: Config, service: Service) -> Iterator[Finding]:
    """Tries it as that user, since PostgreSQL asks who connects; makes nothing there.  Forks."""
    if not config.store.url:
        return
    subject = f"store {database_url.read(config.store.url).named}"
    try:
        found = as_user.answer(service.user, lambda: [*stores.look(config)], _PATIENCE_S)
    except (KeyError, SmillaError, OSError) as unclear:
        yield hint(Kind.ASKS, subject, f"not tried as {service.user.name}, whose filter it is: {unclear}")
        return
    for text in found:
        yield error(Kind.STORE, subject, f"does not serve {service.user.name}: {text}", _SET_UP, _WAITS)
    if not found:
        yield fine(Kind.STORE, subject, f"serves {service.user.name}")
