"""What Postfix appends to an address without a domain."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def origin(main: Mapping[str, str]) -> str:
    """myorigin.  If that begins with "/", as on Debian (/etc/mailname), it is the first line of the file of this name;
    "" if the file cannot be read."""
    name = main.get("myorigin", "")
    if not name.startswith("/"):
        return name
    with suppress(OSError):
        return (Path(name).read_text("ascii", "replace").splitlines() or [""])[0].strip()
    return ""
