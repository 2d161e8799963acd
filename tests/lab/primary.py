"""Primaries that take dynamic updates and sign by themselves: BIND and Knot DNS, one zone below ``test.`` each.

smilla publish --(update, TSIG)-> named | knotd (signs)  <- unbound of the laboratory  <- smilla
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from tests.lab.dns import NEGATIVE_TTL_S, TTL_S, DNSLab, Zone
from tests.lab.processes import LOOPBACK, Child, Server, free_port
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "smilla-lab"


class Primary(Server):
    """One server with one signed zone.  Use as a context manager."""

    program = ""

    def __init__(self, folder: Path, zone: str) -> None:
        self.folder, self.zone = folder, zone
        self.port = free_port()
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()

    @property
    def server(self) -> str:
        """HOST@PORT."""
        return f"{LOOPBACK}@{self.port}"

    @property
    def key_file(self) -> Path:
        """The key for updates, in named's format."""
        return self.folder / "update.key"

    def start(self) -> Self:
        """Returns once the zone is signed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(named_key(KEY, self.secret))
        lines = [f"@ {TTL_S} IN SOA ns.test. hostmaster.test. 1 3600 600 86400 {NEGATIVE_TTL_S}", "@ IN NS ns.test."]
        (self.folder / f"{self.zone}.db").write_text("\n".join([f"$TTL {TTL_S}", *lines, ""]))
        path = find_program(self.program)
        (self.folder / "server.conf").write_text(self._config())
        command: list[str | Path] = [path, *self._arguments()]
        self._child = Child(
            self.program, command, self.folder / "server.log", environment=program_environment(path), folder=self.folder
        )
        self._child.start(ready=lambda: bool(self.delegation()))
        return self

    def delegation(self) -> list[str]:
        """The DS records that its parent needs; none while it is not signed."""
        name = dns.name.from_text(self.zone)
        query = dns.message.make_query(name, dns.rdatatype.DNSKEY, want_dnssec=True)
        try:
            answer = dns.query.tcp(query, LOOPBACK, 5, self.port).answer
        except (OSError, EOFError, dns.exception.DNSException):
            return []
        if not any(rrset.rdtype == dns.rdatatype.RRSIG for rrset in answer):
            return []
        keys = [key for rrset in answer if rrset.rdtype == dns.rdatatype.DNSKEY for key in rrset]
        return [dns.dnssec.make_ds(name, key, "SHA256").to_text() for key in keys if key.flags & 1]

    def delegated_from(self, lab: DNSLab) -> Zone:
        """The zone as the laboratory, which is not started yet, sees it."""
        zone = lab.zone(self.zone)
        zone.ports = (self.port,)
        signers = self.delegation()
        zone.delegation = lambda _: signers
        return zone

    def _config(self) -> str:
        raise NotImplementedError

    def _arguments(self) -> Sequence[str]:
        raise NotImplementedError


def named_key(name: str, secret: str) -> str:
    """As tsig-keygen writes it."""
    return f'key "{name}" {{\n\talgorithm hmac-sha256;\n\tsecret "{secret}";\n}};\n'


class BIND(Primary):
    """With inline signing by its own policy."""

    program = "named"

    def _arguments(self) -> Sequence[str]:
        return ["-g", "-4", "-n", "1", "-c", str(self.folder / "server.conf")]

    def _config(self) -> str:
        return f"""
{named_key(KEY, self.secret)}
options {{
    directory "{self.folder}";
    key-directory "{self.folder}";
    managed-keys-directory "{self.folder}";
    pid-file "{self.folder}/named.pid";
    session-keyfile "{self.folder}/session.key";
    listen-on port {self.port} {{ {LOOPBACK}; }};
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer {{ none; }};
}};
controls {{ }};
zone "{self.zone}" {{
    type primary;
    file "{self.folder}/{self.zone}.db";
    inline-signing yes;
    dnssec-policy default;
    update-policy {{ grant {KEY} subdomain {self.zone}. SMIMEA OPENPGPKEY; }};
}};
"""


class Knot(Primary):
    """With automatic signing."""

    program = "knotd"

    def _arguments(self) -> Sequence[str]:
        return ["-c", str(self.folder / "server.conf")]

    def _config(self) -> str:
        return f"""
server:
    rundir: "{self.folder}"
    listen: {LOOPBACK}@{self.port}
    udp-workers: 1
    tcp-workers: 2
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{self.folder}"
    journal-db-max-size: 64M
    kasp-db-max-size: 32M
    timer-db-max-size: 32M
key:
  - id: {KEY}
    algorithm: hmac-sha256
    secret: {self.secret}
acl:
  - id: update
    key: {KEY}
    action: update
policy:
  - id: lab
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
  - domain: {self.zone}
    storage: "{self.folder}"
    file: "{self.zone}.db"
    dnssec-signing: on
    dnssec-policy: lab
    acl: update
"""
