"""A key is published by dynamic update, found by smilla's own look-up, and withdrawn again.

smilla publish --(update)-> BIND | Knot (signs)  <- unbound (validates)  <- smilla publish, smilla lookup
"""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import pytest

from smilla.adapters.dns_update import NameServer
from smilla.errors import PublishError
from smilla.formats import tsig_key
from tests.lab.dns import TYPES, DNSLab, Kind, openpgpkey_owner, smimea_owner
from tests.lab.keys import SMIMEKey, make_openpgp_key, make_smime_key
from tests.lab.primary import BIND, KEY, Knot, Primary, named_key
from tests.lab.programs import require_servers

pytestmark = pytest.mark.live


class Place:
    """Both primaries, their zones in a laboratory, and the command line."""

    def __init__(self, folder: Path, primaries: dict[str, Primary], lab: DNSLab) -> None:
        self.folder, self.primaries, self.lab = folder, primaries, lab
        self.config = folder / "smilla.toml"
        self.config.write_text(f'[dns]\nnameservers = ["{lab.resolver}"]\nprobe = "test."\n')

    def smilla(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """One command."""
        command = [sys.executable, "-m", "smilla", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def change(self, what: str, address: str, server: str, *further: str | Path) -> subprocess.CompletedProcess[str]:
        """``publish`` or ``withdraw`` by update, watched at the same server."""
        primary = self.primaries[server]
        to = ("--config", self.config, "--server", primary.server, "--authority", primary.server)
        return self.smilla(what, address, *to, "--tsig-key", primary.key_file, *further)

    def is_found(self, address: str) -> bool:
        return self.smilla("lookup", "--config", self.config, address).returncode == 0


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    require_servers("named", "knotd", "nsd", "unbound", "ldns-signzone")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        folder = Path(name)
        with BIND(folder / "bind", "bind.test") as bind, Knot(folder / "knot", "knot.test") as knot:
            lab = DNSLab(folder / "lab")
            for primary in (bind, knot):
                primary.delegated_from(lab)
            lab.zone("unsigned.test", Kind.INSECURE)
            with lab:
                yield Place(folder, {"bind": bind, "knot": knot}, lab)


@pytest.fixture(scope="module")
def keys(place: Place) -> dict[str, SMIMEKey]:
    return {name: make_smime_key(place.folder, f"hugh@{name}.test") for name in place.primaries}


SHORT = ("--ttl", "1")  # so that the resolver forgets the old record soon
SERVERS = pytest.mark.parametrize("server", ["bind", "knot"])


@SERVERS
def test_certificate_is_published_found_replaced_and_withdrawn(
    server: str, place: Place, keys: dict[str, SMIMEKey]
) -> None:
    address = f"hugh@{server}.test"
    done = place.change("publish", address, server, "--cert", keys[server].certificate_file, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout
    assert "secure" in done.stdout
    assert done.stderr == ""
    assert place.is_found(address)

    again = place.change("publish", address, server, "--cert", keys[server].certificate_file, *SHORT)
    assert again.returncode == 0
    assert "nothing was changed" in again.stderr

    other = make_smime_key(place.folder, address, algorithm="p256")
    done = place.change("publish", address, server, "--cert", other.certificate_file, *SHORT)
    assert done.returncode == 0, done.stderr
    found = place.smilla("lookup", "--config", place.config, "--json", address).stdout
    assert "P-256" in found
    assert "RSA" not in found

    gone = place.change("withdraw", address, server, "--smimea")
    assert gone.returncode == 0, gone.stderr
    assert not place.is_found(address)


@SERVERS
def test_openpgp_key_is_published_minimal(server: str, place: Place) -> None:
    address = f"pia@{server}.test"
    with make_openpgp_key(place.folder, address) as key:
        path = place.folder / f"{address}.pgp"
        path.write_bytes(key.raw)
    done = place.change("publish", address, server, "--key", path, "--minimal")
    assert done.returncode == 0, done.stderr
    assert place.is_found(address)


@SERVERS
def test_server_that_does_not_know_the_key_says_so_and_nothing_changes(
    server: str, place: Place, keys: dict[str, SMIMEKey]
) -> None:
    path = place.folder / "wrong.key"
    path.touch(mode=0o600)
    path.write_text(named_key(KEY, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
    primary = place.primaries[server]
    to = ("--config", place.config, "--server", primary.server, "--authority", primary.server, "--tsig-key", path)
    done = place.smilla("publish", f"other@{server}.test", "--force", "--cert", keys[server].certificate_file, *to)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "does not accept the key" in done.stderr
    assert "AAAA" not in done.stderr


@SERVERS
def test_server_refuses_an_update_without_a_key_in_words(server: str, place: Place, keys: dict[str, SMIMEKey]) -> None:
    primary = place.primaries[server]
    to = ("--config", place.config, "--server", primary.server, "--no-wait")
    done = place.smilla("publish", f"other@{server}.test", "--force", "--cert", keys[server].certificate_file, *to)
    assert done.returncode == 1
    assert "REFUSED" in done.stderr or "NOTAUTH" in done.stderr


def test_nsd_has_no_updates_and_the_error_says_so(place: Place) -> None:
    certificate = make_smime_key(place.folder, "hugh@unsigned.test").certificate_file
    to = ("--config", place.config, "--server", place.lab.authority, "--no-wait")
    done = place.smilla("publish", "hugh@unsigned.test", "--cert", certificate, *to)
    assert done.returncode == 1
    assert "no dynamic updates" in done.stderr


def test_time_that_runs_out_is_75_and_says_how_far_it_came(place: Place) -> None:
    """nsd is watched, too, and never gets the change."""
    address = "late@knot.test"
    certificate = make_smime_key(place.folder, address).certificate_file
    more = ("--cert", certificate, "--authority", place.lab.authority, "--wait", "1")
    for _ in range(5):  # in a second, the primary may not have answered either
        done = place.change("publish", address, "knot", *more)
        assert done.returncode == 75
        if "1 of 2" in done.stderr:
            break
    assert "1 of 2 authoritative servers show it" in done.stderr
    assert "smilla lookup" in done.stderr


def test_progress_is_shown_on_a_terminal_only(place: Place) -> None:
    primary = place.primaries["knot"]
    address = "seen@knot.test"
    certificate = make_smime_key(place.folder, address).certificate_file
    to = ["--config", place.config, "--server", primary.server, "--authority", primary.server]
    to += ["--tsig-key", primary.key_file]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "smilla", "publish", address, "--cert", str(certificate), *map(str, to)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 0
    assert b"waiting: " in shown


@SERVERS
def test_change_that_somebody_else_made_meanwhile_is_seen_and_kept(server: str, place: Place) -> None:
    primary = place.primaries[server]
    key = tsig_key.parse(primary.key_file.read_text())
    address = f"twice@{server}.test"
    ours, theirs = (make_smime_key(place.folder, address).raw_certificate for _ in range(2))
    names = NameServer(primary.server, key)
    zone = names.zone_of(smimea_owner(address))
    for new in (theirs, b""):
        old = names.read(smimea_owner(address), TYPES["SMIMEA"])
        rdata = frozenset([b"\3\0\0" + new] if new else [])
        names.replace(zone, old, replace(old, rdata=rdata, ttl_s=60))  # somebody else
        with pytest.raises(PublishError, match="changed meanwhile") as refused:
            names.replace(zone, old, replace(old, rdata=frozenset([b"\3\0\0" + ours]), ttl_s=60))
        assert refused.value.temporary
        assert names.read(smimea_owner(address), TYPES["SMIMEA"]).rdata == rdata


@SERVERS
def test_only_the_named_record_is_touched(server: str, place: Place, keys: dict[str, SMIMEKey]) -> None:
    address = f"both@{server}.test"
    primary = place.primaries[server]
    names = NameServer(primary.server)
    with make_openpgp_key(place.folder, address) as key:
        path = place.folder / f"{address}.pgp"
        path.write_bytes(key.raw)
    certificate = make_smime_key(place.folder, address).certificate_file
    for given in (("--cert", certificate), ("--key", path)):
        assert place.change("publish", address, server, *given, "--no-wait").returncode == 0
    assert place.change("withdraw", address, server, "--smimea", "--no-wait").returncode == 0
    assert not names.read(smimea_owner(address), TYPES["SMIMEA"]).rdata
    assert names.read(openpgpkey_owner(address), TYPES["OPENPGPKEY"]).rdata == {key.raw}
    assert place.change("withdraw", address, server).returncode == 0
    assert not names.read(openpgpkey_owner(address), TYPES["OPENPGPKEY"]).rdata


def test_zone_that_is_not_signed_is_told_at_once(place: Place) -> None:
    """Nobody may use the record there, however long one waits."""
    address = "hugh@open.test"
    certificate = make_smime_key(place.folder, address).certificate_file
    fragment = place.folder / "open.zone"
    watched = ("--authority", place.lab.authority, "--wait", "600", "--config", place.config)
    place.lab.zone("open.test", Kind.INSECURE)
    line = place.smilla("record", address, "--cert", certificate).stdout.split()
    place.lab.zone("open.test").add(line[0], "SMIMEA", " ".join(line[3:]))
    place.lab.reload()
    to = ("--via", "zone-file", "--zone-file", fragment)
    done = place.smilla("publish", address, "--cert", certificate, *to, *watched)
    assert done.returncode == 1
    assert "not signed" in done.stderr


def test_answer_that_is_not_signed_with_the_key_is_not_believed(place: Place) -> None:
    """As from somebody who took the server's address."""

    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            size = int.from_bytes(peer.recv(2, socket.MSG_WAITALL))
            query = dns.message.from_wire(peer.recv(size, socket.MSG_WAITALL), keyring=False)
            query.tsig = None
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA
            raw = response.to_wire()
            peer.sendall(len(raw).to_bytes(2) + raw)

    key = tsig_key.parse(place.primaries["bind"].key_file.read_text())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        server = NameServer(f"127.0.0.1@{listener.getsockname()[1]}", key)
        with pytest.raises(PublishError, match="not signed with the key"):
            server.read(smimea_owner("hugh@bind.test"), TYPES["SMIMEA"])
        thread.join()
