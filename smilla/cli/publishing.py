"""What ``publish`` and ``withdraw`` share: how a change leaves, and how one sees that it has arrived.

The ways: a dynamic update (RFC 2136), deSEC's API, or a zone-file fragment.  A secret never stands on the command line:
it comes from a file.  Then the command waits until every authoritative server shows the change and the configured
resolver proves it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smilla import config, log
from smilla.adapters import desec, https, new_file
from smilla.adapters.dns_update import NameServer, RRset
from smilla.address import EmailAddress
from smilla.cli import EX_NO, EX_OK, EX_TEMPFAIL, UsageError, material, say, with_config
from smilla.cli.progress import Progress
from smilla.config import Config
from smilla.errors import ParseError, PublishError
from smilla.formats import domain_name, tsig_key
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.records import fragment, spread
from smilla.records.record import TYPES, Record
from smilla.server.runtime import make_resolver

_SOA, _NS = 6, 2
_KNOWN = (DNSSECStatus.SECURE, DNSSECStatus.INSECURE)
_WAIT_S, _MOST_WAIT_S = 300, 86400
_LONGEST_TTL_S = 86400


@dataclass(frozen=True, slots=True)
class Change:
    """The RRset of one owner and type: what is there from now on; None for nothing."""

    address: EmailAddress
    owner: str
    rdtype: int
    record: Record | None

    @property
    def what(self) -> str:
        """In words."""
        return f"{TYPES[self.rdtype]} record of {self.address}"

    @property
    def rdata(self) -> frozenset[bytes]:
        """All of its RDATA."""
        return frozenset([self.record.rdata] if self.record else [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The way out, and the waiting."""
    with_config(parser)
    parser.add_argument(
        "--via", choices=("update", "desec", "zone-file"), default="update", help="how it leaves (update)"
    )
    parser.add_argument("--server", metavar="HOST[@PORT]", help="the zone's primary, for updates")
    parser.add_argument("--zone", metavar="ZONE", help="the zone, if the server or the account is not to say it")
    parser.add_argument("--tsig-key", metavar="FILE", help="the key for updates, in named's format")
    parser.add_argument("--token-file", metavar="FILE", help="a file whose first line is deSEC's token")
    parser.add_argument("--url", metavar="URL", default=desec.BASE, help=f"where deSEC's API is ({desec.BASE})")
    parser.add_argument("--ca-file", metavar="FILE", default="", help="authorities for that URL, not the system's")
    parser.add_argument("--zone-file", metavar="FILE", help="the fragment to change; without it, the line is printed")
    parser.add_argument(
        "--authority",
        metavar="HOST[@PORT]",
        action="append",
        default=[],
        help="an authoritative server to watch, instead of the zone's NS records; may be repeated",
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", metavar="S", type=int, help=f"how long to wait for it, in seconds ({_WAIT_S})")
    waiting.add_argument("--no-wait", action="store_true", help="change it, and do not look whether it arrives")
    parser.add_argument("--quiet", action="store_true", help="no progress, no words about success")


def checked(options: argparse.Namespace) -> Config | None:
    """The configuration, where it is needed for the waiting.  Raises UsageError or ConfigError."""
    missing = {
        "update": None if options.server else "--via update needs --server",
        "desec": None if options.token_file else "--via desec needs --token-file",
    }.get(options.via)
    if missing:
        raise UsageError(missing)
    if options.wait is not None and not 0 <= options.wait <= _MOST_WAIT_S:
        raise UsageError(f"--wait takes seconds from 0 to {_MOST_WAIT_S}")
    ttl_s = getattr(options, "ttl", 0)
    if not 0 <= ttl_s <= _LONGEST_TTL_S:
        raise UsageError(f"--ttl takes seconds from 0 to {_LONGEST_TTL_S}")
    log.silence()
    return config.load(Path(options.config)) if _waits(options) else None


def _waits(options: argparse.Namespace) -> bool:
    """A fragment arrives once somebody has reloaded the zone, so one waits only if asked to."""
    return not options.no_wait and (options.via != "zone-file" or options.wait is not None)


def made(options: argparse.Namespace, change: Change, settings: Config | None) -> int:
    """Makes the change and waits for it: 0 where all show it, 1 where none ever will, 75 where the time ran out."""
    zone = {"update": _by_update, "desec": _by_desec, "zone-file": _by_fragment}[options.via](options, change)
    if settings is None:
        return EX_OK
    resolver = _Validator(settings)
    silent: dict[str, tuple[str, ...]] = {}
    servers = options.authority or name_servers(resolver.ask, zone, change.owner)
    authorities = [_authority(server, change, silent) for server in servers]
    progress = Progress(is_wanted=not options.quiet)

    def looked() -> spread.State:
        state = spread.look(change.rdata, authorities, lambda: resolver.ask(change.owner, change.rdtype))
        progress.show(f"waiting: {state.text}")
        return state

    limit_s = _WAIT_S if options.wait is None else options.wait
    state = spread.wait(looked, time.monotonic, time.sleep, time.monotonic() + limit_s)
    progress.end()
    for text in (one for texts in silent.values() for one in texts):
        say("warning", f"{text}; nobody knows what this address shows")
    if state.verdict is spread.Verdict.DONE:
        if not options.quiet:
            print(f"{change.what}: {'published' if change.record else 'withdrawn'}; {state.text}")
        return EX_OK
    if state.verdict is spread.Verdict.NEVER:
        say("error", f"{change.what}: {state.text}")
        return EX_NO
    say("error", f"{change.what}: changed, but not seen everywhere within {limit_s} s: {state.text}")
    say("hint", f"look again later: smilla lookup {change.address}")
    return EX_TEMPFAIL


# --- the ways


def _by_update(options: argparse.Namespace, change: Change) -> str:
    """The zone.  Raises UsageError or PublishError."""
    key = None
    if options.tsig_key:
        if new_file.is_readable_by_all(Path(options.tsig_key)):
            say("warning", f"{options.tsig_key}: everybody on this machine can read this key")
        try:
            key = tsig_key.parse(new_file.read(Path(options.tsig_key)).decode("utf-8", "replace"))
        except ParseError as error:
            raise UsageError(f"{options.tsig_key}: {error}") from error
    server = _name_server(options.server, key)
    zone = _absolute(options.zone) if options.zone else server.zone_of(change.owner)
    old = server.read(change.owner, change.rdtype)
    ttl_s = getattr(options, "ttl", 0)
    if old.rdata == change.rdata and (not old.rdata or old.ttl_s == ttl_s):
        _already(change)
    else:
        server.replace(zone, old, RRset(change.owner, change.rdtype, change.rdata, ttl_s))
    return zone


def _by_desec(options: argparse.Namespace, change: Change) -> str:
    """The zone.  Raises UsageError or PublishError."""
    token = material.first_line(options.token_file).decode("ascii", "replace").strip()
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise UsageError(f"{options.token_file}: its first line is no token")
    account = desec.DeSEC(https.Client(options.ca_file), token, options.url)
    zone, least_s = (_absolute(options.zone), 0) if options.zone else account.zone_of(change.owner)
    ttl_s = max(getattr(options, "ttl", 0), least_s)
    old = account.read(zone, change.owner, TYPES[change.rdtype])
    if not old and change.record is None:
        _already(change)
    else:
        account.replace(zone, change.owner, TYPES[change.rdtype], ttl_s, (change.record.text,) if change.record else ())
    return zone


def _by_fragment(options: argparse.Namespace, change: Change) -> str:
    """No zone: the name servers ask it themselves.  Raises UsageError or FileProblem."""
    if options.zone_file:
        path = Path(options.zone_file)
        if not change.record and not path.exists():
            raise UsageError(f"{path}: there is no such file; nothing was taken away")
        text = new_file.read(path).decode("utf-8", "surrogateescape") if path.exists() else ""
        try:
            new = (
                fragment.with_record(text, change.record, options.ttl)
                if change.record
                else fragment.without(text, change.owner, change.rdtype)
            )
        except ParseError as error:
            raise UsageError(f"{path}: {error}") from error
        if new == text:
            _already(change)
            return ""
        new_file.replace(path, new.encode("utf-8", "surrogateescape"))
    elif change.record:
        print(change.record.line(ttl_s=options.ttl))
    else:
        print(f"; take away: {change.owner} IN {TYPES[change.rdtype]}")
    say("hint", "raise the serial of the zone and reload it; then every sender can see the change")
    return ""


def _already(change: Change) -> None:
    state = "is there already" if change.record else "is not there"
    say("hint", f"{change.what}: {state}; nothing was changed")


# --- who shows it


class _Validator:
    """The resolver of [dns], each time without what an earlier one may remember."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings

    def ask(self, owner: str, rdtype: int) -> DNSAnswer:
        """Within [dns] timeout_s."""
        pending = make_resolver(self._settings).ask(owner, rdtype)
        return pending.result(time.monotonic() + self._settings.dns.timeout_s)


def name_servers(ask: Callable[[str, int], DNSAnswer], zone: str, owner: str) -> list[str]:
    """The servers that the NS records of the zone name, "" for the nearest one above the owner.  Raises
    PublishError."""
    zone = zone or _zone_above(ask, owner)
    answer = ask(zone, _NS)
    try:
        names = [domain_name.from_wire(raw) for raw in sorted(answer.raw_rdata)]
    except ParseError as error:
        raise PublishError(f"{zone}: its NS records: {error}", temporary=False) from error
    if not names:
        text = f"changed, but the resolver knows no name servers of {zone} to look at: {answer.detail}"
        raise PublishError(f"{text}; name them by --authority", temporary=True)
    return names


def _zone_above(ask: Callable[[str, int], DNSAnswer], owner: str) -> str:
    """The nearest zone above the name, by its SOA record.  Raises PublishError."""
    name = owner
    while (name := name.partition(".")[2]) != "":
        answer = ask(name, _SOA)
        if answer.raw_rdata:
            return name
        if answer.status not in _KNOWN:
            raise PublishError(f"the resolver cannot say what zone {owner} is in: {answer.detail}", temporary=True)
    raise PublishError(f"the resolver knows no zone that {owner} is in", temporary=False)


def _authority(text: str, change: Change, silent: dict[str, tuple[str, ...]]) -> spread.Authority:
    """Shows what all its addresses show.  ``silent`` gets those that gave no answer at the last look, if another one
    did: this machine may have no IPv6, and nobody is to wait for that."""
    server = _name_server(text)

    def records() -> frozenset[bytes]:
        silent.pop(text, None)
        everywhere = server.read_everywhere(change.owner, change.rdtype)
        silent[text] = everywhere.silent
        behind = [where for where, rrset in everywhere.rrsets.items() if rrset.rdata != change.rdata]
        if behind:
            raise PublishError(f"{', '.join(behind)} has not taken it yet", temporary=True)
        return change.rdata

    return spread.Authority(text, records)


def _name_server(text: str, key: tsig_key.TSIGKey | None = None) -> NameServer:
    try:
        return NameServer(text, key)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from error


def _absolute(zone: str) -> str:
    return zone if zone.endswith(".") else f"{zone}."
