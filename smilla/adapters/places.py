"""So many DNS questions of one zone are under way at once; the rest waits, so that who does not answer leaves room.

Promises: whatever one zone's names and name servers do, its questions take a fixed part of what there is to ask with;
a place is held only while a question is unanswered; zones that answered lately do not wait for zones that nobody has
heard of.  Nothing here says "absent": who gets no place in time is UNREACHABLE, like who does not answer.

A zone is what somebody registered, as its last labels tell: two (example.org, whatever stands before it), or three
under what looks like a registry's own name (example.co.uk).  The list of public suffixes would tell this better, but
is another thing to keep up to date, and a mistake costs little: what looks like a registry's name and is somebody's
own (a.bc.de, b.bc.de) has four times the places of a zone, never more; what is a registry's and does not look like it
shares the places of one zone.  Which name servers a zone has is not known here: the resolver asks them.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_Group = tuple[str, int]  # its name, and how many places it has

_REGISTRY = re.compile(r"(?:[^.]{1,3}|gouv|govt|info|name)\.[a-z]{2}")
_A_REGISTRY = 4  # times the places of a zone
_UNKNOWN = 128  # for all zones together that have not answered lately
_LATELY_S = 300.0
_ZONES = 10_000


@dataclass(slots=True, eq=False)
class Turn(Generic[T]):
    """A question (its owner name and what stands for it), and the places that it holds: none while it waits."""

    owner: str
    item: T
    held: tuple[_Group, ...] = ()
    gone: bool = False  # nobody waits for it any more


class Places(Generic[T]):
    """``a_zone`` is how many questions of one zone are under way at once.  Any thread may call."""

    def __init__(self, a_zone: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_zone, self._clock = a_zone, clock
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._queues: dict[str, deque[Turn[T]]] = {}  # by the group that had no place left
        self._answered_at: OrderedDict[str, float] = OrderedDict()

    def take(self, turn: Turn[T]) -> bool:
        """True where the question may be sent now; where not, ``free`` will return its turn."""
        with self._lock:
            return self._enter(turn)

    def free(self, turn: Turn[T], *, answered: bool) -> list[Turn[T]]:
        """A question is done, by an answer of its zone or without one: those that are to be sent now."""
        with self._lock:
            self._note(_zone(turn.owner), answered=answered)
            held, turn.held = turn.held, ()
            for name, _ in held:
                self._taken[name] -= 1
            going = [each for group in held for each in self._next(*group)]
            for name, _ in held:
                if not self._taken[name]:
                    del self._taken[name]
            return going

    def drain(self) -> list[Turn[T]]:
        """All that wait, which now wait no longer."""
        with self._lock:
            waiting = [turn for queue in self._queues.values() for turn in queue]
            self._queues.clear()
            return waiting

    def _enter(self, turn: Turn[T]) -> bool:
        groups = self._groups(turn.owner)
        for name, places in groups:
            if self._taken[name] >= places:
                self._queues.setdefault(name, deque()).append(turn)
                return False
        for name, _ in groups:
            self._taken[name] += 1
        turn.held = groups
        return True

    def _next(self, name: str, places: int) -> list[Turn[T]]:
        """Who waited for this group; who has no place in another one waits there from now on."""
        queue = self._queues.get(name, deque())
        going = []
        while queue and self._taken[name] < places:
            turn = queue.popleft()
            if not turn.gone and self._enter(turn):
                going.append(turn)
        if not queue:
            self._queues.pop(name, None)
        return going

    def _groups(self, owner: str) -> tuple[_Group, ...]:
        zone = _zone(owner)
        groups: tuple[_Group, ...] = ((zone, self._a_zone),)
        parent = zone.partition(".")[2]
        if "." in parent:
            groups += (("*." + parent, self._a_zone * _A_REGISTRY),)
        if self._clock() - self._answered_at.get(zone, float("-inf")) > _LATELY_S:
            groups += (("*", _UNKNOWN),)
        return groups

    def _note(self, zone: str, *, answered: bool) -> None:
        self._answered_at.pop(zone, None)
        if answered:
            self._answered_at[zone] = self._clock()
            if len(self._answered_at) > _ZONES:
                self._answered_at.popitem(last=False)


def _zone(owner: str) -> str:
    """The registered zone of what stands after the hashed local part and ``_smimecert`` or ``_openpgpkey``, or after
    labels such as ``_mta-sts`` and ``_25._tcp``."""
    labels = owner.rstrip(".").lower().split(".")
    if labels[1:2] in (["_smimecert"], ["_openpgpkey"]):
        labels = labels[2:]
    while labels[1:] and labels[0].startswith("_"):
        labels = labels[1:]
    return ".".join(labels[-3:] if _REGISTRY.fullmatch(".".join(labels[-2:])) else labels[-2:])
