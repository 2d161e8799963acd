"""The lines that attach smilla to Postfix, for ``smilla init``: those of contrib/postfix, beside what is there already.

Nothing of the administrator's is replaced: a milter is added behind the others, a table stands before those that are
there, and only services that are missing are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from smilla.adapters.postfix import Service, Settings
from smilla.adapters.postfix_edit import Change
from smilla.config import Config
from smilla.doctor.postfix_actions import TOKEN
from smilla.server.listener import can_connect

_MARK = r"/^X-Smilla-Stage: [0-9a-f]{32} [0-9a-f]{16}$/"
_NESTED = ("nested_header_checks", "mime_header_checks")
PARAMETERS = (
    "smtpd_milters",
    "milter_header_checks",
    "header_checks",
    "smilla_destination_recipient_limit",
    "tls_required_enable",
    *_NESTED,
)
_REINJECT, _BOUND = "postfix/reinject", "postfix/bound"  # the syslog_name of our listeners
_SAFE = ("tempfail", "shutdown")  # what Postfix may do while the filter is away
_LISTENER = {
    "syslog_name": _REINJECT,
    "smtpd_milters": "",
    "smtpd_client_restrictions": "permit_mynetworks,reject",
    "smtpd_helo_restrictions": "",
    "smtpd_sender_restrictions": "",
    "smtpd_relay_restrictions": "permit_mynetworks,reject",
    "smtpd_recipient_restrictions": "",
    "smtpd_data_restrictions": "",
    "smtpd_end_of_data_restrictions": "",
    "smtpd_tls_security_level": "none",
    "smtpd_authorized_xforward_hosts": "127.0.0.0/8",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
}
_PORTS = range(10025, 10045)


@dataclass(slots=True)
class Lines:
    """What one instance lacks.  ``written`` are the parameters that main.cf sets, as they are written; ``folder`` is
    its configuration folder; ``chroot`` is the column for new services."""

    config: Config
    settings: Settings
    written: Mapping[str, str]
    folder: str
    chroot: str
    warnings: list[str] = field(default_factory=list)

    def changes(self) -> list[Change]:
        """In the order in which to make them: mail comes to the filter last."""
        found: list[Change] = []
        if self.config.policy.mixed in ("stage", "reinject"):
            found += self._listener()
        if self.config.policy.mixed == "stage":
            found += [*self._tables(), *self._stage(), *self._pickup(), *self._checks()]
        if self.config.uses_hop:
            found += self._hop()
        return found + list(self._milter())

    # --- the filter

    def _milter(self) -> Iterator[Change]:
        place = as_postfix(self.config.milter.socket, self._queue)
        current = self.written.get("smtpd_milters", "")
        named = _milters(current)
        if place not in (*named, *_milters(self.settings.main.get("smtpd_milters", ""))):  # $names expanded
            action = self.settings.main.get("milter_default_action", "tempfail")
            ours = place if action in _SAFE else f"{{ {place}, default_action=tempfail }}"
            if named:
                self.warnings.append(
                    f"smtpd_milters already has {' and '.join(named)}, which now come before smilla: a milter that "
                    "signs (DKIM) must come after it: smilla-dkim(7)"
                )
            yield self._main("smtpd_milters", f"{current}, {ours}" if named else ours)
        for service in self.settings.services:
            own = service.options.get("smtpd_milters", "")
            if service.program == "smtpd" and own and place not in own:
                self.warnings.append(
                    f"{service.name} in master.cf has its own smtpd_milters = {own}, without smilla; add {place} there "
                    "if its mail is to be encrypted"
                )

    # --- the stage

    def _checks(self) -> Iterator[Change]:
        own = self.written.get("header_checks", "")
        for name in _NESTED:
            if (
                name not in self.written
            ):  # by default $header_checks, which gets a table that attached mail must not see
                yield self._main(name, own)
        yield from self._before("header_checks", f"regexp:{self.folder}/smilla_refuse")
        yield from self._before("milter_header_checks", f"regexp:{self.folder}/smilla_stage")
        if "smilla_destination_recipient_limit" not in self.written:
            yield self._main("smilla_destination_recipient_limit", "1000")

    def _before(self, name: str, table: str) -> Iterator[Change]:
        current = self.written.get(name, "")
        if table not in TOKEN.findall(current):
            yield self._main(name, f"{table}, {current}" if current else table)

    def _tables(self) -> Iterator[Change]:
        way = f"FILTER smilla:{as_postfix(self.config.stage.socket, self._queue)}"
        yield self._table("smilla_stage", "sealed messages go to smilla's stage", f"{_MARK} {way}")
        requeued = f"{_MARK} {way}\n/^X-Smilla-Hop[ \\t]*:/ {way}"
        yield self._table("smilla_requeue", "requeued messages (postsuper -r) go there, too", requeued)
        refused = "\n".join(
            f"/^{name}[ \\t]*:/ REJECT 5.7.1 the field {name} is not for you"
            for name in ("X-Smilla-Stage", "X-Smilla-Hop")
        )
        yield self._table("smilla_refuse", "nobody may send such a message", refused)

    def _table(self, name: str, why: str, line: str) -> Change:
        return Change("table", f"{self.folder}/{name}", f"# Made by smilla init (contrib/postfix): {why}.\n{line}\n")

    def _stage(self) -> Iterator[Change]:
        options = {"syslog_name": "postfix/smilla", "lmtp_send_xforward_command": "yes", "lmtp_fallback_relay": ""}
        yield from self._service("smilla/unix", f"smilla unix - - {self.chroot} - 20 lmtp", options)

    def _pickup(self) -> Iterator[Change]:
        """Requeued mail comes in by pickup.  Its own cleanup has the tables that main.cf had for it."""
        pickup = next((service for service in self.settings.services if service.program == "pickup"), None)
        if pickup is None:
            self.warnings.append("master.cf has no pickup service, so requeued mail (postsuper -r) comes in nowhere")
            return
        cleanup = pickup.options.get("cleanup_service_name", "smilla-requeue")
        if cleanup != "smilla-requeue":
            self.warnings.append(
                f"pickup has cleanup_service_name = {cleanup}; put regexp:{self.folder}/smilla_requeue first in the "
                f"header_checks of that one, and nothing of it in {' and '.join(_NESTED)}"
            )
            return
        refuse = f"regexp:{self.folder}/smilla_refuse"
        own = [table for table in TOKEN.findall(self.written.get("header_checks", "")) if table != refuse]
        checks = ",".join([f"regexp:{self.folder}/smilla_requeue", *own])
        nested = {name: self.written.get(name, ",".join(own)) for name in _NESTED}
        options = {"syslog_name": "postfix/requeue", "header_checks": checks, **nested}
        yield from self._service("smilla-requeue/unix", f"smilla-requeue unix n - {self.chroot} - 0 cleanup", options)
        name = f"{pickup.name}/{pickup.kind}/cleanup_service_name"
        if pickup.options.get("cleanup_service_name") is None:
            yield Change("option", name, "smilla-requeue")

    # --- secure-hop

    def _hop(self) -> Iterator[Change]:
        """The listener for copies that may leave over a verified hop only, and the transport without clear text."""
        out = f"{self.folder}/smilla_hop_out"
        yield self._table("smilla_hop_out", "the field that bound a copy stays here", "/^X-Smilla-Hop[ \\t]*:/ IGNORE")
        transport = {
            "syslog_name": "postfix/smilla-secure",
            "smtp_tls_security_level": "dane-only",
            "smtp_dns_support_level": "dnssec",
            "smtp_tls_policy_maps": f"socketmap:{as_postfix(self.config.hop.socket, self._queue)}:secure",
            "smtp_tls_CAfile": self.config.hop.ca_file,
            "smtp_fallback_relay": "",
            "smtp_tls_wrappermode": "no",
            "smtp_host_lookup": "dns",
            "smtp_header_checks": f"regexp:{out}",
        }
        yield from self._service("smilla-secure/unix", "smilla-secure unix - - n - - smtp", transport)
        name = self.config.reinject.secure_smtp
        options = {
            **_LISTENER,
            "syslog_name": _BOUND,
            "receive_override_options": "no_address_mappings,no_header_body_checks",
            "content_filter": "smilla-secure:",
            "smtpd_proxy_filter": "",
            "smtpd_discard_ehlo_keywords": "",
        }
        if not any(_is_ours(service, _BOUND) and service.name == name for service in self.settings.services):
            yield from self._service(f"{name}/inet", f"{name} inet n - {self.chroot} - - smtpd", options)
        if self.settings.main.get("tls_required_enable") == "yes":
            yield self._main("tls_required_enable", "no")

    # --- the listener of [reinject]

    def _listener(self) -> Iterator[Change]:
        options = dict(_LISTENER)
        if self.config.policy.mixed == "stage":
            options["receive_override_options"] = "no_address_mappings,no_header_body_checks"
            if not self.settings.main.get("content_filter"):
                options["content_filter"] = ""
        name = self.config.reinject.smtp
        if any(_is_ours(service) and service.name == name for service in self.settings.services):
            return
        yield from self._service(f"{name}/inet", f"{name} inet n - {self.chroot} - - smtpd", options)

    # --- shared

    def _main(self, name: str, value: str) -> Change:
        return Change("main", name, value, self.written.get(name))

    def _service(self, name: str, line: str, options: Mapping[str, str]) -> Iterator[Change]:
        """A service that is there keeps what it has, except options of ours that it lacks."""
        service, _, kind = name.rpartition("/")
        found = self.settings.service(service, kind)
        if found is None:
            yield Change("service", name, line)
        for option, value in options.items():
            if found is None or option not in found.options:
                yield Change("option", f"{name}/{option}", value)

    @property
    def _queue(self) -> str:
        return self.settings.main.get("queue_directory", "/var/spool/postfix")


def as_postfix(socket: str, queue: str) -> str:
    """A socket in libmilter's notation as Postfix writes it: below the queue directory by its path there, which is good
    with and without a chroot."""
    kind, _, place = socket.partition(":")
    if kind in ("unix", "local"):
        return f"unix:{place.removeprefix(queue.rstrip('/') + '/')}"
    port, _, host = place.partition("@")
    return f"inet:{host}:{port}"


def _milters(value: str) -> list[str]:
    """The socket of each milter in a value of smtpd_milters."""
    return [(TOKEN.findall(token.strip("{}")) or [""])[0] for token in TOKEN.findall(value)]


def listener_for(services: Sequence[Service]) -> str:
    """The listener of [reinject]: ours if there is one, otherwise the first port of loopback that nobody has."""
    return _listener_for(services, _REINJECT, ())


def secure_listener_for(services: Sequence[Service]) -> str:
    """The same for secure_smtp; not the one of smtp."""
    return _listener_for(services, _BOUND, (listener_for(services).rpartition(":")[2],))


def _listener_for(services: Sequence[Service], name: str, reserved: Sequence[str]) -> str:
    for service in services:
        if _is_ours(service, name):
            return service.name
    taken = {service.name.rpartition(":")[2] for service in services if service.kind == "inet"} | set(reserved)
    free = (port for port in _PORTS if str(port) not in taken and not can_connect(f"inet:{port}@127.0.0.1"))
    return f"127.0.0.1:{next(free, _PORTS[0])}"


def _is_ours(service: Service, name: str = _REINJECT) -> bool:
    return service.options.get("syslog_name") == name and service.kind == "inet"


def unreachable(socket: str, queue: str, services: Sequence[Service]) -> str:
    """Why a chrooted smtpd cannot reach this socket, "" if it can."""
    kind, _, place = socket.partition(":")
    chrooted = [service.name for service in services if service.program == "smtpd" and service.chroot == "y"]
    if kind in ("unix", "local") and chrooted and not place.startswith(queue.rstrip("/") + "/"):
        return f"{chrooted[0]} is chrooted to {queue} (master.cf) and cannot reach {place}"
    return ""
