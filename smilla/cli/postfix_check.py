"""Checks Postfix's lines for the stage, for ``smilla config check --probe``.

Each finding is "error", "warning" or "" (in order), and a text that ends with the line that fixes it.  An error would
deliver a sealed message or send plaintext; a warning is something the administrator should know.  What a table
has for a sealed message is decided by ``postmap -q``, not by its text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from smilla.adapters.postfix import Postfix, Service, Settings
from smilla.cli import postfix_actions, postfix_read
from smilla.cli.postfix_actions import TOKEN
from smilla.config import Config
from smilla.errors import PostfixUnclear

Found = tuple[str, str]
_MARK = f"X-Smilla-Stage: {'0123456789abcdef' * 2} {'0123456789abcdef'}"
_NESTED = ("nested_header_checks", "mime_header_checks")  # unless set, they are $header_checks
_ADDING = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
_NAMES = (
    *_ADDING,
    "queue_directory",
    "smtpd_milters",
    "milter_default_action",
    "milter_header_checks",
    "header_checks",
    "cleanup_service_name",
    "content_filter",
    "receive_override_options",
    "lmtp_send_xforward_command",
    "smtpd_data_restrictions",
    "smtpd_authorized_xforward_hosts",
    "smtp_header_checks",
    "lmtp_header_checks",
    "body_checks",
)
UNSEEN = "its lines for the stage could not be looked at"
_OVERRIDES = ("no_address_mappings", "no_header_body_checks")
_UNSEEN = "check_client_access static:{PREPEND X-Smilla: pending SECRET}"
_GUARD = re.compile(r"check_client_access[\s,]+static:\{\s*PREPEND\s+(X-Smilla:[^{}]*?)\s*\}")
_DEFAULT_ACTION = re.compile(r"default_action\s*=\s*(\w+)")


def problems(config: Config, asked: Postfix, *, in_doubt: str = "warning") -> Iterator[Found]:
    """What one instance lacks; ``in_doubt`` is the severity if nobody can tell whether it has the lines."""
    try:
        settings = asked.settings(_NAMES, _NESTED)
        found = list(_Lines(config, asked, settings, in_doubt, asked.folder()).problems()) or [
            ("", "has the lines for the stage")
        ]
        found += postfix_read.problems(settings.main.get("queue_directory", ""), asked.folder(), asked.files)
    except PostfixUnclear as error:
        found = [(in_doubt, f"{UNSEEN}: {error}")]
    for severity, text in found:
        yield severity, f"postfix: {text}"


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of one instance, and smilla's configuration; a way is the destination of FILTER in a table."""

    config: Config
    asked: Postfix
    settings: Settings
    in_doubt: str
    folder: str
    _known: dict[str, str] = field(default_factory=dict)

    def problems(self) -> Iterator[Found]:
        """Those of all services."""
        socket, line = self.config.milter.socket, f"smtpd_milters = {_as_milter(self.config.milter.socket)}"
        filtered = [service for service in self._of("smtpd") if self._own_actions(service)]
        if not filtered and (filtered := self._reached()):
            places = dict.fromkeys(place for service in filtered for _, place in self._milters(service))
            what = f"may be reached through something else at {' or '.join(places)}, which could not be followed"
            yield "warning", f"[milter] socket {socket} {what}; if it is not, {line}"
        elif not filtered:
            yield self.in_doubt, f"no listener has the filter at [milter] socket {socket}; {line}"
        for service in filtered:
            yield from self._filtered(service)
        ways = [way for service in filtered if (way := self._way(self._cleanup(service), "milter_header_checks"))]
        for pickup in self._of("pickup"):
            yield from self._pickup(pickup, ways)
        for way in dict.fromkeys(ways):
            yield from self._transport(way)
        yield from self._unseen(filtered, ways)
        yield from self._attached()
        yield from self._reinject(filtered)
        yield from self._forged([service for service in self._of("smtpd") if service not in filtered])

    # --- listeners with the filter

    def _filtered(self, service: Service) -> Iterator[Found]:
        actions = self._own_actions(service) or self._common_action(service)
        if "accept" in actions:
            what = "while the filter is away, mail passes in plaintext"
            yield "error", f"{service.name}: {what}; milter_default_action = tempfail"
        if "quarantine" in actions:
            what = "mail that comes while the filter is down is held in plaintext, and released in plaintext"
            yield "warning", f"{service.name}: {what}; milter_default_action = tempfail"
        cleanup = self._cleanup(service)
        if not self._way(cleanup, "milter_header_checks"):
            what = "nothing sends a sealed message to the stage, so it would be delivered sealed"
            yield "error", f"{service.name}: {what}; milter_header_checks = regexp:{self.folder}/smilla_stage"
        if self._way(cleanup, "header_checks"):
            what = "header_checks has FILTER for the mark, so a stranger's forged mark leads mail past other filters"
            line = f"header_checks = regexp:{self.folder}/smilla_refuse"
            yield "error", f"{service.name}: {what}; FILTER in milter_header_checks only, and {line}"
        if cleanup is not None:
            yield from self._redirecting(cleanup)

    def _redirecting(self, cleanup: Service) -> Iterator[Found]:
        """After REDIRECT in one of these tables, Postfix asks no more milters."""
        for name in ("header_checks", *_NESTED, "body_checks"):
            value = self._nested(cleanup, name) if name in _NESTED else self.settings.value(cleanup, name)
            for table in TOKEN.findall(value):
                if _has_redirect(table):
                    what = f"{name} = {table} has REDIRECT, after which no filter is asked: the address gets plaintext"
                    yield "warning", f"{cleanup.name}: {what}; redirect by an access map, or by milter_header_checks"

    def _reached(self) -> list[Service]:
        """Listeners with a milter that may lead to the filter (HAProxy): those with the way to the stage if there are
        any, else all of them."""
        copies = self._listener(self.config.reinject.smtp)
        found = [service for service in self._of("smtpd") if service != copies and any(self._milters(service))]
        return [one for one in found if self._way(self._cleanup(one), "milter_header_checks")] or found

    def _own_actions(self, service: Service) -> list[str]:
        """What Postfix does while the filter is down: one word for each time that this service names the filter."""
        milters = list(self._milters(service))
        ours = [token for token, place in milters if self._is_place(self.config.milter.socket, place, service)]
        return [self._default_action(service, token) for token in ours]

    def _common_action(self, service: Service) -> set[str]:
        """What it does while any of its milters is down, whichever leads to the filter; empty if they differ."""
        found = {self._default_action(service, token) for token, _ in self._milters(service)}
        return found if len(found) == 1 else set()

    def _default_action(self, service: Service, milter: str) -> str:
        special = _DEFAULT_ACTION.search(milter)
        return special[1] if special else self.settings.value(service, "milter_default_action")

    def _milters(self, service: Service) -> Iterator[tuple[str, str]]:
        """Each milter as written, and its socket."""
        for token in TOKEN.findall(self.settings.value(service, "smtpd_milters")):
            yield token, (TOKEN.findall(token.removeprefix("{").removesuffix("}")) or [""])[0]

    # --- mail that an earlier milter quarantines, so that smilla never sees it

    def _unseen(self, filtered: list[Service], ways: list[str]) -> Iterator[Found]:
        marks = []
        for service in self._of("smtpd"):
            guard = _GUARD.match(self.settings.value(service, "smtpd_data_restrictions"))
            if guard:
                marks.append(guard[1])
            if guard and (service not in filtered or self.config.observe):
                what = (
                    "smilla takes the field of unseen mail off nothing that comes here, so all of it stays in the queue"
                )
                yield "error", f"{service.name}: {what}; -o smtpd_data_restrictions="
            elif not guard and service in filtered and (before := self._before(service)):
                what = f"smilla never sees what {before} quarantines, and postsuper -H sends it as it is"
                line = f"-o smtpd_data_restrictions={_UNSEEN}, and smtp_header_checks of main.cf.example"
                yield "warning", f"{service.name}: {what}; {line}"
        for mark in dict.fromkeys(marks):
            yield from self._guarded(mark, [way.partition(":")[0] for way in ways])

    def _before(self, service: Service) -> str:
        """The milters that this service asks before the filter."""
        places = [place for _, place in self._milters(service)]
        ours = (n for n, place in enumerate(places) if self._is_place(self.config.milter.socket, place, service))
        own = next(ours, 0)  # nobody can tell which of the others leads to the filter
        return " or ".join(places[:own])

    def _guarded(self, mark: str, stages: list[str]) -> Iterator[Found]:
        """Services that send over the network must keep marked mail; those that bring mail to the filter must not."""
        kept: dict[str, bool] = {}
        filters = [self.settings.value(pickup, "content_filter").partition(":")[0] for pickup in self._of("pickup")]
        for agent in (*self._of("smtp"), *self._of("lmtp")):
            name = f"{agent.program}_header_checks"
            tables = self.settings.value(agent, name)
            if tables not in kept:
                kept[tables] = self._keeps(tables, mark)
            if agent.name in filters and kept[tables]:
                what = "postsuper -r cannot bring to the filter what it never saw"
                yield "warning", f"{agent.name}: {what}; -o {name}= on a service of its own for pickup's content_filter"
            elif agent.name not in (*filters, *stages) and not kept[tables]:
                shown = f"{mark.rpartition(' ')[0]} SECRET"  # the filter may pass this text on to its clients
                line = f"{name} = pipemap:{{regexp:{{{{/^{shown}/ unseen}}}}, fail:smilla_has_not_seen_it}}"
                severity = "error" if agent.program == "smtp" else "warning"
                yield severity, f"{agent.name}: sends what smilla never saw; {line}"

    def _keeps(self, tables: str, mark: str) -> bool:
        """Does the look-up of the mark fail, so that the message stays in the queue?"""
        for table in TOKEN.findall(tables):
            if self.asked.fails(table, mark):
                return True
            if self.asked.looked_up(table, mark):
                return False
        return False

    # --- requeued mail (postsuper -r) comes in through pickup

    def _pickup(self, pickup: Service, ways: list[str]) -> Iterator[Found]:
        cleanup = self._cleanup(pickup)
        way = self._way(cleanup, "header_checks")
        if not way or cleanup is None:
            what = "after postsuper -r a sealed message would be delivered sealed"
            line = f"smilla-requeue unix n - y - 0 cleanup -o header_checks=regexp:{self.folder}/smilla_requeue"
            nested = " ".join(f"-o {name}=" for name in _NESTED)
            yield "error", f"{pickup.name}: {what}; -o cleanup_service_name=smilla-requeue, and {line} {nested}"
            return
        for other in dict.fromkeys(other for other in ways if other != way):
            what = f"mail for {other} goes to {way} after postsuper -r"
            yield "warning", f"{pickup.name}: {what}; let both have the same [stage] keys"
        for name in _NESTED:
            if self._way_in(self._nested(cleanup, name)):
                what = "a message with a sealed one attached would be taken for sealed itself"
                yield "error", f"{cleanup.name}: {what}; -o {name}="

    def _nested(self, service: Service, name: str) -> str:
        return self.settings.value(service, name).replace(
            "$header_checks", self.settings.value(service, "header_checks")
        )

    # --- messages that are attached

    def _attached(self) -> Iterator[Found]:
        """A table for forged marks that also sees attached messages, as it does by default."""
        seen = [
            service
            for service in self._of("smtpd")
            if _OVERRIDES[1] not in self.settings.value(service, "receive_override_options")
        ]
        services = {found.name: found for service in seen if (found := self._cleanup(service)) is not None}
        for cleanup in services.values():
            for name in _NESTED:
                action = self._first(self._nested(cleanup, name)).partition(" ")[0].upper()
                if action in ("REJECT", "DISCARD"):
                    what = f"{action} also meets a message with a sealed one attached"
                    yield "warning", f"{cleanup.name}: {what}; {name} =, or your own tables without smilla_refuse"

    # --- the transport

    def _transport(self, way: str) -> Iterator[Found]:
        name, _, hop = way.partition(":")
        found = self.settings.service(name)
        if found is None or found.program != "lmtp":
            line = f"{name} unix - - y - 20 lmtp -o lmtp_send_xforward_command=yes"
            yield "error", f"FILTER {way}: there is no such service of LMTP; {line}"
            return
        if self.settings.value(found, "lmtp_send_xforward_command") != "yes":
            what = "the stage would not know requeued mail again"
            yield "error", f"{name}: {what}; -o lmtp_send_xforward_command=yes"
        limit = f"{name}_destination_recipient_limit"
        if self.asked.value(limit, as_written=True).startswith("$") and (most := self.asked.value(limit)) != "0":
            what = f"a message for more than {most} recipients comes to the stage in parts, each encrypted anew"
            yield "warning", f"{name}: {what}; {limit} = 1000 in main.cf"
        if not self._is_place(self.config.stage.socket, hop, found):
            yield "error", f"FILTER {way}: smilla's [stage] socket is {self.config.stage.socket}; write that one"

    # --- the listener of [reinject]

    def _reinject(self, filtered: list[Service]) -> Iterator[Found]:
        found = self._listener(self.config.reinject.smtp)
        if found is None:
            return  # the probe tries whether anybody listens there
        if found in filtered:
            yield "error", f"{found.name}: the copies would come to the filter again; -o smtpd_milters="
        if not self.settings.value(found, "smtpd_authorized_xforward_hosts"):
            what = "smilla may not say who the client was, so the copies seem to come from this machine"
            yield "warning", f"{found.name}: {what}; -o smtpd_authorized_xforward_hosts=127.0.0.0/8"
        yield from self._mapped_twice(found)
        theirs = self.settings.value(found, "content_filter")
        for service in filtered:
            wanted = self.settings.value(service, "content_filter")
            if wanted and service != found and wanted != theirs:
                what = f"what is sealed skips content_filter = {wanted}, and so do its copies"
                yield "warning", f"{service.name}: {what}; on {found.name}, -o content_filter={wanted}"
        yield from self._skipped_by_sendmail()

    def _skipped_by_sendmail(self) -> Iterator[Found]:
        """Mail from sendmail(1) that is looped through SMTP has pickup's content_filter, and no other."""
        wanted = self.settings.main.get("content_filter", "")
        for pickup in self._of("pickup"):
            theirs = self.settings.value(pickup, "content_filter")
            found = self._listener(theirs)
            if found is not None and wanted not in ("", theirs, self.settings.value(found, "content_filter")):
                what = f"what {pickup.name} sends to {found.name} skips content_filter = {wanted}"
                yield "warning", f"{pickup.name}: {what}; on {found.name}, -o content_filter={wanted}"

    def _listener(self, place: str) -> Service | None:
        port = place.rpartition(":")[2]
        return next((service for service in self._of("smtpd") if service.name.rpartition(":")[2] == port), None)

    def _mapped_twice(self, listener: Service) -> Iterator[Found]:
        words = re.split(r"[\s,]+", self.settings.value(listener, "receive_override_options"))
        added = [name for name in _ADDING if self.settings.main.get(name)]
        if added and _OVERRIDES[0] in words:
            what = f"whom {' and '.join(added)} adds the seal does not name: ciphertext for their own key, or nothing"
            line = f"-o receive_override_options={_OVERRIDES[1]} gives them a copy of each copy"
            yield "warning", f"{listener.name}: {what}; {line}"
        elif not added and any(word not in words for word in _OVERRIDES):
            what = "aliases and header_checks are applied to the copies again"
            yield "warning", f"{listener.name}: {what}; -o receive_override_options={','.join(_OVERRIDES)}"

    # --- marks that are forged

    def _forged(self, services: list[Service]) -> Iterator[Found]:
        """Listeners without the filter; the filter itself refuses such a mark."""
        for service in services:
            overrides = self.settings.value(service, "receive_override_options")
            action = self._action(self._cleanup(service), "header_checks").partition(" ")[0].upper()
            if "no_header_body_checks" not in overrides and action not in ("REJECT", "DISCARD"):
                what = "takes mail with a forged mark, which would reach the stage after postsuper -r"
                yield "warning", f"{service.name}: {what}; header_checks = regexp:{self.folder}/smilla_refuse"

    # --- shared by all of them

    def _of(self, program: str) -> list[Service]:
        return [service for service in self.settings.services if service.program == program]

    def _cleanup(self, service: Service) -> Service | None:
        return self.settings.service(self.settings.value(service, "cleanup_service_name"))

    def _way(self, cleanup: Service | None, name: str) -> str:
        return self._way_in(self.settings.value(cleanup, name)) if cleanup is not None else ""

    def _way_in(self, tables: str) -> str:
        verb, _, way = self._first(tables).partition(" ")
        return way.strip() if verb.upper() == "FILTER" else ""

    def _action(self, cleanup: Service | None, name: str) -> str:
        return self._first(self.settings.value(cleanup, name)) if cleanup is not None else ""

    def _first(self, tables: str) -> str:
        """The first result that these tables have for a sealed message."""
        for table in TOKEN.findall(tables):
            if table not in self._known:
                self._known[table] = self.asked.looked_up(table, _MARK)
            if self._known[table]:
                return self._known[table]
        return ""

    def _is_place(self, socket: str, name: str, service: Service) -> bool:
        """Does this service of Postfix mean smilla's socket by that name?"""
        kind, _, place = socket.partition(":")
        if kind in ("unix", "local"):
            return name.partition(":")[0] in ("unix", "local") and place in self._paths(name.partition(":")[2], service)
        port, _, host = place.partition("@")
        their_host, _, their_port = name.removeprefix("inet:").rpartition(":")
        return port == their_port and _host(host) == _host(their_host)

    def _paths(self, path: str, service: Service) -> list[str]:
        """What a path in Postfix's files may mean outside its chroot."""
        queue = self.settings.main.get("queue_directory", "")
        if not path.startswith("/"):
            return [f"{queue}/{path}"]
        return {"y": [f"{queue}{path}"], "n": [path]}.get(service.chroot, [path, f"{queue}{path}"])


def _has_redirect(table: str) -> bool:
    """False if the user who runs the check may not read it."""
    with suppress(OSError):
        return "REDIRECT" in postfix_actions.verbs(table)
    return False


def _as_milter(socket: str) -> str:
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
