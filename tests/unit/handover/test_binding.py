"""The field that binds a copy to a verified hop: who may write one, and for whom it counts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest

from smilla.errors import SealBroken, SealKeyMissing
from smilla.handover import binding
from smilla.message import parse
from smilla.model import Message
from smilla.ports import SealKey

SAM = "sam@sender.example"


@dataclass
class Keys:
    """Seal keys in memory."""

    known: tuple[SealKey, ...]

    def prepare(self, user: str, rotate_days: int) -> SealKey | None:
        return None

    def current(self) -> SealKey:
        return self.known[-1]

    def find(self, raw_id: bytes) -> SealKey:
        for key in self.known:
            if key.raw_id == raw_id:
                return key
        raise SealKeyMissing("no such key")


KEYS = Keys(tuple(SealKey(secrets.token_bytes(8), secrets.token_bytes(32)) for _ in range(2)))


def message(*fields: bytes) -> Message:
    return parse(b"Subject: x\r\n" + b"".join(fields) + b"\r\n").message


def test_field_is_known_again_for_its_own_sender_whichever_key_made_it() -> None:
    for key in KEYS.known:
        for sender in (SAM, "", "jürgen@example.org"):
            headers = message(binding.field(sender, key)).headers
            assert binding.is_bound(headers)
            assert len(binding.verified_id(headers, sender, KEYS)) == 16


def test_no_two_fields_are_alike() -> None:
    assert len({binding.field(SAM, KEYS.current()) for _ in range(100)}) == 100


@pytest.mark.parametrize("sender", ["", "eve@sender.example", "Sam@sender.example", "sam@sender.example "])
def test_field_counts_for_no_other_sender(sender: str) -> None:
    with pytest.raises(SealBroken):
        binding.verified_id(message(binding.field(SAM, KEYS.current())).headers, sender, KEYS)


def test_each_octet_of_a_field_counts() -> None:
    raw = binding.field(SAM, KEYS.current())
    start = raw.index(b":") + 2
    for index in range(start, len(raw) - 2):
        changed = raw[:index] + (b"1" if raw[index : index + 1] != b"1" else b"2") + raw[index + 1 :]
        with pytest.raises((SealBroken, SealKeyMissing)):
            binding.verified_id(message(changed).headers, SAM, KEYS)


@pytest.mark.parametrize("extra", [b"X-Smilla-Hop: x\r\n", b"x-smilla-hop:\r\n", binding.field(SAM, KEYS.current())])
def test_second_field_makes_both_worthless(extra: bytes) -> None:
    with pytest.raises(SealBroken):
        binding.verified_id(message(binding.field(SAM, KEYS.current()), extra).headers, SAM, KEYS)


def test_field_of_a_key_that_is_gone_waits_for_it() -> None:
    gone = SealKey(secrets.token_bytes(8), secrets.token_bytes(32))
    with pytest.raises(SealKeyMissing):
        binding.verified_id(message(binding.field(SAM, gone)).headers, SAM, KEYS)


@pytest.mark.parametrize("name", [b"X-Smilla-Hop", b"x-smilla-hop", b"X-SMILLA-HOP "])
def test_field_from_outside_is_forged_whatever_it_says(name: bytes) -> None:
    reason = binding.forged(message(name + b": hello\r\n"))
    assert reason is not None
    assert reason.code == "forged_mark"
    assert binding.forged(message()) is None


def test_field_names_the_key_that_made_it() -> None:
    for key in KEYS.known:
        assert binding.key_ids(message(binding.field(SAM, key)).headers) == {key.raw_id.hex()}
    assert binding.key_ids(message(b"X-Smilla-Hop: nonsense\r\n").headers) == frozenset()
