"""What is left of the hot path: one letter after the other through smilla's own callbacks, in this process, profiled.

    hotpath.py [--messages N] [--lines N] [--recipients N]

The callbacks are those that libmilter would call, with everything behind them down to the log (to /dev/null); only
libmilter and the socket are left out.  Keys come from DNS, remembered after the first letter.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import Milter

from smilla import config, log
from smilla.adapters import log_target
from smilla.server.milter import Connection
from smilla.server.runtime import make_ports
from smilla.server.service import Runtime, Service
from tests.bench.driver import WrongAnswerError
from tests.bench.recipients import publish
from tests.bench.stage import FORMATS, RECIPIENTS, SMIME, Stage
from tests.bench.stub import Stub
from tests.lab.smilla import to_toml
from tests.milter.client import Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ACTIONS = Milter.ADDHDRS | Milter.CHGHDRS | Milter.MODBODY | Milter.QUARANTINE | Milter.DELRCPT


class Context:
    """libmilter's context as pymilter shows it: it counts the octets of new bodies, and what was not accepted."""

    def __init__(self) -> None:
        self.replaced = 0
        self.refused = 0

    def getsymval(self, name: str) -> str:
        return {"j": "mta.test", "i": "4ABCDEF"}.get(name, "")

    def replacebody(self, block: bytes) -> None:
        self.replaced += len(block)

    def addheader(self, name: str, value: str, index: int = -1) -> None:
        pass

    def chgheader(self, name: str, index: int, value: str) -> None:
        pass

    def setreply(self, *words: str) -> None:
        pass

    def progress(self) -> None:
        pass


def main() -> int:
    """Prints, for each format, the milliseconds a letter and the functions that take them."""
    words = argparse.ArgumentParser(description="a profile of smilla's hot path")
    words.add_argument("--messages", type=int, default=500)
    words.add_argument("--lines", type=int, default=30)
    words.add_argument("--recipients", type=int, default=1, help="more than one share an S/MIME message")
    options = words.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smilla-profile-"))
    try:
        with Stub() as stub, _stderr_nowhere():
            log.configure("info", "text", log_target.opened("stderr"))
            stage = Stage(folder, stub)
            if options.recipients > 1:
                print(_profile(stage, SMIME, publish(stage, options.recipients), options))
            else:
                for name in FORMATS:
                    print(_profile(stage, name, [RECIPIENTS[name]], options))
    finally:
        shutil.rmtree(folder)
    return 0


@contextlib.contextmanager
def _stderr_nowhere() -> Iterator[None]:
    """The log is written by the number of stderr, whatever sys.stderr is."""
    usual = os.dup(2)
    with Path("/dev/null").open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(usual, 2)
        os.close(usual)


def _profile(stage: Stage, name: str, recipients: list[str], options: argparse.Namespace) -> str:
    context, send = _sender(stage, recipients)
    for _ in range(20):
        send()
    began = time.process_time()
    for _ in range(options.messages):
        send()
    each_ms = (time.process_time() - began) * 1000 / options.messages
    profile = cProfile.Profile()
    for _ in range(options.messages):
        profile.runcall(send)
    if context.replaced < len(stage.letter.read_bytes()) * 2 * options.messages or context.refused:
        raise WrongAnswerError(f"{name}: the letters were not encrypted, but {context.refused} refused")
    text = io.StringIO()
    statistics = pstats.Stats(profile, stream=text).strip_dirs()
    for order in ("tottime", "cumulative"):
        statistics.sort_stats(order).print_stats(options.lines)
    return f"=== {name}: {each_ms:.3f} ms of CPU a letter of 10 KB, without the profiler\n{text.getvalue()}"


def _sender(stage: Stage, recipients: list[str]) -> tuple[Context, Callable[[], object]]:
    """Sends a letter through a connection, as libmilter would."""
    raw = stage.letter.read_bytes().replace(b"@RCPT@", ",\r\n ".join(recipients).encode())
    settings = config.parse(
        to_toml({"dns": {"nameservers": [stage.stub.address]}, "reinject": {"spool": str(stage.place("spool"))}})
    )
    Connection.service = Service(Runtime(settings, make_ports(settings)))
    connection, context, mail = Connection(), Context(), Mail.of(raw)
    connection._ctx = context
    connection._actions, connection._protocol = _ACTIONS, Milter.P_HDR_LEADSPC
    connection.connect("client.test", 2, ("192.0.2.7", 4711))

    def send() -> None:
        connection.envfrom_bytes(b"<sender@s.test>")
        for address in recipients:
            connection.envrcpt_bytes(f"<{address}>".encode())
        for field in mail.fields:
            connection.header_bytes(field.name.decode("ascii"), field.value)
        connection.body(mail.body)
        context.refused += connection.eom() != Milter.ACCEPT
        connection.abort()

    return context, send


if __name__ == "__main__":
    sys.exit(main())
