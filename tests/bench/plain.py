"""OpenPGP behind Postfix as pip installs smilla, and where gpg alone does it, since there is no wheel of pysequoia."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.bench.mta import PARAMETERS, FastSink, Sender
from tests.bench.stage import OPENPGP
from tests.bench.table import AT_LEAST, Row, Target, medians, ratios
from tests.lab.postfix import Listener, Postfix

if TYPE_CHECKING:
    from tests.bench.stage import Stage

_MESSAGES = 400


def measure(stage: Stage) -> list[Row]:
    """Messages a second, ten senders in parallel."""
    rates: dict[str, list[float]] = {"installed": [], "gpg": [], "noop": []}
    messages = stage.amount(_MESSAGES)
    with contextlib.ExitStack() as stack:
        filters = {
            "installed": stack.enter_context(stage.smilla()),
            "gpg": stack.enter_context(stage.smilla(settings={"openpgp": {"engine": "gnupg"}})),
            "noop": stack.enter_context(stage.noop()),
        }
        sink = stack.enter_context(FastSink(stage))
        listeners = {name: Listener([filter_.address]) for name, filter_ in filters.items()}
        stack.enter_context(Postfix(stage.place("postfix"), sink.port, list(listeners.values()), PARAMETERS))
        sender = Sender(stage, sink)
        forms = {name: "noop" if name == "noop" else OPENPGP for name in rates}
        for name, listener in listeners.items():
            sender.send(listener.port, forms[name], 40)
        for name in stage.turns(5, rates):
            rates[name].append(messages / sender.send(listeners[name].port, forms[name], messages)[1])
    against, details = "Postfix + no-op pymilter", {"per_second": medians(**rates)}
    told = {"installed": "OpenPGP as pip installs it, 10 KB", "gpg": "OpenPGP by gpg alone, 10 KB"}
    targets = {"installed": Target(AT_LEAST, 0.5), "gpg": None}
    return [
        Row(f"plain-{name}", what, against, ratios(rates[name], rates["noop"]), targets[name], details=details)
        for name, what in told.items()
    ]
