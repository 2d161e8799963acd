"""A usable key is remembered with the answer that it was found in: no longer than that, than it lasts, and than a
minute, and for nobody else; and what that takes of memory is counted."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from smilla import lookup
from smilla.address import parse
from smilla.config import Config, KeysOptions
from smilla.discovery import cache
from smilla.discovery.cache import CachingResolver
from smilla.model import DNSAnswer, DNSSECStatus, KeyLookup, KeyVerdict
from tests.vectors.memory import KEYS, NOW, TableResolver, make_ports, raw_key, smimea

if TYPE_CHECKING:
    from smilla.ports import Resolver

HUGH, PIA = "hugh@example.org", "pia@example.org"
SPELLINGS = ("{}@{}", '"{}"@{}', '"\\{}"@{}')
USUAL = KeysOptions()
SECOND = timedelta(seconds=1)


def look_up(
    mailbox: str,
    resolver: Resolver,
    now: datetime = NOW,
    *,
    keys: KeysOptions = USUAL,
    trust_store: bytes = b"",
) -> KeyLookup:
    ports = make_ports(resolver, now=now, raw_trust_store=trust_store)  # type: ignore[arg-type]
    pending = lookup.begin(parse(mailbox), ports, Config(keys=keys))
    return lookup.finish(pending, pending.asked_at + 5, now, ports)


def of_hugh(*names: str) -> TableResolver:
    return TableResolver().publish(HUGH, "smimea", "secure", *map(smimea, names))


def test_a_usable_key_is_judged_once_a_minute() -> None:
    resolver = of_hugh("hugh.crt")
    first = look_up(HUGH, resolver)
    assert first.verdict is KeyVerdict.USABLE
    assert look_up(HUGH, resolver, NOW + 59 * SECOND) is first
    later = look_up(HUGH, resolver, NOW + 60 * SECOND)
    assert (later, later is first) == (first, False)


def test_a_remembered_key_that_has_expired_meanwhile_is_not_used() -> None:
    resolver = of_hugh("hugh.crt")
    key = look_up(HUGH, resolver).key
    assert key and key.expires_at
    assert look_up(HUGH, resolver, key.expires_at - 2 * SECOND).verdict is KeyVerdict.USABLE
    after = look_up(HUGH, resolver, key.expires_at + SECOND)
    assert (after.verdict, after.reason.code, after.key) == (KeyVerdict.UNUSABLE_KEY, "expired", None)


def test_where_the_clock_went_back_the_key_is_judged_anew() -> None:
    resolver = of_hugh("hugh.crt")
    key = look_up(HUGH, resolver).key
    assert key and key.issued_at
    assert look_up(HUGH, resolver, key.issued_at - SECOND).verdict is KeyVerdict.UNUSABLE_KEY


def test_what_is_known_of_one_address_says_nothing_of_another_that_has_the_same_answer() -> None:
    resolver = of_hugh("hugh.crt")
    first = look_up(HUGH, resolver)
    shouted = look_up("HUGH@example.org", resolver, keys=KeysOptions(try_lowercase=True))
    assert (first.verdict, str(shouted.address)) == (KeyVerdict.USABLE, "HUGH@example.org")
    for answer in resolver.table.values():
        assert all(found.address == address for address, (found, _) in _keys(answer).items())


def _keys(answer: DNSAnswer) -> dict[object, tuple[KeyLookup, datetime]]:
    return {address: known for address, known in answer.memory.items() if isinstance(known, tuple)}


def test_no_key_is_remembered_where_more_than_the_answer_speaks_for_it() -> None:
    resolver = of_hugh("hugh.crt")
    store = (KEYS / "ca.crt").read_bytes()
    assert look_up(HUGH, resolver, trust_store=store).verdict is KeyVerdict.USABLE
    resolver.publish(PIA, "smimea", "unreachable").publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    assert look_up(PIA, resolver).verdict is KeyVerdict.USABLE
    assert [_keys(answer) for answer in resolver.table.values()] == [{}] * 3


@pytest.mark.parametrize("names", [("expired.crt",), ("sign-only.crt",), ()])
def test_what_is_no_key_is_never_remembered(names: tuple[str, ...]) -> None:
    resolver = of_hugh(*names)
    assert look_up(HUGH, resolver).key is None
    assert [_keys(answer) for answer in resolver.table.values()] == [{}]


def test_a_key_is_forgotten_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock, resolver = Clock(), of_hugh("hugh.crt")
    monkeypatch.setattr(cache, "time", clock)
    cached = CachingResolver(resolver, Config().dns)
    assert look_up(HUGH, cached).verdict is KeyVerdict.USABLE
    resolver.publish(HUGH, "smimea", "secure")
    clock.now += 299
    assert look_up(HUGH, cached).verdict is KeyVerdict.USABLE
    clock.now += 2
    assert look_up(HUGH, cached).verdict is KeyVerdict.NO_KEY


@pytest.mark.parametrize(
    ("mailbox", "kind", "rdata"),
    [
        (HUGH, "smimea", (smimea("hugh.crt"),)),
        (HUGH, "smimea", (smimea("hugh.crt"),) * 40),
        (PIA, "openpgpkey", (raw_key("pia.pgp"),)),
        (PIA, "openpgpkey", (raw_key("pia.pgp"),) * 20),
    ],
)
def test_the_cache_counts_what_is_remembered_of_an_answer(mailbox: str, kind: str, rdata: tuple[bytes, ...]) -> None:
    keys = KeysOptions(sources=(kind,))
    local_part, _, domain = mailbox.partition("@")
    spellings = [text.format(local_part, domain) for text in SPELLINGS]
    spellings += [f"{local_part}@{domain[:end].upper()}{domain[end:]}" for end in range(1, 6)]

    def asked() -> DNSAnswer:
        resolver = TableResolver().publish(mailbox, kind, "secure", *(bytes(bytearray(raw)) for raw in rdata))
        assert all(look_up(spelling, resolver, keys=keys).key for spelling in spellings)
        return next(answer for answer in resolver.table.values() if answer.status is DNSSECStatus.SECURE)

    asked()  # fills what is remembered elsewhere
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [asked() for _ in range(30)]
        gc.collect()
        held = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert held < 1.5 * cache._size(kept[0])
