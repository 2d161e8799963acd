"""Has systemd start the filter's unit (systemctl(1))."""

from __future__ import annotations

import shutil
import subprocess

from smilla.errors import ServiceFailed

_PROGRAM_S = 300.0  # more than TimeoutStopSec= (60) and TimeoutStartSec= (180) of the unit together


def restart(unit: str) -> None:
    """Starts the unit anew, and at each boot from now on.  Returns once it says that it is ready.  Raises
    ServiceFailed."""
    systemctl = shutil.which("systemctl") or "/usr/bin/systemctl"
    for verb in ("enable", "restart"):
        try:
            done = subprocess.run(
                [systemctl, "--quiet", verb, unit],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PROGRAM_S,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceFailed(f"systemctl {verb} {unit} did not end in time") from error
        except OSError as error:
            raise ServiceFailed(f"systemctl: {error.strerror}") from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ServiceFailed(f"systemctl {verb} {unit}: {said[0] if said else f'exit code {done.returncode}'}")
