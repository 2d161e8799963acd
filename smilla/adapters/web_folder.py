"""The folder of a Web Key Directory on a web server: files appear and are replaced as a whole.

Everybody may read what is made here, as a web server's user must.  Nothing is removed but by ``remove``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from smilla.adapters import new_file
from smilla.errors import FileProblem

_KEYS = "hu"
_NAME = re.compile(r"[a-km-uw-z13-9]{32}")  # z-base-32


class WebFolder:
    """``folder`` is what is served below ``/.well-known/openpgpkey/``.  ``is_direct``: it is for the direct method, so
    for one domain; otherwise each domain has a folder of its own in it.  With ``is_dry``, nothing is changed."""

    def __init__(self, folder: Path, *, is_direct: bool = False, is_dry: bool = False) -> None:
        self._folder, self._is_direct, self._is_dry = folder, is_direct, is_dry

    def _of(self, domain: str) -> Path:
        return self._folder if self._is_direct else self._folder / domain

    def shown(self, domain: str, name: str) -> str:
        """Where a key is, below the folder."""
        return str((self._of(domain) / _KEYS / name).relative_to(self._folder))

    def names(self, domain: str) -> Sequence[str]:
        """The keys that are there, and nothing else that may be.  Raises FileProblem."""
        try:
            found = (self._of(domain) / _KEYS).iterdir()
            return sorted(path.name for path in found if _NAME.fullmatch(path.name) and path.is_file())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise FileProblem(f"{self._of(domain) / _KEYS}: cannot be read: {error.strerror}") from error

    def prepare(self, domain: str) -> None:
        """Makes the folders and an empty policy file, where they are missing (section 3.1 and 4.5).  Raises
        FileProblem."""
        if self._is_dry:
            return
        for path in (self._folder, self._of(domain), self._of(domain) / _KEYS):
            self._make(path)
        policy = self._of(domain) / "policy"
        if not policy.exists():
            new_file.write(policy, b"", new_file.PUBLIC)

    def put(self, domain: str, name: str, raw: bytes) -> bool:
        """Writes a key, unless it is there already; says whether it was not.  Raises FileProblem."""
        path = self._of(domain) / _KEYS / name
        if path.is_file() and new_file.read(path) == raw:
            return False
        if not self._is_dry:
            new_file.replace(path, raw)
        return True

    def remove(self, domain: str, name: str) -> None:
        """Raises FileProblem."""
        path = self._of(domain) / _KEYS / name
        try:
            if not self._is_dry:
                path.unlink()
        except OSError as error:
            raise FileProblem(f"{path}: cannot be removed: {error.strerror}") from error

    @staticmethod
    def _make(path: Path) -> None:
        try:
            path.mkdir(parents=True)
            path.chmod(0o755)  # whatever the umask is
        except FileExistsError:
            return
        except OSError as error:
            raise FileProblem(f"{path}: cannot be made: {error.strerror}") from error
