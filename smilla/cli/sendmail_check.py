"""Checks Sendmail's lines, for ``smilla config check --probe``, if copies leave by re-injection.

A filter after smilla may refuse or hold a message, or remove a recipient, when its copies have already left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/mail/sendmail.cf")
_FILTER = re.compile(r"(?m)^X([^,\s]+),.*\bS=([^,\s]+)")
_LISTS = re.compile(r"(?mi)^O\s*(InputMailFilters)=(\S*)|^O\s*DaemonPortOptions=(?=.*InputMailFilters=([^\s]+))")


def problems(socket: str, configuration: Path = CONFIGURATION) -> Iterator[tuple[str, str]]:
    """Severity and text for the filters after the one at ``socket``; nothing if there is no Sendmail, or its file is
    not readable."""
    try:
        text = configuration.read_text("utf-8", "replace")
    except OSError:
        return
    ours = {name for name, place in _FILTER.findall(text) if place == socket}
    for found in _LISTS.finditer(text):
        names = re.split(r"[,;\s]+", (found[2] if found[1] else found[3]) or "")
        places = [index for index, name in enumerate(names) if name in ours]
        if places and (after := [name for name in names[places[0] + 1 :] if name]):
            what = f"{' and '.join(after)} may refuse or hold a message whose copies have already left"
            yield "warning", f"sendmail: {what}; put smilla last in InputMailFilters"
