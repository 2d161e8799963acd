"""Keys in a company's directory: a real slapd, over StartTLS and over ldaps, and every way of not answering.

client -> Postfix -> smilla -> TLS -> slapd         (the directory)
                    -> the sink
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.adapters.ldap import Directory
from smilla.errors import DirectoryError
from tests.lab.authority import Authority
from tests.lab.chain import Chain
from tests.lab.dns import DNSLab
from tests.lab.keys import OpenPGPKey, SMIMEKey, make_openpgp_key, make_smime_key
from tests.lab.processes import LOOPBACK, free_port
from tests.lab.programs import REPOSITORY, require_servers
from tests.lab.slapd import BASE, BINDS, PASSWORD, Slapd
from tests.lab.smilla import to_toml
from tests.live.mta import CANARY, Mta, check_logs, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's master insists on root"),
]


@dataclass
class World:
    """All that runs, and what [ldap] says at first."""

    folder: Path
    dns: DNSLab
    slapd: Slapd
    chain: Chain
    mta: Mta
    options: dict[str, Any]
    hugh: SMIMEKey
    pia: OpenPGPKey
    authority: Authority
    stranger: Authority

    def look_up(self, address: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """What smilla lookup says with these options in [ldap]: exit code and document."""
        path = self.folder / f"lookup-{secrets.token_hex(4)}.toml"
        keys = {"sources": ["ldap"]}
        path.write_text(to_toml({"keys": keys, "ldap": {**self.options, **options}}))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "smilla", "lookup", "--json", "--config", str(path), address]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def verdict(self, address: str, **options: Any) -> tuple[str, str, str]:
        """Verdict, reason and what it rests on."""
        _, found = self.look_up(address, **options)
        return found["verdict"], found["reason"]["code"], found["dnssec"]


def _people(hugh: SMIMEKey, pia: OpenPGPKey) -> dict[str, list[tuple[str, bytes]]]:
    armoured = subprocess.run(
        ["gpg", "--homedir", pia.home, "--batch", "--armor", "--export"], capture_output=True, check=True
    ).stdout
    certificate = ("userCertificate;binary", hugh.raw_certificate)
    return {
        "hugh": [("mail", b"hugh@corp.test"), certificate],
        "pia": [("mail", b"pia@corp.test"), ("pgpKey", armoured)],
        "none": [("mail", b"none@corp.test")],
        "other": [("mail", b"other@corp.test"), certificate],
        "hidden": [("mail", b"hidden@corp.test"), ("userCertificate;binary", hugh.raw_certificate)],
        **{f"many{number}": [("mail", b"many@corp.test"), certificate] for number in range(25)},
    }


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[World]:
    authority, stranger = Authority(folder, "public"), Authority(folder, "stranger")
    hugh = make_smime_key(folder, "hugh@corp.test")
    dns = DNSLab(folder / "dns")
    dns.zone("corp.test")
    with contextlib.ExitStack() as stack:
        pia = stack.enter_context(contextlib.closing(make_openpgp_key(folder, "pia@corp.test")))
        stack.enter_context(dns)
        slapd = Slapd(folder / "slapd", _people(hugh, pia), authority.issue("localhost").file)
        stack.enter_context(slapd)
        options = {"url": f"ldaps://localhost:{slapd.tls_port}", "ca_file": str(authority.file), "base": BASE}
        settings: dict[str, Any] = {
            "keys": {"sources": ["smimea", "openpgpkey", "ldap"]},
            "policy": {"mixed": "reinject"},
            "ldap": options,
        }
        (folder / "chain").mkdir(mode=0o755)
        chain = stack.enter_context(Chain(folder / "chain", dns.resolver, {"outbound": settings}))
        yield World(folder, dns, slapd, chain, Mta(chain), options, hugh, pia, authority, stranger)
        check_logs(chain)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_servers("nsd", "unbound", "ldns-signzone", "postfix", "gpg", "slapd")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        Path(name).chmod(0o755)
        with _running(Path(name)) as found:
            yield found


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hugh@corp.test", ("usable", "usable", "ldap")),
        ("HUGH@Corp.test", ("usable", "usable", "ldap")),
        ("pia@corp.test", ("usable", "usable", "ldap")),
        ("none@corp.test", ("no_key", "no_key", "ldap")),
        ("nobody@corp.test", ("no_key", "no_key", "ldap")),
        ("other@corp.test", ("unusable_key", "other_address", "ldap")),
        ("many@corp.test", ("unclear", "ldap_unclear", "ldap")),
        ('"*"@corp.test', ("no_key", "no_key", "ldap")),
        ('"x)(|(mail=*"@corp.test', ("no_key", "no_key", "ldap")),
        ("h*@corp.test", ("no_key", "no_key", "ldap")),
    ],
)
@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_each_entry_has_one_verdict(world: World, scheme: str, address: str, expected: tuple[str, str, str]) -> None:
    port = world.slapd.port if scheme == "ldap" else world.slapd.tls_port
    base = f"ou=people,{BASE}"  # without the referral
    assert world.verdict(address, url=f"{scheme}://localhost:{port}", base=base) == expected


def test_a_referral_is_no_absence(world: World) -> None:
    assert world.verdict("nobody@corp.test") == ("unclear", "ldap_unclear", "ldap")
    assert world.verdict("hugh@corp.test")[0] == "usable"


def test_who_binds_may_see_more(world: World) -> None:
    base = f"ou=hidden,{BASE}"
    assert world.verdict("hidden@corp.test", base=base) == ("unreachable", "ldap_unreachable", "unreachable")
    secret = world.folder / "password"
    secret.write_text(f"{PASSWORD}\n")
    options = {"bind_dn": BINDS, "password_file": str(secret), "base": base}
    assert world.verdict("hidden@corp.test", **options) == ("unusable_key", "other_address", "ldap")


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_bind_that_fails_is_unreachable(world: World, password: str) -> None:
    secret = world.folder / f"password-{password or 'empty'}"
    secret.write_text(f"{password}\n")
    options = {"bind_dn": BINDS, "password_file": str(secret)}
    assert world.verdict("hugh@corp.test", **options) == ("unreachable", "ldap_unreachable", "unreachable")


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_certificate_that_is_not_valid_is_unreachable_and_gets_no_password(
    world: World, scheme: str, fault: str
) -> None:
    port = world.slapd.port if scheme == "ldap" else world.slapd.tls_port
    host = LOOPBACK if fault == "name" else "localhost"
    secret = world.folder / "password-wanted"
    secret.write_text(f"{PASSWORD}\n")
    before = world.slapd.log.count("BIND dn=")
    found = world.verdict(
        "hugh@corp.test",
        url=f"{scheme}://{host}:{port}",
        ca_file=str((world.stranger if fault == "authority" else world.authority).file),
        bind_dn=BINDS,
        password_file=str(secret),
    )
    assert found == ("unreachable", "ldap_unreachable", "unreachable")
    assert world.slapd.log.count("BIND dn=") == before


def test_a_server_without_tls_is_asked_nothing(world: World) -> None:
    secret = world.folder / "password-kept"
    secret.write_text(f"{PASSWORD}\n")
    with Slapd(world.folder / "bare", {"hugh": [("mail", b"hugh@corp.test")]}, None) as bare:
        url = f"ldap://localhost:{bare.port}"
        found = world.verdict("hugh@corp.test", url=url, bind_dn=BINDS, password_file=str(secret))
        assert found == ("unreachable", "ldap_unreachable", "unreachable")
        assert "BIND dn=" not in bare.log
        assert "SRCH" not in bare.log


def test_a_server_that_is_not_there_is_unreachable(world: World) -> None:
    assert world.verdict("hugh@corp.test", url=f"ldaps://localhost:{free_port()}")[0] == "unreachable"


def test_a_directory_that_is_not_for_the_domain_is_not_asked(world: World) -> None:
    url = f"ldaps://localhost:{free_port()}"
    assert world.verdict("hugh@elsewhere.test", url=url, domains=["corp.test"]) == ("no_key", "no_key", "ldap")
    assert world.verdict("hugh@corp.test", url=url, domains=["corp.test"])[0] == "unreachable"


@pytest.mark.parametrize(
    "says", [b"", b"\x30\x84\x7f\xff\xff\xff", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"]
)
def test_a_server_that_says_nothing_or_rubbish_holds_nobody_up(world: World, says: bytes) -> None:
    """The last is a good answer to StartTLS, and no TLS after it."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # whoever asks may be gone by then, or never come
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(says)
                    is_over.wait(60)

        is_over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"ldap://localhost:{listening.getsockname()[1]}"
        directory = Directory(url, str(world.authority.file), ("userCertificate",), 1.0)
        with pytest.raises(DirectoryError):
            directory.search(BASE, "(mail=x)", "", "")
        is_over.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_mail_is_encrypted_to_a_key_in_the_directory_and_the_log_says_what_that_rests_on(world: World) -> None:
    to = ["hugh@corp.test", "pia@corp.test"]
    reply, sent = world.mta.send(letter(to=", ".join(to).encode()), to)
    assert reply.code == 250, reply
    for mail in world.mta.delivered(sent):
        assert CANARY not in mail.raw
        path = world.folder / f"{mail.rcpt_to[0]}.eml"
        path.write_bytes(mail.raw)
        key = world.hugh if mail.rcpt_to == ("hugh@corp.test",) else world.pia
        assert CANARY in key.open(path)
    for address in to:
        line = world.chain.filters["outbound"].wait_for_log(rf" encrypted .*rcpt={address}")
        assert "source=ldap dnssec=ldap" in line


def test_mail_is_deferred_while_the_directory_is_away(world: World) -> None:
    world.slapd.stop()
    try:
        reply, sent = world.mta.send(letter(to=b"later@corp.test"), ["later@corp.test"])
        assert (reply.code, str(reply).split()[1]) == (451, "4.7.5"), reply
        assert world.mta.delivered(sent) == []
    finally:
        world.slapd.start()
