"""The end of root's rights, before anything from outside is read."""

from __future__ import annotations

import os
import pwd

from smilla import log
from smilla.errors import SmillaError


def drop(user: str) -> None:
    """Becomes ``user`` with its groups.  Raises SmillaError if that is not possible."""
    if os.geteuid() != 0:
        return
    if not user:
        log.runs_as_root()
        return
    try:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except (KeyError, OSError) as error:
        raise SmillaError(f"[milter] user {user}: {error}") from error
