"""Sendmail's lines, looked at by ``smilla config check --probe`` where copies leave by re-injection.

A filter that stands after smilla may refuse, hold or take a recipient from a message whose copies have left already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/mail/sendmail.cf")
_FILTER = re.compile(r"(?m)^X([^,\s]+),.*\bS=([^,\s]+)")
_LISTS = re.compile(r"(?mi)^O\s*(InputMailFilters)=(\S*)|^O\s*DaemonPortOptions=(?=.*InputMailFilters=([^\s]+))")


def problems(socket: str, configuration: Path = CONFIGURATION) -> Iterator[tuple[str, str]]:
    """Severity and text of what stands after the filter at ``socket``; nothing where there is no Sendmail, or its file
    may not be read."""
    try:
        text = configuration.read_text("utf-8", "replace")
    except OSError:
        return
    ours = {name for name, place in _FILTER.findall(text) if place == socket}
    for found in _LISTS.finditer(text):
        names = re.split(r"[,;\s]+", (found[2] if found[1] else found[3]) or "")
        places = [index for index, name in enumerate(names) if name in ours]
        if places and (after := [name for name in names[places[0] + 1 :] if name]):
            what = f"{' and '.join(after)} may refuse or hold a message whose copies have left already"
            yield "warning", f"sendmail: {what}; put smilla last in InputMailFilters"
