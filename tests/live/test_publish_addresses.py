"""Name servers with several addresses, of which some are silent, or behind.

smilla publish --(update)-> 127.0.0.77 (nobody) | 127.0.0.1 (BIND, signs) | 127.0.0.2 (another one, behind)
"""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import pytest

from smilla import cli
from smilla.adapters.dns_update import NameServer, SilentError
from tests.lab.dns import TYPES, DNSLab, smimea_owner
from tests.lab.keys import make_smime_key
from tests.lab.primary import BIND, Primary
from tests.lab.processes import LOOPBACK
from tests.lab.programs import require_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live
NAME, NOBODY, OTHER = "ns.bind.test", "127.0.0.77", "127.0.0.2"


class Place:
    """BIND with its zone in a laboratory, and the command line in this process."""

    def __init__(self, folder: Path, primary: Primary, resolver: str) -> None:
        self.folder, self.primary = folder, primary
        self.server = f"{NAME}@{primary.port}"
        self._config = folder / "smilla.toml"
        self._config.write_text(f'[dns]\nnameservers = ["{resolver}"]\nprobe = "test."\n')

    def publish(self, address: str, *further: str) -> int:
        certificate = make_smime_key(self.folder, address).certificate_file
        to = ["--config", self._config, "--server", self.server, "--authority", self.server]
        to += ["--tsig-key", self.primary.key_file, "--cert", certificate]
        return cli.main(["publish", address, *map(str, to), *further])


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    require_servers("named", "nsd", "unbound", "ldns-signzone")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name, BIND(Path(name) / "bind", "bind.test") as bind:
        lab = DNSLab(Path(name) / "lab")
        bind.delegated_from(lab)
        with lab:
            yield Place(Path(name), bind, lab.resolver)


def has_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """What the system knows of NAME.  Nothing else can say that without a change in /etc."""
    real = socket.getaddrinfo

    def known(host: Any, *arguments: Any, **more: Any) -> list[Any]:
        return [one for each in (addresses if host == NAME else [host]) for one in real(each, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", known)


def test_address_that_is_silent_is_passed_over_and_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_addresses(monkeypatch, NOBODY, LOOPBACK)
    assert place.publish("first@bind.test") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {place.server}[{NOBODY}]: cannot be asked: ")


def test_error_names_every_address_if_all_are_silent(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_addresses(monkeypatch, NOBODY, "127.0.0.78")
    assert place.publish("nobody@bind.test") == 75
    told = capsys.readouterr().err
    for address in (NOBODY, "127.0.0.78"):
        assert f"{place.server}[{address}]: cannot be asked: " in told


@contextmanager
def behind(port: int) -> Iterator[None]:
    """A server with authority that has no records."""

    def answer(peer: socket.socket) -> None:
        with peer:
            size = int.from_bytes(peer.recv(2, socket.MSG_WAITALL))
            response = dns.message.make_response(dns.message.from_wire(peer.recv(size, socket.MSG_WAITALL)))
            response.flags |= dns.flags.AA
            raw = response.to_wire()
            peer.sendall(len(raw).to_bytes(2) + raw)

    def serve() -> None:
        while True:
            try:
                answer(listener.accept()[0])
            except OSError:
                return

    with socket.create_server((OTHER, port)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_change_has_not_arrived_while_one_address_of_a_server_is_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_addresses(monkeypatch, LOOPBACK, OTHER, NOBODY)
    with behind(place.primary.port):
        assert place.publish("late@bind.test", "--wait", "0") == 75
    told = capsys.readouterr().err
    assert f"0 of 1 authoritative servers show it; {place.server}[{OTHER}] has not taken it yet" in told
    assert f"{place.server}[{NOBODY}]: cannot be asked" in told
    has_addresses(monkeypatch, LOOPBACK)
    assert place.publish("late@bind.test", "--no-wait") == 0


def test_update_goes_where_the_old_records_were_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another address may be another machine."""
    has_addresses(monkeypatch, NOBODY, LOOPBACK, OTHER)
    server = NameServer(place.server)
    old = server.read(smimea_owner("x@bind.test"), TYPES["SMIMEA"])
    has_addresses(monkeypatch, OTHER)
    assert server.read(smimea_owner("x@bind.test"), TYPES["SMIMEA"]) == old
    with pytest.raises(SilentError, match=r"cannot be asked"):
        NameServer(place.server).read(smimea_owner("x@bind.test"), TYPES["SMIMEA"])
