"""The certificate that the relay shows, and the handshake with a client."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from smilla.adapters import tls_server
from smilla.adapters.tls_server import ServerTLS
from smilla.errors import SmillaError
from tests.certificates import make_certificate
from tests.lab import loopback_tls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    path.write_bytes(loopback_tls.pem())
    return path


def test_key_may_stand_in_the_file_of_the_certificate_or_in_one_of_its_own(pem: Path, tmp_path: Path) -> None:
    ServerTLS(str(pem), "")
    raw = pem.read_bytes()
    end = raw.index(b"-----BEGIN CERTIFICATE")
    (tmp_path / "key.pem").write_bytes(raw[:end])
    (tmp_path / "cert.pem").write_bytes(raw[end:])
    ServerTLS(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    with pytest.raises(SmillaError, match=r"cert\.pem: "):
        ServerTLS(str(tmp_path / "cert.pem"), "")


def test_key_of_another_certificate_is_refused(pem: Path, tmp_path: Path) -> None:
    key, _ = make_certificate("p256", number=9)
    raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "key.pem").write_bytes(raw)
    with pytest.raises(SmillaError, match="nobody is there to type its password"):
        ServerTLS(str(pem), str(tmp_path / "key.pem"))
    (tmp_path / "other.pem").write_bytes(loopback_tls.pem(number=4))
    with pytest.raises(SmillaError, match="mismatch"):
        ServerTLS(str(pem), str(tmp_path / "other.pem"))


def test_file_that_is_away_or_empty_is_named(pem: Path, tmp_path: Path) -> None:
    with pytest.raises(SmillaError, match=r"none\.pem: No such file"):
        ServerTLS(str(tmp_path / "none.pem"), "")
    pem.write_bytes(b"")
    with pytest.raises(SmillaError, match=r"server\.pem"):
        ServerTLS(str(pem), "")


def _shaken(tls: ServerTLS, client: ssl.SSLContext) -> str:
    """The version of TLS that a client gets.  Raises OSError."""
    ours, theirs = socket.socketpair()
    versions: list[str] = []

    def talk() -> None:
        try:
            with client.wrap_socket(theirs) as connection:
                connection.recv(1)
                versions.append(connection.version() or "")
        except OSError:
            pass

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        with tls.accept(ours) as accepted:
            accepted.sendall(b"x")
            thread.join(20)
    finally:
        thread.join(20)
    return versions[0]


def _client(newest: ssl.TLSVersion) -> ssl.SSLContext:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, newest
    return client


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2_is_the_oldest(pem: Path) -> None:
    tls = ServerTLS(str(pem), "")
    assert _shaken(tls, _client(ssl.TLSVersion.TLSv1_3)) == "TLSv1.3"
    assert _shaken(tls, _client(ssl.TLSVersion.TLSv1_2)) == "TLSv1.2"
    with pytest.raises(OSError, match=r"(?i)version|protocol"):
        _shaken(tls, _client(ssl.TLSVersion.TLSv1_1))


def test_client_that_sends_one_octet_after_the_other_is_left_at_the_deadline(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is for the whole handshake, not for each octet."""
    monkeypatch.setattr(tls_server, "HANDSHAKE_S", 0.5)
    ours, theirs = socket.socketpair()
    has_ended = threading.Event()

    def drip() -> None:
        for octet in b"\x16\x03\x01\x40\x00" + b"\x01" * 10000:
            if has_ended.wait(0.02):
                return
            try:
                theirs.send(bytes([octet]))
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        ServerTLS(str(pem), "").accept(ours)
    assert time.monotonic() - begun < 60
    has_ended.set()
    thread.join()
    theirs.close()
    ours.close()
