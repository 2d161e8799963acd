"""Checks Postfix's lines for the stage, for ``smilla config check --probe``.

Each finding is "error", "warning" or "" (in order), and a text that ends with the line that fixes it.  An error would
deliver a sealed message or send plaintext; a warning is something the administrator should know.  What a table
has for a sealed message is decided by ``postmap -q``, not by its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from smilla.adapters.postfix import Postfix, Service, missing_file
from smilla.config import Config
from smilla.doctor import attached, finding, postfix_actions, postfix_hop, postfix_listener, postfix_read
from smilla.doctor.attached import GUARD, Attached, error, warning
from smilla.doctor.finding import Finding, Kind
from smilla.doctor.postfix_actions import TOKEN
from smilla.errors import PostfixUnclear

_MARK = f"X-Smilla-Stage: {'0123456789abcdef' * 2} {'0123456789abcdef'}"
_NESTED = ("nested_header_checks", "mime_header_checks")  # unless set, they are $header_checks
_NAMES = (
    *attached.NAMES,
    *postfix_hop.NAMES,
    *postfix_listener.NAMES,
    "milter_header_checks",
    "header_checks",
    "lmtp_send_xforward_command",
    "smtp_header_checks",
    "lmtp_header_checks",
    "body_checks",
)
_TABLES = {  # that a message meets, by the program that looks into them
    "cleanup": ("milter_header_checks", "header_checks", *_NESTED, "body_checks"),
    "smtp": ("smtp_header_checks",),
    "lmtp": ("lmtp_header_checks",),
}
_NO_HEADER_CHECKS = "no_header_body_checks"


def problems(config: Config, asked: Postfix, *, in_doubt: str = "warning") -> Iterator[Finding]:
    """What one instance lacks; ``in_doubt`` is the severity if nobody can tell whether it has the lines."""
    try:
        settings = asked.settings(tuple(dict.fromkeys(_NAMES)), _NESTED)
        site = Attached(config, settings)
        missing = list(_missing(site))
        found = missing or list(_Lines(site, asked, in_doubt, asked.folder()).problems())
        if config.uses_hop and not missing:
            found += postfix_hop.problems(site, asked, asked.folder())
        if not found:
            what = "the stage and for secure-hop" if config.uses_hop else "the stage"
            found = [finding.fine(Kind.STAGE_WAY, "postfix", f"has the lines for {what}")]
        found += postfix_read.problems(settings.main.get("queue_directory", ""), asked.folder(), asked.files)
    except PostfixUnclear as unclear:
        text = f"its lines for the stage could not be looked at: {unclear}"
        found = [Finding(Kind.POSTFIX_UNSEEN, in_doubt, "postfix", text)]
    yield from found


def _missing(site: Attached) -> Iterator[Finding]:
    """Tables whose file is not there: Postfix sends nothing through them, nor past them."""
    for program, names in _TABLES.items():
        for service in site.of(program):
            for name in names:
                for table in TOKEN.findall(site.settings.value(service, name)):
                    if path := missing_file(table):
                        what = f"{name} = {table}: there is no file {path}, so Postfix defers all mail"
                        mend = f"put it back (contrib/postfix has smilla_*), or take it out of {name}"
                        yield error(Kind.STAGE_WAY, f"{service.name}: {what}", mend)


def is_begun(config: Config, asked: Postfix) -> bool:
    """Has somebody begun to set up the stage?  False if no service leads to it and nobody listens for its copies.
    Raises PostfixUnclear."""
    site = Attached(config, asked.settings(tuple(dict.fromkeys(_NAMES)), _NESTED))
    lines = _Lines(site, asked, "", asked.folder())
    tables = ("milter_header_checks", "header_checks")
    ways = (lines.way(cleanup, name) for cleanup in site.of("cleanup") for name in tables)
    return site.listener(config.reinject.smtp) is not None or any(ways)


def asks_nobody(config: Config, asked: Postfix) -> bool:
    """Has Postfix none of smilla's lines, nor a milter that may lead to it?  False if nobody can tell."""
    try:
        site = Attached(config, asked.settings(tuple(dict.fromkeys(_NAMES)), _NESTED))
        leads = any(map(site.may_lead, site.of("smtpd")))
        return not site.filtered() and not leads and not is_begun(config, asked)
    except PostfixUnclear:
        return False


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of one instance, and smilla's configuration; a way is the destination of FILTER in a table."""

    site: Attached
    asked: Postfix
    in_doubt: str
    folder: str
    _known: dict[str, str] = field(default_factory=dict)

    def problems(self) -> Iterator[Finding]:
        """Those of all services."""
        socket, line = self.site.config.milter.socket, self.site.line()
        filtered = self.site.filtered()
        if not filtered and (filtered := self._reached()):
            places = dict.fromkeys(place for service in filtered for _, place in self.site.milters(service))
            what = f"may be reached through something else at {' or '.join(places)}, which could not be followed"
            yield warning(Kind.NOT_ATTACHED, f"[milter] socket {socket} {what}", f"if it is not, {line}")
        elif not filtered:
            yield Finding(
                Kind.NOT_ATTACHED,
                "error" if self.in_doubt == "error" else self.site.unasked,
                "postfix",
                f"no listener has the filter at [milter] socket {socket}",
                line,
            )
        for service in filtered:
            yield from self.site.slips(service)
            yield from self._filtered(service)
        ways = [way for service in filtered if (way := self.way(self.site.cleanup(service), "milter_header_checks"))]
        for pickup in self.site.of("pickup"):
            yield from self._pickup(pickup, ways)
        for way in dict.fromkeys(ways):
            yield from self._transport(way)
        yield from self._unseen(filtered, ways)
        yield from self._attached()
        yield from postfix_listener.problems(self.site, filtered)
        yield from self._forged([service for service in self.site.of("smtpd") if service not in filtered])

    # --- listeners with the filter

    def _filtered(self, service: Service) -> Iterator[Finding]:
        yield from self.site.while_away(service)
        cleanup = self.site.cleanup(service)
        if not self.way(cleanup, "milter_header_checks"):
            what = "nothing sends a sealed message to the stage, so it would be delivered sealed"
            yield error(
                Kind.STAGE_WAY, f"{service.name}: {what}", f"milter_header_checks = regexp:{self.folder}/smilla_stage"
            )
        if self.way(cleanup, "header_checks"):
            what = "header_checks has FILTER for the mark, so a stranger's forged mark leads mail past other filters"
            line = f"header_checks = regexp:{self.folder}/smilla_refuse"
            yield error(Kind.STAGE_WAY, f"{service.name}: {what}", f"FILTER in milter_header_checks only, and {line}")
        if cleanup is not None:
            yield from self._redirecting(cleanup)

    def _redirecting(self, cleanup: Service) -> Iterator[Finding]:
        """After REDIRECT in one of these tables, Postfix asks no more milters."""
        for name in ("header_checks", *_NESTED, "body_checks"):
            value = self._nested(cleanup, name) if name in _NESTED else self.site.settings.value(cleanup, name)
            for table in TOKEN.findall(value):
                if _has_redirect(table):
                    what = f"{name} = {table} has REDIRECT, after which no filter is asked: the address gets plaintext"
                    yield warning(
                        Kind.ACCESS_TABLE,
                        f"{cleanup.name}: {what}",
                        "redirect by an access map, or by milter_header_checks",
                    )

    # --- mail that an earlier milter quarantines, so that smilla never sees it

    def _unseen(self, filtered: list[Service], ways: list[str]) -> Iterator[Finding]:
        marks = []
        for service in self.site.of("smtpd"):
            guard = GUARD.match(self.site.settings.value(service, "smtpd_data_restrictions"))
            if guard:
                marks.append(guard[1])
            if guard and (service not in filtered or self.site.config.observe):
                what = (
                    "smilla takes the field of unseen mail off nothing that comes here, so all of it stays in the queue"
                )
                yield error(Kind.UNSEEN_MAIL, f"{service.name}: {what}", "-o smtpd_data_restrictions=")
            elif service in filtered:
                yield from self.site.unguarded(service)
        for mark in dict.fromkeys(marks):
            yield from self._guarded(mark, [way.partition(":")[0] for way in ways])

    def _guarded(self, mark: str, stages: list[str]) -> Iterator[Finding]:
        """Services that send over the network must keep marked mail; those that bring mail to the filter must not."""
        kept: dict[str, bool] = {}
        filters = [
            self.site.settings.value(pickup, "content_filter").partition(":")[0] for pickup in self.site.of("pickup")
        ]
        bound = self.site.listener(self.site.config.reinject.secure_smtp)
        if bound is not None:  # all that comes there has been at smilla
            stages = [*stages, self.site.settings.value(bound, "content_filter").partition(":")[0]]
        for agent in (*self.site.of("smtp"), *self.site.of("lmtp")):
            name = f"{agent.program}_header_checks"
            tables = self.site.settings.value(agent, name)
            if tables not in kept:
                kept[tables] = self._keeps(tables, mark)
            if agent.name in filters and kept[tables]:
                what = "postsuper -r cannot bring to the filter what it never saw"
                yield warning(
                    Kind.UNSEEN_MAIL,
                    f"{agent.name}: {what}",
                    f"-o {name}= on a service of its own for pickup's content_filter",
                )
            elif agent.name not in (*filters, *stages) and not kept[tables]:
                shown = f"{mark.rpartition(' ')[0]} SECRET"  # the filter may pass this text on to its clients
                line = f"{name} = pipemap:{{regexp:{{{{/^{shown}/ unseen}}}}, fail:smilla_has_not_seen_it}}"
                severity = "error" if agent.program == "smtp" else "warning"
                yield Finding(Kind.UNSEEN_MAIL, severity, "postfix", f"{agent.name}: sends what smilla never saw", line)

    def _keeps(self, tables: str, mark: str) -> bool:
        """Does the look-up of the mark fail, so that the message stays in the queue?"""
        for table in TOKEN.findall(tables):
            if self.asked.fails(table, mark):
                return True
            if self.asked.looked_up(table, mark):
                return False
        return False

    # --- requeued mail (postsuper -r) comes in through pickup

    def _pickup(self, pickup: Service, ways: list[str]) -> Iterator[Finding]:
        cleanup = self.site.cleanup(pickup)
        way = self.way(cleanup, "header_checks")
        if not way or cleanup is None:
            what = "after postsuper -r a sealed message would be delivered sealed"
            line = f"smilla-requeue unix n - y - 0 cleanup -o header_checks=regexp:{self.folder}/smilla_requeue"
            nested = " ".join(f"-o {name}=" for name in _NESTED)
            yield error(
                Kind.STAGE_WAY, f"{pickup.name}: {what}", f"-o cleanup_service_name=smilla-requeue, and {line} {nested}"
            )
            return
        for other in dict.fromkeys(other for other in ways if other != way):
            what = f"mail for {other} goes to {way} after postsuper -r"
            yield warning(Kind.STAGE_WAY, f"{pickup.name}: {what}", "let both have the same [stage] keys")
        for name in _NESTED:
            if self._way_in(self._nested(cleanup, name)):
                what = "a message with a sealed one attached would be taken for sealed itself"
                yield error(Kind.STAGE_WAY, f"{cleanup.name}: {what}", f"-o {name}=")

    def _nested(self, service: Service, name: str) -> str:
        return self.site.settings.value(service, name).replace(
            "$header_checks", self.site.settings.value(service, "header_checks")
        )

    # --- messages that are attached

    def _attached(self) -> Iterator[Finding]:
        """A table for forged marks that also sees attached messages, as it does by default."""
        seen = [
            service
            for service in self.site.of("smtpd")
            if _NO_HEADER_CHECKS not in self.site.settings.value(service, "receive_override_options")
        ]
        services = {found.name: found for service in seen if (found := self.site.cleanup(service)) is not None}
        for cleanup in services.values():
            for name in _NESTED:
                action = self._first(self._nested(cleanup, name)).partition(" ")[0].upper()
                if action in ("REJECT", "DISCARD"):
                    what = f"{action} also meets a message with a sealed one attached"
                    yield warning(
                        Kind.STAGE_FORGED,
                        f"{cleanup.name}: {what}",
                        f"{name} =, or your own tables without smilla_refuse",
                    )

    # --- the transport

    def _transport(self, way: str) -> Iterator[Finding]:
        name, _, hop = way.partition(":")
        found = self.site.settings.service(name)
        if found is None or found.program != "lmtp":
            line = f"{name} unix - - y - 20 lmtp -o lmtp_send_xforward_command=yes"
            yield error(Kind.STAGE_WAY, f"FILTER {way}: there is no such service of LMTP", line)
            return
        if self.site.settings.value(found, "lmtp_send_xforward_command") != "yes":
            what = "the stage would not know requeued mail again"
            yield error(Kind.STAGE_WAY, f"{name}: {what}", "-o lmtp_send_xforward_command=yes")
        limit = f"{name}_destination_recipient_limit"
        if self.asked.value(limit, as_written=True).startswith("$") and (most := self.asked.value(limit)) != "0":
            what = f"a message for more than {most} recipients comes to the stage in parts, each encrypted anew"
            yield warning(Kind.STAGE_WAY, f"{name}: {what}", f"{limit} = 1000 in main.cf")
        if not self.site.is_place(self.site.config.stage.socket, hop, found):
            yield error(
                Kind.STAGE_WAY,
                f"FILTER {way}: smilla's [stage] socket is {self.site.config.stage.socket}",
                f"write {name}:{self.site.named(self.site.config.stage.socket, found)}",
            )

    # --- marks that are forged

    def _forged(self, services: list[Service]) -> Iterator[Finding]:
        """Listeners without the filter; the filter itself refuses such a mark."""
        for service in services:
            overrides = self.site.settings.value(service, "receive_override_options")
            action = self._action(self.site.cleanup(service), "header_checks").partition(" ")[0].upper()
            if "no_header_body_checks" not in overrides and action not in ("REJECT", "DISCARD"):
                what = "takes mail with a forged mark, which would reach the stage after postsuper -r"
                yield warning(
                    Kind.STAGE_FORGED, f"{service.name}: {what}", f"header_checks = regexp:{self.folder}/smilla_refuse"
                )

    # --- ways

    def _reached(self) -> list[Service]:
        """Listeners with a milter that may lead to the filter (HAProxy): those with the way to the stage if there are
        any, else all of them."""
        copies = self.site.listener(self.site.config.reinject.smtp)
        found = [one for one in self.site.of("smtpd") if one != copies and self.site.may_lead(one)]
        return [one for one in found if self.way(self.site.cleanup(one), "milter_header_checks")] or found

    def way(self, cleanup: Service | None, name: str) -> str:
        """Where a sealed message goes by one of the tables of a cleanup service, "" if nowhere."""
        return self._way_in(self.site.settings.value(cleanup, name)) if cleanup is not None else ""

    def _way_in(self, tables: str) -> str:
        verb, _, way = self._first(tables).partition(" ")
        return way.strip() if verb.upper() == "FILTER" else ""

    def _action(self, cleanup: Service | None, name: str) -> str:
        return self._first(self.site.settings.value(cleanup, name)) if cleanup is not None else ""

    def _first(self, tables: str) -> str:
        """The first result that these tables have for a sealed message."""
        for table in TOKEN.findall(tables):
            if table not in self._known:
                self._known[table] = self.asked.looked_up(table, _MARK)
            if self._known[table]:
                return self._known[table]
        return ""


def _has_redirect(table: str) -> bool:
    """False if the user who runs the check may not read it."""
    with suppress(OSError):
        return "REDIRECT" in postfix_actions.verbs(table)
    return False
