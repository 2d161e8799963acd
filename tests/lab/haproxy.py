"""HAProxy with the lines of contrib/haproxy, in a folder of its own, in the foreground."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.processes import LOOPBACK, Child, Running, free_port, wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

EXAMPLE = REPOSITORY / "contrib/haproxy/haproxy.cfg.example"
_SOCKETS = "/var/spool/postfix/smilla"
_CERTIFICATES = "/etc/haproxy/smilla"


class HAProxy(Running):
    """One machine's, by the example, with addresses of this laboratory in place of its own.

    ``ports`` are ports of loopback by the ADDRESS:PORT of the example; where one is not named, nobody listens there.
    ``bind`` is the port for other machines.  The sockets are in ``folder``, ``certificates`` has host.pem and ca.pem.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int], certificates: Path) -> None:
        self.folder = folder
        self.config = folder / "haproxy.cfg"
        self.bind = free_port()
        self._ports = ports
        self._certificates = certificates
        program = find_program("haproxy")
        self._argv = [str(program), "-f", str(self.config)]
        self._environment = program_environment(program)
        self._child = Child("haproxy", [*self._argv, "-db"], folder / "haproxy.log", environment=self._environment)

    def write(self) -> Self:
        """Writes the configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        text = EXAMPLE.read_text()
        addresses = re.findall(r"^ +server \S+ (\S+)", text, re.MULTILINE)
        changes = {address: f"{LOOPBACK}:{self._ports.get(address) or free_port()}" for address in addresses}
        changes |= {f"unix@{_SOCKETS}": f"unix@{self.folder}", "mode 660 group postfix": "mode 666"}
        changes |= {_CERTIFICATES: str(self._certificates), "bind :8897": f"bind {LOOPBACK}:{self.bind}"}
        for old, new in changes.items():
            text = text.replace(old, new)
        if unknown := set(self._ports) - set(addresses):
            raise ValueError(f"{EXAMPLE} has no {unknown}")
        admin = f"stats socket unix@{self.folder}/admin mode 600 level admin"
        top = f"global\n    log stderr format raw local0\n    {admin}\n"
        self.config.write_text(f"{top}\n{text}")
        return self

    def check(self) -> str:
        """What ``haproxy -c`` says, "" where it has no fault and no warning."""
        done = subprocess.run([*self._argv, "-c"], env=self._environment, capture_output=True, check=False)
        told = [line for line in done.stderr.decode().splitlines() if not line.startswith("[NOTICE]")]
        return "\n".join(told) or ("a fault" if done.returncode else "")

    def start(self) -> Self:
        """Starts it and waits until it listens.  Raises ChildError."""
        self.write()
        self._child.start(ready=lambda: bool(self._ask("show info")))
        return self

    def is_up(self, section: str, server: str) -> bool:
        """What the checks of a server say."""
        rows = [line.split(",") for line in self._ask("show stat").splitlines()]
        return any(row[:2] == [section, server] and row[17].startswith("UP") for row in rows)

    def wait_for(self, section: str, server: str, *, up: bool) -> None:
        """Waits until the checks say so; raises TimeoutError."""
        if not wait_until(lambda: self.is_up(section, server) is up, 30, 0.05):
            raise TimeoutError(f"{server} of {section} is {'down' if up else 'up'}:\n{self._child.log_tail()}")

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child.running

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        self._child.stop()

    def _ask(self, question: str) -> str:
        """The answer to a question on the admin socket, "" where nobody listens."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            admin.connect(str(self.folder / "admin"))
            admin.sendall(question.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        return ""


def make_certificates(folder: Path) -> None:
    """What the machines know each other by: host.pem, the same for all, and ca.pem."""
    now = datetime.now(UTC)
    make = partial(make_certificate, "p256", not_before=now - timedelta(days=1), not_after=now + timedelta(days=1))
    authority = make(common_name="smilla's machines", ca=True, number=1)
    key, certificate = make(common_name="a machine", issuer=authority, number=2)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("a P-256 key was asked for")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "host.pem").write_bytes(to_pem(certificate) + secret)
    (folder / "ca.pem").write_bytes(to_pem(authority[1]))
