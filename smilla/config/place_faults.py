"""Sockets of the filter that are one: whoever started second would hear that a stranger listens there.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smilla.config.options import Config

_LISTEN = (("milter", "socket"), ("stage", "socket"), ("metrics", "status"), ("metrics", "listen"), ("web", "listen"))
_UNIX = re.compile(r"(?:(?:unix|local):)?(/.*)")
_INET = re.compile(r"inet6?:([0-9]+)(?:@\[?([^\[\]]*)\]?)?")
_HOST_PORT = re.compile(r"\[?([^\[\]]*)\]?:([0-9]+)")


def of_places(config: Config) -> Iterator[tuple[str, str, str]]:
    """The table and the option of the second of two, and the problem.  Only the filter's own: the file may be that of
    several services, and of several machines."""
    seen: dict[tuple[str, str], str] = {}
    for section, name in _LISTEN:
        text = str(getattr(getattr(config, section), name))
        place = _place(text)
        if place is None or (section == "stage" and not config.may_seal):
            continue
        if place in seen:
            yield section, name, f'is "{text}", as {seen[place]} is; give each a place of its own'
        else:
            seen[place] = f"[{section}] {name}"


def _place(text: str) -> tuple[str, str] | None:
    """In one form, whichever of the three was used; None where nothing listens."""
    if found := _UNIX.fullmatch(text):
        return found[1], ""
    if found := _INET.fullmatch(text):
        return found[2] or "", found[1]
    if found := _HOST_PORT.fullmatch(text):
        return found[1], found[2]
    return None
