"""A message whose two recipients need different forms: through the stage, by re-injection, and unsplit, behind Postfix.

    smtp-source -> smtpd -> cleanup -> queue -> lmtp -> the stage -> smtpd "plain" -> queue -> smtp -> sink
    smtp-source -> smtpd -> smilla -> smtpd "plain" (the copy), and its own queue (the rest) -> smtp -> sink

"single" is the ordinary path of the filter that seals: one S/MIME recipient, replaced in place.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from tests.bench import material
from tests.bench.driver import WrongAnswerError
from tests.bench.mta import Counts, FastSink, Sender
from tests.bench.stage import SMIME
from tests.bench.table import Row, medians, ratios
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK
from tests.lab.programs import program_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.stage import Stage

_SENDERS, _MESSAGES = 8, 400
_ADDRESS = "mixed@r.test"  # smtp-source writes to 2mixed@r.test, too
_PARAMETERS = {
    "in_flow_delay": "0",
    "initial_destination_concurrency": "20",
    "smtpd_client_connection_rate_limit": "0",
    "smilla_destination_recipient_limit": "1000",
}


class MixedSender(Sender):
    """Sends the letter to two recipients, of whom one has a certificate and one an OpenPGP key."""

    def send_to_both(self, port: int, messages: int) -> float:
        """Seconds until both copies of all messages had arrived.  Raises WrongAnswerError."""
        before = self._sink.counts()
        command: list[str | Path] = [
            self._program,
            "-s",
            str(_SENDERS),
            "-m",
            str(messages),
            "-f",
            "sender@s.test",
            "-r",
            "2",
        ]
        # Each with a Message-ID of its own: what looks the same is answered one after the other by re-injection.
        command += ["-t", _ADDRESS, "-l", "10000", f"inet:{LOOPBACK}:{port}"]
        began = time.monotonic()
        done = subprocess.run(command, env=program_environment(self._program), check=False, capture_output=True)
        if done.returncode:
            raise WrongAnswerError(f"smtp-source: {done.stderr.decode(errors='replace').strip()}")
        came = self._sink.wait_for(before.messages + 2 * messages) - before
        took_s = time.monotonic() - began
        if came != Counts(2 * messages, messages, messages, 0):
            raise WrongAnswerError(f"{messages} messages to two recipients arrived as {came}")
        return took_s


def measure(stage: Stage) -> list[Row]:
    """Messages a second, eight senders in parallel."""
    stage.stub.publish(_ADDRESS, certificate=material.certificate(_ADDRESS))
    stage.stub.publish(f"2{_ADDRESS}", key=material.openpgp_key(f"2{_ADDRESS}"))
    rates: dict[str, list[float]] = {"stage": [], "reinject": [], "single": []}
    listeners = {name: Listener() for name in ("stage", "reinject", "plain")}
    messages = stage.amount(_MESSAGES)
    copies = {"smtp": f"{LOOPBACK}:{listeners['plain'].port}"}
    with contextlib.ExitStack() as stack:
        filters = {
            name: stack.enter_context(stage.new_smilla(settings={"policy": {"mixed": name}, "reinject": copies}))
            for name in ("stage", "reinject")
        }
        sink = stack.enter_context(FastSink(stage))
        for name, smilla in filters.items():
            listeners[name].milters = [smilla.milter]
        listeners["stage"].options["cleanup_service_name"] = "cleanup-stage"
        listeners["plain"].options["smtpd_authorized_xforward_hosts"] = f"{LOOPBACK}/32"
        postfix = Postfix(stage.place("postfix"), sink.port, list(listeners.values()), _PARAMETERS)
        postfix.stages = {"stage": filters["stage"].folder / "stage.sock"}
        stack.enter_context(postfix)
        sender = MixedSender(stage, sink)
        for name in filters:
            sender.send_to_both(listeners[name].port, 30)
        for name in stage.turns(5, rates):
            if name == "single":
                took_s = sender.send(listeners["stage"].port, SMIME, messages, _SENDERS)[1]
            else:
                took_s = sender.send_to_both(listeners[name].port, messages)
            rates[name].append(messages / took_s)
    details = {"per_second": medians(**rates)}
    what = "two forms through the stage, 10 KB, 8 senders"
    return [
        Row("mixed", what, "by re-injection", ratios(rates["stage"], rates["reinject"]), details=details),
        Row("mixed-single", what, "one recipient, in place", ratios(rates["stage"], rates["single"])),
    ]
