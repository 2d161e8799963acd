"""config check --probe asks the directory as the filter's user, and names the step that fails and the line that mends
it.

the check (as nobody) -> TLS, "localhost" -> slapd
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla import config
from smilla.adapters.as_user import User
from smilla.doctor import directory_check
from smilla.doctor.finding import Finding
from smilla.doctor.rights import Service
from tests.lab.authority import Authority
from tests.lab.processes import LOOPBACK, free_port
from tests.lab.programs import require_servers
from tests.lab.slapd import BASE, BINDS, PASSWORD, Slapd
from tests.lab.smilla import to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="the check becomes another user")]
KEY = ("pgpKey", b"what is inside does not matter here")
PEOPLE = {
    "hugh": [("mail", b"hugh@corp.test"), KEY],
    "hidden": [("mail", b"hidden@corp.test"), KEY],
}
AS_NOBODY = Service(User("nobody"), drops_rights=False)


@dataclass
class World:
    """slapd, and what [ldap] says where all is well."""

    folder: Path
    slapd: Slapd
    options: dict[str, Any]
    stranger: Authority

    def told(self, **options: Any) -> list[Finding]:
        table = {"keys": {"sources": ["ldap"]}, "ldap": {**self.options, **options}}
        return list(directory_check.problems(config.parse(to_toml(table)), AS_NOBODY))

    def password(self, text: str, mode: int = 0o600) -> str:
        """A file of nobody's with this password."""
        path = self.folder / f"password-{text}-{mode:o}"
        path.write_text(f"{text}\n")
        path.chmod(mode)
        os.chown(path, 65534, 65534)
        return str(path)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_servers("slapd")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority(folder, "public")
        slapd = stack.enter_context(Slapd(folder / "slapd", PEOPLE, authority.issue("localhost").file))
        options = {"url": f"ldaps://localhost:{slapd.tls_port}", "ca_file": str(authority.file), "base": BASE}
        yield World(folder, slapd, options, Authority(folder, "stranger"))


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_where_all_is_well_the_check_says_who_asks(world: World, scheme: str) -> None:
    port = world.slapd.port if scheme == "ldap" else world.slapd.tls_port
    (found,) = world.told(url=f"{scheme}://localhost:{port}")
    assert (found.severity, found.kind) == ("", "ldap")
    assert "anonymous over verified TLS" in found.text
    bound = {"bind_dn": BINDS, "password_file": world.password(PASSWORD), "base": f"ou=hidden,{BASE}"}
    (found,) = world.told(url=f"{scheme}://localhost:{port}", **bound)
    assert (found.severity, BINDS in found.text) == ("", True), found


@pytest.mark.parametrize(
    ("options", "said", "mend"),
    [
        ({"url": "ldaps://no-such-host.invalid"}, "no-such-host.invalid", "/etc/resolv.conf"),
        ({"url": "ldaps://localhost:CLOSED"}, "refused", "firewall"),
        ({"url": "ldaps://localhost:PLAIN"}, "TLS", "StartTLS write ldap://"),
        ({"url": f"ldaps://{LOOPBACK}:TLS"}, "certificate is not valid: ", "a name that is in the certificate"),
        ({"ca_file": "STRANGER"}, "certificate is not valid: ", "[ldap] ca_file"),
        ({"bind_dn": BINDS, "password_file": "WRONG"}, "invalidCredentials", "first line of"),
        ({"bind_dn": BINDS, "password_file": "EMPTY"}, "is empty", "bind_dn"),
        ({"bind_dn": BINDS, "password_file": "ROOTS"}, "ermission denied", "bind_dn"),
        ({"base": "ou=nowhere,dc=example"}, "noSuchObject", 'base ("ou=nowhere,dc=example")'),
        ({"base": f"ou=hidden,{BASE}"}, "noSuchObject", "set [ldap] bind_dn"),
        ({"base": f"ou=away,{BASE}"}, "referral", "name the server"),
        ({"filter": "(cn={address}@nowhere)"}, "finds nobody", "[ldap] filter"),
    ],
)
def test_each_fault_is_named_with_the_line_that_mends_it(
    world: World, options: dict[str, str], said: str, mend: str
) -> None:
    words = {
        "CLOSED": str(free_port()),
        "PLAIN": str(world.slapd.port),
        "TLS": str(world.slapd.tls_port),
        "STRANGER": str(world.stranger.file),
        "WRONG": world.password("wrong"),
        "EMPTY": world.password(""),
    }
    roots = Path(world.password(PASSWORD))
    if options.get("password_file") == "ROOTS":
        os.chown(roots, 0, 0)
        words["ROOTS"] = str(roots)
    filled = dict(options)
    for word, real in words.items():
        filled = {name: value.replace(word, real) for name, value in filled.items()}
    found = world.told(**filled)[0]
    os.chown(roots, 65534, 65534)
    assert found.severity == "error", found
    assert said in found.text, found
    assert mend in found.mend, found


def test_a_server_that_lets_nobody_read_or_search_the_keys_is_named(world: World) -> None:
    for right, severity in (("search", "error"), ("none", "warning")):
        limits = f"access to attrs=userCertificate,pgpKey by * {right}\naccess to * by * read\n"
        folder = world.folder / f"slapd-{right}"
        certificate = world.slapd.certificate
        with Slapd(folder, {"hugh": PEOPLE["hugh"]}, certificate, limits) as strict:
            found = world.told(url=f"ldap://localhost:{strict.port}")[0]
        assert (found.severity, "attrs=userCertificate,pgpKey" in found.mend) == (severity, True), found


def test_a_password_that_everybody_may_read_is_warned_of(world: World) -> None:
    fine, warned = world.told(bind_dn=BINDS, password_file=world.password(PASSWORD, 0o644))
    assert fine.severity == ""
    assert (warned.severity, warned.kind) == ("warning", "rights-too-wide")


def test_a_server_that_says_nothing_ends_the_check_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_check, "_ASK_S", 1.0)
    with socket.create_server((LOOPBACK, 0)) as silent:
        began = time.monotonic()
        (found,) = world.told(url=f"ldaps://localhost:{silent.getsockname()[1]}")
    assert found.severity == "error"
    assert time.monotonic() - began < 120  # a bound, and far from any load
