"""A web server for MTA-STS policies (RFC 8461 section 3.2) on port 443 of an address of its own."""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.lab.processes import Closing

if TYPE_CHECKING:
    import ssl

PATH = "/.well-known/mta-sts.txt"


@dataclass
class Answer:
    """What it says for one domain; ``fields`` are the lines of the policy after its version, joined by CRLF."""

    fields: str = ""
    max_age_s: int = 86400
    status: int = 200
    location: str = ""

    @property
    def raw(self) -> bytes:
        """The policy."""
        return f"version: STSv1\r\n{self.fields}\r\nmax_age: {self.max_age_s}\r\n".encode()


@dataclass
class _Shared:
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class PolicyWeb(Closing):
    """``answers`` by domain, which may change while it runs; ``asked`` are the domains it was asked about, in order."""

    def __init__(self, address: str, port: int, tls: ssl.SSLContext) -> None:
        self._shared = shared = _Shared()

        class Handler(_Handler):
            state = shared

        self._server = http.server.ThreadingHTTPServer((address, port), Handler)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()

    @property
    def answers(self) -> dict[str, Answer]:
        """By domain."""
        return self._shared.answers

    @property
    def asked(self) -> list[str]:
        """The domains, in order."""
        return self._shared.asked

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(http.server.BaseHTTPRequestHandler):
    state: _Shared

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        domain = (self.headers["Host"] or "").partition(":")[0].removeprefix("mta-sts.")
        self.state.asked.append(domain)
        answer = self.state.answers.get(domain)
        raw = answer.raw if answer is not None and self.path == PATH else b""
        self.send_response(answer.status if answer is not None and raw else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        if answer is not None and answer.location:
            self.send_header("Location", answer.location)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
