"""A name server that plays the validating resolver on loopback: every answer carries the AD bit, any may come late.

TCP only, as smilla asks.  Answers are octets, made once; what is not known is NXDOMAIN with a SOA record, so that its
absence can be remembered (RFC 2308 section 5).  It runs in a thread of the benchmark, which has nothing else to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SMIMEA, OPENPGPKEY, SOA = 53, 61, 6
_TTL_S = 3600
_FLAGS = 0x81A0  # a response, recursion desired and available, authenticated
_NXDOMAIN = 3
_SOA_RDATA = b"\0\0" + struct.pack("!IIIII", 1, 3600, 600, 86400, _TTL_S)


def owner(address: str, rdtype: int) -> str:
    """The owner name of an address's records (RFC 7929 section 3, RFC 8162 section 3), without the final dot."""
    local, _, domain = address.rpartition("@")
    label = hashlib.sha256(local.encode()).hexdigest()[:56]
    return f"{label}.{'_smimecert' if rdtype == SMIMEA else '_openpgpkey'}.{domain}"


class Stub:
    """``delay`` gives the seconds by which the answer to a question for an owner name comes late; None is never.
    ``at_once`` is how many questions of one connection may be without an answer before no further one is read; 0 is any
    number."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], bytes] = {}
        self.delay: Callable[[str], float | None] = lambda name: 0.0
        self.asked = self.at_once = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stub", daemon=True)

    @property
    def address(self) -> str:
        """As [dns] nameservers has it."""
        return f"127.0.0.1@{self.port}"

    def publish(self, address: str, *, certificate: bytes = b"", key: bytes = b"") -> None:
        """The records of an address: a certificate in DER (usage 3, whole), or a binary OpenPGP key."""
        if certificate:
            self.records[owner(address, SMIMEA), SMIMEA] = b"\x03\x00\x00" + certificate
        if key:
            self.records[owner(address, OPENPGPKEY), OPENPGPKEY] = key

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        server.close()
        self._loop.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unanswered = 0
        try:
            while not self.at_once or unanswered < self.at_once:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                query = await reader.readexactly(size)
                self.asked += 1
                name, rdtype, end = _question(query)
                delay_s = self.delay(name)
                if delay_s is None:
                    unanswered += 1
                    continue
                answer = _answer(query, end, rdtype, self.records.get((name, rdtype)))
                self._loop.call_later(delay_s, _send, writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    if not writer.is_closing():
        writer.write(struct.pack("!H", len(answer)) + answer)


def _question(query: bytes) -> tuple[str, int, int]:
    """The owner name in lower case, the type, and where the question ends."""
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    (rdtype,) = struct.unpack("!H", query[at + 1 : at + 3])
    return ".".join(labels), rdtype, at + 5


def _answer(query: bytes, end: int, rdtype: int, rdata: bytes | None) -> bytes:
    if rdtype == SOA:
        rdata = _SOA_RDATA
    found = rdata is not None
    head = query[:2] + struct.pack("!HHHHH", _FLAGS | (0 if found else _NXDOMAIN), 1, int(found), int(not found), 0)
    record = rdata if rdata is not None else _SOA_RDATA
    kind = rdtype if found else SOA
    name = b"\xc0\x0c" if found else b"\x00"
    return head + query[12:end] + name + struct.pack("!HHIH", kind, 1, _TTL_S, len(record)) + record
