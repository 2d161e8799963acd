"""Has a change reached every authoritative server, and does a validator show it?

Promises: the validator is asked only after every authoritative server has the change, so that no cache learns the old
state on our account.  Waiting ends at the deadline; what cannot get better ends it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat

from smilla.errors import PublishError
from smilla.model import DNSAnswer, DNSSECStatus

_PAUSES_S = (0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0)
_LONGEST_PAUSE_S = 5.0


class Verdict(Enum):
    """DONE: all show it.  WAITING: not yet.  NEVER: no waiting helps."""

    DONE = "done"
    WAITING = "waiting"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Authority:
    """An authoritative server: its name, and what it answers, which may raise a PublishError that names it."""

    name: str
    records: Callable[[], frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class State:
    """How far the change has come, in words."""

    verdict: Verdict
    text: str


def look(expected: frozenset[bytes], authorities: Sequence[Authority], validated: Callable[[], DNSAnswer]) -> State:
    """One look at everybody.  ``expected`` are the RDATA of the whole RRset, none for a withdrawal."""
    behind = []
    for authority in authorities:
        try:
            if authority.records() != expected:
                behind.append(f"{authority.name} has not taken it yet")
        except PublishError as error:
            behind.append(str(error))
    if behind:
        ready = len(authorities) - len(behind)
        return State(Verdict.WAITING, f"{ready} of {len(authorities)} authoritative servers show it; {behind[0]}")
    return judged(expected, validated())


def judged(expected: frozenset[bytes], answer: DNSAnswer) -> State:
    """What a validator's answer says."""
    if answer.status not in (DNSSECStatus.SECURE, DNSSECStatus.INSECURE):
        return State(Verdict.WAITING, f"the resolver's answer is {answer.status.value}: {answer.detail}")
    if frozenset(answer.raw_rdata) != expected or answer.malformed:
        held = f" for up to {answer.ttl_s} s" if answer.ttl_s else ""
        return State(Verdict.WAITING, f"the resolver still remembers what was there before{held}")
    if answer.status is DNSSECStatus.SECURE or not expected:
        return State(Verdict.DONE, "every server shows it, and the resolver calls it " + answer.status.value)
    return State(Verdict.NEVER, "the zone is not signed, so no sender may use the record (RFC 7929 and RFC 8162)")


def wait(
    looked: Callable[[], State], monotonic: Callable[[], float], sleep: Callable[[float], None], deadline: float
) -> State:
    """Looks again and again until it is done, can never be, or the deadline (monotonic seconds) has passed."""
    for pause_s in chain(_PAUSES_S, repeat(_LONGEST_PAUSE_S)):
        state = looked()
        left_s = deadline - monotonic()
        if state.verdict is not Verdict.WAITING or left_s <= 0:
            return state
        sleep(min(pause_s, left_s))
    raise AssertionError("there is always another pause")
