"""slapd with a company's directory below dc=example, on ports of loopback: ldap (StartTLS) and ldaps.

smilla -> TLS, "localhost" -> slapd: people (all may read), hidden people (who binds as BINDS may read)
"""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING, Self

from tests.lab.processes import LOOPBACK, Child, Running, free_port, port_answers
from tests.lab.programs import find_program, program_environment, unpacked_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BASE = "dc=example"
BINDS, PASSWORD = f"cn=smilla,{BASE}", "a-password-that-nobody-overhears"
_RIGHTS = f"""\
access to dn.subtree="ou=hidden,{BASE}" by * none
access to * by * read
"""
_SCHEMA = """\
attributetype ( 1.3.6.1.4.1.3401.8.2.11 NAME 'pgpKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.3401.8.2.24 NAME 'pgpKeyInfo' SUP top AUXILIARY MAY ( pgpKey ) )
"""


class Slapd(Running):
    """``people`` by name (the RDN): their attributes.  ``certificate`` is a PEM file with its key, None for a server
    without TLS.  ``rights`` are lines for slapd.conf."""

    def __init__(
        self,
        folder: Path,
        people: Mapping[str, Sequence[tuple[str, bytes]]],
        certificate: Path | None,
        rights: str = _RIGHTS,
    ) -> None:
        folder.mkdir(mode=0o755)
        self.certificate = certificate
        (folder / "data").mkdir()
        self.port, self.tls_port = free_port(), free_port()
        program = find_program("slapd")
        environment = program_environment(program)
        self._config, people_file = folder / "slapd.conf", folder / "people.ldif"
        self._config.write_text(_configuration(folder, certificate) + rights)
        people_file.write_text(_ldif(people))
        # Under this name the program adds entries; slapadd is a link to it.
        command = [str(program), "-T", "add", "-f", str(self._config), "-l", str(people_file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(f"slapadd: {done.stderr}")
        urls = f"ldap://{LOOPBACK}:{self.port}/" + (f" ldaps://{LOOPBACK}:{self.tls_port}/" if certificate else "")
        argv = [str(program), "-d", "256", "-f", str(self._config), "-h", urls]
        self._child = Child("slapd", argv, folder / "slapd.log", environment=environment)

    @property
    def log(self) -> str:
        """The operations that it saw."""
        return self._child.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child.running

    def start(self) -> Self:
        """Starts it and waits until it listens.  Raises ChildError."""
        self._child.start(ready=lambda: port_answers(self.port))
        return self

    def stop(self) -> None:
        """Ends it.  Safe to repeat."""
        self._child.stop()


def _configuration(folder: Path, certificate: Path | None) -> str:
    root = unpacked_folder() if (unpacked_folder() / "etc/ldap/schema").exists() else None
    schema = (root / "etc/ldap/schema") if root else "/etc/ldap/schema"
    modules = (root / "usr/lib/ldap") if root else "/usr/lib/ldap"
    (folder / "pgp.schema").write_text(_SCHEMA)
    tls = ""
    if certificate is not None:
        tls = f"TLSCertificateFile {certificate}\nTLSCertificateKeyFile {certificate}\n"
    includes = "".join(f"include {schema}/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
    return f"""\
{includes}include {folder}/pgp.schema
pidfile {folder}/pid
modulepath {modules}
moduleload back_mdb
{tls}
database mdb
maxsize 16777216
suffix "{BASE}"
rootdn "{BINDS}"
rootpw {PASSWORD}
directory {folder}/data
"""


def _ldif(people: Mapping[str, Sequence[tuple[str, bytes]]]) -> str:
    top = f"dn: {BASE}\nobjectClass: domain\ndc: example\n\n"
    units = "".join(
        f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n\n" for name in ("people", "hidden")
    )
    entries = ""
    for name, attributes in people.items():
        unit = "hidden" if name.startswith("hidden") else "people"
        entries += f"dn: cn={name},ou={unit},{BASE}\nobjectClass: inetOrgPerson\nobjectClass: pgpKeyInfo\n"
        entries += f"cn: {name}\nsn: {name}\n"
        entries += "".join(f"{kind}:: {base64.b64encode(raw).decode()}\n" for kind, raw in attributes) + "\n"
    # A referral: that part of the directory is on another machine.
    away = f"dn: ou=away,{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: away\n"
    return f"{top}{units}{entries}{away}ref: ldap://elsewhere.test/ou=away,{BASE}\n"
