"""The administrator's folder of keys, read anew each time, so that a changed file counts at once."""

from __future__ import annotations

from pathlib import Path

from smilla.errors import SmillaError

_LIMIT = 1 << 20


class KeyDirectory:
    """Files of one folder, at most 1 MiB each."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None

    def read(self, name: str) -> bytes | None:
        """The octets of a file, None where there is none.  Raises SmillaError where it cannot be read."""
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            with path.open("rb") as file:
                raw = file.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == 36:  # ENAMETOOLONG: no such file can exist
                return None
            raise SmillaError(f"{path}: cannot be read: {error}") from error
        if len(raw) > _LIMIT:
            raise SmillaError(f"{path}: is larger than {_LIMIT} octets")
        return raw
