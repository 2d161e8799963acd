"""HTTPS (RFC 9110) for programs: the certificate is verified, nothing is followed, and time and size are bounded.

Promises: a request ends within ``timeout_s``, once the name is resolved, whatever the server does.  No redirect is
followed, no proxy asked, and no cookie kept.  A response is whole, or FetchError is raised.
"""

from __future__ import annotations

import copy
import http.client
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from urllib.parse import urlsplit

from smilla.errors import FetchError, words_of

_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """``headers`` with names in lower case; where a field is repeated, the last one."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """``ca_file`` in PEM replaces the system's authorities.  Raises FetchError where it cannot be read."""

    def __init__(self, ca_file: str = "", timeout_s: float = 30.0, most: int = _MOST) -> None:
        try:
            self._context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise FetchError(f"{ca_file}: cannot be used: {error}", temporary=False) from error
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 sets it: certificates of private authorities often lack what it asks for, and browsers take them.
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._timeout_s, self._most = timeout_s, most

    def within(self, left_s: float) -> Client:
        """The same, where so many seconds are left.  Raises FetchError if none are."""
        if left_s <= 0:
            raise FetchError("the time was over before this server could be asked", temporary=True)
        hasty = copy.copy(self)
        hasty._timeout_s = min(self._timeout_s, left_s)
        return hasty

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, at: str = ""
    ) -> Response:
        """One exchange on a connection of its own; with the server at the IP address ``at``, if given, instead of those
        that the system knows for the name.  Raises FetchError."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username:
            raise FetchError(f"{url}: is no https URL", temporary=False)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Connection(parts.hostname, parts.port, self._timeout_s, self._context, at)
        try:
            return self._exchanged(connection, method, target, headers, body)
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"{parts.hostname}: its certificate is not valid: {error}", temporary=False) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(f"{parts.hostname}: {words_of(error)}", temporary=True) from error
        finally:
            connection.close()

    def _exchanged(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Response:
        watch, is_late = _Watch(connection, self._timeout_s), False
        try:
            connection.request(method, target, body, {"User-Agent": "smilla", **headers})
            answer = connection.getresponse()
            # Without its length, an answer that was cut off looks like a whole one.
            is_bounded = answer.chunked or answer.length is not None
            content = _read(answer, self._most + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            is_late = isinstance(error, TimeoutError) and error.errno is None  # the socket's own time was over first
            if not is_late and not watch.has_fired:
                raise
        finally:
            watch.stop()
        if is_late or watch.has_fired:  # whatever the cut looked like
            raise FetchError(f"no whole answer within {self._timeout_s:g} s", temporary=True)
        if not is_bounded:
            raise FetchError("the answer does not say how long it is", temporary=False)
        if len(content) > self._most:
            raise FetchError(f"the answer has more than {self._most} octets", temporary=False)
        if answer.length:  # what was announced and did not come
            raise FetchError("the answer is cut off", temporary=True)
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
    """The first octets, so many at most.  A piece at a time: of a chunk whose size is less than nothing, ``read`` would
    take all that comes."""
    content = b""
    while len(content) < most and (block := answer.read1(most - len(content))):
        content += block
    return content


class _Connection(http.client.HTTPConnection):
    """Has its socket at hand during the handshake, too, so that the watch can cut it."""

    default_port = 443  # which the field Host leaves out

    def __init__(self, host: str, port: int | None, timeout_s: float, context: ssl.SSLContext, at: str) -> None:
        super().__init__(host, port or 443, timeout=timeout_s)
        self._context, self._name, self._at = context, host, at
        self._is_cut = False
        # Of our own: where the server wants to close, http.client lets go of ``sock`` before the content is there.
        self._wire: ssl.SSLSocket | None = None

    def connect(self) -> None:
        self.host = self._at or self._name
        try:
            super().connect()
        finally:
            self.host = self._name
        tls = self._context.wrap_socket(self.sock, server_hostname=self._name, do_handshake_on_connect=False)
        self.sock = self._wire = tls
        if self._is_cut:  # before there was anything to cut
            raise TimeoutError("the time is over")
        tls.do_handshake()

    def cut(self) -> None:
        """Ends whatever goes on, or would begin.  Any thread may call."""
        self._is_cut = True
        if self._wire is not None:
            with suppress(OSError):
                socket.shutdown(self._wire, SHUT_RDWR)


class _Watch:
    """Cuts a connection when its time is up, however slowly the server still sends."""

    def __init__(self, connection: _Connection, timeout_s: float) -> None:
        self.has_fired = False
        self._connection = connection
        self._timer = threading.Timer(timeout_s, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """The exchange is over."""
        self._timer.cancel()

    def _fire(self) -> None:
        self.has_fired = True
        self._connection.cut()
