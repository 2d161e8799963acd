"""Finds the programs that the laboratory runs: those of the system, else those that tests/setup/install unpacked.

Nothing is installed for the laboratory: tests/setup/install unpacks nsd, unbound and Postfix into ``.cache/programs``
(or the folder that SMILLA_PROGRAMS names), where their libraries are found through LD_LIBRARY_PATH only.  A test is
skipped where a program is missing; in continuous integration it fails.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_POSTFIX_DAEMONS = ("usr/lib/postfix/sbin", "usr/libexec/postfix")


class MissingProgramError(Exception):
    """A program is neither on the system nor unpacked; the text says what to run."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is missing: run 'make setup' (looked in PATH and in {unpacked_folder()})")
        self.name = name


def unpacked_folder() -> Path:
    """The folder into which tests/setup/install unpacks packages."""
    return Path(os.environ.get("SMILLA_PROGRAMS") or REPOSITORY / ".cache" / "programs")


def find_program(name: str) -> Path:
    """The path of a program; an unpacked one goes before the system's, for setup unpacks only what is not usable
    there.  Raises MissingProgramError."""
    unpacked = unpacked_folder()
    search = [str(unpacked / folder) for folder in ("usr/sbin", "usr/bin")]
    search += [os.environ.get("PATH", ""), *_SYSTEM_FOLDERS]
    search += [str(folder) for folder in sorted(unpacked.glob("apart/*/usr/sbin"))]  # whose "sendmail" nobody wants
    search += [str(folder) for root in (unpacked, Path("/")) for folder in root.glob("usr/lib/postgresql/*/bin")]
    found = shutil.which(name, path=os.pathsep.join(search))
    if found is None:
        raise MissingProgramError(name)
    return Path(found)


def postfix_daemons() -> Path:
    """The folder of Postfix's daemons (master, smtpd …).  Raises MissingProgramError."""
    for root in (unpacked_folder(), Path("/")):
        for folder in _POSTFIX_DAEMONS:
            if (root / folder / "master").exists():
                return root / folder
    raise MissingProgramError("postfix")


def program_environment(path: Path) -> dict[str, str]:
    """The environment to run a program in: this process's, and the unpacked libraries where the program is one of
    the unpacked."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    unpacked = unpacked_folder()
    if path.is_relative_to(unpacked):
        libraries = [
            unpacked / "usr/lib/postfix",
            *unpacked.glob("usr/lib/*-linux-gnu*"),
            *unpacked.glob("lib/*-linux-gnu*"),
            unpacked / "usr/lib",
            *unpacked.glob("apart/*/usr/lib/*-linux-gnu*"),
        ]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(str(folder) for folder in libraries if folder.is_dir())
    return environment


def as_nobody() -> list[str]:
    """The words that run a command as nobody, where the laboratory runs as root; with the right to read what only root
    can, where the unpacked programs lie in such a place."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam("nobody")
    words = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    folder = unpacked_folder()
    if all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents) if place.exists()):
        return words
    # Without the last word, access(2) would not count the right.
    right = "caps=+dac_read_search"
    return [*words, f"--inh-{right}", f"--ambient-{right}", "--securebits=+no_setuid_fixup"]


def sendmail_sources() -> Path:
    """The folder of the m4 sources from which sendmail.cf is made.  Raises MissingProgramError."""
    for root in (unpacked_folder(), Path("/")):
        folder = root / "usr/share/sendmail/cf"
        if (folder / "m4/cf.m4").exists():
            return folder
    raise MissingProgramError("sendmail-cf")


def sendmail_daemon() -> Path:
    """Sendmail itself, which is nobody else's ``sendmail`` command.  Raises MissingProgramError."""
    for root in (unpacked_folder(), Path("/")):
        for folder in ("usr/libexec/sendmail", "usr/lib/sm.bin"):
            if (root / folder / "sendmail").exists():
                return root / folder / "sendmail"
    raise MissingProgramError("sendmail-bin")


# --- for a test that needs them ----------------------------------------------------------------------------


def require(*names: str) -> None:
    """Skips the test where a program is missing; in continuous integration nothing may be skipped unnoticed."""
    require_nothing_missing([name for name in names if shutil.which(name) is None])


def require_nothing_missing(missing: Sequence[str]) -> None:
    """The same for whatever else was found to be missing."""
    if missing:
        _cannot(f"not installed: {', '.join(missing)}")


def require_servers(*names: str) -> None:
    """The same for what the laboratory runs beside Postfix, unpacked by tests/setup/install or there; and for root."""
    try:
        for name in names:
            find_program(name)
    except MissingProgramError as error:
        _cannot(str(error))
    if os.geteuid() != 0:
        _cannot("Postfix's master needs root: run 'make test'")


def _cannot(reason: str) -> NoReturn:
    import pytest  # the laboratory does without: make demo and make bench

    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
