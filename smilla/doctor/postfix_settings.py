"""Judges what Postfix's settings mean for the filter, whatever [policy] mixed is: for ``config check --probe``.

The lines for the stage are looked at in postfix_check.py, tables that hold or redirect mail in postfix_actions.py.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from smilla.adapters import as_user, milter_client
from smilla.adapters.as_user import User, Wish
from smilla.adapters.milter_client import Who
from smilla.adapters.postfix import Postfix, Service
from smilla.config import Config
from smilla.doctor import attached, finding, postfix_listener, postfix_origin
from smilla.doctor.attached import SIGNERS, VERIFIERS, Attached, as_milter, error, warning
from smilla.doctor.finding import Finding, Kind
from smilla.doctor.rights import restart
from smilla.errors import PostfixUnclear, SmillaError

_TIMEOUTS = ("milter_connect_timeout", "milter_command_timeout", "milter_content_timeout")
_NAMES = (
    *attached.NAMES,
    *postfix_listener.NAMES,
    *_TIMEOUTS,
    "non_smtpd_milters",
    "smtp_fallback_relay",
    "message_size_limit",
    "local_header_rewrite_clients",
    "append_dot_mydomain",
    "append_at_myorigin",
    "mail_owner",
    "mydomain",
    "myorigin",
)
_TAKING = {  # where mail comes in, by a port's name or number; behind postscreen it is the service smtpd
    **dict.fromkeys(("smtp", "25", "smtpd"), "inbound"),
    **dict.fromkeys(("submission", "587", "submissions", "smtps", "465"), "outbound"),
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BRACES = re.compile(r"\{[^{}]*\}")  # where "name = value" is in place
_LINE = re.compile(r"(?<!\S)[a-z][a-z0-9]*_[a-z0-9_]+ =(?!\S)")
_SLACK_S = 5.0  # beyond the look-ups, for all other work on a message
_PROBE_S = 2.0
_UNASKED = "mail does not pass smilla, so it leaves in plaintext"
_RELAYED = "that is right only if nobody sends mail to others through it"
_ORDER = "verify, then encrypt, then sign"
_LOCAL = "mail from sendmail(1) on this machine (cron, web applications) skips smilla and is not encrypted"
_LOOP = "to change that: smilla-postfix(7), MAIL FROM SENDMAIL(1)"
_MAILDROP = "smilla's 4xx leaves a message of sendmail(1) in Postfix's maildrop, retried for ever without a bounce"


def problems(config: Config, asked: Postfix) -> Iterator[Finding]:
    """What one instance of Postfix does that hurts, or a warning that it could not be asked."""
    try:
        settings = asked.settings(tuple(dict.fromkeys(_NAMES)))
    except PostfixUnclear as unclear:
        yield warning(Kind.POSTFIX_UNSEEN, f"its settings could not be looked at: {unclear}")
        return
    yield from _Settings(Attached(config, settings)).problems()


@dataclass(frozen=True, slots=True)
class _Settings:
    site: Attached

    def problems(self) -> Iterator[Finding]:
        filtered = self.site.filtered()
        for service in self.site.of("smtpd"):
            yield from self._elsewhere(service, is_attached=bool(filtered))
        for service in filtered:
            yield from self.site.while_away(service)
            yield from self.site.unguarded(service)
            yield from self._order(service)
            yield from self._timeouts(service)
        if filtered:
            yield from past_smilla(self.site)
        else:
            yield from self._not_attached()
        if self.site.config.policy.mixed == "reinject":
            yield from self._reinject(filtered)
        yield from self._connects(filtered)
        yield from self._sendmail(filtered)
        yield from self._fallback(filtered)
        yield from self._size(filtered)
        yield from self._completion()
        yield from swallowed(self.site)

    # --- another socket than ours

    def _elsewhere(self, service: Service, *, is_attached: bool) -> Iterator[Finding]:
        """A name that looks like smilla's socket and is not: in the chroot, or mistyped."""
        yield from self.site.slips(service)
        for _, place in self.site.milters(service):
            if self.site.is_ours(place, service):
                continue
            if self._is_ours_outside(place) and service.chroot == "y":
                yield self._in_the_chroot(service, place)
            elif not is_attached and self._means_ours(place, service):
                what = f"{service.name}: asks {place}, but [milter] socket is {self.site.config.milter.socket}"
                why = "Postfix finds nobody there, and turns all mail away, or as milter_default_action says"
                yield error(Kind.OTHER_SOCKET, what, self.site.line(service), why)

    def _is_ours_outside(self, place: str) -> bool:
        """Is this our socket's own path, as everybody but a chrooted service reads it?"""
        kind, _, path = place.partition(":")
        ours = self.site.config.milter.socket.partition(":")
        return kind in ("unix", "local") and ours[0] in ("unix", "local") and path == ours[2]

    def _in_the_chroot(self, service: Service, place: str) -> Finding:
        queue = self.site.settings.main.get("queue_directory", "")
        path = place.partition(":")[2]
        what = f"{service.name}: is chrooted to {queue}, so {place} is {queue}{path} to it, where no filter listens"
        return error(Kind.CHROOT, what, self.site.line(service), "mail does not pass smilla")

    def _not_attached(self) -> Iterator[Finding]:
        """What to write, and where the socket must be first."""
        socket, listeners = self.site.config.milter.socket, self.site.of("smtpd")
        chrooted = next((service for service in listeners if service.chroot == "y"), None)
        severity = "warning" if any(map(self.site.may_lead, listeners)) else self.site.unasked
        if chrooted is not None and self.site.named(socket, chrooted) == f"unix:{socket.partition(':')[2]}":
            yield replace(self._in_the_chroot(chrooted, as_milter(socket)), severity=severity)
        elif self.site.config.policy.mixed != "stage":
            what = f"no listener has the filter at [milter] socket {socket}"
            yield replace(warning(Kind.NOT_ATTACHED, what, self.site.line(), _UNASKED), severity=severity)

    def _means_ours(self, place: str, service: Service) -> bool:
        """The same name in another folder, a name of smilla's, or a place where nobody listens while smilla listens at
        its own."""
        ours = self.site.config.milter.socket
        last, own = place.rpartition("/")[2], ours.rpartition("/")[2]
        if "/" in place and (last == own or "smilla" in last):
            return True
        if milter_client.ask(ours, _PROBE_S).who is not Who.SMILLA:
            return False
        return self.site.is_silent(place, service)

    def _connects(self, filtered: list[Service]) -> Iterator[Finding]:
        """May Postfix's user connect to our socket?  Only root can become that user; others go by the modes."""
        socket, (kind, _, path) = self.site.config.milter.socket, self.site.config.milter.socket.partition(":")
        user, wish = User(self.site.settings.main.get("mail_owner", "")), Wish(path, os.W_OK)
        if not filtered or kind not in ("unix", "local") or milter_client.ask(socket, _PROBE_S).who is Who.NOBODY:
            return  # a socket that was left behind, or none, is said already
        with suppress(SmillaError, KeyError):
            is_root = os.geteuid() == 0
            place = as_user.denials(user, [wish])[0] if is_root else as_user.denied_by_modes(user, wish)
            if place:
                what = f"its user {user.name} may not connect to {path}, because {place} keeps it out"
                folder = PurePosixPath(path).parent
                mend = shlex.join(["install", "-d", "-o", _owner(path), "-g", user.group, "-m", "2750", str(folder)])
                mend = " && ".join(filter(None, (mend, restart())))
                yield error(
                    Kind.SOCKET_DENIED, what, mend, "mail does not pass smilla until it is restarted after that"
                )
            elif place is None:
                what = (
                    f"whether its user {user.name} may connect to {path} was not tested: only root can become that user"
                )
                yield finding.hint(Kind.ASKS, "postfix", what)
            elif not is_root:
                text = f"its user {user.name} may connect to {path}, by owner, group and mode of all on the way"
                yield finding.fine(Kind.SOCKET, "postfix", text)

    # --- beside other milters

    def _order(self, service: Service) -> Iterator[Finding]:
        places = [place for _, place in self.site.milters(service)]
        own = next(n for n, place in enumerate(places) if self.site.is_ours(place, service))
        for place in filter(SIGNERS.search, places[:own]):
            what = f"{service.name}: asks {place} before smilla; if it signs, its signature breaks"
            yield finding.hint(Kind.MILTER_ORDER, "postfix", what, f"put it after smilla ({_ORDER})")
        for place in filter(VERIFIERS.search, places[own + 1 :]):
            what = f"{service.name}: asks {place} after smilla; if it verifies or scans, it sees ciphertext"
            yield finding.hint(Kind.MILTER_ORDER, "postfix", what, f"put it before smilla ({_ORDER})")

    def _timeouts(self, service: Service) -> Iterator[Finding]:
        config = self.site.config
        wanted = config.dns.timeout_s + _SLACK_S
        waits_at_rcpt = any(rule.at_rcpt for rule in config.rule)
        for name in _TIMEOUTS:
            text = self.site.settings.value(service, name)
            has_s = _seconds(text)
            if has_s is None or has_s >= wanted or (name != _TIMEOUTS[2] and not waits_at_rcpt and has_s >= _SLACK_S):
                continue
            what = f"{service.name}: {name} is {text}, and smilla may wait {config.dns.timeout_s:g} s for name servers"
            why = "Postfix gives up the filter, and answers as milter_default_action says"
            usual = {"milter_content_timeout": "300s"}.get(name, "30s")
            yield warning(Kind.TIMEOUT, what, f"{name} = {usual}, or a shorter [dns] timeout_s", why)

    # --- mail on other ways

    def _sendmail(self, filtered: list[Service]) -> Iterator[Finding]:
        config = self.site.config
        if filtered and any(self._is_past_us(pickup) for pickup in self.site.of("pickup")):
            yield finding.hint(Kind.NON_SMTPD, "postfix", _LOCAL, _LOOP)
        for program in ("pickup", "cleanup"):
            for service in self.site.of(program):
                for _, place in self.site.milters(service, "non_smtpd_milters"):
                    if self.site.is_ours(place, service) and config.mode != "inbound":
                        mend = "non_smtpd_milters =, and pickup's content_filter of contrib/postfix/master.cf.example"
                        yield warning(Kind.NON_SMTPD, f"non_smtpd_milters has {place}", mend, _MAILDROP)

    def _fallback(self, filtered: list[Service]) -> Iterator[Finding]:
        """Mail of sendmail(1) comes to a listener with the filter by smtp(8), which gives what is deferred there to the
        next server that it knows."""
        for pickup in self.site.of("pickup"):
            way = self.site.settings.value(pickup, "content_filter")
            service = self.site.settings.service(way.partition(":")[0])
            relay = self.site.settings.value(service, "smtp_fallback_relay") if service is not None else ""
            if service is not None and service.program == "smtp" and relay and self.site.listener(way) in filtered:
                what = f"{service.name}: smtp_fallback_relay = {relay} gets in plaintext what smilla defers"
                yield error(Kind.DEFAULT_ACTION, what, f"-o smtp_fallback_relay= on {service.name} in master.cf")

    def _is_past_us(self, pickup: Service) -> bool:
        """Does mail of sendmail(1) leave as it is?  Where a content filter or a milter takes it, nobody can tell."""
        services = (service for program in ("pickup", "cleanup") for service in self.site.of(program))
        has_milters = any(self.site.settings.value(service, "non_smtpd_milters") for service in services)
        return not has_milters and not self.site.settings.value(pickup, "content_filter")

    def _reinject(self, filtered: list[Service]) -> Iterator[Finding]:
        yield from postfix_listener.absent(self.site)
        listener = self.site.listener(self.site.config.reinject.smtp)
        if listener is not None and listener in filtered:
            what = f"{listener.name}: the copies would come to the filter again"
            yield error(Kind.LISTENER, what, "-o smtpd_milters=")
        overrides = self.site.settings.value(listener, "receive_override_options") if listener is not None else ""
        if listener is not None and "no_address_mappings" in overrides:
            what = f"{listener.name}: has no_address_mappings, but copies come here before aliases are expanded"
            yield warning(Kind.LISTENER, what, "-o receive_override_options=", "a copy for an alias is not delivered")
        clients = self.site.settings.main.get("local_header_rewrite_clients", "")
        if clients:
            what = f"local_header_rewrite_clients is {clients}: Postfix adds a Message-Id of its own at each attempt"
            why = "smilla cannot tell a retry of such mail without a Message-Id, and copies may come twice"
            yield finding.hint(Kind.REWRITING, "postfix", what, "local_header_rewrite_clients =", why)

    def _size(self, filtered: list[Service]) -> Iterator[Finding]:
        """Encryption makes a message 1.37 times as large."""
        limits = [self.site.settings.value(service, "message_size_limit") for service in filtered]
        least = min((int(limit) for limit in limits if limit.isdecimal() and int(limit)), default=0)
        named = self.site.config.stage.message_size_limit
        if least and named > least:
            what = f"message_size_limit is {least}, but [stage] message_size_limit is {named}"
            why = "mail is refused with 552 after all the work, instead of before"
            yield warning(Kind.SIZE, what, f"[stage] message_size_limit = {least}, or 0", why)
        if least:
            most = least * 10 // 14  # as of the stage
            text = f"message_size_limit is {least}, so messages of up to {most} octets can be encrypted"
            yield finding.fine(Kind.SIZE, "postfix", text)

    def _completion(self) -> Iterator[Finding]:
        """smilla must read an incomplete address as Postfix does."""
        main, config = self.site.settings.main, self.site.config
        appends, mydomain = main.get("append_dot_mydomain") == "yes", main.get("mydomain", "")
        if (config.append_domain if not appends else mydomain) != config.append_domain:
            what = f"append_dot_mydomain = yes: bob@partner is bob@partner.{mydomain}"
            if config.append_domain:
                why = f"smilla looks for keys of bob@partner.{config.append_domain}"
                yield error(Kind.REWRITING, what, f'append_domain = "{mydomain}"', why)
            else:
                why = "to smilla a single label is unclear, and such mail is refused"
                yield warning(Kind.REWRITING, what, f'append_domain = "{mydomain}", or append_dot_mydomain = no', why)
        elif config.append_domain and not appends:
            what = f"append_dot_mydomain = no, but append_domain is {config.append_domain}"
            why = f"smilla looks for keys of bob@partner.{config.append_domain}, and Postfix sends to bob@partner"
            yield warning(Kind.REWRITING, what, 'append_domain = ""', why)
        origin = postfix_origin.origin(main)
        if main.get("append_at_myorigin") == "yes" and config.origin and origin and config.origin != origin:
            what = f"myorigin is {origin}: bob is bob@{origin}, but to smilla bob@{config.origin}"
            yield warning(Kind.REWRITING, what, f'append_origin = "{origin}"')


def swallowed(site: Attached) -> Iterator[Finding]:
    """Parameters that have taken the next line for a part of their value, as lines copied out of a manual make them."""
    for name, value in site.settings.main.items():
        if line := _LINE.search(_BRACES.sub("", value)):
            what = f"main.cf: the value of {name} goes on with {line[0]!r}"
            why = "a line that begins with a blank goes on with the one before"
            yield error(Kind.SWALLOWED_LINE, what, f"put the line {line[0]!r} at the margin", why)


def past_smilla(site: Attached) -> Iterator[Finding]:
    """The listeners where clients hand in mail that have an empty smtpd_milters of their own, as samples for other
    filters have it.  Those on other ports are other filters' own, for what comes back from them."""
    for service in site.of("smtpd"):
        direction, mode = _TAKING.get(service.name.rpartition(":")[2], ""), site.config.mode
        if not direction or service.options.get("smtpd_milters", "-").strip():
            continue
        what = f"{service.name}: has -o smtpd_milters= in master.cf, so what comes in there goes past smilla"
        line = site.postconf(service, "smtpd_milters", None)
        if mode in ("auto", direction):
            yield warning(Kind.NOT_ATTACHED, what, line, _UNASKED)
        elif mode == "outbound":
            yield finding.hint(Kind.NOT_ATTACHED, "postfix", what, line, _RELAYED)


def _owner(path: str) -> str:
    """Whose socket it is, which is smilla's user."""
    try:
        return as_user.name_of(Path(path).stat().st_uid)
    except OSError:
        return "smilla"


def _seconds(text: str) -> float | None:
    """One of Postfix's times, None if it is none."""
    found = re.fullmatch(r"(\d+)([smhdw]?)", text)
    return float(found[1]) * _UNITS[found[2] or "s"] if found else None
