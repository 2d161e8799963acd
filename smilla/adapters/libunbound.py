"""DNSSEC validation in process, by libunbound (the Debian package libunbound8) through ctypes.

Promises: the same as the other resolver: ``ask`` returns at once, an answer carries one of the five statuses, and
questions of one zone do not wait for those of another.  libunbound itself knows only secure and bogus.  An answer that
is neither counts as insecure only if the name and the name it is an alias of are under a trust anchor, and something
was found secure before.  The reason: libunbound skips an anchor whose algorithm it does not know, and calls everything
below it insecure.  All other answers are INDETERMINATE.

The library's context, with its threads and pipes, belongs to one process: the first question makes it, the first
question after a fork makes another, and it ends with the resolver.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import select
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smilla import log, log_recovery
from smilla.adapters.libunbound_abi import Callback, Result, load, words
from smilla.adapters.pending import Pending
from smilla.adapters.places import Places, Turn
from smilla.adapters.proof import TOLD_LASTS_S
from smilla.config.values import nameserver
from smilla.errors import SmillaError
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import Metrics

_NOERROR, _NXDOMAIN = 0, 3
_SOA = 6
_TYPES = {_SOA: "SOA", 53: "SMIMEA", 61: "OPENPGPKEY"}
_TTL = r"(?:(?:\d+[smhdw]?)+\s+)?"
_ANCHOR = re.compile(rf"(\S+)\s+{_TTL}(?:IN\s+)?{_TTL}(?:DNSKEY|DS)\s", re.IGNORECASE)
_QUESTIONS_A_ZONE = 32
_GIVE_UP_S = 30.0
_LATE = f"no answer in {_GIVE_UP_S:g} s"
_ENDED = "the validator has ended"
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}

# By default libunbound answers NXDOMAIN for "test." (RFC 6761), but laboratories sign it; private networks may sign the
# three zones that follow it.  Without the infra options, a forwarder that stays silent about one domain is given up for
# all others too, for up to 20 s.  By default libunbound asks with 16 ports and 2 TCP connections: 16 silent questions
# would hold up all that follow.  If an answer is later than expected (50 ms for a near forwarder), libunbound asks
# again.  Every silent question doubles that time, so it starts at one second.
_CONFIGURATION = """\
server:
  module-config: "validator iterator"
  local-zone: "test." nodefault
  local-zone: "home.arpa." nodefault
  local-zone: "internal." nodefault
  local-zone: "local." nodefault
  do-not-query-localhost: no
  infra-keep-probing: yes
  infra-host-ttl: 0
  infra-cache-min-rtt: 1000
  outgoing-range: 512
  num-queries-per-thread: 512
  outgoing-num-tcp: 32
  msg-cache-size: 4m
  rrset-cache-size: 8m
  val-bogus-ttl: 5
  cache-max-negative-ttl: 300
"""


class ValidatingResolver:
    """A validator in this process.  It forwards to ``nameservers`` (ADDRESS or ADDRESS@PORT), or iterates if none."""

    def __init__(
        self, nameservers: Sequence[str], trust_anchor: str, probe: str, metrics: Metrics | None = None
    ) -> None:
        """``trust_anchor`` is a file in zone-file form.  Raises SmillaError if it or the library cannot be used."""
        self._metrics = metrics
        self._nameservers = [nameserver(text) for text in nameservers]
        self._trust_anchor = trust_anchor
        self._anchors = _anchor_names(trust_anchor)
        self._probe = probe.rstrip(".") + "."
        self._library = load()
        self._engine: _Engine | None = None
        self._starting = threading.Lock()

    def ask(self, owner: str, rdtype: int) -> Pending:
        """Starts a question and returns at once."""
        future: Future[DNSAnswer] = Future()
        pending = Pending(owner, _name(rdtype), future, self._metrics)
        try:
            self._running().ask(owner, rdtype, future.set_result)
        except SmillaError as error:
            future.set_result(replace(_unreachable(owner, rdtype, str(error)), is_ours=True))
        return pending

    def probe(self, timeout_s: float) -> list[tuple[str, str]]:
        """Asks for the probe: one pair of the validator's name and what is wrong ("" if it validates)."""
        answer = self.ask(self._probe, _SOA).result(time.monotonic() + timeout_s)
        secure = answer.status is DNSSECStatus.SECURE
        return [("libunbound", "" if secure else f"the probe {self._probe} is {answer.status.value}: {answer.detail}")]

    def _running(self) -> _Engine:
        """This process's engine.  Raises SmillaError if libunbound rejects its configuration."""
        with self._starting:
            if self._engine is None or self._engine.pid != os.getpid() or self._engine.broken:
                self._engine = _Engine(self._library, self._made_context(), self._anchors, self._probe)
                # At the end of the process, or when a reload has replaced this resolver.
                weakref.finalize(self, self._engine.close)
            return self._engine

    def _made_context(self) -> int:
        context = self._library.ub_ctx_create()
        if not context:
            raise SmillaError("libunbound: no context could be made")
        try:
            self._configure(context)
        except SmillaError:
            self._library.ub_ctx_delete(context)
            raise
        return int(context)

    def _configure(self, context: int) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="smilla-unbound-", suffix=".conf") as file:
            file.write(_CONFIGURATION)
            file.flush()
            self._check(self._library.ub_ctx_config(context, os.fsencode(file.name)), "configuration")
        for address, port in self._nameservers:
            forwarder = f"{address}@{port}"
            self._check(self._library.ub_ctx_set_fwd(context, forwarder.encode("ascii")), forwarder)
        anchor = os.fsencode(self._trust_anchor)
        self._check(self._library.ub_ctx_add_ta_file(context, anchor), self._trust_anchor)
        self._check(self._library.ub_ctx_async(context, 1), "threads")

    def _check(self, code: int, what: str) -> None:
        if code:
            raise SmillaError(f"libunbound: {what}: {words(self._library, code)}")


@dataclass(frozen=True, slots=True)
class _Question:
    """A question and the callback for its answer."""

    owner: str
    rdtype: int
    deliver: Callable[[DNSAnswer], None]
    asked_at: float = field(default_factory=time.monotonic)

    def fail(self, detail: str) -> None:
        self.deliver(_unreachable(self.owner, self.rdtype, detail))


class _Engine:
    """One libunbound context in one process, and the one thread in which its answers arrive."""

    def __init__(self, library: ctypes.CDLL, context: int, anchors: tuple[str, ...], probe: str) -> None:
        self.pid = os.getpid()
        self.broken = False
        self._library = library
        self._context = context
        self._using = threading.Lock()
        self._anchors = anchors
        self._probe = probe
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Turn[_Question]] = {}
        self._places: Places[_Question] = Places(_QUESTIONS_A_ZONE)
        self._proven = False
        self._told_at = float("-inf")  # when the log had a doubt last
        self._doubted: list[tuple[DNSAnswer, _Question]] = []
        self._callback = Callback(self._answered)
        self._wake, self._waker = os.pipe()
        threading.Thread(target=self._run, name="validator", daemon=True).start()

    def ask(self, owner: str, rdtype: int, deliver: Callable[[DNSAnswer], None]) -> None:
        """Sends a question; ``deliver`` is called once with its answer."""
        turn = Turn(owner, _Question(owner, rdtype, deliver))
        if self._places.take(turn):
            self._send([turn])

    def close(self) -> None:
        """Ends the thread and frees the context.  Does nothing in a forked child, since both are the parent's."""
        with self._using:
            if self.pid == os.getpid() and not self.broken:
                os.write(self._waker, b"x")

    def _send(self, turns: Iterable[Turn[_Question]]) -> None:
        """Sends questions; if one fails, also those that waited for its place."""
        going = deque(turns)
        while going:
            turn = going.popleft()
            if problem := self._sent(turn):
                turn.item.fail(problem)
                going += self._places.free(turn, answered=False)

    def _sent(self, turn: Turn[_Question]) -> str:
        """What is wrong, "" if the question is under way."""
        if time.monotonic() - turn.item.asked_at > _GIVE_UP_S:
            return _LATE
        number = next(self._numbers)
        self._waiting[number] = turn
        problem = self._resolve(number, turn.item)
        return problem if problem and self._waiting.pop(number, None) is not None else ""

    def _resolve(self, number: int, question: _Question) -> str:
        """Hands a question to libunbound; returns what is wrong, "" if it was accepted."""
        name = question.owner.encode("ascii")
        with self._using:
            if self.broken:
                return _ENDED
            code = self._library.ub_resolve_async(self._context, name, question.rdtype, 1, number, self._callback, None)
        return words(self._library, code) if code else ""

    def _run(self) -> None:
        poll = select.poll()  # select() cannot handle descriptors above 1023
        poll.register(self._library.ub_fd(self._context), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while self._wake not in dict(poll.poll()):
            if self._library.ub_process(self._context):
                break
        with self._using:
            self.broken = True
            self._library.ub_ctx_delete(self._context)
            os.close(self._wake)
            os.close(self._waker)
        for turn in (*self._places.drain(), *self._waiting.values()):
            turn.item.fail(_ENDED)
        for _, question in self._doubted:
            question.fail(_ENDED)

    def _answered(self, number: int, code: int, result: Any) -> None:
        turn, answered = self._waiting.pop(number), False
        question = turn.item
        try:
            if code:
                question.fail(words(self._library, code))
            else:
                answer = _read(question.owner, question.rdtype, result[0], self._anchors)
                answered = answer.status is not DNSSECStatus.UNREACHABLE
                self._judge(answer, turn)
        finally:
            if result:
                self._library.ub_resolve_free(result)
            if turn.held:
                self._send(self._places.free(turn, answered=answered))

    def _judge(self, answer: DNSAnswer, turn: Turn[_Question]) -> None:
        """An insecure answer counts only if this validator has found something secure.  If it has not, it asks for the
        probe first; only the probe takes no place."""
        if answer.status is DNSSECStatus.SECURE:
            self._proven = True
        if answer.status is not DNSSECStatus.INSECURE or self._proven or not turn.held:
            turn.item.deliver(answer)
            return
        self._doubted.append((answer, turn.item))
        if len(self._doubted) == 1:
            self._send([Turn(self._probe, _Question(self._probe, _SOA, self._settle))])

    def _settle(self, probed: DNSAnswer) -> None:
        doubt = "" if self._proven else f"the probe {self._probe} is {probed.status.value}: {probed.detail}"
        now = time.monotonic()
        if doubt and now - self._told_at >= TOLD_LASTS_S:
            self._told_at = now
            log.resolver_not_validating("libunbound", self._probe, doubt)
        elif not doubt:
            self._told_at = float("-inf")
            log_recovery.resolver_works("libunbound", self._probe)
        doubted, self._doubted = self._doubted, []
        for answer, question in doubted:
            indeterminate = DNSAnswer(answer.owner, answer.rdtype, DNSSECStatus.INDETERMINATE, detail=doubt)
            question.deliver(indeterminate if doubt else answer)


def _read(owner: str, rdtype: int, result: Result, anchors: tuple[str, ...]) -> DNSAnswer:
    """The status and records of a result."""
    name = _name(rdtype)
    if result.bogus:
        why = (result.why_bogus or b"").decode("ascii", "replace")
        return DNSAnswer(owner, name, DNSSECStatus.BOGUS, detail=why or "validation failed")
    if result.rcode not in (_NOERROR, _NXDOMAIN):
        return _unreachable(owner, rdtype, _RCODES.get(result.rcode, f"RCODE {result.rcode}"))
    names = {owner, (result.canonname or b"").decode("ascii", "replace") or owner}
    if not result.secure and (stray := [n for n in names if not _is_under(n, anchors)]):
        return DNSAnswer(owner, name, DNSSECStatus.INDETERMINATE, detail=f"{stray[0]} is under no trust anchor")
    records: list[bytes] = []
    while result.havedata and result.data[len(records)]:
        records.append(ctypes.string_at(result.data[len(records)], result.len[len(records)]))
    absent = "" if records else f"no {name} record ({'NXDOMAIN' if result.nxdomain else 'NOERROR'})"
    status = DNSSECStatus.SECURE if result.secure else DNSSECStatus.INSECURE
    proof = "libunbound, from the trust anchor"
    ttl_s, is_denied = max(0, result.ttl), bool(result.nxdomain)
    return DNSAnswer(owner, name, status, tuple(records), 0, ttl_s, absent, proof, is_denied=is_denied)


def _is_under(owner: str, anchors: tuple[str, ...]) -> bool:
    name = "." + owner.lower().rstrip(".") + "."
    return any(anchor == "." or name.endswith("." + anchor) for anchor in anchors)


def _name(rdtype: int) -> str:
    return _TYPES.get(rdtype, f"TYPE{rdtype}")


def _unreachable(owner: str, rdtype: int, detail: str) -> DNSAnswer:
    return DNSAnswer(owner, _name(rdtype), DNSSECStatus.UNREACHABLE, detail=detail)


def _anchor_names(path: str) -> tuple[str, ...]:
    """The owner names of the DNSKEY and DS records in a zone file.  Raises SmillaError if there are none."""
    try:
        text = Path(path).read_text("ascii", "replace")
    except OSError as error:
        raise SmillaError(f"[dns] trust_anchor {path}: {error.strerror}") from error
    lines = (line.split(";", 1)[0] for line in text.splitlines())
    found = (_ANCHOR.match(line) for line in lines)
    names = tuple(match[1].lower().rstrip(".") + "." for match in found if match)
    if not names:
        raise SmillaError(f"[dns] trust_anchor {path}: holds no DNSKEY or DS record")
    return names
