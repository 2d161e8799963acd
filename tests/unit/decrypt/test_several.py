"""Several holders of keys are asked in turn, and what the one with the key says counts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from smilla.decrypt.several import Several
from smilla.errors import NotDecrypted


class Holder:
    def __init__(self, answer: bytes | str) -> None:
        self.answer = answer
        self.asked = 0

    def opened(self, raw: bytes) -> bytes:
        self.asked += 1
        if isinstance(self.answer, str):
            raise NotDecrypted(self.answer, "told")
        return self.answer + raw

    def signature(self, raw: bytes, raw_certificates: Sequence[bytes]) -> tuple[str, str]:
        return self.opened(raw).decode(), raw_certificates[0].decode()


def test_first_that_has_the_key_opens_it() -> None:
    holders = [Holder("not_for_this_key"), Holder(b"a"), Holder(b"b")]
    assert Several(holders).opened(b"x") == b"ax"
    assert [one.asked for one in holders] == [1, 1, 0]
    assert Several(holders).signature(b"x", [b"c"]) == ("ax", "c")


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ((), "no_key"),
        (("not_for_this_key", "not_for_this_key"), "not_for_this_key"),
        (("not_for_this_key", "undecryptable"), "undecryptable"),
        (("engine", b"never asked"), "engine"),
    ],
)
def test_otherwise_the_last_word_is_that_of_whoever_has_the_key(answers: tuple[str | bytes, ...], code: str) -> None:
    with pytest.raises(NotDecrypted) as caught:
        Several([Holder(answer) for answer in answers]).opened(b"x")
    assert caught.value.code == code
