"""Checks Sendmail's lines, for ``smilla config check --probe``: is the filter among them, and what do they do while it
is away?

If copies leave by re-injection, a filter after smilla may refuse or hold a message, or remove a recipient, when its
copies have already left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from smilla.config import Config
from smilla.config.values import is_local
from smilla.doctor.finding import Finding, Kind, error, fine, warning

CONFIGURATION = Path("/etc/mail/sendmail.cf")
_FILTER = re.compile(r"(?m)^X([^,\s]+),(.*)$")
_EQUATE = re.compile(r"\b([SFT])=([^,]*)")
_LISTS = re.compile(r"(?mi)^O\s*(InputMailFilters)=(\S*)|^O\s*DaemonPortOptions=(?=.*InputMailFilters=([^\s]+))")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIMES = {"R": 10, "E": 300}  # seconds, where T= does not name them
_SLACK_S = 5.0
_MAKE = "in sendmail.mc, then make -C /etc/mail"


def after(socket: str, configuration: Path = CONFIGURATION) -> Iterator[Finding]:
    """A warning about the filters after the one at ``socket``; nothing if there is no Sendmail, or its file is not
    readable."""
    text = _text(configuration)
    ours = _ours(_filters(text), socket)
    for names in _lists(text):
        places = [index for index, name in enumerate(names) if name in ours]
        if places and (others := [name for name in names[places[0] + 1 :] if name]):
            what = f"{' and '.join(others)} may refuse or hold a message whose copies have already left"
            yield warning(Kind.MILTER_ORDER, "sendmail", what, "put smilla last in InputMailFilters")


def problems(config: Config, configuration: Path = CONFIGURATION) -> Iterator[Finding]:
    """What is wrong with the lines for the filter; nothing if there is no Sendmail, or its file is not readable."""
    if not (text := _text(configuration)):
        return
    socket, filters = config.milter.socket, _filters(text)
    line = f"INPUT_MAIL_FILTER(`smilla', `S={socket}, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl"
    ours = _ours(filters, socket)
    if not ours:
        if "smilla" in filters:
            what = f"the filter smilla is at {filters['smilla'].get('S', '')}, but [milter] socket is {socket}"
            why = "Sendmail finds nobody there, so mail does not pass smilla"
            yield error(Kind.OTHER_SOCKET, "sendmail", what, f"{line} {_MAKE}", why)
        else:
            what = f"no filter has [milter] socket {socket}"
            is_sure = not filters and not config.observe and is_local(socket)  # another filter may lead to ours
            told = error if is_sure else warning
            yield told(Kind.NOT_ATTACHED, "sendmail", what, f"{line} {_MAKE}", "mail passes in plaintext")
        return
    for name in ours:
        yield from _filter(name, filters[name], config, line)
        if not any(name in names for names in _lists(text)):
            what = f"the filter {name} is defined, but no InputMailFilters names it"
            yield error(Kind.NOT_ATTACHED, "sendmail", what, f"{line} {_MAKE}", "mail passes in plaintext")


def _filter(name: str, equates: Mapping[str, str], config: Config, line: str) -> Iterator[Finding]:
    flags = equates.get("F", "")
    if "T" not in flags and "4" not in flags:
        if "R" in flags:
            what = f"the filter {name} has F=R: while it is away, mail is refused for good"
            yield warning(Kind.DEFAULT_ACTION, "sendmail", what, f"{line} {_MAKE}")
        else:
            what = f"the filter {name} has no F=T: while it is away, mail passes in plaintext"
            yield error(Kind.DEFAULT_ACTION, "sendmail", what, f"{line} {_MAKE}")
    else:
        yield fine(Kind.DEFAULT_ACTION, "sendmail", f"the filter {name} has F={flags}, so mail waits while it is away")
    times = dict(re.findall(r"([CSRE]):(\d+[smhdw]?)", equates.get("T", "")))
    at_rcpt = any(rule.at_rcpt for rule in config.rule)
    for phase, usual in _TIMES.items():
        has_s = _seconds(times[phase]) if phase in times else usual
        if has_s < config.dns.timeout_s + _SLACK_S and (phase == "E" or at_rcpt):
            what = f"the filter {name} has {has_s:g} s for {phase}, and smilla may wait {config.dns.timeout_s:g} s"
            yield warning(Kind.TIMEOUT, "sendmail", f"{what} for name servers", f"{line} {_MAKE}")


def _text(configuration: Path) -> str:
    try:
        return configuration.read_text("utf-8", "replace")
    except OSError:
        return ""


def _filters(text: str) -> dict[str, dict[str, str]]:
    """Each filter's S=, F= and T=."""
    return {name: {key: value.strip() for key, value in _EQUATE.findall(rest)} for name, rest in _FILTER.findall(text)}


def _ours(filters: Mapping[str, Mapping[str, str]], socket: str) -> list[str]:
    return [name for name, equates in filters.items() if _same(equates.get("S", "")) == _same(socket)]


def _same(socket: str) -> str:
    """UNIX sockets have two names, and loopback some."""
    kind, _, place = socket.partition(":")
    return f"unix:{place}" if kind in ("unix", "local") else f"inet:{place.replace('localhost', '127.0.0.1')}"


def _lists(text: str) -> Iterator[list[str]]:
    for found in _LISTS.finditer(text):
        yield re.split(r"[,;\s]+", (found[2] if found[1] else found[3]) or "")


def _seconds(text: str) -> float:
    return float(text.rstrip("smhdw")) * _UNITS.get(text[-1], 1)
