"""A judgement is remembered for the answer that it was found from: no longer than its key lasts, and than a minute, and
for nobody else; and what that takes of memory is counted."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.keys import lookup
from smilla.keys.discovery import cache
from smilla.keys.discovery.cache import CachingResolver
from smilla.keys.memory import Memory
from smilla.model import Judgement, KeyLookup, KeyVerdict
from tests.vectors.memory import KEYS, NOW, TableResolver, make_ports, raw_key, smimea

if TYPE_CHECKING:
    from collections.abc import Callable

    from smilla.ports import Resolver

HUGH, PIA = "hugh@example.org", "pia@example.org"
SPELLINGS = ("{}@{}", '"{}"@{}', '"\\{}"@{}')
USUAL = KeysOptions()
SECOND = timedelta(seconds=1)
T = TypeVar("T")


class Worker:
    """What a worker remembers."""

    judgements: Memory[Any, Judgement]


@pytest.fixture(autouse=True)
def _worker() -> None:
    Worker.judgements = Memory(entries=1000, octets=1 << 24)


def look_up(
    mailbox: str,
    resolver: Resolver,
    now: datetime = NOW,
    *,
    keys: KeysOptions = USUAL,
    trust_store: bytes = b"",
) -> KeyLookup:
    made = make_ports(resolver, now=now, raw_trust_store=trust_store)  # type: ignore[arg-type]
    ports = replace(made, judgements=Worker.judgements)
    pending = lookup.begin(parse(mailbox), ports, Config(keys=keys))
    return lookup.finish(pending, pending.asked_at + 5, now, ports)


def of_hugh(*names: str) -> TableResolver:
    return TableResolver().publish(HUGH, "smimea", "secure", *map(smimea, names))


def test_a_usable_key_is_judged_once_a_minute() -> None:
    resolver = of_hugh("hugh.crt")
    first = look_up(HUGH, resolver)
    assert first.verdict is KeyVerdict.USABLE
    assert look_up(HUGH, resolver, NOW + 59 * SECOND).findings[0] is first.findings[0]
    later = look_up(HUGH, resolver, NOW + 60 * SECOND)
    assert (later, later.findings[0] is first.findings[0]) == (first, False)


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
    assert [str(address) for address, *_ in Worker.judgements._kept] == [HUGH, "HUGH@example.org"]


def test_another_trust_store_or_other_revocation_lists_are_asked_anew() -> None:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("issued.crt", usage=1))
    store = (KEYS / "ca.crt").read_bytes()
    assert look_up(HUGH, resolver).verdict is KeyVerdict.UNUSABLE_KEY
    first = look_up(HUGH, resolver, trust_store=store)
    assert first.findings != look_up(HUGH, resolver).findings
    assert look_up(HUGH, resolver, trust_store=store).findings[0] is first.findings[0]


@pytest.mark.parametrize("names", [("expired.crt",), ("sign-only.crt",)])
def test_a_verdict_without_a_key_is_remembered_for_the_minute_too(names: tuple[str, ...]) -> None:
    resolver = of_hugh(*names)
    first = look_up(HUGH, resolver)
    assert first.key is None
    assert look_up(HUGH, resolver, NOW + 59 * SECOND).findings[0] is first.findings[0]
    assert look_up(HUGH, resolver, NOW + 60 * SECOND).findings[0] is not first.findings[0]


def test_a_key_that_is_not_valid_yet_is_used_within_a_minute_of_becoming_so() -> None:
    key = look_up(HUGH, of_hugh("hugh.crt")).key
    assert key
    assert key.issued_at
    resolver = of_hugh("hugh.crt")
    assert look_up(HUGH, resolver, key.issued_at - SECOND).verdict is KeyVerdict.UNUSABLE_KEY
    assert look_up(HUGH, resolver, key.issued_at + 60 * SECOND).verdict is KeyVerdict.USABLE


def test_a_key_is_forgotten_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock, resolver = Clock(), of_hugh("hugh.crt")
    monkeypatch.setattr(cache, "time", clock)
    cached = CachingResolver(resolver, Config().dns)
    first = look_up(HUGH, cached).findings[0]
    assert first.verdict is KeyVerdict.USABLE
    clock.now += 5
    later = look_up(HUGH, cached).findings[0]
    assert (first.ttl_s - later.ttl_s, later.assessments is first.assessments) == (5, True)
    resolver.publish(HUGH, "smimea", "secure")
    clock.now += 294
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
def test_what_is_remembered_of_an_answer_is_counted(mailbox: str, kind: str, rdata: tuple[bytes, ...]) -> None:
    """By the cache for the answer, and for each spelling of the address by the memory of what was judged."""
    keys = KeysOptions(sources=(kind,))
    local_part, _, domain = mailbox.partition("@")
    spellings = [text.format(local_part, domain) for text in SPELLINGS]
    spellings += [f"{local_part}@{domain[:end].upper()}{domain[end:]}" for end in range(1, 6)]

    def published() -> TableResolver:
        return TableResolver().publish(mailbox, kind, "secure", *(bytes(bytearray(raw)) for raw in rdata))

    def judged() -> Memory[Any, Judgement]:
        judgements = Worker.judgements = Memory(entries=1000, octets=1 << 24)
        resolver = published()
        assert all(look_up(spelling, resolver, keys=keys).key for spelling in spellings)
        assert len(judgements) == len(spellings)
        return judgements

    judged()  # fills what is remembered elsewhere
    answer, of_an_answer = held(lambda: next(iter(published().table.values())))
    assert of_an_answer < 1.5 * cache._size(answer)
    judgements, of_judgements = held(judged)
    assert of_judgements < 1.5 * judgements.size


def held(make: Callable[[], T]) -> tuple[T, float]:
    """One of what is made, and the octets that it holds."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [make() for _ in range(30)]
        Worker.judgements = Memory(0, 0)
        gc.collect()
        return kept[0], (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()


def test_a_remembered_key_is_judged_anew_at_the_instant_at_which_it_expires() -> None:
    resolver = of_hugh("hugh.crt")
    key = look_up(HUGH, resolver).key
    assert key
    assert key.expires_at
    before = look_up(HUGH, resolver, key.expires_at - SECOND)
    at_the_end = look_up(HUGH, resolver, key.expires_at)
    assert at_the_end.findings[0] is not before.findings[0]
