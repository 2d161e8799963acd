"""What is remembered of a trial: a key that is taken for long, a refused one for a minute, a failure not at all."""

from __future__ import annotations

import pytest

from smilla.adapters import trials
from smilla.adapters.trials import Trials
from smilla.errors import EncryptionError


class Engine:
    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.said: dict[bytes, str] = {}

    def trial(self, raw: bytes) -> str:
        self.asked.append(raw)
        if raw == b"fails":
            raise EncryptionError("no memory")
        return self.said.get(raw, "")


def test_key_that_is_taken_is_tried_once_and_one_that_is_refused_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(trials, "monotonic", lambda: now[0])
    engine = Engine()
    engine.said[b"refused"] = "no such curve"
    known = Trials(engine.trial)
    for now[0] in (1000.0, 1059.0):
        assert [known.fault(raw) for raw in (b"taken", b"refused")] == ["", "no such curve"]
    assert engine.asked == [b"taken", b"refused"]
    now[0] = 1060.0
    engine.said.clear()
    assert [known.fault(raw) for raw in (b"taken", b"refused")] == ["", ""]
    assert engine.asked == [b"taken", b"refused", b"refused"]


def test_trial_that_fails_is_not_remembered() -> None:
    engine = Engine()
    known = Trials(engine.trial)
    for _ in range(2):
        with pytest.raises(EncryptionError):
            known.fault(b"fails")
    assert engine.asked == [b"fails"] * 2
    assert len(known) == 0


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    engine = Engine()
    known = Trials(engine.trial)
    for number in range(1001):
        known.fault(str(number).encode())
    assert len(known) == 1000
    known.fault(b"1000")
    assert len(engine.asked) == 1001
    known.fault(b"0")
    assert len(engine.asked) == 1002
