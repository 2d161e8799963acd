"""smilla publish --via desec, against a stand-in for deSEC's API over HTTPS.

smilla publish --(HTTPS, token)-> stand-in on loopback
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smilla.adapters.https import Client
from smilla.errors import FetchError
from tests.lab.desec import DeSECStub, Handler, Trouble
from tests.lab.dns import owner_label
from tests.lab.keys import make_smime_key

pytestmark = pytest.mark.live
ADDRESS, TOKEN = "hugh@desec.test", "i-am-a-token"
WHERE = (f"{owner_label(ADDRESS)[0]}._smimecert", "SMIMEA")


class Place:
    """The stand-in, a certificate, and the command line."""

    def __init__(self, folder: Path, stub: DeSECStub) -> None:
        self.folder, self.stub = folder, stub
        self.key = make_smime_key(folder, ADDRESS)
        self.token_file = folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(f"{TOKEN}\n")

    def smilla(self, what: str, address: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        to = ("--via", "desec", "--url", self.stub.url, "--ca-file", self.stub.ca_file, "--no-wait")
        command = [sys.executable, "-m", "smilla", what, address, *to, "--token-file", self.token_file, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def publish(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.smilla("publish", ADDRESS, "--cert", self.key.certificate_file, *arguments)


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="smilla-") as name, DeSECStub(Path(name), "desec.test", TOKEN) as stub:
        yield Place(Path(name), stub)


def test_record_is_published_and_withdrawn_and_others_stay(place: Place) -> None:
    place.stub.rrsets["www", "A"] = {"subname": "www", "type": "A", "ttl": 3600, "records": ["192.0.2.1"]}
    before = dict(place.stub.rrsets)
    done = place.publish()
    assert done.returncode == 0, done.stderr
    found = place.stub.rrsets[WHERE]
    assert found["records"] == [f"3 0 0 {place.key.raw_certificate.hex()}"]
    assert found["ttl"] == 3600
    assert place.publish().returncode == 0
    assert len(place.stub.rrsets) == 2
    assert place.smilla("withdraw", ADDRESS).returncode == 0
    assert place.stub.rrsets == before


def test_ttl_is_raised_to_the_least_that_the_domain_allows(place: Place) -> None:
    assert place.publish("--ttl", "60").returncode == 0
    assert place.stub.rrsets[WHERE]["ttl"] == 3600


def test_name_of_another_account_is_refused_in_words(place: Place) -> None:
    done = place.smilla("publish", "hugh@other.test", "--force", "--cert", place.key.certificate_file)
    assert done.returncode == 1
    assert "no domain of this account holds" in done.stderr


def test_wrong_token_is_refused_in_words_and_never_shown(place: Place) -> None:
    place.token_file.write_text("some-other-token\n")
    done = place.publish()
    assert done.returncode == 1
    assert "the token is not valid" in done.stderr
    assert "some-other-token" not in done.stderr
    assert not place.stub.rrsets


def test_refusal_comes_with_the_services_own_words(place: Place) -> None:
    done = place.publish("--zone", "desec.test", "--ttl", "60")
    assert done.returncode == 1
    assert "it answers 400" in done.stderr
    assert "Ensure this value" in done.stderr


def test_server_without_a_trusted_certificate_never_gets_the_token(place: Place) -> None:
    other = make_smime_key(place.folder, "else@desec.test").certificate_file
    done = place.publish("--ca-file", other)
    assert done.returncode == 1
    assert "its certificate is not valid" in done.stderr
    assert not place.stub.requests


def busy(handler: Handler) -> None:
    handler.answer(429, {"detail": "throttled"}, Retry_After="17")


def broken(handler: Handler) -> None:
    handler.answer(502, {"detail": "bad gateway"})


def elsewhere(handler: Handler) -> None:
    handler.answer(302, {}, Location="https://127.0.0.1:1/")


def huge(handler: Handler) -> None:
    handler.answer(200, "x" * (2 << 20))


def no_json(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    handler.wfile.write(b"<html")


def cut_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b"[")
    handler.close_connection = True


def endless(handler: Handler) -> None:
    """With HTTP/1.0's way to end, nobody sees whether something is missing."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n[]")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        (busy, 75, "asks to wait 17 s"),
        (broken, 75, "502"),
        (elsewhere, 1, "302"),
        (huge, 1, "more than"),
        (no_json, 75, "no JSON"),
        (cut_off, 75, "cut off"),
        (endless, 1, "does not say how long it is"),
    ],
)
def test_trouble_is_told_with_its_exit_code(place: Place, trouble: Trouble, code: int, words: str) -> None:
    place.stub.trouble = trouble
    done = place.publish()
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(place.stub.requests) == 1


@pytest.mark.parametrize(
    "head", ["", "Content-Length: 100000\r\n\r\n", "Connection: close\r\nContent-Length: 9000\r\n\r\n"]
)
def test_server_that_answers_drop_by_drop_is_left_when_the_time_is_over(place: Place, head: str) -> None:
    """http.client lets go of a connection that the server wants to close, before the content is there."""

    def drip(handler: Handler) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\n{head}".encode())
        while not place.stub.ending.wait(0.1):
            handler.wfile.write(b"X-Slow: yes\r\n"[:1])

    place.stub.trouble = drip
    rescue = threading.Timer(30, place.stub.ending.set)
    rescue.start()
    with pytest.raises(FetchError) as failed:
        Client(str(place.stub.ca_file), timeout_s=2).request("GET", place.stub.url, {})
    rescue.cancel()
    assert failed.value.temporary
    assert not place.stub.ending.is_set(), "the server was waited for"


def test_handshake_that_never_ends_is_left_when_the_time_is_over(place: Place) -> None:
    def drip() -> None:
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.sendall(b"\x16\x03\x03\x40\x00\x02")  # the first of 16,384 octets
            while not place.stub.ending.wait(0.1):
                peer.sendall(b"\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(FetchError):
            Client(timeout_s=2).request("GET", f"https://127.0.0.1:{listener.getsockname()[1]}/", {})
        place.stub.ending.set()
        thread.join()


@pytest.mark.parametrize("first", ["watch", "socket"])
def test_server_that_says_nothing_is_told_in_the_same_words_whoever_sees_it_first(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    if first == "socket":
        monkeypatch.setattr("smilla.adapters.https._Watch._fire", lambda _: None)  # on a busy machine it comes late
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(FetchError, match="no whole answer within 1 s") as told,
    ):
        Client(timeout_s=1).request("GET", f"https://127.0.0.1:{listener.getsockname()[1]}/", {})
    assert told.value.temporary
