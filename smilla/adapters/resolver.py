"""DNS through validating resolvers on loopback: dnspython's messages over persistent TCP connections.

Promises: ``ask`` returns at once.  An answer carries one of the five DNSSEC statuses.  The AD bit is believed from
loopback only; the constructor refuses other addresses.  Questions of one zone do not wait for those of another.

Before an answer without AD counts, the resolver must prove that it validates, with the AD bit for something known to be
signed.  Until then such an answer is INDETERMINATE, so a resolver that does not validate never looks like "nobody has a
key".  The proof ends with the connection, since another program may answer on the next one.  A name outside the zone of
the probe also needs the same proof for the root, since there may be no trust anchor above it.

With an answer without AD, the validator says that the zone is unsigned or cannot be proven (opt-out, RFC 5155 section
6; too many iterations, RFC 9276).  An answer that the resolver made up itself says no such thing (the AA bit: a local
zone, a response policy, a copy of a zone; or a denial that names no zone).  Then we ask the parent for the DS record.

We use TCP, since UDP answers may be truncated or late (RFC 7929 section 6, RFC 8162 section 7).  We set the flags RD
and AD, never CD, which would turn bogus data into an ordinary answer (RFC 6840 section 5.7).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from smilla.adapters.dns_response import above, apex, is_own, parsed, proves_unsigned, read, type_name
from smilla.adapters.pending import Pending
from smilla.adapters.places import Places, Turn
from smilla.adapters.proof import FAILURES, Proof, signed_between
from smilla.config.values import nameserver
from smilla.model import DNSAnswer, DNSSECStatus
from smilla.ports import Metrics

_CONNECT_TIMEOUT_S, _ATTEMPTS = 2.0, 5
_LAST_WORDS_S = 5.0  # a busy machine may take a while
# unbound handles at most 32 questions of one connection at once; beyond that, slow domains would hold up others.
_QUESTIONS_A_CONNECTION = 24
_CONNECTIONS, _QUESTIONS_A_ZONE = 6, 24
_GIVE_UP_S = 30.0
_HEDGE_S = 1.0  # if a nameserver has not answered by then, the next one is asked as well
_INDETERMINATE = DNSSECStatus.INDETERMINATE
_UNSIGNED_LASTS_S, _MOST_UNSIGNED = 60.0, 1000  # zones proven to be unsigned
_MOST_LABELS = 8  # how many names are tried when looking for a delegation
_PROOFS = {DNSSECStatus.SECURE: "the AD bit", DNSSECStatus.INSECURE: "no AD bit in an answer"}


class LoopbackResolver:
    """A resolver client.  Its one thread starts with the first question, and again with the first after a fork."""

    def __init__(self, nameservers: Sequence[str], probe: str, metrics: Metrics | None = None) -> None:
        """``nameservers`` as ADDRESS or ADDRESS@PORT.  Raises ValueError if one is not on loopback."""
        self._metrics = metrics
        self._texts, self._probe = tuple(nameservers), probe
        self._servers = [_Server(text, probe) for text in nameservers]
        self._places: Places[asyncio.Future[None]] = Places(_QUESTIONS_A_ZONE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._starting = threading.Lock()

    def ask(self, owner: str, rdtype: int) -> Pending:
        """Starts a question and returns at once."""
        future: Future[DNSAnswer] = asyncio.run_coroutine_threadsafe(self._answer(owner, rdtype), self._running())
        return Pending(owner, type_name(rdtype), future, self._metrics)

    def probe(self, timeout_s: float) -> list[tuple[str, str]]:
        """Asks every nameserver for the probe: pairs of its name and what is wrong ("" if it validates)."""
        loop = self._running()
        found = []
        for server in self._servers:
            future = asyncio.run_coroutine_threadsafe(server.doubt(), loop)
            try:
                found.append((server.name, future.result(timeout_s)))
            except FutureTimeoutError:
                found.append((server.name, f"no answer within {timeout_s:g} s"))
        return found

    def signed_between(self, timeout_s: float) -> tuple[int, int] | None:
        """When the signature of the probe begins and ends (proof.signed_between)."""
        loop = self._running()
        for server in self._servers:
            zone = dns.name.from_text(self._probe)
            future = asyncio.run_coroutine_threadsafe(signed_between(zone, server), loop)
            with suppress(FutureTimeoutError):
                if (found := future.result(timeout_s)) is not None:
                    return found
        return None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._servers = [_Server(text, self._probe) for text in self._texts]
                self._places = Places(_QUESTIONS_A_ZONE)
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(self._loop,), name="resolver", daemon=True)
                thread.start()
                # At the end of the process, or when a reload has replaced this resolver.
                weakref.finalize(self, _end, self._loop, thread, self._pid, self._servers)
            return self._loop

    async def _answer(self, owner: str, rdtype: int) -> DNSAnswer:
        """The answer; the question waits its turn among those of its zone."""
        turn = Turn(owner, asyncio.get_running_loop().create_future())
        answered = False
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                if not self._places.take(turn):
                    await turn.item
                answer = await self._definite_answer(owner, rdtype)
            answered = answer.status is not DNSSECStatus.UNREACHABLE
        except TimeoutError:
            detail = f"no answer in {_GIVE_UP_S:g} s"
            answer = DNSAnswer(owner, type_name(rdtype), DNSSECStatus.UNREACHABLE, detail=detail)
        finally:
            self._give_back(turn, answered=answered)
        return answer

    def _give_back(self, turn: Turn[asyncio.Future[None]], *, answered: bool) -> None:
        turn.gone = True
        if turn.held:
            for following in self._places.free(turn, answered=answered):
                if not following.item.done():  # otherwise it was given up, and will give its place back
                    following.item.set_result(None)

    async def _definite_answer(self, owner: str, rdtype: int) -> DNSAnswer:
        """The first definite answer.  If a nameserver fails, does not validate or is slow, asks the next one too.  A
        bogus answer is definite, since asking on until somebody is less strict would defeat validation."""
        tasks: list[asyncio.Task[DNSAnswer]] = []
        servers = list(self._servers)
        try:
            while servers or not all(task.done() for task in tasks):
                if servers:
                    tasks.append(asyncio.ensure_future(servers.pop(0).answer(owner, rdtype)))
                pending = [task for task in tasks if not task.done()]
                patience_s = _HEDGE_S if servers else None
                await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                if definite := _definite(tasks):
                    return definite
            return max((task.result() for task in tasks), key=_telling)
        finally:
            for task in tasks:
                task.cancel()


def _definite(tasks: list[asyncio.Task[DNSAnswer]]) -> DNSAnswer | None:
    """An answer that no other nameserver could change."""
    answers = [task.result() for task in tasks if task.done()]
    return next((a for a in answers if a.status not in (_INDETERMINATE, DNSSECStatus.UNREACHABLE)), None)


def _telling(answer: DNSAnswer) -> tuple[bool, bool]:
    """Which of the answers that are not definite says most."""
    return answer.status is _INDETERMINATE, not answer.is_ours


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int, servers: list[_Server]) -> None:
    """Cancels what is under way and ends the thread.  Does nothing in a forked child, since both are the parent's.

    The servers keep their connections alive until all is cancelled, which is after this has returned if the thread
    itself calls it: asyncio refers to their readers weakly, so they and their tasks would be collected before.
    """
    if pid != os.getpid():
        return

    async def cancel() -> None:
        while tasks := asyncio.all_tasks(loop) - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        servers.clear()
        loop.call_soon(loop.stop)

    asyncio.run_coroutine_threadsafe(cancel(), loop)
    if thread is not threading.current_thread():
        thread.join(_LAST_WORDS_S)


class _Server:
    """One nameserver: its connections, and the proof that it validates."""

    def __init__(self, text: str, probe: str) -> None:
        address, self._port = nameserver(text)
        if not address.is_loopback:
            raise ValueError(f"{text} is not on loopback; its AD bit could be forged on the way")
        self._host = str(address)
        self.name = f"{self._host}@{self._port}"
        self._connections: list[_Connection] = []
        self._unsigned: dict[dns.name.Name, float] = {}
        zone = dns.name.from_text(probe)
        self._proof = Proof(zone, self)
        self._root = self._proof if zone == dns.name.root else Proof(dns.name.root, self)

    async def answer(self, owner: str, rdtype: int) -> DNSAnswer:
        """The answer to one question, with its status; UNREACHABLE if this server does not answer."""
        kind = dns.rdatatype.RdataType(rdtype)
        try:
            response = await self._asked(dns.name.from_text(owner), kind)
            answer = read(response, owner, rdtype)
        except FAILURES as error:
            detail = f"{self.name}: {error or type(error).__name__}"
            return DNSAnswer(owner, type_name(rdtype), DNSSECStatus.UNREACHABLE, detail=detail, is_ours=True)
        answer = replace(answer, proven_by=f"{_PROOFS.get(answer.status, 'the answer')} of {self.name}")
        if answer.status is DNSSECStatus.UNREACHABLE and (doubt := await self._proof.doubt()):
            # It answers SERVFAIL, to the probe as well: it reaches nobody, and the domain's servers are not to blame.
            return replace(answer, detail=doubt, is_ours=True)
        if answer.status is DNSSECStatus.SECURE:
            self._proof.proven_at = time.monotonic()
        if answer.status is DNSSECStatus.INSECURE and (doubt := await self._not_unsigned(response, owner)):
            return DNSAnswer(owner, answer.rdtype, DNSSECStatus.INDETERMINATE, detail=doubt)
        return answer

    async def doubt(self) -> str:
        """Why this server is not proven to validate, "" if it is."""
        return await self._proof.doubt()

    async def _not_unsigned(self, response: dns.message.Message, owner: str) -> str:
        """Why an answer without the AD bit does not prove that its zone is unsigned, "" if it does."""
        if doubt := await self._proof.doubt():
            return doubt
        if not dns.name.from_text(owner).is_subdomain(self._proof.zone) and (doubt := await self._root.doubt()):
            return doubt
        zone = apex(response)
        if is_own(response):
            answered = f"the resolver's own answer (AA bit) of {self.name}"
            return await self._perhaps_signed(zone, answered) if zone else f"{answered}, which names no zone"
        if zone is None and not response.answer:
            return await self._perhaps_signed(above(response), f"an answer without a zone by {self.name}")
        return ""

    async def _perhaps_signed(self, zone: dns.name.Name, answered: str) -> str:
        """Why it is not proven that a zone is unsigned, "" if it is.  Goes up from the zone's name until it finds a
        delegation whose parent proves it unsigned.  ``answered`` describes the answer in doubt."""
        now = time.monotonic()
        if now - self._unsigned.get(zone, float("-inf")) < _UNSIGNED_LASTS_S:
            return ""
        name = zone
        try:
            for _ in range(_MOST_LABELS):
                if name == dns.name.root or not proves_unsigned(response := await self._asked(name, dns.rdatatype.DS)):
                    break
                is_signed = response.flags & dns.flags.AD and (
                    (await self._asked(name, dns.rdatatype.SOA)).flags & dns.flags.AD
                )
                if not is_signed:
                    if len(self._unsigned) >= _MOST_UNSIGNED:
                        self._unsigned.clear()
                    self._unsigned[zone] = now
                    return ""
                name = name.parent()
        except FAILURES as error:
            return f"{answered}, and asking for DS of {name} failed: {error or type(error).__name__}"
        return f"{answered}, though {zone} may be signed, or its parent does not know it"

    async def _asked(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        flags = dns.flags.RD | dns.flags.AD
        return await self.exchange(dns.message.make_query(name, kind, use_edns=0, payload=1232, flags=flags))

    async def exchange(self, query: dns.message.Message) -> dns.message.Message:
        """Sends a query.  If a connection fails (the server may have closed it), tries again on a newer one.  A
        server that closes the connection after each answer also cuts off the other questions on it, so a closed
        connection gets more attempts than other failures."""
        failed: _Connection | None = None
        for attempt in range(_ATTEMPTS):
            connection = self._connection(failed)
            try:
                return await connection.exchange(query)
            except (OSError, EOFError) as error:
                is_closed = isinstance(error, (EOFError, ConnectionError))
                if attempt + 1 >= (_ATTEMPTS if is_closed else 2):
                    raise
                failed = connection
        raise AssertionError("every attempt returns or raises")

    def _connection(self, failed: _Connection | None = None) -> _Connection:
        """The least busy connection, or a new one if all are full; takes a place on it for one question."""
        self._connections = [c for c in self._connections if not c.closed]
        younger = [c for c in self._connections if failed is None or c.made_at > failed.made_at]
        usable = min(younger, key=lambda c: c.taken, default=None)
        full = usable is not None and usable.taken >= _QUESTIONS_A_CONNECTION
        if usable is None or (full and len(self._connections) < _CONNECTIONS):
            usable = _Connection(self._host, self._port, self._lost)
            self._connections.append(usable)
        usable.taken += 1
        return usable

    def _lost(self) -> None:
        self._proof.proven_at = self._root.proven_at = float("-inf")
        self._unsigned.clear()


class _Connection:
    """One persistent TCP connection; answers come in any order (RFC 7766 section 6.2.1.1)."""

    def __init__(self, host: str, port: int, lost: Callable[[], None]) -> None:
        """Begins to connect; ``lost`` is called when the connection has ended."""
        self._pid = os.getpid()
        self.made_at = time.monotonic()
        self.taken = 0
        self.closed = False
        self._lost = lost
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = secrets.randbelow(0x10000)
        self._transport: asyncio.WriteTransport | None = None
        self._opening = asyncio.ensure_future(self._open(host, port))
        # The waiting question may be gone by then, and asyncio prints exceptions that nobody retrieves.
        self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _open(self, host: str, port: int) -> None:
        """Opens the connection without open_connection: Python 3.13 closes its StreamWriter at garbage collection, and
        in a forked child that would take the socket out of the selector that it shares with the parent."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                self._transport, _ = await loop.create_connection(lambda: protocol, host, port)
        except BaseException:
            self.closed = True
            raise
        self._reading = asyncio.ensure_future(self._read(reader))

    async def exchange(self, query: dns.message.Message) -> dns.message.Message:
        """Sends one query, whose place was taken before; returns the checked response (RFC 5452 section 9.1)."""
        try:
            await asyncio.shield(self._opening)
            return await self._exchange(query)
        finally:
            self.taken -= 1

    async def _exchange(self, query: dns.message.Message) -> dns.message.Message:
        if self.closed or self._transport is None or self._transport.is_closing():
            raise EOFError("the connection is closed")
        query.id = self._free_id()
        wire = query.to_wire()
        future = self._waiting[query.id] = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(len(wire).to_bytes(2) + wire)
            raw = await future
        finally:
            self._waiting.pop(query.id, None)
        return parsed(raw, query)

    def _free_id(self) -> int:
        while True:
            self._next_id = (self._next_id + 1) & 0xFFFF
            if self._next_id not in self._waiting:
                return self._next_id

    def _acknowledge_at_once(self) -> None:
        """unbound leaves Nagle's algorithm on, so its second answer waits for our ACK of the first.  Linux delays that
        ACK by 40 ms unless told not to, each time anew (tcp(7), TCP_QUICKACK)."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is not None and hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._acknowledge_at_once()
                size = int.from_bytes(await reader.readexactly(2))
                raw = await reader.readexactly(size)
                future = self._waiting.get(int.from_bytes(raw[:2]))
                if future is not None and not future.done():
                    future.set_result(raw)
        except (OSError, EOFError):
            pass
        finally:
            self._close()

    def _close(self) -> None:
        if self._pid != os.getpid():  # garbage collection in a forked child; socket and selector are the parent's
            return
        self.closed = True
        self._lost()
        if self._transport is not None:
            self._transport.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EOFError("the nameserver closed the connection"))
