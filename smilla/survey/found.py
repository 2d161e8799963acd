"""What a survey finds about one domain, and the same as JSON: one object, which is also a line of the file for
``--resume``.

``State`` and its words are those of ``smilla watch --mx``.  What was not asked, or could not be, is None or has a state
that says so; it is never taken for absence.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from smilla.errors import ParseError
from smilla.hops.mx import State
from smilla.value import value


class Way(StrEnum):
    """How smilla would send."""

    SMIME = "S/MIME"
    OPENPGP = "OpenPGP"
    CIRCLE = "circle"
    DANE = "DANE"
    MTA_STS = "MTA-STS"
    OPPORTUNISTIC = "opportunistic"
    PLAIN = "plain"
    NOT_NOW = "not now"  # a safe way is published, and it fails: a sender who heeds it does not deliver
    NO_MAIL = "no mail"  # the domain takes none
    UNKNOWN = "unknown"


class Names(StrEnum):
    """Has a zone of keys any names?  ANY_NAME: it answers so for every name, and nothing can be told."""

    HAS_NAMES = "has names"
    NONE = "none"
    ANY_NAME = "answers for any name"
    UNKNOWN = "unknown"


@value
class Result:
    """One thing that was looked at."""

    state: State
    text: str = ""


@value
class Server:
    """What one address of a host presents.  ``issuer`` and ``names`` are of its own certificate, which ends at
    ``ends_at`` (ISO 8601); ``chain`` says whether authorities vouch for it and it names the host; ``requiretls`` is
    None where it could not be asked; ``is_connected``: the port was not silent.
    """

    address: str
    starttls: Result
    is_connected: bool = True
    version: str = ""
    cipher: str = ""
    requiretls: bool | None = None
    certificate: Result | None = None
    names: tuple[str, ...] = ()
    issuer: str = ""
    ends_at: str = ""
    days_left: int | None = None
    chain: Result | None = None
    tlsa: Result | None = None


@value
class Host:
    """One MX host.  ``tlsa`` are its TLSA records as in a zone file; ``tlsa_dnssec`` is the status of that answer;
    ``next_key`` says whether one of them is of no live certificate (a rollover); ``in_policy`` whether the MTA-STS
    policy allows the host, None without one."""

    name: str
    address: Result
    address_dnssec: str = ""
    tlsa: tuple[str, ...] = ()
    tlsa_dnssec: str = ""
    next_key: Result | None = None
    in_policy: bool | None = None
    servers: tuple[Server, ...] = ()


@value
class Found:
    """All of one domain.  ``asked`` is the domain or the address that was given; ``at`` when it was looked at (ISO
    8601); ``zone`` and ``mx_dnssec`` are statuses of DNSSEC; ``key`` is the look-up of the address, None without one.
    """

    asked: str
    domain: str
    at: str
    way: Way
    why: str
    zone: str
    mx: Result
    mx_dnssec: str
    mta_sts: Result
    mta_sts_mode: str
    tlsrpt: Result
    spf: Result
    spf_all: str
    dmarc: Result
    dmarc_policy: str
    smimea: Names
    openpgpkey: Names
    key: Result | None = None
    hosts: tuple[Host, ...] = ()


def to_line(found: Found) -> str:
    """As JSON in US-ASCII, without a line break."""
    return json.dumps(asdict(found), separators=(",", ":"))


def from_line(text: str) -> Found:
    """Raises ParseError for anything else."""
    try:
        return cast("Found", _read(Found, json.loads(text)))
    except ValueError as error:
        raise ParseError(f"no result of a survey: {error}") from error


def _read(kind: Any, raw: Any) -> Any:
    """A value of the kind, which may be a dataclass of ours, an enumeration, a tuple of one kind, a choice or a plain
    type.  Raises ValueError."""
    if is_dataclass(kind):
        if not isinstance(raw, dict) or raw.keys() != {one.name for one in fields(kind)}:
            raise ValueError("other fields than those of a result")
        hints = get_type_hints(kind)
        return cast("Any", kind)(**{name: _read(hints[name], value) for name, value in raw.items()})
    if get_origin(kind) is tuple and isinstance(raw, list):
        return tuple(_read(get_args(kind)[0], one) for one in raw)
    if isinstance(kind, UnionType):
        return None if raw is None else _read(get_args(kind)[0], raw)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(raw)
    if type(raw) is not kind:
        raise ValueError(f"{raw!r} stands where another kind of value should")
    return raw
