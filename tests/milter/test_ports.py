"""Two test runs beside each other are never given the same port, however late they bind it."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.processes import free_port

ASKS = "from tests.lab.processes import free_port; print(*(free_port() for _ in range(150)), flush=True); input()"


def test_ports_of_two_runs_differ_while_both_live() -> None:
    def run() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", ASKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with run() as one, run() as other:
        assert one.stdout is not None
        assert other.stdout is not None
        given = [one.stdout.readline().split(), other.stdout.readline().split(), [str(free_port())]]
        for child in (one, other):
            child.communicate("\n")
    ports = [port for ports in given for port in ports]
    assert len(ports) == len(set(ports)) == 301
