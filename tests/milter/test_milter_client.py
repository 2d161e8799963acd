"""Who listens at a milter's socket?  A real smilla is asked in tests/live/test_doctor.py, and here what is none."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from smilla.adapters.as_user import User
from smilla.adapters.milter_client import Answer, Who, ask
from smilla.config import parse
from smilla.doctor import milter_socket
from smilla.doctor.finding import Finding
from smilla.doctor.rights import Service
from tests.milter.client import ALL_ACTIONS, ALL_STEPS, CHGBODY, CHGHDRS

ROOT = Service(User("root"), drops_rights=False, run_folders=("/run/smilla-none",), unit="/x/smilla.service")


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server of one connection on a UNIX socket; gives its name in libmilter's notation."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def work() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"unix:{path}"
        thread.join(20)


def answering(raw: bytes) -> Callable[[socket.socket], object]:
    """Reads the offer, answers, and waits for the end."""

    def serve(connection: socket.socket) -> None:
        connection.recv(17)
        connection.sendall(raw)
        while connection.recv(100):
            pass

    return serve


def negotiation(actions: int, command: bytes = b"O", steps: int = 0) -> bytes:
    data = command + struct.pack("!III", 6, actions, steps)
    return struct.pack("!I", len(data)) + data


@pytest.mark.parametrize(
    ("raw", "who", "said"),
    [
        (negotiation(ALL_ACTIONS), Who.SMILLA, ""),
        (negotiation(CHGHDRS), Who.FILTER, ""),
        (negotiation(CHGBODY), Who.FILTER, ""),
        (b"220 mta.test ESMTP Postfix\r\n", Who.OTHER, "it says '220 mta.test ESMTP Postfix'"),
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", Who.OTHER, "it says 'HTTP/1.1 400 Bad Request'"),
        (negotiation(ALL_ACTIONS, b"X"), Who.OTHER, "it answers 17 octets of something else"),
        (b"\xff\xff\xff\xff", Who.OTHER, "it answers 4 octets of something else"),
    ],
)
def test_what_answers_is_told_from_a_filter(tmp_path: Path, raw: bytes, who: Who, said: str) -> None:
    with listening(tmp_path / "s", answering(raw)) as name:
        assert ask(name, 20) == Answer(who, said)


def test_the_process_that_listens_is_known(tmp_path: Path) -> None:
    with listening(tmp_path / "s", answering(negotiation(ALL_ACTIONS))) as name:
        assert ask(name, 20).process_id == os.getpid()


def test_one_that_ends_the_connection_is_no_filter(tmp_path: Path) -> None:
    with listening(tmp_path / "s", lambda connection: connection.recv(17)) as name:
        assert ask(name, 20) == Answer(Who.OTHER, "it takes connections, but ends them without a word")


def test_one_that_says_nothing_is_no_filter(tmp_path: Path) -> None:
    with listening(tmp_path / "s", answering(b"")) as name:
        assert ask(name, 0.2) == Answer(Who.OTHER, "it takes connections, but does not answer")


def test_nothing_but_the_offer_and_the_end_is_sent(tmp_path: Path) -> None:
    got = bytearray()

    def serve(connection: socket.socket) -> None:
        got.extend(connection.recv(17))
        connection.sendall(negotiation(ALL_ACTIONS))
        while block := connection.recv(100):
            got.extend(block)

    with listening(tmp_path / "s", serve) as name:
        ask(name, 20)
    assert bytes(got) == negotiation(ALL_ACTIONS, steps=ALL_STEPS) + b"\0\0\0\x01Q"


def test_where_nobody_listens(tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(stale))
    for name in (f"unix:{stale}", f"local:{tmp_path}/none", "inet:1@127.0.0.1"):
        assert ask(name, 5).who is Who.NOBODY


# --- what the doctor says


def found(socket_name: str) -> Finding:
    (told,) = milter_socket.problems(parse(f'[milter]\nsocket = "{socket_name}"\n'), ROOT)
    return told


def test_one_that_says_nothing_may_be_a_smilla_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milter_socket, "_TIMEOUT_S", 0.2)
    with listening(tmp_path / "s", answering(b"")) as name:
        told = found(name)
    assert (told.kind, told.severity) == ("socket-taken", "error")
    assert (
        told.text
        == "what listens there is no filter, or a smilla that hangs: it takes connections, but does not answer"
    )
    assert "restart smilla" in told.mend


def test_a_filter_that_is_not_smilla_is_an_error(tmp_path: Path) -> None:
    with listening(tmp_path / "s", answering(negotiation(CHGHDRS))) as name:
        told = found(name)
    assert (told.kind, told.severity) == ("socket-taken", "error")
    with listening(tmp_path / "t", answering(negotiation(ALL_ACTIONS))) as name:
        assert found(name).line == f"socket {name}: a filter listens"


def test_what_is_at_a_path_instead_of_a_socket_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/nonexistent")
    for name in ("file", "link"):
        told = found(f"unix:{tmp_path}/{name}")
        assert (told.kind, told.severity, told.mend) == ("socket-taken", "error", f"move {tmp_path}/{name} away")
        assert told.text == f"{tmp_path}/{name} is no socket"


def test_a_socket_that_was_left_behind_is_a_warning(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "stale"))
    told = found(f"unix:{tmp_path}/stale")
    assert (told.severity, told.text) == ("warning", "nobody listens; what is there was left behind")
    assert told.mend.startswith("start smilla")


def test_a_folder_that_the_unit_makes_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.doctor.rights._is_group", lambda _: True)
    told = found("unix:/run/smilla-none/s.sock")
    assert (told.severity, "/x/smilla.service makes /run/smilla-none" in told.text) == ("", True)
    told = found(f"unix:{tmp_path}/none/s.sock")
    assert (told.kind, told.severity) == ("socket-folder", "error")
    assert f"install -d -o root -g postfix -m 2750 {tmp_path}/none" in told.mend
    assert found(f"unix:{tmp_path}/s.sock").text == "nobody listens yet"
