"""nginx with the lines of contrib/nginx, in a folder of its own, in the foreground, on port 443 of its own address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tests.lab.processes import Child, Running, port_answers
from tests.lab.programs import REPOSITORY, find_program, program_environment

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = REPOSITORY / "contrib/nginx/openpgpkey.conf"
_PLACE = "/etc/letsencrypt/live/openpgpkey.example.org"


class Nginx(Running):
    """Serves ``folder``/www for openpgpkey.DOMAIN, as the example does; ``certificate`` is a PEM file with its key."""

    def __init__(self, folder: Path, domain: str, address: str, certificate: Path) -> None:
        self.folder, self.www, self._address = folder, folder / "www", address
        folder.mkdir(mode=0o755)
        changes = {
            "    listen [::]:443 ssl;\n": "",
            "listen 443 ssl": f"listen {address}:443 ssl",
            f"{_PLACE}/fullchain.pem": str(certificate),
            f"{_PLACE}/privkey.pem": str(certificate),
            "/var/www/openpgpkey": str(self.www),
            "openpgpkey.example.org": f"openpgpkey.{domain}",
        }
        text = EXAMPLE.read_text()
        for old, new in changes.items():
            if old not in text:
                raise ValueError(f"{EXAMPLE} has no {old}")
            text = text.replace(old, new)
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # The folder is below one that others may not enter, as the user of a worker would be.
        top = f"daemon off;\nuser root;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{ }}\n"
        config = folder / "nginx.conf"
        config.write_text(f"{top}http {{\naccess_log {folder}/access.log;\n{temporary}{text}}}\n")
        program = find_program("nginx")
        self._child = Child(
            "nginx",
            [str(program), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)],
            folder / "nginx.log",
            environment=program_environment(program),
        )

    def start(self) -> Self:
        """Starts it and waits until it listens.  Raises ChildError."""
        self._child.start(ready=lambda: port_answers(443, self._address))
        return self

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child.running

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        self._child.stop()
