"""What a server presents after STARTTLS: a small server with a real TLS library, and faults that it stages."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.adapters.smtp_tls import Presented, starttls, verify
from smilla.errors import HopError
from tests.certificates import make_certificate, to_pem
from tests.lab.listening import LoopbackServer
from tests.lab.loopback_tls import ROOT, certificate

if TYPE_CHECKING:
    from pathlib import Path

MX = "mx.example.org"
KEY, LEAF = certificate([x509.DNSName(MX)])
EHLO = b"250-mx\r\n250 STARTTLS\r\n"


class Server(LoopbackServer):
    """Says these replies in turn, then speaks TLS if the last one was to STARTTLS; ``heard`` is what the client said
    in the clear, ``inside`` what it said within TLS, ``asked_for`` the name it asked for."""

    def __init__(self, folder: Path, *replies: bytes) -> None:
        self.replies, self.heard, self.inside, self.asked_for = replies, b"", b"", ""
        self.ended = threading.Event()
        key = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "server.pem").write_bytes(key + to_pem(LEAF) + to_pem(ROOT[1]))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem")
        self.context.sni_callback = self._asked
        super().__init__()

    def _asked(self, _: object, name: str | None, __: object) -> None:
        self.asked_for = name or ""

    def talk(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._talk(connection)
        except OSError:
            pass
        finally:
            self.ended.set()
            self.open.discard(connection)

    def _talk(self, connection: socket.socket) -> None:
        for reply in self.replies:
            connection.sendall(reply)
            self.heard += connection.recv(1000)
            if self.heard.endswith(b"STARTTLS\r\n"):
                connection.sendall(self.replies[-1])
                with self.context.wrap_socket(connection, server_side=True) as tls:
                    self.inside = tls.recv(1000)
                    tls.sendall(b"221 bye\r\n")
                return


def ask(server: Server, timeout_s: float = 20) -> Presented:
    return starttls("127.0.0.1", server.port, MX, timeout_s)


def failure(server: Server, timeout_s: float = 20) -> HopError:
    with pytest.raises(HopError) as caught:
        ask(server, timeout_s)
    return caught.value


def test_whole_chain_is_seen_as_it_was_sent_and_the_dialogue_ends_with_quit(tmp_path: Path) -> None:
    with Server(tmp_path, b"220 mx\r\n", EHLO, b"220 go\r\n") as server:
        found = ask(server)
        assert server.ended.wait(20)
        assert found.raw_chain == (LEAF, ROOT[1])
        assert found.version.startswith("TLSv1.")
        assert found.cipher
        assert (found.asked_for, server.asked_for) == (MX, MX)
        assert server.inside == b"QUIT\r\n"


def test_server_without_starttls_is_told_from_one_that_could_not_be_asked(tmp_path: Path) -> None:
    with Server(tmp_path, b"220 mx\r\n", b"250-mx\r\n250 XSTARTTLS\r\n", b"221 bye\r\n") as server:
        error = failure(server)
        assert (error.code, error.temporary) == ("no_starttls", False)
        assert server.ended.wait(20)
        assert server.heard.endswith(b"QUIT\r\n")


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        ((b"554 go away\r\n",), "unexpected_reply"),
        ((b"220 mx\r\n", EHLO, b"454 not now\r\n"), "unexpected_reply"),
        ((b"220 mx\r\n", EHLO, b"220 go\r\n250 injected\r\n"), "unexpected_reply"),
        ((), "unreachable"),
    ],
)
def test_server_that_fails_is_never_one_without_tls(tmp_path: Path, replies: tuple[bytes, ...], code: str) -> None:
    with Server(tmp_path, *replies) as server:
        error = failure(server)
        assert (error.code, error.temporary) == (code, True)


def test_server_that_never_ends_its_line_is_left(tmp_path: Path) -> None:
    with Server(tmp_path, b"220-" + b"x" * 70000) as server:
        error = failure(server)
        assert (error.code, str(error)) == ("unreachable", "the server's replies are too long")


def test_silent_server_is_left_at_the_deadline(tmp_path: Path) -> None:
    with Server(tmp_path, b"220-mx\r\n") as server:
        begun = time.monotonic()
        assert failure(server, timeout_s=0.5).code == "unreachable"
        assert time.monotonic() - begun < 60


def test_port_without_a_server_is_unreachable() -> None:
    with pytest.raises(HopError) as caught:
        starttls("127.0.0.1", 1, MX, 5)
    assert caught.value.code == "refused"


def test_certificate_of_no_known_authority_is_untrusted(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(to_pem(make_certificate("p256", common_name="Other", ca=True, number=9)[1]))
    with (
        Server(tmp_path, b"220 mx\r\n", EHLO, b"220 go\r\n") as server,
        pytest.raises(HopError) as caught,
    ):
        verify("127.0.0.1", server.port, MX, 20, str(tmp_path / "ca.pem"))
    assert (caught.value.code, caught.value.temporary) == ("untrusted", False)


def test_file_of_authorities_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(HopError) as caught:
        verify("127.0.0.1", 1, MX, 5, str(tmp_path / "none.pem"))
    assert (caught.value.code, caught.value.temporary) == ("no_authorities", False)
