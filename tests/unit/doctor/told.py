"""Postfix as its settings tell of it, where no test needs a real one."""

from __future__ import annotations

from smilla.adapters.postfix import Settings
from smilla.errors import PostfixUnclear


class Told:
    """A Postfix that says this; None: that says nothing."""

    def __init__(self, settings: Settings | None) -> None:
        self._settings = settings

    def settings(self, _: object) -> Settings:
        if self._settings is None:
            raise PostfixUnclear("postconf: no")
        return self._settings
