"""Judges Postfix's lines that lead to the relay and back (smilla-relay(8), POSTFIX), for ``config check --probe``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smilla.adapters.postfix import Postfix, Service, port_of
from smilla.config import Config
from smilla.config.values import is_local, is_loopback
from smilla.doctor import attached, finding
from smilla.doctor.attached import Attached, error, warning
from smilla.doctor.finding import Finding, Kind
from smilla.errors import PostfixUnclear
from smilla.server import listener

_WAYS = ("relayhost", "default_transport")  # of all mail, which comes back included
_OVERRIDES = {
    "no_address_mappings": "aliases and bcc maps apply a second time, so somebody may get two copies",
    "no_header_body_checks": "header and body checks see the copies again, and a FILTER there may lead them anywhere",
    "no_unknown_recipient_checks": "a recipient that was taken before may be refused now",
}
_NAMES = (
    *attached.NAMES,
    *_WAYS,
    "content_filter",
    "receive_override_options",
    "smtpd_authorized_xforward_hosts",
    *(f"{program}_{name}" for program in ("lmtp", "smtp") for name in ("fallback_relay", "send_xforward_command")),
)
_UNASKED = "if another program hands its mail to the relay, that is as it should be"
_COME_BACK = "a loop: what comes back from the relay would go to it again"
_IN_PLAINTEXT = "gets in plaintext what the relay defers"


def problems(config: Config, asked: Postfix) -> Iterator[Finding]:
    """What is wrong with the lines of one instance; nothing where the relay's clients are mail programs."""
    if config.relay.auth:
        return
    try:
        settings = asked.settings(tuple(dict.fromkeys(_NAMES)))
    except PostfixUnclear as unclear:
        yield warning(Kind.POSTFIX_UNSEEN, f"its settings could not be looked at: {unclear}")
        return
    yield from of_lines(Attached(config, settings))


def of_lines(site: Attached) -> Iterator[Finding]:
    """The same, once its lines are known."""
    yield from _Lines(site).problems()


@dataclass(frozen=True, slots=True)
class _Lines:
    site: Attached

    def problems(self) -> Iterator[Finding]:
        back = self._back()
        leading = [service for service in self._taking() if service != back and self._leads(service)]
        if not leading and not any(self._is_ours(self.site.settings.main.get(way, "")) for way in _WAYS):
            yield finding.hint(Kind.NOT_ATTACHED, "postfix", "no line leads to the relay", self._line(), _UNASKED)
        if leading and not listener.can_connect(self.site.config.relay.socket):
            what = "leads mail to the relay, where nobody listens, so it waits"
            yield error(Kind.NOT_RUNNING, what, "systemctl start smilla-relay")
        for service in leading:
            if "no_address_mappings" in self.site.settings.value(service, "receive_override_options"):
                what = f"{service.name}: has no_address_mappings, so the relay sees an alias, and not whom it leads to"
                yield warning(Kind.NEXT_HOP, what, "-o receive_override_options= there")
        for name in dict.fromkeys(self.site.settings.value(s, "content_filter").partition(":")[0] for s in leading):
            yield from self._transport(name)
        if back is not None:
            yield from self._what_comes_back(back, is_filtered=bool(leading))
        elif leading and is_loopback(self.site.config.relay.next_hop):
            place = self.site.config.relay.next_hop
            what = f"master.cf has no listener at {place} ([relay] next_hop), so copies go to whoever listens there"
            yield warning(Kind.NEXT_HOP, what, f"add {place} inet n - y - - smtpd, with the options of smilla-relay(8)")

    # --- the way there

    def _taking(self) -> list[Service]:
        return [*self.site.of("smtpd"), *self.site.of("pickup"), *self.site.of("qmqpd")]

    def _leads(self, service: Service) -> bool:
        return self._is_ours(self.site.settings.value(service, "content_filter"))

    def _is_ours(self, way: str) -> bool:
        """Does ``transport:destination``, or the destination alone, mean the relay's socket?"""
        ours = self.site.config.relay.socket
        kind, _, path = ours.partition(":")
        if kind in ("unix", "local"):
            inside = path.removeprefix(f"{self.site.settings.main.get('queue_directory', '')}/")
            return way.endswith((f":unix:{path}", f":unix:{inside}"))
        port, _, host = path.partition("@")
        found = re.fullmatch(r"(?:[^\[\]]*:)?(?:inet:)?\[?([^\[\]]*?)\]?:([^:\[\]]+)", way)
        if found is None or port_of(found[2]) != int(port):
            return False
        theirs = found[1].rpartition(":inet:")[2] or found[1]
        return theirs == host or (is_local(f"inet:{port}@{theirs}") and _is_here(host))

    def _line(self) -> str:
        socket, protocol = self.site.config.relay.socket, self.site.config.relay.protocol
        kind, _, path = socket.partition(":")
        if kind in ("unix", "local"):
            return f"content_filter = smilla-relay:unix:{path}"
        port, _, host = path.partition("@")
        here = "127.0.0.1" if _is_here(host) else host
        return f"content_filter = smilla-relay:{f'inet:{here}' if protocol == 'lmtp' else f'[{here}]'}:{port}"

    def _transport(self, name: str) -> Iterator[Finding]:
        service, protocol = self.site.settings.service(name), self.site.config.relay.protocol
        if service is None:
            what = f"master.cf has no service {name}, which content_filter names, so mail waits"
            yield error(Kind.NEXT_HOP, what, f"add {name} with the options of smilla-relay(8)")
            return
        if service.program not in ("smtp", "lmtp"):
            return
        if service.program != protocol:
            what = f"{name}: speaks {service.program}, but [relay] protocol is {protocol}, so mail waits"
            yield error(Kind.NEXT_HOP, what, f'protocol = "{service.program}", or {protocol} in master.cf')
        fallback = f"{service.program}_fallback_relay"
        if relay := self.site.settings.value(service, fallback):
            yield error(Kind.NEXT_HOP, f"{name}: {fallback} = {relay} {_IN_PLAINTEXT}", f"-o {fallback}=")
        forward = f"{service.program}_send_xforward_command"
        if self.site.config.mode == "auto" and self.site.settings.value(service, forward) != "yes":
            what = f"{name}: does not say who the client was, so to mode = auto all mail is that of this machine"
            yield warning(Kind.NEXT_HOP, what, f"-o {forward}=yes")

    # --- the way back

    def _back(self) -> Service | None:
        place = self.site.config.relay.next_hop
        return self.site.listener(place) if is_loopback(place) else None

    def _what_comes_back(self, back: Service, *, is_filtered: bool) -> Iterator[Finding]:
        if self._leads(back):
            yield error(Kind.NEXT_HOP, f"{back.name}: {_COME_BACK}", "-o content_filter=")
        for way in _WAYS:
            if self._is_ours(self.site.settings.main.get(way, "")):
                what = f"{way} leads to the relay: {_COME_BACK}"
                yield error(Kind.NEXT_HOP, what, f"{self._line()}, and another {way}")
        if self.site.own_actions(back):
            what = f"{back.name}: the copies would come to the filter"
            yield error(Kind.NEXT_HOP, what, "-o smtpd_milters=")
        if not is_filtered:
            return
        overrides = self.site.settings.value(back, "receive_override_options")
        if missing := [name for name in _OVERRIDES if name not in overrides]:
            what = f"{back.name}: receive_override_options lacks {', '.join(missing)}"
            line = f"-o receive_override_options={','.join(_OVERRIDES)}"
            yield warning(Kind.NEXT_HOP, what, line, _OVERRIDES[missing[0]])
        if not self.site.settings.value(back, "smtpd_authorized_xforward_hosts"):
            what = f"{back.name}: smilla may not say who the client was, so the copies seem to come from this machine"
            yield warning(Kind.NEXT_HOP, what, "-o smtpd_authorized_xforward_hosts=127.0.0.0/8")


def _is_here(host: str) -> bool:
    """Does a socket at this address listen on loopback, too?"""
    return host.strip("[]") in ("0.0.0.0", "::") or is_local(f"inet:1@{host}")  # noqa: S104 - as the file has it
