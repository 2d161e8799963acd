"""smilla survey among servers that mean harm: endless banners, replies that come one octet a second, handshakes that
never end, chains of hundreds of certificates, web servers that give too much or nothing, zones with hundreds of hosts.

smilla survey -> unbound -> nsd
              -> an address of loopback for each kind of server, port 25; web servers, port 443

What each of them may cost is bounded: their domains are told with a reason, the others as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.authority import Authority
from tests.lab.dns import DNSLab
from tests.lab.listening import LoopbackServer
from tests.lab.network import network
from tests.lab.processes import LOOPBACK
from tests.lab.programs import REPOSITORY, require_servers
from tests.live.conftest import cannot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

pytestmark = pytest.mark.live
TIMEOUT_S = 12
GREETING, OFFER = b"220 x ESMTP\r\n", b"250-x\r\n250 STARTTLS\r\n"

# Runs a command and writes the most memory that it had (KiB): for all that the process of the tests ever ran, that
# would be the most of any, and of that process itself.
_MEASURED = """
import pathlib, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


class Hostile(LoopbackServer):
    """Does one thing with each connection, until it is cut."""

    def __init__(self, address: str, port: int, talks: Callable[[socket.socket], None]) -> None:
        self._talks = talks
        super().__init__(address, port)

    def talk(self, connection: socket.socket) -> None:
        """See LoopbackServer."""
        with contextlib.suppress(OSError, ValueError):
            self._talks(connection)
        self.open.discard(connection)
        with contextlib.suppress(OSError):
            connection.close()


def forever(connection: socket.socket, raw: bytes) -> None:
    while True:
        connection.sendall(raw)


def slowly(connection: socket.socket, raw: bytes = b"2") -> None:
    while True:
        connection.sendall(raw)
        time.sleep(0.2)


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def until_tls(connection: socket.socket) -> None:
    """The usual dialogue up to the client's first octet of TLS."""
    connection.sendall(GREETING)
    connection.recv(4096)
    connection.sendall(OFFER)
    connection.recv(4096)
    connection.sendall(b"220 go on\r\n")


def endless_ehlo(connection: socket.socket) -> None:
    connection.sendall(GREETING)
    connection.recv(4096)
    forever(connection, b"250-" + b"X" * 500 + b"\r\n")


def slow_handshake(connection: socket.socket) -> None:
    until_tls(connection)
    connection.recv(4096)
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # a ServerHello of 16 kB begins
    slowly(connection, b"\0")


def no_tls(connection: socket.socket) -> None:
    until_tls(connection)
    forever(connection, b"HTTP/1.1 200 OK\r\n")


def within(context: ssl.SSLContext, after: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """What it does once TLS has begun."""

    def talk(connection: socket.socket) -> None:
        until_tls(connection)
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            after(tls)

    return talk


def web(context: ssl.SSLContext, after: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """A web server that does this with the request."""

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            after(tls)

    return talk


def says(raw: bytes, then: Callable[[socket.socket], None] = lambda _: None) -> Callable[[socket.socket], None]:
    """Says this, and does that."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(raw)
        then(connection)

    return talk


def floods(raw: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: forever(connection, raw)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
AWAY = b"HTTP/1.1 302 Found\r\nLocation: https://mta-sts.web-elsewhere.test/\r\nContent-Length: 0\r\n\r\n"
WEBS: dict[str, Callable[[socket.socket], None]] = {
    "web-endless": says(HEAD + b"\r\n", floods(b"version: STSv1\n" * 100)),
    "web-header": says(HEAD, floods(b"X-A: " + b"a" * 900 + b"\r\n")),
    "web-slow": says(HEAD, slowly),
    "web-promises": says(HEAD + b"Content-Length: 99999999999\r\n\r\n", silent),
    "web-elsewhere": says(AWAY),
}


def long_chain(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """As many certificates as a client of OpenSSL takes, all of one name, each of which may have signed each; and the
    last one."""
    key, raw = make_certificate("p256", common_name="a", ca=True, number=950)
    chain = [to_pem(raw)]
    others = [x509.DNSName("mx.chain.test")]
    leaf = make_certificate("p256", other_names=others, number=951, issuer=(key, raw), ca=False)
    for number in range(952, 952 + 200):
        chain.append(to_pem(make_certificate("p256", common_name="a", ca=True, number=number)[1]))
    path = folder / "chain.pem"
    path.write_bytes(_pem(leaf[0]) + to_pem(leaf[1]) + b"".join(chain[1:]) + chain[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, raw


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Lab:
    """All servers, by the domain that they serve."""

    def __init__(self, stack: contextlib.ExitStack, place: Path) -> None:
        self.place = place
        public = Authority(place, "public")
        good = public.issue("mx.good.test", "mx.after.test", *(f"mta-sts.{name}.test" for name in WEBS))
        chain, self.raw_top = long_chain(place)
        servers: dict[str, Callable[[socket.socket], None]] = {
            "silent": silent,
            "banner": floods(b"220-welcome\r\n" * 50),
            "line": floods(b"2" * 4096),
            "slow": slowly,
            "ehlo": endless_ehlo,
            "handshake": slow_handshake,
            "garbage": no_tls,
            "after": within(good.server(), floods(b"250-X\r\n" * 100)),
            "chain": within(chain, says(b"250 x\r\n", silent)),
            "good": within(good.server(), says(b"250 x\r\n", silent)),
        }
        self.dns = DNSLab(place / "dns")
        self.dns.port = 53
        for number, (name, talks) in enumerate(servers.items(), 1):
            zone = self.dns.zone(f"{name}.test").add(f"{name}.test.", "MX", f"10 mx.{name}.test.")
            zone.add(f"mx.{name}.test.", "A", f"127.{number}.0.1")
            stack.enter_context(Hostile(f"127.{number}.0.1", 25, talks))
        for number, (name, answers) in enumerate(WEBS.items(), 101):
            zone = self.dns.zone(f"{name}.test").add(f"{name}.test.", "MX", "10 mx.good.test.")
            zone.add(f"_mta-sts.{name}.test.", "TXT", '"v=STSv1; id=1"').add(
                f"mta-sts.{name}.test.", "A", f"127.{number}.0.1"
            )
            stack.enter_context(Hostile(f"127.{number}.0.1", 443, web(good.server(), answers)))
        self._tlsa()
        self._crowd()
        stack.enter_context(self.dns)
        self.config = place / "smilla.toml"
        self.config.write_text(
            f'[dns]\nnameservers = ["{LOOPBACK}"]\nprobe = "test."\n[hop]\nca_file = "{public.file}"\n'
        )
        self.names = [f"{name}.test" for name in (*servers, *WEBS, "crowd")]

    def _tlsa(self) -> None:
        """A hundred records of usage 2, of which none names a certificate of the chain."""
        for number in range(100):
            self.dns.zone("chain.test").add("_25._tcp.mx.chain.test.", "TLSA", bytes([2, 0, 1]) + number.to_bytes(32))

    def _crowd(self) -> None:
        """Three hundred hosts of thirty addresses each, and text in every record that has some."""
        zone = self.dns.zone("crowd.test")
        for number in range(300):
            zone.add("crowd.test.", "MX", f"{number} mx{number}.crowd.test.")
        for number in range(10):
            for last in range(30):
                zone.add(f"mx{number}.crowd.test.", "A", f"127.200.{number}.{last + 1}")
        strings = " ".join(f'"{"v=spf1 " if not one else ""}{"x" * 240}"' for one in range(100))
        zone.add("crowd.test.", "TXT", strings)

    def survey(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "smilla", "survey", "--config", str(self.config), "--json"]
        line += ["--timeout", str(TIMEOUT_S), *arguments]
        return subprocess.run(
            [sys.executable, "-c", _MEASURED, str(self.place / "peak"), *line],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=REPOSITORY,
            timeout=300,
        )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        cannot("a network of its own needs root: run 'make test'")
    require_servers("nsd", "unbound", "ldns-signzone")
    place = Path(tempfile.mkdtemp(prefix="smilla-"))
    place.chmod(0o755)
    try:
        with network(), contextlib.ExitStack() as stack:
            yield Lab(stack, place)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def found(lab: Lab) -> dict[str, dict[str, Any]]:
    """All of them in one survey."""
    began = time.monotonic()
    done = lab.survey("--html", str(lab.place / "report.html"), *lab.names)
    print(f"{len(lab.names)} hostile domains: {time.monotonic() - began:.0f} s")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(one["asked"] for one in results) == sorted(lab.names), done.stderr
    return {one["asked"].removesuffix(".test"): one for one in results}


REASONS = {
    "silent": "timed out",
    "banner": "the server's replies are too long",
    "line": "the server's replies are too long",
    "slow": "timed out",
    "ehlo": "the server's replies are too long",
    "handshake": "timed out",
    "garbage": "",  # it depends on what comes with the reply to STARTTLS
    "crowd": "",
}


@pytest.mark.parametrize("name", REASONS)
def test_server_that_means_harm_is_unknown_with_the_reason(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[name]["way"] == "unknown"
    assert REASONS[name] in found[name]["why"]


def test_others_are_told_as_they_are(found: dict[str, dict[str, Any]]) -> None:
    assert found["good"]["way"] == "opportunistic"
    assert found["after"]["way"] == "opportunistic"  # what it says after TLS has begun is not needed


@pytest.mark.parametrize("name", WEBS)
def test_web_server_that_means_harm_gives_no_policy(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[name]["way"] == "opportunistic"
    assert found[name]["mta_sts"]["state"] in ("unreachable", "unusable")


def test_chain_of_hundreds_matches_no_record(found: dict[str, dict[str, Any]]) -> None:
    assert found["chain"]["way"] == "not now"


def test_of_hundreds_of_hosts_and_addresses_a_few_are_asked(found: dict[str, dict[str, Any]]) -> None:
    assert len(found["crowd"]["hosts"]) == 8
    assert all(len(host["servers"]) == 8 for host in found["crowd"]["hosts"])


def test_no_survey_takes_much_memory(lab: Lab, found: dict[str, dict[str, Any]]) -> None:
    assert 10 < int((lab.place / "peak").read_text()) / 1024 < 400
    assert (lab.place / "report.html").stat().st_size < 1 << 20
    assert threading.active_count() < 500
