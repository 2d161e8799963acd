"""The whole way of a message, put together: Postfix, one smilla for each of its listeners, and the sink.

client -> smtpd "outbound" -> smilla (outbound) -> smtp    -> sink         (any name and settings)
client -> smtpd "inbound"  -> smilla (inbound)  -> virtual -> Maildir
client -> smtpd "plain"    -> no filter; smilla reinjects here
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK
from tests.lab.sink import Sink
from tests.lab.smilla import Settings, Smilla

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Chain:
    """Starts with ``with`` or start().  ``filters`` gives the settings of each smilla by the name of its listener."""

    def __init__(
        self,
        folder: Path,
        resolver: str,
        filters: Mapping[str, Settings],
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.listeners = {name: Listener() for name in (*filters, "plain")}
        self.filters: dict[str, Smilla] = {}
        for name, settings in filters.items():
            reinject = settings.get("reinject", {})
            smtp = {"smtp": f"{LOOPBACK}:{self.listeners['plain'].port}"}
            joined = {**settings, "reinject": {**smtp, **(reinject if isinstance(reinject, Mapping) else {})}}
            self.filters[name] = Smilla(folder / f"smilla-{name}", resolver, joined)
            self.listeners[name].milters = [self.filters[name].milter]
        self._parameters = parameters
        self._stack = contextlib.ExitStack()
        self.sink: Sink
        self.postfix: Postfix

    def port(self, listener: str = "outbound") -> int:
        """The SMTP port of a listener."""
        return self.listeners[listener].port

    def start(self) -> Self:
        """Starts the sink, each smilla and Postfix; nothing is left running where one fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        with contextlib.ExitStack() as stack:
            received, postfix = self.folder / "sink", self.folder / "postfix"
            received.mkdir(exist_ok=True)
            postfix.mkdir(exist_ok=True)
            self.sink = stack.enter_context(Sink(received))
            for smilla in self.filters.values():
                stack.enter_context(smilla)
            self.postfix = Postfix(postfix, self.sink.port, list(self.listeners.values()), self._parameters)
            stack.enter_context(self.postfix)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Ends all, Postfix first.  Safe to repeat."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
