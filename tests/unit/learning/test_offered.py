"""Which messages may teach at all, and that what is learned is kept only once the message was accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.config import Config
from smilla.config import parse as configuration
from smilla.filter import Filter
from smilla.learning import offered
from smilla.model import Client, LearnedKey
from smilla.session import Session
from tests.unit.learning.letters import OURS, PIA, letter
from tests.vectors.memory import MemoryLearned, make_ports

TEXT = (
    'mode = "auto"\nlocal_domains = ["home.test"]\n[policy]\nmixed = "defer"\n'
    f'[transport]\nauthserv_id = "{OURS}"\n[learned]\naccept = ["autocrypt"]\n'
)
STRANGER = Client("203.0.113.9")


class Quiet:
    """An MTA that takes every change."""

    def replace_body(self, block: bytes) -> None: ...

    def change_header(self, name: str, number: int, value: str) -> None: ...

    def delete_recipient(self, raw: str) -> None: ...

    def change_sender(self, sender: str, parameters: str) -> None: ...

    def quarantine(self, text: str) -> None: ...

    def alive(self) -> None: ...


def session(client: Client = STRANGER, to: str = "bob@home.test") -> Session:
    found = Session(client, f"<{PIA}>")
    found.recipient(f"<{to}>")
    found.take(letter())
    return found


def keys(text: str = TEXT, client: Client = STRANGER) -> tuple[LearnedKey, ...]:
    return offered.keys_in(session(client), make_ports(), configuration(text))


def test_mail_from_strangers_teaches() -> None:
    assert [str(key.address) for key in keys()] == [PIA]
    assert keys(TEXT.replace('"auto"', '"inbound"'))


@pytest.mark.parametrize(
    "text",
    [
        "observe = true\n" + TEXT,
        TEXT.replace('["autocrypt"]', "[]"),
        TEXT.replace('"auto"', '"outbound"'),
        TEXT.replace('"home.test"', '"home.test", "example.org"'),
        TEXT.replace(OURS, "mx.other.test"),
    ],
)
def test_nothing_is_learned_where_that_is_not_asked_for(text: str) -> None:
    assert keys(text) == ()


@pytest.mark.parametrize(
    "client",
    [
        Client("127.0.0.1"),
        replace(STRANGER, authenticated_as="pia"),
        replace(STRANGER, daemon_name="ORIGINATING"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "inbound"])
def test_own_clients_teach_nothing(client: Client, mode: str) -> None:
    assert keys(TEXT.replace('"auto"', f'"{mode}"'), client) == ()


@pytest.mark.parametrize(("policy", "is_kept"), [("plain", True), ("refuse", False), ("defer", False), ("hold", False)])
def test_key_is_kept_once_the_message_was_accepted(policy: str, is_kept: bool) -> None:
    store = MemoryLearned()
    settings = configuration(TEXT.replace('mixed = "defer"', f'mixed = "defer"\nno_key = "{policy}"'))
    ports = replace(make_ports(), learned=store)
    current = Filter(session(), ports, settings)
    current.end(Quiet())
    assert bool(store.keys) is is_kept


def test_key_that_is_too_large_to_keep_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "_LARGEST", 100)
    assert keys() == ()


def test_no_store_is_no_failure() -> None:
    offered.keep(keys(), session(), make_ports())


def test_message_without_an_offer_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smilla.learning.offered.sender_of", lambda *_: pytest.fail("it was looked at"))
    bare = session()
    bare.take(letter(offers=()))
    assert offered.keys_in(bare, make_ports(), configuration(TEXT)) == ()
    assert isinstance(configuration(TEXT), Config)
