"""A message that the MTA is sure to refuse once it is encrypted is refused before the work is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla import pipeline
from smilla.answer import reply
from smilla.config import parse
from smilla.model import Action, Outcome
from smilla.session import Session
from tests.unit.test_pipeline_headers import HUGH, processed
from tests.vectors.memory import TableResolver, make_ports

RAW = b"From: sam@sender.example\r\nTo: hugh@example.org\r\nSubject: hello\r\n\r\n" + b"x" * 55_000 + b"\r\n"
GROWN = 55_002 // 57 * 78


def answered(session: Session, outcome: Outcome, text: str, found: int = 0) -> reply.Reply:
    ports = replace(make_ports(TableResolver()), size_limit=lambda: found)
    return pipeline.answer_to(session, outcome, ports, parse(text))[0]


@pytest.mark.parametrize(("limit", "is_refused"), [(GROWN - 1, True), (GROWN, False), (0, False)])
def test_what_is_sure_to_be_too_large_is_refused_and_nothing_else(limit: int, is_refused: bool) -> None:
    session, outcome = processed(HUGH, raw=RAW, text="")
    assert (answered(session, outcome, "", limit) == reply.TOO_LARGE) is is_refused
    named = f"[milter]\nmessage_size_limit = {limit}\n"
    assert (answered(session, outcome, named) == reply.TOO_LARGE) is is_refused


def test_what_the_configuration_names_goes_before_what_was_found() -> None:
    session, outcome = processed(HUGH, raw=RAW, text="")
    named = f"[milter]\nmessage_size_limit = {GROWN}\n"
    assert answered(session, outcome, named, found=1) != reply.TOO_LARGE


def test_plaintext_does_not_grow() -> None:
    session, outcome = processed("zoe@example.org", raw=RAW, text="")
    assert answered(session, outcome, "", found=1) != reply.TOO_LARGE


def test_whoever_has_a_copy_never_hears_that_it_is_too_large() -> None:
    session, outcome = processed(HUGH, raw=RAW, text="")
    done = replace(outcome.decisions[0], action=Action.DONE)
    assert answered(session, replace(outcome, decisions=(*outcome.decisions, done)), "", found=1) != reply.TOO_LARGE


def test_limit_of_a_postfix_that_is_left_over_does_not_bind_sendmail() -> None:
    session, outcome = processed(HUGH, raw=RAW, text="")
    ports = replace(make_ports(TableResolver()), size_limit=lambda: 1)
    for text in ("", '[policy]\nmixed = "defer"\n'):
        answers = [
            pipeline.answer_to(session, outcome, ports, parse(text).behind(m))[0] for m in ("sendmail", "postfix")
        ]
        assert [answer == reply.TOO_LARGE for answer in answers] == [False, True]
