"""The URL of a PostgreSQL database, as libpq has it (PostgreSQL, "Connection URIs"), read strictly.  Pure.

Only what decides where the database is, who asks and how it is verified may be in it, so that nothing weakens the rest:
no password, which would be in the configuration's own output, and over a network nothing but a verified server.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from smilla.value import value

_KNOWN = ("host", "port", "user", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey")
_FILES = ("passfile", "sslrootcert", "sslcert", "sslkey")
SECRET = ("passfile", "sslkey")  # libpq reads them only if nobody but the user may
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*|[0-9A-Fa-f:.]+")
_DEFAULT_PORT = 5432
_SUCH_AS = "a URL such as postgresql:///smilla?host=/run/postgresql"


@value
class Place:
    """Where a database is: ``parameters`` are libpq's, each said, so that nothing else fills it in."""

    parameters: tuple[tuple[str, str], ...]

    @property
    def is_over_tcp(self) -> bool:
        """And not over a UNIX socket."""
        return not dict(self.parameters)["host"].startswith("/")

    @property
    def named(self) -> str:
        """For people: no more than what tells databases apart."""
        known = dict(self.parameters)
        host = f"{known['host']}:{known['port']}" if self.is_over_tcp else known["host"]
        return f"postgresql {known['dbname']} at {host}"


def files(url: str) -> tuple[tuple[str, str], ...]:
    """The files that a URL names, each with its parameter; none for an empty one.  Raises ValueError."""
    return tuple((name, path) for name, path in read(url).parameters if name in _FILES) if url else ()


def read(url: str) -> Place:
    """Raises ValueError, which says what the URL must be."""
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        port = parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise ValueError(_SUCH_AS) from error
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment:
        raise ValueError(_SUCH_AS)
    if parts.password is not None:
        raise ValueError("a URL without a password: write it into a file, and passfile=FILE here")
    given = dict(asked)
    if len(given) != len(asked) or (unknown := sorted(set(given) - set(_KNOWN))):
        told = f", not {unknown[0]}" if len(given) == len(asked) else ", each once"
        raise ValueError(f"a URL with no other parameters than {', '.join(_KNOWN)}{told}")
    host = given.pop("host", "") or parts.hostname or ""
    known = {
        "dbname": unquote(parts.path.removeprefix("/")),
        "host": host,
        "port": given.pop("port", "") or str(port),
        "user": given.pop("user", "") or unquote(parts.username or ""),
        **given,
    }
    _check(known)
    return Place(tuple(known.items()))


def _check(known: dict[str, str]) -> None:
    if not _NAME.fullmatch(known["dbname"]):
        raise ValueError("a URL with the name of the database: postgresql:///NAME?host=...")
    if known["user"] and not _NAME.fullmatch(known["user"]):
        raise ValueError("a URL with a user's name of letters, digits, dots, hyphens and underscores")
    if not known["port"].isascii() or not known["port"].isdigit() or not 0 < int(known["port"]) < 65536:
        raise ValueError("a URL with a port from 1 to 65535")
    for name in _FILES:
        if name in known and not known[name].startswith("/"):
            raise ValueError(f"a URL with an absolute path for {name}")
    host = known["host"]
    if host.startswith("/"):
        return
    if not _HOST.fullmatch(host):
        raise ValueError("a URL with a host, or host= and the folder of a UNIX socket such as /run/postgresql")
    if known.get("sslmode") == "verify-full" and "sslrootcert" in known:
        return
    if not _is_loopback(host):
        raise ValueError("a URL with sslmode=verify-full and sslrootcert=FILE, as it is over a network")
    # While the server is away, anybody on this machine may listen there.  With SCRAM, it proves that it knows the
    # password, too (RFC 5802 section 3), and never gets it.
    known["require_auth"] = "scram-sha-256"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
