"""A message whose body takes long, or whose header is a flood: judged by what is true at its end."""

from __future__ import annotations

import tracemalloc

import pytest

from smilla import decide, pipeline
from smilla.config import parse
from smilla.model import Action, Disposition
from tests.vectors.memory import StillClock, TableResolver, make_ports, make_session, smimea

HUGH = "hugh@example.org"
MESSAGE = b"To: hugh@example.org\r\n\r\nsecret\r\n"


def test_key_published_during_a_slow_upload_is_found_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    absent, published = TableResolver(), TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    session, settings = make_session(MESSAGE, [HUGH]), parse("")
    decide.begin_lookup(session, session.envelope.recipients[0], make_ports(absent), settings)
    monkeypatch.setattr(StillClock, "monotonic", lambda _: 1000.0 + settings.dns.timeout_s + 1)
    (decision,) = pipeline.process(session, make_ports(published), settings).decisions
    assert decision.action is Action.ENCRYPT


def test_answer_that_is_still_fresh_is_not_asked_again() -> None:
    resolver = TableResolver()
    session, ports, settings = make_session(MESSAGE, [HUGH]), make_ports(resolver), parse("")
    decide.begin_lookup(session, session.envelope.recipients[0], ports, settings)
    pipeline.process(session, ports, settings)
    assert len(resolver.asked) == 2


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"X-Smilla: x\r\n" * 501, "too_many_fields"),
        (b"Content-X: y\r\n" * 501, "too_many_fields"),
        (b"Content-Type: text/plain; x=" + b"y" * 60_000 + b"\r\n", "field_too_long"),
        (b"a:\r\n" * 50_000, "header_too_large"),
        ((b"X-Long: " + b"y" * 60_000 + b"\r\n") * 70, "header_too_large"),
    ],
)
def test_header_that_cannot_be_handed_back_whole_is_refused(header: bytes, reason: str) -> None:
    outcome = pipeline.process(make_session(header + MESSAGE, [HUGH]), make_ports(), parse(""))
    assert (outcome.disposition, outcome.reason.code) == (Disposition.REFUSE, reason)
    assert outcome.copies == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"From: a@b.test\rTo: hugh@example.org\rSubject: x\r\rThe secret.\r",
        b"From: a@b.test\nSubject: x\r\rThe secret.\r",
        b"From: a@b.test\r\nSubject: x\rX: The secret.\r\n\r\n",
        b"From: a@b.test\r\nSubject: x\r\rThe secret.\r\n\r\nbody\r\n",
    ],
)
def test_body_that_some_programs_find_within_a_field_is_refused(raw: bytes) -> None:
    for text in ("", "[headers]\nprotect = 'hide'\n"):
        outcome = pipeline.process(make_session(raw, [HUGH]), make_ports(), parse(text))
        assert (outcome.disposition, outcome.reason.code) == (Disposition.REFUSE, "bare_cr")
        assert outcome.copies == ()


@pytest.mark.parametrize("field", [b"X: a\rb\r\n", b"X: a\r\r\n", b"X: a\r\r\n b\r\n"])
def test_bare_cr_in_a_field_of_a_message_with_a_body_is_no_reason(field: bytes) -> None:
    outcome = pipeline.process(make_session(field + MESSAGE, [HUGH]), make_ports(), parse(""))
    assert outcome.reason.code != "bare_cr"


def test_many_other_fields_do_no_harm() -> None:
    raw = b"X-Other: x\r\n" * 20_000 + b"Content-Type: text/plain\r\n" * 3 + MESSAGE
    assert pipeline.process(make_session(raw, [HUGH]), make_ports(), parse("")).disposition is Disposition.DELIVER


@pytest.mark.parametrize(("name", "value", "times"), [(b"a", b"", 200_000), (b"X-Long", b" " + b"y" * 60_000, 500)])
def test_a_header_without_an_end_takes_no_more_memory_than_is_allowed(name: bytes, value: bytes, times: int) -> None:
    session = make_session(MESSAGE, [HUGH])
    tracemalloc.start()
    try:
        for _ in range(times):
            session.header(bytes(bytearray(name)), bytes(bytearray(value)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 16 << 20
    assert pipeline.process(session, make_ports(), parse("")).reason.code == "header_too_large"
