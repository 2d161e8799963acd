"""Learned keys are the last resort: where all other sources prove absence, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.keys import lookup
from smilla.model import KeyLookup, KeyVerdict, LearnedKey, Reason, SourceAnswer
from smilla.model.keys import proof
from tests.vectors.memory import NOW, MemoryLearned, TableResolver, learned_key, make_ports, raw_key, smimea

PIA = "pia@example.org"
KNOWN = learned_key(PIA, "pia.pgp")


def look_up(
    resolver: TableResolver | None = None,
    *formats: str,
    store: MemoryLearned | None = None,
    who: str = PIA,
    local: tuple[str, ...] = (),
    lower: bool = False,
) -> KeyLookup:
    sources = ("smimea", "openpgpkey", "learned")
    settings = Config(local_domains=local, keys=KeysOptions(sources=sources, try_lowercase=lower))
    ports = replace(make_ports(resolver), learned=store or MemoryLearned([KNOWN]))
    pending = lookup.begin(parse(who), ports, settings)
    return lookup.finish(pending, 0.0, NOW, ports, formats)


def test_learned_key_is_used_where_all_else_proves_absence() -> None:
    found = look_up()
    assert (found.verdict, found.source, found.status) == (KeyVerdict.USABLE, "learned", None)
    assert proof(found.source, found.status) == "learned"
    assert [finding.verdict for finding in found.findings] == [KeyVerdict.NO_KEY, KeyVerdict.NO_KEY, KeyVerdict.USABLE]


@pytest.mark.parametrize("formats", [(), ("openpgp",), ("smime",), ("smime", "openpgp")])
@pytest.mark.parametrize(
    ("rdtype", "status", "records", "verdict"),
    [
        ("smimea", "bogus", (), KeyVerdict.BOGUS),
        ("openpgpkey", "bogus", (), KeyVerdict.BOGUS),
        ("smimea", "indeterminate", (), KeyVerdict.BOGUS),
        ("openpgpkey", "unreachable", (), KeyVerdict.UNREACHABLE),
        ("smimea", "secure", (smimea("expired.crt"),), KeyVerdict.UNUSABLE_KEY),
        ("openpgpkey", "secure", (raw_key("pgp-expired.pgp"),), KeyVerdict.UNUSABLE_KEY),
        ("openpgpkey", "secure", (b"nonsense",), KeyVerdict.UNUSABLE_KEY),
        ("openpgpkey", "insecure", (raw_key("pia.pgp"),), KeyVerdict.INSECURE),
    ],
)
def test_nothing_that_a_source_says_is_outweighed(
    formats: tuple[str, ...], rdtype: str, status: str, records: tuple[bytes, ...], verdict: KeyVerdict
) -> None:
    resolver, store = TableResolver(), MemoryLearned([KNOWN])
    resolver.publish(PIA, rdtype, status, *records)
    form = {"smimea": "smime", "openpgpkey": "openpgp"}[rdtype]
    found = look_up(resolver, *formats, store=store)
    if formats and form not in formats and status in ("secure", "insecure"):
        # What cannot be used and is of a format that is not wanted would not have been used anyway.
        assert found.verdict in (verdict, KeyVerdict.NO_KEY, KeyVerdict.USABLE)
        return
    assert found.verdict is verdict
    assert store.asked == []


def test_published_key_of_a_format_that_is_not_wanted_is_no_absence() -> None:
    resolver, store = TableResolver(), MemoryLearned([KNOWN])
    resolver.publish(PIA, "smimea", "secure", smimea("nobody.crt"))
    found = look_up(resolver, "openpgp", store=store)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNUSABLE_KEY, "other_format")
    assert store.asked == []


def test_unclear_address_has_no_learned_key() -> None:
    store = MemoryLearned([learned_key("pia@[192.0.2.1]", "pia.pgp")])
    assert look_up(store=store, who="pia@[192.0.2.1]").verdict is KeyVerdict.UNCLEAR
    assert store.asked == []


def test_learned_key_of_a_format_that_is_not_wanted_is_none() -> None:
    assert look_up(None, "smime").verdict is KeyVerdict.NO_KEY
    assert look_up(None, "smime", "openpgp").verdict is KeyVerdict.USABLE


def test_local_address_never_has_a_learned_key() -> None:
    store = MemoryLearned([KNOWN])
    assert look_up(store=store, local=("example.org",)).verdict is KeyVerdict.NO_KEY
    assert store.asked == []


def test_store_that_cannot_be_read_is_no_absence() -> None:
    found = look_up(store=MemoryLearned(fails=True))
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNREACHABLE, "learned_keys")
    settings = Config(keys=KeysOptions(sources=("smimea", "openpgpkey", "learned")))
    ports = make_ports()
    pending = lookup.begin(parse(PIA), ports, settings)
    assert lookup.finish(pending, 0.0, NOW, ports).verdict is KeyVerdict.UNREACHABLE


def test_local_part_is_compared_exactly_and_in_lower_case_only_where_that_is_asked_for() -> None:
    assert look_up(who="Pia@example.org").verdict is KeyVerdict.NO_KEY
    assert look_up(who="Pia@example.org", lower=True).verdict is KeyVerdict.USABLE
    assert look_up(who="pia+tag@example.org").verdict is KeyVerdict.NO_KEY


def test_of_two_keys_the_stronger_is_taken_and_the_gate_judges_both() -> None:
    keys: list[LearnedKey] = [KNOWN, learned_key(PIA, "expired.crt")]
    found = look_up(store=MemoryLearned(keys))
    assert found.key is not None
    assert [a.key is not None for a in found.findings[-1].assessments] == [True, False]


def test_one_answer_is_judged_alone() -> None:
    ports = make_ports()
    pending = lookup.begin(parse(PIA), ports, Config())
    unclear = SourceAnswer("learned", PIA, unclear=Reason("case_differs", "x"))
    assert lookup.judged(unclear, pending, NOW, ports).verdict is KeyVerdict.UNCLEAR
