"""Where Postfix's services name the filter: their milters, and what Postfix does while one is away."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from smilla.adapters import milter_client
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix import Service, Settings, port_of
from smilla.config import Config
from smilla.config.values import is_local
from smilla.doctor import finding
from smilla.doctor.finding import Finding, Kind
from smilla.doctor.postfix_actions import TOKEN

NAMES = (
    "queue_directory",
    "config_directory",
    "smtpd_milters",
    "milter_default_action",
    "smtpd_data_restrictions",
    "cleanup_service_name",
)
GUARD = re.compile(r"check_client_access[\s,]+static:\{\s*PREPEND\s+(X-Smilla:[^{}]*?)\s*\}")
_GUARDED = "check_client_access static:{PREPEND X-Smilla: pending SECRET}"
VERIFIERS = re.compile(r"dmarc|arc|clam|spam|amavis|rspamd|:11332\b|:8893\b", re.IGNORECASE)
SIGNERS = re.compile(r"dkim|:8891\b|:8892\b|:12301\b", re.IGNORECASE)
_DEFAULT_ACTION = re.compile(r"default_action\s*=\s*(\w+)")
_USUAL_FOLDER = "/etc/postfix"
_PROBE_S = 2.0
_TURNED_AWAY = "Postfix turns all mail away until somebody does, or as default_action says"
_TEMPFAIL = "milter_default_action = tempfail"


def error(kind: Kind, text: str, mend: str = "", why: str = "") -> Finding:
    """An error in Postfix's configuration."""
    return finding.error(kind, "postfix", text, mend, why)


def warning(kind: Kind, text: str, mend: str = "", why: str = "") -> Finding:
    """A warning about it."""
    return finding.warning(kind, "postfix", text, mend, why)


_AWAY = (
    ("accept", error, "while the filter is away, mail passes in plaintext"),
    (
        "quarantine",
        warning,
        "mail that comes while the filter is down is held in plaintext, and released in plaintext",
    ),
    ("reject", warning, "while the filter is away, mail is refused for good"),
)


@dataclass(frozen=True, slots=True)
class Attached:
    """The services of one instance (with the parameters NAMES), beside smilla's configuration."""

    config: Config
    settings: Settings

    def of(self, program: str) -> list[Service]:
        """The services that run this program."""
        return [service for service in self.settings.services if service.program == program]

    def filtered(self) -> list[Service]:
        """The listeners that name the filter by its own socket."""
        return [service for service in self.of("smtpd") if self.own_actions(service)]

    def cleanup(self, service: Service) -> Service | None:
        """The cleanup service of a listener."""
        return self.settings.service(self.settings.value(service, "cleanup_service_name"))

    def listener(self, place: str) -> Service | None:
        """The listener on the port of HOST:PORT."""
        port = port_of(place)
        return next((service for service in self.of("smtpd") if port_of(service.name) == port), None)

    def milters(self, service: Service, name: str = "smtpd_milters") -> Iterator[tuple[str, str]]:
        """Each milter as written, and its socket."""
        for token in TOKEN.findall(self.settings.value(service, name)):
            yield token, (TOKEN.findall(token.removeprefix("{").removesuffix("}")) or [""])[0]

    def is_ours(self, place: str, service: Service) -> bool:
        """Does this service mean smilla's [milter] socket by that name?"""
        return self.is_place(self.config.milter.socket, place, service)

    def before(self, service: Service) -> str:
        """The milters that this service asks before the filter."""
        places = [place for _, place in self.milters(service)]
        ours = (n for n, place in enumerate(places) if self.is_ours(place, service))
        own = next(ours, 0)  # nobody can tell which of the others leads to the filter
        return " or ".join(places[:own])

    # --- how to attach it

    @property
    def unasked(self) -> str:
        """The severity if no listener asks the filter: mail leaves in plaintext.  That may be as it should be while
        smilla observes, and where the MTA is another machine."""
        return "warning" if self.config.observe or not is_local(self.config.milter.socket) else "error"

    def may_lead(self, service: Service) -> bool:
        """Has it a milter that may pass things on to the filter, as HAProxy does?"""
        places = [place for _, place in self.milters(service)]
        others = [place for place in places if not VERIFIERS.search(place) and not SIGNERS.search(place)]
        return any(not self.is_slip(place, service) for place in others)

    def is_slip(self, place: str, service: Service) -> bool:
        """Is it a name of smilla's, but not that of its socket, where nobody listens?  It may be another filter of
        smilla's that is stopped, so nobody but the administrator may take it out."""
        return "smilla" in place and not self.is_ours(place, service) and self.is_silent(place, service)

    def slips(self, service: Service) -> Iterator[Finding]:
        """Those that stand beside the filter's own name."""
        if not self.own_actions(service):
            return
        milters = list(self.milters(service))
        for token, place in milters:
            if self.is_slip(place, service):
                what = f"{service.name}: asks {place} as well, where nobody listens"
                others = ", ".join(each for each, _ in milters if each != token)
                without = f"{self.postconf(service, 'smtpd_milters', others)} && postfix reload"
                mend = f"start what should listen there; if the name is a slip: {without}"
                yield error(Kind.OTHER_SOCKET, what, mend, _TURNED_AWAY)

    def is_silent(self, place: str, service: Service) -> bool:
        """Does nobody listen at the socket that a service names so?"""
        kind, _, path = place.partition(":")
        host, _, port = place.removeprefix("inet:").rpartition(":")
        is_path = kind in ("unix", "local")
        meant = [f"unix:{each}" for each in self.paths(path, service)] if is_path else [f"inet:{port}@{host}"]
        return all(milter_client.ask(each, _PROBE_S).who is Who.NOBODY for each in meant)

    def named(self, socket: str, service: Service) -> str:
        """A socket of smilla's, as this service must write it: in its chroot there is nothing but the queue directory,
        and what does not begin with / is there for every service."""
        theirs, queue = as_milter(socket), self.settings.main.get("queue_directory", "")
        inside = theirs.removeprefix(f"unix:{queue}/")
        return f"unix:{inside}" if inside != theirs and service.chroot != "n" else theirs

    def line(self, service: Service | None = None) -> str:
        """The line that attaches the filter to a service, or to the listeners of main.cf; and another [milter] socket
        if the chroot needs one."""
        socket, listeners = self.config.milter.socket, self.of("smtpd")
        chrooted = next((each for each in listeners if each.chroot != "n"), None)
        reader = service or chrooted
        line = f"smtpd_milters = {self.named(socket, reader) if reader is not None else as_milter(socket)}"
        if reader is None or reader.chroot != "y" or not line.startswith("smtpd_milters = unix:/"):
            return line
        queue, name = self.settings.main.get("queue_directory", ""), PurePosixPath(socket).name
        return f'[milter] socket = "unix:{queue}/smilla/{name}", and smtpd_milters = unix:smilla/{name}'

    # --- what Postfix does while the filter is away

    def while_away(self, service: Service) -> Iterator[Finding]:
        """Mail must wait until the filter is back."""
        actions = self.own_actions(service) or self._common_action(service)
        for action, told, what in _AWAY:
            if action in actions:
                yield told(Kind.DEFAULT_ACTION, f"{service.name}: {what}", self._tempfail(service, action))

    def _tempfail(self, service: Service, action: str) -> str:
        """The line that makes mail wait instead.  An action in braces wins over milter_default_action, so the value is
        written anew, with all that is in it."""
        value = before = self.settings.value(service, "smtpd_milters")
        milters = list(self.milters(service))
        ours = [token for token, place in milters if self.is_ours(place, service)]
        for token in ours or [token for token, _ in milters]:
            if (special := _DEFAULT_ACTION.search(token)) and special[1] == action:
                value = value.replace(token, f"{token[: special.start(1)]}tempfail{token[special.end(1) :]}")
        if value != before:
            return self.postconf(service, "smtpd_milters", value)
        if "milter_default_action" in service.options:
            return self.postconf(service, "milter_default_action", "tempfail")
        return _TEMPFAIL

    def postconf(self, service: Service, name: str, value: str | None) -> str:
        """The command that gives a parameter this value where it is set now, in main.cf or for this service alone; None
        takes it out there."""
        folder = self.settings.main.get("config_directory", _USUAL_FOLDER)
        start = ["postconf", *(["-c", folder] if folder != _USUAL_FOLDER else [])]
        if name not in service.options:
            return shlex.join([*start, *(["-X", name] if value is None else ["-e", f"{name} = {value}"])])
        own = f"{service.name}/{service.kind}/{name}"
        return shlex.join([*start, *(["-PX", own] if value is None else ["-P", f"{own}={_without_blanks(value)}"])])

    def own_actions(self, service: Service) -> list[str]:
        """One word for each time that this service names the filter."""
        ours = [token for token, place in self.milters(service) if self.is_ours(place, service)]
        return [self._default_action(service, token) for token in ours]

    def _common_action(self, service: Service) -> set[str]:
        """What it does while any of its milters is down, whichever leads to the filter; empty if they differ."""
        found = {self._default_action(service, token) for token, _ in self.milters(service)}
        return found if len(found) == 1 else set()

    def _default_action(self, service: Service, milter: str) -> str:
        special = _DEFAULT_ACTION.search(milter)
        return special[1] if special else self.settings.value(service, "milter_default_action")

    # --- mail that an earlier milter quarantines

    def unguarded(self, service: Service) -> Iterator[Finding]:
        """Mail that smilla never sees, and that nothing keeps in the queue."""
        guard = GUARD.match(self.settings.value(service, "smtpd_data_restrictions"))
        if not guard and (before := self.before(service)):
            what = f"smilla never sees what {before} quarantines, and postsuper -H sends it as it is"
            line = f"-o smtpd_data_restrictions={_GUARDED}, and smtp_header_checks of main.cf.example"
            yield warning(Kind.UNSEEN_MAIL, f"{service.name}: {what}", line)

    # --- names of sockets

    def is_place(self, socket: str, name: str, service: Service) -> bool:
        """Does this service of Postfix mean smilla's socket by that name?"""
        kind, _, place = socket.partition(":")
        if kind in ("unix", "local"):
            return name.partition(":")[0] in ("unix", "local") and place in self.paths(name.partition(":")[2], service)
        port, _, host = place.partition("@")
        their_host, _, their_port = name.removeprefix("inet:").rpartition(":")
        return port == their_port and _host(host) == _host(their_host)

    def paths(self, path: str, service: Service) -> list[str]:
        """What a path in Postfix's files may mean outside its chroot."""
        queue = self.settings.main.get("queue_directory", "")
        if not path.startswith("/"):
            return [f"{queue}/{path}"]
        return {"y": [f"{queue}{path}"], "n": [path]}.get(service.chroot, [path, f"{queue}{path}"])


def _without_blanks(value: str) -> str:
    """The same list as postconf -P takes it, which refuses blanks."""
    joined = re.sub(r"[\s,]+", ",", re.sub(r"\s*=\s*", "=", value.strip()))
    return re.sub(r",?\}", "}", re.sub(r"\{,?", "{", joined))


def as_milter(socket: str) -> str:
    """A socket in libmilter's notation, as Postfix writes it."""
    kind, _, place = socket.partition(":")
    port, _, host = place.partition("@")
    return f"unix:{place}" if kind in ("unix", "local") else f"inet:{host}:{port}"


def _host(name: str) -> str:
    """Loopback has several names."""
    bare = name.strip("[]")
    try:
        return "localhost" if ipaddress.ip_address(bare).is_loopback else bare
    except ValueError:
        return bare
