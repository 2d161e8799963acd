"""The whole way of a message, put together: an MTA, one smilla for each of its listeners, and the sink.

client -> smtpd "outbound" -> smilla (outbound) -> smtp    -> sink         (any name and settings)
client -> smtpd "inbound"  -> smilla (inbound)  -> virtual -> Maildir      (with Sendmail: the sink)
client -> smtpd "plain"    -> no filter; smilla reinjects here
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, free_port
from tests.lab.sendmail import Sendmail
from tests.lab.sink import Sink
from tests.lab.smilla import Settings, Smilla

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Chain:
    """Starts with ``with`` or start().  ``filters`` gives the settings of each smilla by the name of its listener;
    ``kind`` is postfix or sendmail; ``options`` are those of a listener, by its name;
    ``requeues``: what is requeued comes back to the stage of the first one; ``lines`` are Sendmail's further ones."""

    def __init__(
        self,
        folder: Path,
        resolver: str,
        filters: Mapping[str, Settings],
        parameters: dict[str, str] | None = None,
        *,
        kind: str = "postfix",
        options: Mapping[str, dict[str, str]] | None = None,
        requeues: bool = True,
        lines: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.listeners = {name: Listener() for name in (*filters, "plain")}
        self.filters: dict[str, Smilla] = {}
        self.stages: dict[str, Path] = {}
        for name, settings in filters.items():
            reinject = settings.get("reinject", {})
            smtp = {"smtp": f"{LOOPBACK}:{self.listeners['plain'].port}"}
            joined = {**settings, "reinject": {**smtp, **(reinject if isinstance(reinject, Mapping) else {})}}
            self.filters[name] = Smilla(folder / f"smilla-{name}", resolver, joined)
            # Sendmail takes no socket below a folder that everybody may write to, such as /tmp.
            self.filters[name].port = free_port() if kind == "sendmail" else 0
            self.listeners[name].milters = [self.filters[name].milter]
            if _is_staged(settings):
                self.stages[name] = self.filters[name].folder / "stage.sock"
                self.listeners[name].options["cleanup_service_name"] = f"cleanup-{name}"
        for name, values in {"plain": {"smtpd_authorized_xforward_hosts": f"{LOOPBACK}/32"}, **(options or {})}.items():
            self.listeners[name].options.update(values)
        self._parameters = parameters
        self._requeues = requeues
        self._lines = lines
        self._stack = contextlib.ExitStack()
        self.sink: Sink
        self.mta: Postfix | Sendmail

    @property
    def postfix(self) -> Postfix:
        """The MTA, where it is Postfix."""
        if not isinstance(self.mta, Postfix):
            raise TypeError("this MTA is not Postfix")
        return self.mta

    def port(self, listener: str = "outbound") -> int:
        """The SMTP port of a listener."""
        return self.listeners[listener].port

    def start(self) -> Self:
        """Starts the sink, each smilla and Postfix; nothing is left running where one fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        with contextlib.ExitStack() as stack:
            received, place = self.folder / "sink", self.folder / self.kind
            received.mkdir(exist_ok=True)
            place.mkdir(exist_ok=True)
            self.sink = stack.enter_context(Sink(received))
            # All at once: a chain may have many.
            for smilla in self.filters.values():
                stack.callback(smilla.stop)
                smilla.launch()
            for smilla in self.filters.values():
                smilla.await_ready()
                stack.callback(smilla.child.tell_to_end)
            listeners = list(self.listeners.values())
            if self.kind == "sendmail":
                self.mta = Sendmail(place, self.sink.port, listeners, self._lines)
            else:
                self.mta = Postfix(place, self.sink.port, listeners, self._parameters)
                self.mta.stages, self.mta.requeues = self.stages, self._requeues
            stack.enter_context(self.mta)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Ends all, the MTA first.  Safe to repeat."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _is_staged(settings: Settings) -> bool:
    policy = settings.get("policy", {})
    return isinstance(policy, Mapping) and policy.get("mixed") == "stage"
