"""A stand-in for deSEC's API on a loopback port, over HTTPS: there is no such account to test with.

It does what the API's documentation says of GET /domains/?owns_qname=, GET and PATCH of rrsets, tokens and limits.  A
test may put ``trouble`` in its way.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.processes import LOOPBACK, Closing

Trouble = Callable[["Handler"], None]


class DeSECStub(Closing):
    """One account with one domain.  Use as a context manager."""

    def __init__(self, folder: Path, domain: str, token: str) -> None:
        self.domain, self.token = domain, token
        self.rrsets: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.trouble: Trouble | None = None
        self.ending = threading.Event()
        self.ca_file, pair = _certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self._server = _Server((LOOPBACK, 0), Handler)
        self._server.stub = self
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self._server.server_address[1]}/api/v1"

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    stub: DeSECStub
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not like the certificate is no error here."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    @property
    def stub(self) -> DeSECStub:
        assert isinstance(self.server, _Server)
        return self.server.stub

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""

    def answer(self, status: int, content: object, **headers: str) -> None:
        """A JSON document."""
        raw = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        if self._is_kept_out():
            return
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/api/v1/domains/":
            name = query.get("owns_qname", [""])[0]
            owns = f".{name}".endswith(f".{self.stub.domain}")
            self.answer(200, [{"name": self.stub.domain, "minimum_ttl": 3600}] if owns else [])
            return
        _, _, _, _, domain, _, subname, rdtype, _ = unquote(path).split("/")
        found = self.stub.rrsets.get((subname, rdtype)) if domain == self.stub.domain else None
        self.answer(200 if found else 404, found or {"detail": "Not found."})

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_kept_out():
            return
        if urlsplit(self.path).path != f"/api/v1/domains/{self.stub.domain}/rrsets/":
            self.answer(404, {"detail": "Not found."})
            return
        wanted = json.loads(body)
        if faults := [
            {"ttl": ["Ensure this value is >= 3600."]} if one["ttl"] < 3600 else {}
            for one in wanted
            if one["ttl"] < 3600 and one["records"]
        ]:
            self.answer(400, faults)
            return
        for one in wanted:
            self.stub.rrsets.pop((one["subname"], one["type"]), None)
            if one["records"]:
                self.stub.rrsets[one["subname"], one["type"]] = one
        self.answer(200, [one for one in wanted if one["records"]])

    def _is_kept_out(self) -> bool:
        self.stub.requests.append((self.command, self.path))
        if self.stub.trouble:
            self.stub.trouble(self)
            return True
        if self.headers["Authorization"] != f"Token {self.stub.token}":
            self.answer(401, {"detail": "Invalid token."})
            return True
        return False


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Of an authority of its own: that one's file, and the server's pair."""
    now = datetime.now(UTC)
    times = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=1)}
    authority = make_certificate("p256", common_name="Lab", ca=True, usages=("key_cert_sign",), **times)  # type: ignore[arg-type]
    name = x509.IPAddress(ip_address(LOOPBACK))
    key, raw = make_certificate("p256", number=7, other_names=[name], issuer=authority, **times)  # type: ignore[arg-type]
    ca_file, pair = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(to_pem(authority[1]))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.write_bytes(to_pem(raw) + private)
    return ca_file, pair
