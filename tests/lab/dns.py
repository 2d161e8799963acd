"""A DNS of its own: signed zones under ``test.``, served by nsd and validated by unbound on loopback ports.

    lab (nsd: all zones, authoritative)  <-  unbound (validates from the trust anchor of test.)  <-  who asks
                                         <-  unbound (does not validate, where ``with_plain_resolver``)  <-

``test.`` is signed and delegates to every other zone under it.  Delegations would lead to port 53, so unbound has a
stub zone for each.  Nobody outside is asked: unbound refuses every name that is under no zone of the laboratory.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, Running, free_port, port_answers
from tests.lab.programs import find_program, program_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TTL_S = 60
NEGATIVE_TTL_S = 5
TYPES = {"SMIMEA": 53, "OPENPGPKEY": 61}


# Zones that nobody delegates to; "" is the root.
_ANCHORED = ("test", "home.arpa", "x.internal", "example.net", "example.org", "")


class Kind(Enum):
    """What a zone is like to somebody who validates."""

    SECURE = "signed, and the parent zone says so"
    INSECURE = "not signed, and the parent zone proves it"
    FORGED = "signed; each record that is added was replaced after signing: SERVFAIL for these, the rest is secure"
    WRONG_DS = "signed with another key than the parent zone names: SERVFAIL for everything"
    DEAD = "nobody listens where its server should be: SERVFAIL"
    SILENT = "its server takes every question and answers none: no reply for long"


def owner_label(address: str) -> tuple[str, str]:
    """The hashed local part (RFC 7929 section 3, RFC 8162 section 3) and the domain of an address without quotes."""
    local, _, domain = address.rpartition("@")
    return hashlib.sha256(local.encode("utf-8")).hexdigest()[:56], domain


def smimea_owner(address: str) -> str:
    """The owner name of an address's SMIMEA records, with the final dot."""
    label, domain = owner_label(address)
    return f"{label}._smimecert.{domain}."


def openpgpkey_owner(address: str) -> str:
    """The owner name of an address's OPENPGPKEY records, with the final dot."""
    label, domain = owner_label(address)
    return f"{label}._openpgpkey.{domain}."


@dataclass
class Zone:
    """A zone's records, as text lines of a zone file (RFC 1035 section 5).

    ``nsec3`` are ldns-signzone's options for NSEC3, such as ["-n"] or ["-n", "-p"] (opt-out); ``signed_from_s`` and
    ``signed_to_s`` are when the signatures begin and end, in seconds from now; ``after_signing`` may change the lines
    of the signed zone file, for instance drop signatures; ``algorithm`` is what ldns-keygen calls it.

    ``delegation`` makes the RDATA of the DS records in the parent zone from that of the right one (where it is not
    given, the kind decides).  ``ports`` are those of the servers that resolvers ask about the zone, instead of nsd,
    which serves it all the same.
    """

    name: str
    kind: Kind = Kind.SECURE
    nsec3: list[str] = field(default_factory=list)
    signed_from_s: int = -3600
    signed_to_s: int = 86400
    after_signing: Callable[[list[str]], list[str]] = lambda lines: lines
    algorithm: str = "ECDSAP256SHA256"
    delegation: Callable[[str], list[str]] | None = None
    ports: tuple[int, ...] = ()
    records: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def signed(self) -> bool:
        """Whether the zone file has signatures."""
        return self.kind in (Kind.SECURE, Kind.FORGED, Kind.WRONG_DS)

    @property
    def served(self) -> bool:
        """Whether a server answers for the zone."""
        return self.kind not in (Kind.DEAD, Kind.SILENT)

    def add(self, owner: str, rdtype: str, rdata: str | bytes) -> Self:
        """Adds a record; ``owner`` with its final dot; RDATA as text, or as octets (written as in RFC 3597)."""
        text = rdata if isinstance(rdata, str) else f"\\# {len(rdata)} {rdata.hex()}"
        self.records.append((owner, rdtype, text))
        return self

    def add_smimea(
        self, address: str, association: bytes, *, usage: int = 3, selector: int = 0, matching_type: int = 0
    ) -> Self:
        """Adds an SMIMEA record for an address; the association data is mostly a certificate's DER."""
        return self.add(smimea_owner(address), "SMIMEA", bytes((usage, selector, matching_type)) + association)

    def add_openpgpkey(self, address: str, raw_key: bytes) -> Self:
        """Adds an OPENPGPKEY record for an address; the key is binary."""
        return self.add(openpgpkey_owner(address), "OPENPGPKEY", raw_key)


class DNSLab(Running):
    """The zones, nsd and unbound.  Add zones and records, then start; after later changes, reload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zones: dict[str, Zone] = {}
        self.port = 0
        self.interfaces: list[str] = []  # ADDRESS@PORT, where the validating resolver listens as well
        self.with_plain_resolver = False
        self._plain_port = 0
        self._nsd_port = 0
        self._silent: list[socket.socket] = []
        self._children: list[Child] = []
        self.zone("test")

    def zone(self, name: str, kind: Kind = Kind.SECURE, *, signed: bool = True) -> Zone:
        """The zone of this name, made where it is new; ``signed=False`` is short for Kind.INSECURE."""
        if name not in self.zones:
            self.zones[name] = Zone(name, kind if signed else Kind.INSECURE)
        return self.zones[name]

    def add_usual_zones(self) -> Self:
        """r.test, unsigned.test, forged.test, bogus.test, dead.test and silent.test, each as its name says."""
        self.zone("r.test")
        self.zone("unsigned.test", Kind.INSECURE)
        self.zone("forged.test", Kind.FORGED)
        self.zone("bogus.test", Kind.WRONG_DS)
        self.zone("dead.test", Kind.DEAD)
        self.zone("silent.test", Kind.SILENT)
        return self

    @property
    def resolver(self) -> str:
        """unbound, as smilla's [dns] nameservers has it: ADDRESS@PORT."""
        return f"{LOOPBACK}@{self.port}"

    @property
    def plain_resolver(self) -> str:
        """The unbound that does not validate, where ``with_plain_resolver`` was set before the start."""
        return f"{LOOPBACK}@{self._plain_port}"

    @property
    def authority(self) -> str:
        """nsd, which knows all zones and validates nothing: ADDRESS@PORT."""
        return f"{LOOPBACK}@{self.authority_port}"

    @property
    def authority_port(self) -> int:
        """nsd's port, known before the start."""
        self._nsd_port = self._nsd_port or free_port()
        return self._nsd_port

    @property
    def trust_anchor(self) -> Path:
        """A zone file with the DS record of ``test.``."""
        return self.folder / "test.ds"

    @property
    def trust_anchor_key(self) -> Path:
        """A zone file with the DNSKEY record of ``test.``."""
        return self.folder / "test.key"

    def start(self) -> Self:
        """Signs the zones and starts both servers.  Raises ChildError, MissingProgramError or CalledProcessError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self._plain_port = self._plain_port or free_port()
        # Children before parents, for a parent holds the DS records of its children.
        for zone in sorted(self.zones.values(), key=lambda zone: -zone.name.count(".")):
            if zone.served:
                self._write_zone(zone)
        try:
            self._start_nsd()
            self._start_unbound("unbound", self.port, validates=True)
            if self.with_plain_resolver:
                self._start_unbound("plain-unbound", self._plain_port, validates=False)
        except BaseException:
            self.stop()
            raise
        return self

    def reload(self) -> None:
        """Signs anew and starts both servers again on the same ports, with empty caches."""
        self._stop_servers()
        self.start()

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return bool(self._children)

    def stop(self) -> None:
        """Ends both servers.  Safe to repeat."""
        self._stop_servers()
        for listener in self._silent:
            listener.close()
        self._silent.clear()

    # --- zone files

    def _write_zone(self, zone: Zone) -> None:
        plain = self._zone_file(zone)
        unsigned = self.folder / f"{zone.name}.unsigned"
        served = self.folder / f"{zone.name}.zone"
        if not zone.signed:
            served.write_text("\n".join(plain) + "\n")
            return
        signed_at = int(time.time())
        key = self._key(zone.name, zone.algorithm)
        unsigned.write_text("\n".join(plain) + "\n")
        times = ["-i", str(signed_at + zone.signed_from_s), "-e", str(signed_at + zone.signed_to_s)]
        self._run("ldns-signzone", *times, *zone.nsec3, "-f", served.name, unsigned.name, key)
        lines = served.read_text().splitlines()
        if zone.kind is Kind.FORGED:
            replaced = {(owner, rdtype) for owner, rdtype, _ in zone.records}
            lines = [line for line in lines if (line.split()[0], line.split()[3]) not in replaced]
            lines += [_line(*record) for record in zone.records]
        served.write_text("\n".join(zone.after_signing(lines)) + "\n")

    def _zone_file(self, zone: Zone) -> list[str]:
        apex = f"{zone.name}."
        serial = int(time.time())
        lines = [
            _line(apex, "SOA", f"ns.test. hostmaster.test. {serial} 3600 600 86400 {NEGATIVE_TTL_S}"),
            _line(apex, "NS", "ns.test."),
        ]
        if zone.name == "test":
            lines.append(_line("ns.test.", "A", LOOPBACK))
        for child in self.zones.values():
            if self._parent(child) is zone:
                lines.append(_line(f"{child.name}.", "NS", "ns.test."))
                lines += self._delegation_signer(child)
        # A forged zone is signed with something else in the records' place, which is then replaced.
        forged = zone.kind is Kind.FORGED
        owners = sorted({(owner, rdtype) for owner, rdtype, _ in zone.records})
        return lines + (
            [_line(owner, rdtype, "\\# 4 03000030") for owner, rdtype in owners]
            if forged
            else [_line(*record) for record in zone.records]
        )

    def _delegation_signer(self, zone: Zone) -> list[str]:
        if not zone.signed and zone.delegation is None:
            return []
        key = self._key(f"wrong.{zone.name}" if zone.kind is Kind.WRONG_DS else zone.name, zone.algorithm)
        right = " ".join((self.folder / f"{key}.ds").read_text().split()[3:])
        published = zone.delegation(right) if zone.delegation else [right]
        return [_line(f"{zone.name}.", "DS", rdata) for rdata in published]

    def _parent(self, zone: Zone) -> Zone | None:
        above = [other for other in self.zones.values() if zone.name.endswith(f".{other.name}")]
        return max(above, key=lambda other: len(other.name), default=None)

    def _key(self, name: str, algorithm: str) -> str:
        """The base name of a zone's key, made where there is none yet."""
        made = sorted(self.folder.glob(f"K{name}.+*.key"))
        base = made[0].stem if made else self._run("ldns-keygen", "-a", algorithm, "-k", name or ".").strip()
        if name in _ANCHORED:
            for path, suffix in ((self.trust_anchor, "ds"), (self.trust_anchor_key, "key")):
                keys = [key for zone in _ANCHORED for key in sorted(self.folder.glob(f"K{zone}.+*.{suffix}"))]
                path.write_text("".join(key.read_text() for key in keys))
        return base

    def _run(self, program: str, *arguments: str) -> str:
        path = find_program(program)
        command = [str(path), *arguments]
        environment = program_environment(path)
        return subprocess.run(
            command, cwd=self.folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    # --- servers

    def _start_nsd(self) -> None:
        config = self.folder / "nsd.conf"
        lines = [
            "server:",
            f"  ip-address: {LOOPBACK}@{self.authority_port}",
            "  do-ip6: no",
            '  username: ""',
            '  chroot: ""',
            "  server-count: 1",
            f'  zonesdir: "{self.folder}"',
            f'  pidfile: "{self.folder}/nsd.pid"',
            f'  xfrdfile: "{self.folder}/nsd.xfrd"',
            f'  xfrdir: "{self.folder}"',
            f'  zonelistfile: "{self.folder}/nsd.zones"',
            '  database: ""',
            "  rrl-ratelimit: 0",
            "remote-control:",
            "  control-enable: no",
        ]
        for zone in self.zones.values():
            if zone.served:
                lines += ["zone:", f'  name: "{zone.name or "."}"', f'  zonefile: "{zone.name}.zone"']
        config.write_text("\n".join(lines) + "\n")
        self._start("nsd", "-d", "-c", config, port=self.authority_port)

    def _start_unbound(self, name: str, port: int, *, validates: bool) -> None:
        config = self.folder / f"{name}.conf"
        tops = [zone for zone in self.zones.values() if not self._parent(zone)]
        lines = [
            "server:",
            f"  interface: {LOOPBACK}",
            *(f"  interface: {also}" for also in self.interfaces if validates),
            f"  port: {port}",
            f"  access-control: {LOOPBACK}/32 allow",
            "  do-ip6: no",
            "  do-not-query-localhost: no",
            '  username: ""',
            '  chroot: ""',
            f'  directory: "{self.folder}"',
            f'  pidfile: "{self.folder}/{name}.pid"',
            "  use-syslog: no",
            '  logfile: ""',
            "  val-log-level: 2",
            "  log-servfail: yes",
            "  num-threads: 1",
            "  incoming-num-tcp: 100",  # of the usual ten it closes some while they wait, where most are in use
            "  ede: yes",
            f'  module-config: "{"validator " * validates}iterator"',
            f'  trust-anchor-file: "{self.trust_anchor}"',
            f'  local-zone: "." {"transparent" if "" in self.zones else "refuse"}',
            *(f'  local-zone: "{zone.name}." transparent' for zone in tops if zone.name),
            # A silent server must not make unbound give up on the others, which have the same address.
            "  infra-keep-probing: yes",
            "  infra-host-ttl: 0",
            "remote-control:",
            "  control-enable: no",
        ]
        for zone in self.zones.values():
            lines += ["stub-zone:", f'  name: "{zone.name}."']
            lines += [f"  stub-addr: {LOOPBACK}@{at}" for at in zone.ports or (self._server_port(zone),)]
            if zone.kind is Kind.DEAD:
                lines.append("  stub-tcp-upstream: yes")  # a refused connection is noticed at once, over UDP it is not
        config.write_text("\n".join(lines) + "\n")
        self._start("unbound", "-d", "-p", "-c", config, port=port, name=name)

    def _server_port(self, zone: Zone) -> int:
        if zone.kind is Kind.DEAD:
            return free_port()
        if zone.kind is Kind.SILENT:
            if not self._silent:
                port = free_port()
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    listener = socket.socket(socket.AF_INET, kind)
                    listener.bind((LOOPBACK, port))
                    self._silent.append(listener)
                self._silent[0].listen()
            return int(self._silent[0].getsockname()[1])
        return self.authority_port

    def _start(self, program: str, *arguments: str | Path, port: int, name: str = "") -> None:
        path = find_program(program)
        name = name or program
        child = Child(name, [path, *arguments], self.folder / f"{name}.log", environment=program_environment(path))
        self._children.append(child)
        child.start(ready=lambda: port_answers(port))

    def _stop_servers(self) -> None:
        for child in reversed(self._children):
            child.stop()
        self._children.clear()


def _line(owner: str, rdtype: str, rdata: str) -> str:
    return f"{owner}\t{TTL_S}\tIN\t{rdtype}\t{rdata}"
