"""Several holders of OpenPGP keys, asked in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from smilla.errors import NotDecrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smilla.ports import OpenPGPReader

_Answer = TypeVar("_Answer")


class Several:
    """smilla.ports.OpenPGPReader by the first of them that has the key."""

    def __init__(self, openers: Sequence[OpenPGPReader]) -> None:
        self._openers = openers

    def opened(self, raw: bytes) -> bytes:
        """The content.  Raises NotDecrypted: what the last says, unless one that has the key says something else."""
        return self._first(lambda opener: opener.opened(raw))

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        """Who signed it.  Raises NotDecrypted."""
        return self._first(lambda opener: opener.signature(raw, raw_certificates))

    def _first(self, ask: Callable[[OpenPGPReader], _Answer]) -> _Answer:
        said = NotDecrypted("no_key", "there is no private key for OpenPGP")
        for opener in self._openers:
            try:
                return ask(opener)
            except NotDecrypted as error:
                said = error
                if error.code != "not_for_this_key":
                    break
        raise said
