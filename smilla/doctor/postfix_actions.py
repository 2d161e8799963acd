"""Finds tables of Postfix that do more than let a message pass: HOLD, REDIRECT, FILTER.

Part of ``smilla config check``.  With ``mixed = "reinject"`` the copies have left before Postfix does any of it.
Tables are read as text, if the user who runs the check may read them; an indexed table (hash) is read in its source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from smilla.adapters.postfix import Postfix, Service, Settings, behind_proxy
from smilla.doctor.finding import Finding, Kind, warning
from smilla.errors import PostfixUnclear

_BRACES = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"  # up to three deep
TOKEN = re.compile(rf"(?:[^\s,{{}}]|{_BRACES})+")  # of a list
_VERBS = ("HOLD", "REDIRECT", "FILTER")
_PATTERNS = ("regexp", "pcre")
_SOURCES = (*_PATTERNS, "texthash", "cidr", "hash", "btree", "lmdb", "cdb", "dbm", "sdbm")
_CHECKS = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks", "milter_header_checks")
_CLASSES = "smtpd_restriction_classes"
_RESTRICTIONS = tuple(
    f"smtpd_{stage}_restrictions" for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)
_RULE = re.compile(r"!?([^\w\s])(?:\\.|(?!\1).)*\1\w*\s+(.*)", re.DOTALL)  # /pattern/flags action
_SAID = "[policy] mixed = reinject"
_PAST = "it does so to the message, not to copies that have left before"
_MEND = "leave mixed out, or write stage"


def verbs(table: str) -> set[str]:
    """Which of HOLD, REDIRECT and FILTER a table has, for any key.  Raises OSError if it cannot be read."""
    kind, _, place = behind_proxy(table).partition(":")
    inner = place[1:-1] if place.startswith("{") else place
    if kind in ("pipemap", "unionmap"):
        return {verb for one in TOKEN.findall(inner) for verb in verbs(one)}
    if kind in ("static", "inline", "fail"):
        actions = [inner] if kind == "static" else [_bare(pair).partition("=")[2] for pair in TOKEN.findall(inner)]
    elif place.startswith("{"):
        actions = [_action(_bare(rule), kind) for rule in TOKEN.findall(inner) if "X-Smilla" not in rule]
    elif kind in _SOURCES:
        text = Path(place).read_text("utf-8", "replace")
        actions = [_action(line, kind) for line in _lines(text) if "X-Smilla" not in line]
    else:
        raise OSError("it is no file")
    return {word[0].upper() for action in actions if (word := action.split())} & set(_VERBS)


def _bare(rule: str) -> str:
    return rule[1:-1].strip() if rule.startswith("{") else rule


def _lines(text: str) -> list[str]:
    """Lines as Postfix counts them: one that begins with a space continues the one before."""
    kept = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return re.sub(r"\n(?=\s)", " ", kept).splitlines()


def _action(rule: str, kind: str) -> str:
    if kind in _PATTERNS:
        found = _RULE.match(rule)
        return found[2] if found else ""
    return " ".join(rule.split()[1:])


def problems(asked: Postfix) -> Iterator[Finding]:
    """The tables that hold a message or send it elsewhere, on listeners with a filter: each once."""
    try:
        classes = tuple(TOKEN.findall(asked.settings((_CLASSES,)).main.get(_CLASSES, "")))
        names = ("smtpd_milters", "cleanup_service_name", *_RESTRICTIONS, *classes, *_CHECKS)
        tables: dict[str, str] = {}
        for table, name in _tables(asked.settings(names), classes):
            tables.setdefault(table, name)
    except PostfixUnclear as error:
        yield warning(Kind.ACCESS_TABLE, _SAID, f"Postfix's tables could not be looked at: {error}")
        return
    for table, name in tables.items():
        try:
            if found := verbs(table):
                text = f"{name}: {table} has {' and '.join(sorted(found))}; {_PAST}"
                yield warning(Kind.ACCESS_TABLE, _SAID, text, _MEND)
        except OSError as error:
            what = f"{name}: {table} could not be read ({error.strerror or error})"
            yield warning(Kind.ACCESS_TABLE, _SAID, f"{what}; if it has {' or '.join(_VERBS)}, {_PAST}", _MEND)


def _tables(settings: Settings, classes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each table, and the parameter that names it."""
    for listener in settings.services:
        if listener.program == "smtpd" and settings.value(listener, "smtpd_milters"):
            for name in (*_RESTRICTIONS, *classes):
                yield from ((table, name) for table in _of_restrictions(settings.value(listener, name)))
            cleanup = settings.service(settings.value(listener, "cleanup_service_name"))
            yield from _of_cleanup(settings, cleanup)


def _of_restrictions(value: str) -> Iterator[str]:
    tokens = TOKEN.findall(value)
    for before, token in zip(["", *tokens], tokens, strict=False):
        if ":" in token and before != "check_policy_service":
            yield token


def _of_cleanup(settings: Settings, cleanup: Service | None) -> Iterator[tuple[str, str]]:
    if cleanup is not None:
        for name in _CHECKS:
            yield from ((table, name) for table in TOKEN.findall(settings.value(cleanup, name)))
