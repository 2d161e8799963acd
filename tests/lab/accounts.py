"""Users and folders that a server insists on, for that server alone: this machine has none of them."""

from __future__ import annotations

from pathlib import Path

_MOUNTED = """\
set -e
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
{}
shift
exec "$@"
"""


def with_accounts(folder: Path, accounts: dict[str, int], script: str = "") -> list[str]:
    """The words before a command that runs where these users exist, too, each with a group of its name and number; the
    files for it are made in ``folder``.  ``script`` is what a shell does there before.  Needs root."""
    passwd = "".join(f"{name}:x:{number}:{number}::/nonexistent:/bin/false\n" for name, number in accounts.items())
    group = "".join(f"{name}:x:{number}:\n" for name, number in accounts.items())
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + passwd)
    (folder / "group").write_text(Path("/etc/group").read_text() + group)
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _MOUNTED.format(script), "accounts"]
    return [*words, str(folder)]
