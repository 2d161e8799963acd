"""One request, one answer; what goes wrong is never "there is no policy"."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.config.options import HopOptions
from smilla.formats import netstring
from smilla.hops import rdata
from smilla.hops.search import Finder
from smilla.server import socketmap
from tests.unit.hops.world import BOGUS, DOMAIN, World, mx, tlsa

SERVING = HopOptions(policy_server=True)


@pytest.fixture(scope="module")
def finder() -> Finder:
    world = World()
    world.add(DOMAIN, rdata.MX, *mx("mx.example.org"))
    world.host("mx.example.org", tlsa())
    world.add("forged.test", rdata.MX, status=BOGUS)
    return world.finder()


@pytest.mark.parametrize(
    ("request_", "begin"),
    [
        (b"secure example.org", "OK dane-only"),
        (b"policy example.org", "OK dane-only"),
        (b"secure EXAMPLE.ORG", "OK dane-only"),
        (b"secure none.test", "TEMP no_secure_hop"),
        (b"policy none.test", "NOTFOUND "),
        (b"policy forged.test", "TEMP mx_bogus"),
        (b"secure .example.org", "NOTFOUND "),
        (b"secure [example.org]:25", "NOTFOUND "),
        (b"policy [192.0.2.1]", "NOTFOUND "),
        (b"other example.org", "PERM "),
        (b"", "PERM "),
        (b"secure", "NOTFOUND "),
        (b"\xff example.org", "PERM "),
        (b"secure \xff.test", "NOTFOUND "),
    ],
)
def test_request_has_its_answer(finder: Finder, request_: bytes, begin: str) -> None:
    assert socketmap.answer(request_, finder, SERVING).startswith(begin)


def test_map_for_all_mail_is_there_only_where_it_is_switched_on(finder: Finder) -> None:
    off = replace(SERVING, policy_server=False)
    assert socketmap.answer(b"policy none.test", finder, off).startswith("PERM ")
    assert socketmap.answer(b"secure example.org", finder, off) == "OK dane-only"


def test_without_a_finder_mail_waits() -> None:
    assert socketmap.answer(b"secure example.org", None, SERVING).startswith("TEMP ")


def test_error_of_ours_is_temporary(finder: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "begin", lambda domain: 1 / 0)
    assert socketmap._answered(b"secure example.org", finder, SERVING).startswith("TEMP ")


def test_client_that_says_nothing_or_takes_nothing_gives_its_place_back(
    finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socketmap, "_IDLE_S", 0.05)
    question = netstring.written(b"policy none.test") * 50_000
    for sent in (b"", b"17:policy none", question):
        ours, theirs = socket.socketpair()
        is_done = threading.Event()
        thread = threading.Thread(target=socketmap._serve_one, args=(lambda: (finder, SERVING), ours, is_done.set))
        with theirs:
            thread.start()
            with contextlib.suppress(OSError):
                theirs.sendall(sent)
            assert is_done.wait(30)
            thread.join()


@given(st.binary(max_size=60))
def test_any_request_has_an_answer_that_fits_the_protocol(raw: bytes) -> None:
    found = World().finder()
    answer = socketmap._answered(b"secure " + raw, found, SERVING)
    assert answer.split(" ", 1)[0] in ("NOTFOUND", "TEMP")
