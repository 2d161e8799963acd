"""TLS towards clients that connect to smilla (STARTTLS, RFC 3207): the certificate, and the handshake.

Promises: TLS 1.2 or newer, without renegotiation and without compression.  A handshake ends within ``HANDSHAKE_S``,
whatever the client does.  No certificate is asked of the client, so nothing that it shows is ever parsed.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from smilla.errors import SmillaError, words_of

HANDSHAKE_S = 30.0


class ServerTLS:
    """The certificate as it was in its files when this was made; a reload makes another one."""

    def __init__(self, certificate: str, key: str) -> None:
        """``certificate`` is a PEM file, the server's own certificate first; its private key is in the file ``key``, or
        in the same one if that is "".  Raises SmillaError."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            self._context.load_cert_chain(certificate, key or None, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise SmillaError(f"{_named(certificate, key)}: {words_of(error)}") from error

    def accept(self, connection: socket.socket) -> socket.socket:
        """The same connection after the handshake, which the client begins; the one that was given must not be used
        any more.  Raises OSError (also where the client is too slow)."""
        connection.settimeout(HANDSHAKE_S)
        return self._context.wrap_socket(connection, server_side=True)


def end(connection: socket.socket) -> None:
    """Tells the client that nothing more comes (RFC 8446 section 6.1), and waits for nothing.  Raises nothing."""
    if isinstance(connection, ssl.SSLSocket):
        with suppress(OSError, ValueError):
            connection.settimeout(0)
            connection.unwrap()


def _no_password() -> str:
    """Otherwise OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted, and nobody is there to type its password")


def _named(certificate: str, key: str) -> str:
    return f"{certificate} with {key}" if key else certificate
