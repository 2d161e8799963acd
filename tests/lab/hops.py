"""Domains whose mail servers can be verified, or not: signed and unsigned zones, MTA-STS policies, and the servers.

    smilla -> unbound (validates) -> nsd
           -> ``web`` (policies, https)                    at ADDRESS:443
    Postfix -> unbound                                     at ADDRESS:53
            -> another Postfix (TLS, discards its mail)    at ADDRESS:25, and in the circle at INSIDE:25

Ports 25, 53 and 443 are what the standards say; the addresses are loopback's, and this laboratory's own.  Needs root.
"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.hops.tlsa import association
from tests.certificates import key_usage, make_certificate, to_pem
from tests.lab.dns import DNSLab, Kind
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import Running

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

NOW = datetime.now(UTC)
FROM, TO = NOW - timedelta(days=60), NOW + timedelta(days=90)
_SIGNS = [(key_usage("key_cert_sign"), True)]


def _authority(name: str, number: int) -> tuple[PrivateKeyTypes, bytes]:
    return make_certificate(
        "p256", common_name=name, ca=True, number=number, extensions=_SIGNS, not_before=FROM, not_after=TO
    )


ROOT, CIRCLE_ROOT = _authority("Root", 911), _authority("Circle", 912)
DANE = ("dane.test", "rolling.test", "wrongkey.test", "wrongusage.test", "both.test", "unsignedmx.test")
STS = ("sts.test", "testing.test", "other.test", "moved.test", "closed.test", "both.test", "garbage.test")
CIRCLE = ("inside.test", "intruder.test")
POLICIES = {
    "sts.test": "mode: enforce\r\nmx: *.sts.test",
    "testing.test": "mode: testing\r\nmx: mx.testing.test",
    "other.test": "mode: enforce\r\nmx: mx.elsewhere.test",
    "both.test": "mode: enforce\r\nmx: mx.elsewhere.test",
    "garbage.test": "mode: perhaps",
}


def _leaf(number: int, issuer: tuple[PrivateKeyTypes, bytes], *names: str) -> tuple[PrivateKeyTypes, bytes]:
    return make_certificate(
        "p256",
        other_names=[x509.DNSName(name) for name in names],
        number=number,
        issuer=issuer,
        ca=False,
        not_before=FROM,
        not_after=TO,
    )


_HOSTS = [f"mx.{domain}" for domain in dict.fromkeys((*DANE, *STS, "plain.test", "intruder.test"))]
LIVE = _leaf(913, ROOT, *_HOSTS, *(f"mta-sts.{domain}" for domain in STS))
INSIDE = _leaf(914, CIRCLE_ROOT, "mx.inside.test")
NEXT = _leaf(915, ROOT, "mx.rolling.test")


def tlsa(usage: int, raw: bytes) -> bytes:
    """RDATA of a TLSA record: the digest of the certificate's key."""
    return bytes([usage, 1, 1]) + association(raw, 1, 1)


class HopLab(Running):
    """All of it.  ``policies`` are what the web server gives, by domain; a domain that is not there is redirected.
    ``requests`` are the domains that it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        network = f"127.{secrets.randbelow(100) + 100}.{secrets.randbelow(250) + 1}"
        self.address, self.inside = f"{network}.1", f"{network}.2"
        self.policies = dict(POLICIES)
        self.requests: list[str] = []
        self.dns = DNSLab(folder / "dns")
        self.dns.interfaces.append(f"{self.address}@53")
        self.ca_file, self.circle_file = folder / "ca.pem", folder / "circle.pem"
        self._stack = contextlib.ExitStack()
        self._is_running = False

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return self._is_running

    def start(self) -> Self:
        """Starts the name servers, the web server and the mail servers."""
        self.folder.mkdir(exist_ok=True)
        self.ca_file.write_bytes(to_pem(ROOT[1]))
        self.circle_file.write_bytes(to_pem(CIRCLE_ROOT[1]))
        self._zones()
        try:
            self._stack.enter_context(self.dns)
            self._web()
            self._stack.enter_context(self._receiver())
        except BaseException:
            self._stack.close()
            raise
        self._is_running = True
        return self

    def stop(self) -> None:
        """Ends them all."""
        self._stack.close()
        self._is_running = False

    def with_nameserver(self) -> list[str]:
        """The words before a command, for which /etc/resolv.conf then names this laboratory's resolver."""
        path = self.folder / "resolv.conf"
        path.write_text(f"nameserver {self.address}\noptions trust-ad\n")
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(path)]

    def _zones(self) -> None:
        records = {
            "dane.test": [tlsa(3, LIVE[1])],
            "rolling.test": [tlsa(3, NEXT[1]), tlsa(3, LIVE[1])],
            "wrongkey.test": [tlsa(3, NEXT[1])],
            "wrongusage.test": [tlsa(1, LIVE[1])],
            "both.test": [tlsa(3, LIVE[1])],
            "unsignedmx.test": [tlsa(3, LIVE[1])],
        }
        for domain in dict.fromkeys((*DANE, *STS, *CIRCLE, "plain.test")):
            is_signed = domain in DANE and domain != "unsignedmx.test"
            zone = self.dns.zone(domain, Kind.SECURE if is_signed else Kind.INSECURE)
            zone.add(f"{domain}.", "MX", f"10 mx.{domain}.")
            zone.add(f"mx.{domain}.", "A", self.inside if domain == "inside.test" else self.address)
            for raw in records.get(domain, []):
                zone.add(f"_25._tcp.mx.{domain}.", "TLSA", raw)
            if domain in STS:
                zone.add(f"_mta-sts.{domain}.", "TXT", '"v=STSv1; id=1"')
                zone.add(f"mta-sts.{domain}.", "A", self.inside if domain == "closed.test" else self.address)
        self.dns.zone("alias.test").add("alias.test.", "MX", "10 mx.alias.test.").add(
            "mx.alias.test.", "CNAME", "mx.dane.test."
        )
        self.dns.zone("away.test").add("away.test.", "MX", "10 mx.forged.test.")  # an MX that points away
        self.dns.zone("forged.test", Kind.FORGED).add("mx.forged.test.", "A", self.address)
        self.dns.zone("null.test").add("null.test.", "MX", "0 .")
        self.dns.zone("nomx.test").add("nomx.test.", "A", self.address).add(
            "_25._tcp.nomx.test.", "TLSA", tlsa(3, LIVE[1])
        )
        self.dns.zone("silent.test", Kind.SILENT)
        self.dns.zone("dead.test", Kind.DEAD)

    def _pair(self, name: str, certificate: tuple[PrivateKeyTypes, bytes], root: bytes) -> Path:
        key = certificate[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.folder / f"{name}.pem"
        path.write_bytes(key + to_pem(certificate[1]) + to_pem(root))
        path.chmod(0o600)
        return path

    def _receiver(self) -> Postfix:
        """Takes mail for every domain, with TLS offered and not required, and throws it away."""
        folder = self.folder / "receiver"
        folder.mkdir()
        pairs = {
            self.address: self._pair("live", LIVE, ROOT[1]),
            self.inside: self._pair("inside", INSIDE, CIRCLE_ROOT[1]),
        }
        parameters = {
            "myhostname": "receiver.test",
            "default_transport": "discard",
            "relayhost": "",
            "mynetworks": "127.0.0.0/8",
        }
        tls = "smtpd_tls_security_level"
        listeners = [
            Listener(options={tls: "may", "smtpd_tls_chain_files": str(pair)}, port=25, address=address)
            for address, pair in pairs.items()
        ]
        postfix = Postfix(folder, 9, listeners, parameters)
        self.received = postfix
        return postfix

    def _web(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pair("web", LIVE, ROOT[1]))
        lab = self

        class Handler(BaseHTTPRequestHandler):
            """The policy of the host that is asked for."""

            def log_message(self, format: str, *arguments: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                domain = self.headers["Host"].removeprefix("mta-sts.")
                lab.requests.append(domain)
                policy = lab.policies.get(domain)
                octets = f"version: STSv1\r\n{policy}\r\nmax_age: 86400\r\n".encode()
                self.send_response(301 if policy is None else 200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Location", f"https://mta-sts.sts.test{self.path}")
                self.send_header("Content-Length", str(len(octets)))
                self.end_headers()
                self.wfile.write(octets)

        server = ThreadingHTTPServer((self.address, 443), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
