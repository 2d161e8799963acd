"""A client's connection, in the clear and over TLS: is there more, has it ended?"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smilla.adapters.tls_server import ServerTLS
from smilla.server.lines import CutOffError, Lines
from tests.lab.loopback_tls import pem


@pytest.fixture(params=["clear", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Lines, socket.socket]]:
    """Our side, and the client's."""
    ours, theirs = socket.socketpair()
    lines = Lines(ours)
    if request.param == "tls":
        (tmp_path / "relay.pem").write_bytes(pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        shaking = threading.Thread(target=lines.encrypt, args=(ServerTLS(str(tmp_path / "relay.pem"), ""),))
        shaking.start()
        theirs = context.wrap_socket(theirs)
        shaking.join()
    yield lines, theirs
    lines.close()
    theirs.close()


def test_client_that_is_silent_has_not_ended_and_what_it_says_meanwhile_is_not_lost(
    pair: tuple[Lines, socket.socket],
) -> None:
    lines, client = pair
    assert not lines.has_ended()
    client.sendall(b"NOOP\r\nQUIT\r\n")
    assert lines.line() == "NOOP"
    assert not lines.has_ended()
    assert lines.line() == "QUIT"
    client.sendall(b"MAIL\r\n")
    assert not lines.has_ended()
    assert lines.has_more
    assert lines.line() == "MAIL"


@pytest.mark.parametrize("is_polite", [True, False])
def test_client_that_has_ended_is_seen_whether_it_said_so_or_not(
    pair: tuple[Lines, socket.socket], is_polite: bool
) -> None:
    lines, client = pair
    if is_polite and isinstance(client, ssl.SSLSocket):
        client.settimeout(0)
        with suppress(ssl.SSLWantReadError):
            client.unwrap()
    else:
        client.shutdown(socket.SHUT_WR)
    assert lines.has_ended()
    with pytest.raises(EOFError):
        lines.line()


def test_what_was_said_in_the_clear_is_never_read_as_said_over_tls() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lines = Lines(ours)
        theirs.sendall(b"STARTTLS\r\nMAIL\r\n")
        assert lines.line() == "STARTTLS"
        with pytest.raises(CutOffError):
            lines.encrypt(None)  # type: ignore[arg-type]  # it is not asked
