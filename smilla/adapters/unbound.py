"""Asks the programs of an unbound on this machine about its configuration, and the kernel about the clock."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

_PLACES = ("/usr/sbin/unbound-checkconf", "/usr/local/sbin/unbound-checkconf")
_PROGRAM_S = 10.0
_ADJTIMEX_OCTETS = 512  # more than struct timex has anywhere
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def is_installed() -> bool:
    """Is there an unbound on this machine, whether it runs or not?"""
    return bool(_checker())


def _checker() -> str:
    return shutil.which("unbound-checkconf") or next((place for place in _PLACES if Path(place).exists()), "")


def option(name: str) -> str:
    """The value of an option in unbound.conf or its default, "" if unbound is not here or does not say."""
    program = _checker()
    if not program:
        return ""
    try:
        done = subprocess.run(
            [program, "-o", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PROGRAM_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def clock_is_kept() -> bool | None:
    """Is the clock synchronised (adjtimex(2))?  None if the kernel does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ADJTIMEX_OCTETS))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
