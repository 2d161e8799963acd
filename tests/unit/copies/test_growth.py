"""How large a message becomes: never less than what comes out, and not much more."""

from __future__ import annotations

import pytest

from smilla import pipeline
from smilla.config import parse
from smilla.copies import growth
from smilla.handover import seal
from smilla.model import Message, Rewrite
from smilla.ports import SealKey
from tests.unit.server.test_stage import HUGH, PIA, ZOE
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea


def message(octets: int, width: int) -> bytes:
    head = b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org\r\nSubject: hello\r\n\r\n"
    return head + (b"x" * width + b"\r\n") * (octets // (width + 2))


@pytest.mark.parametrize("width", [1, 40, 76, 130, 5000])
@pytest.mark.parametrize("octets", [0, 100, 3000, 70_000, 1_000_000])
@pytest.mark.parametrize("protect", ["off", "copy"])
def test_estimate_is_not_too_small_and_little_too_large(octets: int, width: int, protect: str) -> None:
    resolver = TableResolver()
    resolver.publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))
    session = make_session(message(octets, width), [HUGH, PIA, ZOE])
    outcome = pipeline.process(session, make_ports(resolver), parse(f'[headers]\nprotect = "{protect}"\n'))
    facts = seal.facts(session.envelope, outcome.decisions, "4XyZ", session.client, outcome.direction)
    sealed = seal.rewrite(session.message, facts, SealKey(bytes(8), bytes(32)))
    pairs = [(growth.of_copy(session.message, copy), copy.rewrite) for copy in outcome.copies]
    for most, rewrite in [*pairs, (growth.of_seal(session.message, outcome), sealed)]:
        size = written(session.message, rewrite)
        assert size < most < size * 1.005 + 15_000
    for copy in outcome.copies:
        least = growth.at_least(session.message, copy)
        assert written(session.message, copy.rewrite) * 0.99 - 15_000 < least <= written(session.message, copy.rewrite)


def written(original: Message, rewrite: Rewrite) -> int:
    """Octets of the message that comes out, without its trace fields."""
    kept = [header.raw for index, header in enumerate(original.headers) if index not in rewrite.removed]
    added = [f"{name}: {value}\r\n" for name, value in rewrite.added]
    body = rewrite.body() if rewrite.body is not None else original.body.blocks()
    return sum(map(len, [*kept, *added, b"\r\n"])) + sum(map(len, body))
