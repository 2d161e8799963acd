"""Checks Postfix's lines for secure-hop, part of ``smilla config check``: is a copy that may leave over a verified hop
only bound to one, from the listener of ``secure_smtp`` to the connection?

Every error here would let such a copy leave in the clear, or over a hop that nobody has verified.  While one is there,
the filter seals nothing (adapters/postfix_lines.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smilla.adapters.postfix import Postfix, Service
from smilla.doctor import postfix_actions
from smilla.doctor.attached import Attached, error, warning
from smilla.doctor.finding import Finding, Kind
from smilla.doctor.postfix_actions import TOKEN

_FIELD = f"X-Smilla-Hop: {'0123456789abcdef' * 2} {'0123456789abcdef'} {'0123456789abcdef' * 4}"
_ANYTHING = "X-Smilla-Hop: anything"
_MAP = "secure"
_RESTRICTIONS = tuple(
    f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)
_OF_CLEANUP = ("header_checks", "nested_header_checks", "mime_header_checks", "body_checks")
_LEADING = frozenset({"FILTER", "REDIRECT"})
_PAST = "which leads past the verified hop"
_SERVICE = "smilla-secure unix - - n - - smtp"
_WANTED = {  # of the transport: a parameter, and the value that it must have
    "smtp_tls_security_level": "dane-only",
    "smtp_dns_support_level": "dnssec",
    "smtp_fallback_relay": "",
    "smtp_tls_wrappermode": "no",
    "smtp_host_lookup": "dns",
}
_WHY = {
    "smtp_tls_security_level": "a domain of which nobody can ask would get clear text",
    "smtp_dns_support_level": "without DNSSEC it cannot verify by TLSA records",
    "smtp_fallback_relay": "mail that cannot be delivered over a verified hop would go there",
    "smtp_tls_wrappermode": "the mail servers of the world expect STARTTLS",
    "smtp_host_lookup": "names from elsewhere are not proven",
}
NAMES = (
    *_WANTED,
    *_RESTRICTIONS,
    "body_checks",
    "content_filter",
    "default_filter_nexthop",
    "header_checks",
    "lmtp_fallback_relay",
    "milter_header_checks",
    "non_smtpd_milters",
    "receive_override_options",
    "smtp_header_checks",
    "smtp_tls_CAfile",
    "smtp_tls_CApath",
    "smtp_tls_mandatory_ciphers",
    "smtp_tls_policy_maps",
    "smtpd_discard_ehlo_keywords",
    "smtpd_milters",
    "smtpd_proxy_filter",
    "smtpd_restriction_classes",
    "tls_required_enable",
)


def problems(site: Attached, asked: Postfix, folder: str) -> Iterator[Finding]:
    """What is missing, in the order in which a copy goes."""
    lines = _Lines(site, asked, folder)
    name = site.config.reinject.secure_smtp
    listener = site.listener(name)
    if listener is None:
        what = f"nobody listens at {name} ([reinject] secure_smtp) for copies that may leave over a verified hop only"
        yield error(Kind.HOP_WAY, what, f"the lines marked secure-hop of contrib/postfix/master.cf.example, for {name}")
        return
    yield from lines.listener(listener)
    yield from lines.main()
    yield from lines.requeued()
    yield from lines.forged()


@dataclass(frozen=True, slots=True)
class _Lines:
    site: Attached
    asked: Postfix
    folder: str

    # --- from the listener to the transport

    def listener(self, listener: Service) -> Iterator[Finding]:
        """The listener of secure_smtp, and the transport that it names."""
        for token, place in self.site.milters(listener):
            if self.site.is_ours(place, listener):
                what = f"has the filter {token}, to which the copies would come again"
                yield error(Kind.HOP_WAY, f"{listener.name}: {what}", "-o smtpd_milters=")
        yield from self._led_away(listener)
        way = self.site.settings.value(listener, "content_filter")
        transport, _, destination = way.partition(":")
        service = self.site.settings.service(transport) if transport else None
        if service is None or service.program != "smtp":
            what = f"content_filter = {way or '(empty)'} is no transport of smtp(8), so copies leave by any"
            yield error(Kind.HOP_WAY, f"{listener.name}: {what}", f"-o content_filter=smilla-secure:, and {_SERVICE}")
            return
        if destination:
            what = f"content_filter = {way} sends all copies to {destination}, which is not the recipient's server"
            yield error(Kind.HOP_WAY, f"{listener.name}: {what}", f"-o content_filter={transport}:")
        yield from self._transport(service)

    def _led_away(self, listener: Service) -> Iterator[Finding]:
        """What on the listener itself beats its content_filter, or takes the copy before it comes to that."""
        classes = TOKEN.findall(self.site.settings.value(listener, "smtpd_restriction_classes"))
        for name in _RESTRICTIONS:
            value = self.site.settings.value(listener, name)
            if re.search(r"\bcheck_", value) or not set(classes).isdisjoint(TOKEN.findall(value)):
                what = f"{name} = {value} may have FILTER or REDIRECT, {_PAST}"
                yield error(Kind.HOP_WAY, f"{listener.name}: {what}", f"-o {name}=")
        if proxy := self.site.settings.value(listener, "smtpd_proxy_filter"):
            what = f"smtpd_proxy_filter = {proxy} gets the copies in place of the transport"
            yield error(Kind.HOP_WAY, f"{listener.name}: {what}", "-o smtpd_proxy_filter=")
        if "dsn" in re.split(r"[\s,]+", self.site.settings.value(listener, "smtpd_discard_ehlo_keywords").lower()):
            what = (
                "smtpd_discard_ehlo_keywords has dsn, so a bounce would have the whole text, and smilla sends nothing"
            )
            yield error(Kind.HOP_WAY, f"{listener.name}: {what}", "-o smtpd_discard_ehlo_keywords=")
        overrides = self._overrides(listener)
        line = "-o receive_override_options=no_address_mappings,no_header_body_checks"
        if "no_header_body_checks" not in overrides:
            what = "header_checks and body_checks may have FILTER or REDIRECT, which lead past the verified hop"
            yield error(Kind.HOP_WAY, f"{listener.name}: {what}", line)
        elif "no_address_mappings" not in overrides:
            what = "whom aliases and always_bcc add to a copy get it over a verified hop, or never"
            yield warning(Kind.HOP_WAY, f"{listener.name}: {what}", line)
        yield from self._by_milters(listener, "smtpd_milters")

    def _by_milters(self, service: Service, name: str) -> Iterator[Finding]:
        """A field that a milter adds may have FILTER too, whatever receive_override_options says."""
        if any(self.site.milters(service, name)):
            yield from self._leading(service, ("milter_header_checks",))

    def _leading(self, service: Service, names: Sequence[str]) -> Iterator[Finding]:
        """Tables of its cleanup service that send a message elsewhere; the last FILTER wins, and REDIRECT always."""
        cleanup = self.site.cleanup(service)
        if cleanup is None:
            return
        common = self.site.settings.value(cleanup, "header_checks")
        for name in names:
            value = self.site.settings.value(cleanup, name).replace("$header_checks", common)
            for table in TOKEN.findall(value):
                if fault := _fault_of(table):
                    what = f"{name} = {table} of {cleanup.name} {fault}"
                    mend = f"-o {name}= with tables that have neither, on a cleanup service of its own"
                    yield error(Kind.HOP_WAY, f"{service.name}: {what}", mend)

    def _overrides(self, service: Service) -> list[str]:
        return re.split(r"[\s,]+", self.site.settings.value(service, "receive_override_options"))

    def _transport(self, service: Service) -> Iterator[Finding]:
        for name, wanted in _WANTED.items():
            found = self.site.settings.value(service, name)
            if found != wanted:
                what = f"{name} is {found or '(empty)'}: {_WHY[name]}"
                yield error(Kind.HOP_WAY, f"{service.name}: {what}", f"-o {name}={wanted}")
        if self.site.settings.value(service, "smtp_tls_mandatory_ciphers") == "null":
            what = "smtp_tls_mandatory_ciphers is null: TLS that encrypts nothing"
            yield error(Kind.HOP_WAY, f"{service.name}: {what}", "-o smtp_tls_mandatory_ciphers=medium")
        yield from self._policies(service)
        checks = self.site.settings.value(service, "smtp_header_checks")
        if self._first(checks, _FIELD).upper() != "IGNORE":
            what = "the field X-Smilla-Hop leaves with the copies"
            yield error(
                Kind.HOP_WAY, f"{service.name}: {what}", f"-o smtp_header_checks=regexp:{self.folder}/smilla_hop_out"
            )
        authorities = [self.site.settings.value(service, name) for name in ("smtp_tls_CAfile", "smtp_tls_CApath")]
        if self.site.config.hop.mta_sts != "off" and not any(authorities):
            what = "has no authorities, so no hop can be verified by MTA-STS"
            line = f'-o smtp_tls_CAfile={self.site.config.hop.ca_file}, or [hop] mta_sts = "off"'
            yield error(Kind.HOP_WAY, f"{service.name}: {what}", line)
        if self.site.config.circle and service.chroot != "n":
            what = "is chrooted and cannot read the authorities of the circles"
            yield error(Kind.HOP_WAY, f"{service.name}: {what}", f"write n for chroot in master.cf: {_SERVICE}")

    def _policies(self, service: Service) -> Iterator[Finding]:
        """It asks smilla, and nobody else."""
        socket = self.site.config.hop.socket
        tables = TOKEN.findall(self.site.settings.value(service, "smtp_tls_policy_maps"))
        kind, _, place = tables[0].partition(":") if len(tables) == 1 else ("", "", "")
        where, _, name = place.rpartition(":")
        if kind == "socketmap" and name == _MAP and self.site.is_place(socket, where, service):
            return
        what = f"smtp_tls_policy_maps is {', '.join(tables) or '(empty)'}, but smilla answers at [hop] socket {socket}"
        line = f"-o smtp_tls_policy_maps=socketmap:{self.site.named(socket, service)}:{_MAP}"
        yield error(Kind.HOP_WAY, f"{service.name}: {what}", line)

    def main(self) -> Iterator[Finding]:
        """What stands in main.cf for all services."""
        for service in (*self.site.of("qmgr"), *self.site.of("oqmgr")):
            if nexthop := self.site.settings.value(service, "default_filter_nexthop"):
                what = f"{service.name}: default_filter_nexthop = {nexthop}: all copies would go there"
                yield error(Kind.HOP_WAY, what, "default_filter_nexthop =")
        if self.site.settings.main.get("tls_required_enable", "") == "yes":
            what = "a message with the field TLS-Required: no would leave in the clear, whatever the transport says"
            yield error(Kind.HOP_WAY, what, "tls_required_enable = no in main.cf")

    # --- the way back after postsuper -r, and forged fields

    def requeued(self) -> Iterator[Finding]:
        """Requeued copies go to the stage, whatever their field says."""
        for pickup in self.site.of("pickup"):
            cleanup = self.site.cleanup(pickup)
            tables = self.site.settings.value(cleanup, "header_checks") if cleanup is not None else ""
            ways = [self._first(tables, field) for field in (_FIELD, _ANYTHING)]
            verb, _, way = ways[0].partition(" ")
            transport, _, place = way.strip().partition(":")
            service = self.site.settings.service(transport)
            leads = service is not None and self.site.is_place(self.site.config.stage.socket, place, service)
            fallback = self.site.settings.value(service, "lmtp_fallback_relay") if leads and service is not None else ""
            if fallback:
                what = f"lmtp_fallback_relay = {fallback} gets in the clear what the stage defers of requeued copies"
                yield error(Kind.HOP_WAY, f"{transport}: {what}", "-o lmtp_fallback_relay=")
            if verb.upper() != "FILTER" or ways[0] != ways[1] or not leads:
                what = "after postsuper -r, a copy that may leave over a verified hop only would leave by any"
                name = cleanup.name if cleanup is not None else "smilla-requeue"
                line = (
                    f"/^X-Smilla-Hop:/ FILTER smilla:unix:smilla/stage.sock in {self.folder}/smilla_requeue, for {name}"
                )
                yield error(Kind.HOP_WAY, f"{pickup.name}: {what}", line)
            if "no_header_body_checks" in self._overrides(pickup):
                what = "no_header_body_checks: after postsuper -r, nothing leads a copy back to the stage"
                yield error(Kind.HOP_WAY, f"{pickup.name}: {what}", "-o receive_override_options=")
            yield from self._leading(pickup, _OF_CLEANUP)
            yield from self._by_milters(pickup, "non_smtpd_milters")

    def forged(self) -> Iterator[Finding]:
        """Nobody else may send such a field."""
        ours = (self.site.config.reinject.smtp, self.site.config.reinject.secure_smtp)
        copies = [self.site.listener(place) for place in ours]
        for service in self.site.of("smtpd"):
            cleanup = self.site.cleanup(service)
            tables = self.site.settings.value(cleanup, "header_checks") if cleanup is not None else ""
            verb = self._first(tables, _ANYTHING).partition(" ")[0].upper()
            if verb == "FILTER":
                what = "header_checks has FILTER for X-Smilla-Hop, so a stranger's field leads mail past other filters"
                yield error(
                    Kind.STAGE_FORGED, f"{service.name}: {what}", f"header_checks = regexp:{self.folder}/smilla_refuse"
                )
            elif service not in copies and verb not in ("REJECT", "DISCARD") and not self._is_filtered(service):
                what = "takes mail with a forged X-Smilla-Hop, which would reach the stage after postsuper -r"
                yield warning(
                    Kind.STAGE_FORGED, f"{service.name}: {what}", f"header_checks = regexp:{self.folder}/smilla_refuse"
                )

    def _is_filtered(self, service: Service) -> bool:
        return any(self.site.is_ours(place, service) for _, place in self.site.milters(service))

    def _first(self, tables: str, field: str) -> str:
        """The first result that these tables have for a field."""
        for table in TOKEN.findall(tables):
            if found := self.asked.looked_up(table, field):
                return found
        return ""


def _fault_of(table: str) -> str:
    """Why a copy may not meet this table; "" if it has neither FILTER nor REDIRECT, but for smilla's own fields."""
    try:
        found = postfix_actions.verbs(table) & _LEADING
    except OSError as fault:
        return f"could not be read ({fault.strerror or fault}); if it has FILTER or REDIRECT, it leads past the hop"
    return f"has {' and '.join(sorted(found))}, {_PAST}" if found else ""
