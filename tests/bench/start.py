"""From the command to READY=1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.bench.stage import WORKERS
from tests.bench.table import AT_MOST, Row, Target
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.stage import Stage


def measure(stage: Stage) -> list[Row]:
    """Seconds: the interpreter, the imports, the configuration, the socket, the workers.

    Installed by pip, smilla is compiled; here it is by the first start, which does not count.
    """
    compiled = stage.place("compiled")
    compiled.chmod(0o777)
    _start(stage, compiled)
    figures = [_start(stage, compiled) for _ in stage.rounds(9)]
    what = f"import and start to READY, {WORKERS} workers"
    return [Row("start", what, "-", figures, Target(AT_MOST, 0.5), "s")]


def _start(stage: Stage, compiled: Path) -> float:
    smilla = stage.new_smilla()
    smilla.folder.chmod(0o777)  # who starts as root becomes another user
    smilla.write_config()
    path = smilla.folder / "notify"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NOTIFY_SOCKET": str(path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (smilla.folder / "log").open("wb") as log:
        notify.bind(str(path))
        path.chmod(0o666)
        notify.settimeout(20)
        began = time.monotonic()
        command = [sys.executable, "-m", "smilla", "milter", "--config", str(smilla.config)]
        process = subprocess.Popen(command, env=environment, stderr=log)
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            return time.monotonic() - began
        finally:
            process.terminate()
            process.wait(40)
