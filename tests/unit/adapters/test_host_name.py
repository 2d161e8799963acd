"""The system's look-up of a name, which may hang, holds nobody longer than asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from smilla.adapters.host_name import HostName
from smilla.adapters.ldap import Directory
from smilla.errors import DirectoryError, DirectoryStep


class Hanging:
    """In place of getaddrinfo: waits until it is told to go on."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.answer: Any = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))] * 2

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        self.begun.set()
        self.go_on.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    yield hanging
    hanging.go_on.set()


def within(seconds: float) -> float:
    return time.monotonic() + seconds


def test_who_asks_gets_no_answer_in_time_and_one_look_up_goes_on_for_all(system: Hanging) -> None:
    name = HostName("ldap.example.org")
    for _ in range(5):
        with pytest.raises(DirectoryError, match=r"ldap\.example\.org: the name servers .* did not answer in time"):
            name.addresses(within(0.01))
    assert system.begun.wait(60)
    assert system.asked == 1
    system.go_on.set()
    assert name.addresses(within(60)) == ("192.0.2.1",)


def test_once_a_look_up_is_over_the_next_question_asks_anew(system: Hanging) -> None:
    system.go_on.set()
    name = HostName("ldap.example.org")
    assert name.addresses(within(60)) == name.addresses(within(60)) == ("192.0.2.1",)
    assert system.asked == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (socket.gaierror(-3, "Temporary failure in name resolution"), "Temporary failure"),
        (UnicodeError("label too long"), "label too long"),
        ([], "has no address"),
    ],
)
def test_what_fails_is_said(system: Hanging, answer: Any, said: str) -> None:
    system.answer = answer
    system.go_on.set()
    with pytest.raises(DirectoryError, match=said):
        HostName("ldap.example.org").addresses(within(60))


@pytest.mark.parametrize("address", ["192.0.2.7", "::1"])
def test_an_address_is_not_looked_up(system: Hanging, address: str) -> None:
    assert HostName(address).addresses(within(0)) == (address,)
    assert system.asked == 0


def test_a_search_in_a_directory_ends_though_its_name_is_not_found_in_time(system: Hanging) -> None:
    directory = Directory("ldaps://ldap.example.org", "", (), 0.05)
    with pytest.raises(DirectoryError, match="did not answer in time") as failed:
        directory.search("dc=example", "(mail=x)", "", "")
    assert failed.value.step is DirectoryStep.NAME
    assert not system.go_on.is_set()
