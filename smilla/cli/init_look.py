"""What ``smilla init`` finds on this machine: the MTA's settings, users, folders, the resolver."""

from __future__ import annotations

import grp
import ipaddress
import pwd
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smilla import config
from smilla.adapters import unit_file
from smilla.config import Config
from smilla.doctor import postfix_origin, sendmail_check
from smilla.errors import SmillaError
from smilla.server.runtime import make_resolver

NAMES = (
    "tls_required_enable",
    "queue_directory",
    "config_directory",
    "mail_owner",
    "mydestination",
    "virtual_mailbox_domains",
    "virtual_alias_domains",
    "relay_domains",
    "mynetworks",
    "mydomain",
    "myorigin",
    "append_dot_mydomain",
    "message_size_limit",
    "header_checks",
    "smtpd_milters",
    "milter_default_action",
    "content_filter",
)
_OURS = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains")
_LOOPBACK = [ipaddress.ip_network(name) for name in ("127.0.0.0/8", "::1/128")]
_NAME = re.compile(r"(?!localhost(\.|$)|.*\.localdomain$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


USER = "smilla"  # who runs the filter, if nothing else is said
_SHIPPED = Path("/usr/share/smilla/smilla.toml")  # the package's configuration, with @FOLDER@ for that of the sockets
_SHIPPED_FOR = ("/var/spool/postfix/smilla", "/run/smilla")  # as the package's postinst writes it


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains that Postfix names in main.cf itself; ``tables`` are the parameters that have them in tables."""

    local: tuple[str, ...]
    relayed: tuple[str, ...]
    tables: tuple[str, ...]


def mta(postfix_folder: str | None, *, has_postfix: bool) -> str:
    """Which MTA is here: postfix, sendmail, or "" if neither is found."""
    if postfix_folder or has_postfix:
        return "postfix"
    return "sendmail" if sendmail_check.CONFIGURATION.exists() else ""


def is_shipped(text: str) -> bool:
    """Is this the configuration of the Debian package, and nobody has changed it?"""
    with suppress(OSError):
        shipped = _SHIPPED.read_text("utf-8", "replace")
        return any(text == shipped.replace("@FOLDER@", folder) for folder in _SHIPPED_FOR)
    return False


def domains(main: Mapping[str, str]) -> Domains:
    """By main.cf.  What is local is not relayed as well."""
    local = dict.fromkeys(name for option in _OURS for name in _words(main, option) if _NAME.fullmatch(name))
    relayed = dict.fromkeys(name for name in _words(main, "relay_domains") if _NAME.fullmatch(name))
    tables = [name for name in (*_OURS, "relay_domains") if any(":" in word for word in _words(main, name))]
    return Domains(tuple(local), tuple(name for name in relayed if name not in local), tuple(tables))


def networks(main: Mapping[str, str]) -> list[str]:
    """mynetworks, without what stands in a table; empty if that is loopback alone."""
    found = []
    for word in _words(main, "mynetworks"):
        with suppress(ValueError):
            network = ipaddress.ip_network(word.replace("[", "").replace("]", ""), strict=False)
            is_mapped = network.version == 6 and network.network_address.ipv4_mapped is not None
            if not is_mapped:
                found.append(network)
    if all(any(n.version == own.version and n.subnet_of(own) for own in _LOOPBACK) for n in found):  # type: ignore[arg-type]
        return []
    return [str(network) for network in dict.fromkeys(found)]


def origin(main: Mapping[str, str]) -> str:
    """myorigin, which may be the name of a file (Debian: /etc/mailname); "" if it is no domain."""
    name = postfix_origin.origin(main)
    return name if _NAME.fullmatch(name) else ""


def appended(main: Mapping[str, str]) -> str:
    """The domain that Postfix appends to a single label, "" if it does not."""
    return main.get("mydomain", "") if main.get("append_dot_mydomain") == "yes" else ""


def _words(main: Mapping[str, str], name: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", main.get(name, "")) if word]


def group_of_postfix(main: Mapping[str, str]) -> str:
    """The group of Postfix's processes."""
    with suppress(KeyError):
        return grp.getgrgid(pwd.getpwnam(main.get("mail_owner", "postfix")).pw_gid).gr_name
    return "postfix"


def resolver_problem(settings: Config) -> str:
    """What is wrong with the resolver of this configuration, "" if it proves that it validates."""
    try:
        problems = [problem for _, problem in make_resolver(settings).probe(settings.dns.timeout_s)]
    except SmillaError as error:
        return str(error)
    return "" if not all(problems) else problems[0]


def other_resolver() -> list[str] | None:
    """Nameservers with which smilla can validate by itself (libunbound): those of resolv.conf, or none, which means the
    authoritative servers; None if that does not work either."""
    named: list[str] = []
    with suppress(OSError):
        text = Path("/etc/resolv.conf").read_text("ascii", "replace")
        named = re.findall(r"(?m)^nameserver\s+([0-9A-Fa-f.:]+)\s*$", text)
    return next((servers for servers in ([named] if named else []) + [[]] if _validates(servers)), None)


def _validates(nameservers: list[str]) -> bool:
    names = ", ".join(f'"{name}"' for name in nameservers)
    try:
        settings = config.parse(f'[dns]\ndnssec = "validate"\nnameservers = [{names}]\n')
    except SmillaError:
        return False
    return resolver_problem(settings) == ""


def missing(settings: Config, user: str, group: str) -> Iterator[str]:
    """The commands that make the user and the folders that are not there yet."""
    if user not in {entry.pw_name for entry in pwd.getpwall()}:
        home = shlex.quote(settings.reinject.spool)
        yield f"useradd --system --home-dir {home} --shell /usr/sbin/nologin {shlex.quote(user)}"
    sockets = [settings.milter.socket, *([settings.stage.socket] if settings.may_seal else [])]
    for folder in dict.fromkeys(Path(name.partition(":")[2]).parent for name in sockets if name.startswith("unix:")):
        is_made_by_systemd = has_systemd() and folder == Path("/run/smilla")
        if not folder.is_dir() and not is_made_by_systemd:
            yield shlex.join(["install", "-d", "-o", user, "-g", group, "-m", "2750", str(folder)])
    spool = Path(settings.reinject.spool)
    if not spool.is_dir() and settings.may_split:
        yield shlex.join(["install", "-d", "-o", user, "-g", user, "-m", "0700", str(spool)])


def has_systemd() -> bool:
    """Does systemd run this machine?"""
    return unit_file.has_systemd()
