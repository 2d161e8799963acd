"""Two test runs beside each other are never given the same port, however late they bind it."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.processes import free_port

ASKS = "from tests.lab.processes import free_port; print(*(free_port() for _ in range(150)), flush=True); input()"


def test_ports_of_two_runs_differ_while_both_live() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ASKS], **pipes) as one:  # type: ignore[call-overload]
        with subprocess.Popen([sys.executable, "-c", ASKS], **pipes) as other:  # type: ignore[call-overload]
            given = [one.stdout.readline().split(), other.stdout.readline().split(), [str(free_port())]]
            for child in (one, other):
                child.communicate("\n")
    ports = [port for run in given for port in run]
    assert len(ports) == len(set(ports)) == 301
