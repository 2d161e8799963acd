"""What ``smilla config check --postfix`` found of Postfix's lines for the stage, for the filter to read.

Where they are missing, a sealed message would be delivered to people as it is.  So nothing is sealed unless somebody
has looked and found them; what is found later, after a mend, counts at once.  One small file in the folder of the seal
keys, written as a whole or not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from smilla.config.options import StageOptions
from smilla.errors import SmillaError

_STAGE = "the stage"  # among the instances: what smilla itself found at its start
_NOBODY = "nobody has looked yet whether Postfix has the lines for the stage; run smilla config check --postfix"


class PostfixLines:
    """The findings, by the instance of Postfix: its configuration folder."""

    def __init__(self, options: StageOptions) -> None:
        self._path = Path(options.keys) / "postfix.json"
        self._is_asked = options.check
        self._known: tuple[int, str] = (-1, _NOBODY)

    def problem(self) -> str:
        """Why nothing may be sealed now, and what to do; "" where it may."""
        if not self._is_asked:
            return ""
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._known[0]:
                self._known = changed_at, _first(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            return _NOBODY
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            return f"{self._path}: cannot be read ({error}); run smilla config check --postfix"
        return self._known[1]

    def stage_began(self, problem: str) -> None:
        """Whether the stage listens, for the workers.  Where it cannot be written, nothing is sealed either."""
        if self._is_asked:
            with suppress(SmillaError):
                self.keep(_STAGE, [problem] if problem else [])

    def keep(self, instance: str, missing: Sequence[str], *, in_doubt: bool = False) -> None:
        """Writes what was found of one instance; instances that are gone are forgotten.  Where nothing could be seen
        (``in_doubt``) what was found before stays.  Raises SmillaError."""
        folder = self._path.parent
        try:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True)
                self._give(folder, folder.parent)
            known = {k: v for k, v in self._instances().items() if k == _STAGE or (Path(k) / "main.cf").exists()}
            if not in_doubt or instance not in known:
                known[instance] = list(missing)
            temporary = self._path.with_suffix(".new")
            temporary.write_text(json.dumps({"looked_at": int(time.time()), "instances": known}), "utf-8")
            temporary.chmod(0o600)
            self._give(temporary, folder)
            temporary.rename(self._path)
        except OSError as error:
            raise SmillaError(
                f"{self._path}: cannot be written: {error}; do this as root or as smilla's user"
            ) from error

    def others(self, instance: str) -> list[tuple[str, str]]:
        """What keeps the filter from sealing besides this instance: where, and the first finding there."""
        return [(name, found[0]) for name, found in self._instances().items() if found and name != instance]

    def _instances(self) -> dict[str, list[str]]:
        with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):
            return _checked(json.loads(self._path.read_text("utf-8")))
        return {}

    @staticmethod
    def _give(path: Path, like: Path) -> None:
        """To the owner of another file, where root does this."""
        if os.geteuid() == 0:
            owner = like.stat()
            os.chown(path, owner.st_uid, owner.st_gid)


def _checked(told: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    instances = told["instances"]
    if not all(isinstance(found, list) for found in instances.values()):
        raise TypeError("it is not of the form that is expected")
    return {name: [str(text) for text in found] for name, found in instances.items()}


def _first(told: dict[str, dict[str, list[str]]]) -> str:
    """The first finding of any instance; that the stage has begun is none."""
    instances = _checked(told)
    problem = next((text for found in instances.values() for text in found), "")
    return problem or ("" if instances.keys() - {_STAGE} else _NOBODY)
