"""Whether a resolver validates, and how often the log has it; real ones are asked in tests/milter/test_recovery.py."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.name
import pytest

from smilla.adapters.proof import TOLD_LASTS_S, Proof


class Server:
    """Answers with or without the AD bit."""

    name = "127.0.0.1@53"

    def __init__(self) -> None:
        self.validates = False

    async def exchange(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        if self.validates:
            answer.flags |= dns.flags.AD
        return answer


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("smilla.log.resolver_not_validating", lambda *words: found.append(words[-1]))
    monkeypatch.setattr("smilla.log_recovery.resolver_works", lambda *_: found.append("works"))
    return found


def test_a_doubt_is_logged_once_and_again_each_hour_and_after_each_proof(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    now, server = [1000.0], Server()
    monkeypatch.setattr("smilla.adapters.proof.time.monotonic", lambda: now[0])

    async def ask(at_s: float, *, validates: bool) -> str:
        now[0], server.validates = 1000.0 + at_s, validates
        return await found.doubt()

    found = Proof(dns.name.from_text("test."), server)
    for at_s in range(0, int(TOLD_LASTS_S), 100):
        assert "does not prove that it validates" in asyncio.run(ask(at_s, validates=False))
    doubt = "no AD bit on the probe test. (NOERROR)"
    assert told == [doubt]
    asyncio.run(ask(TOLD_LASTS_S, validates=False))
    assert told == [doubt] * 2
    assert asyncio.run(ask(TOLD_LASTS_S + 100, validates=True)) == ""
    asyncio.run(ask(2 * TOLD_LASTS_S - 10, validates=False))
    assert told == [doubt, doubt, "works", doubt]
