"""DNSSEC validation in process, by libunbound (the Debian package libunbound8) through ctypes.

Promises: the same as the other resolver: ``ask`` returns at once, an answer carries one of the five statuses.
libunbound itself knows only secure and bogus; what is neither is called insecure here only where the name lies under
a trust anchor, since above no anchor nothing is proven, and INDETERMINATE otherwise.

The library is loaded and its context made with the first question, after the workers have been forked.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import select
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

from smilla.config import nameserver
from smilla.errors import EngineMissing, SmillaError
from smilla.model import DNSAnswer, DNSSECStatus

_LIBRARY = "libunbound.so.8"
_NOERROR, _NXDOMAIN = 0, 3
_SOA = 6
_TYPES = {_SOA: "SOA", 53: "SMIMEA", 61: "OPENPGPKEY"}
_ANCHOR = re.compile(r"(\S+)\s+(?:\d+\s+)?(?:IN\s+)?(?:\d+\s+)?(?:DNSKEY|DS)\s", re.IGNORECASE)
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}

# "test." would be answered by NXDOMAIN as RFC 6761 asks, but laboratories sign it.  Without the infra options a
# forwarder that stays silent about one domain is given up for all others too, for up to 20 s.
_CONFIGURATION = """\
server:
  module-config: "validator iterator"
  local-zone: "test." nodefault
  do-not-query-localhost: no
  infra-keep-probing: yes
  infra-host-ttl: 0
  msg-cache-size: 4m
  rrset-cache-size: 8m
  val-bogus-ttl: 5
  cache-max-negative-ttl: 300
"""


class _Result(ctypes.Structure):
    """struct ub_result of unbound.h."""

    _fields_ = (
        ("qname", ctypes.c_char_p),
        ("qtype", ctypes.c_int),
        ("qclass", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("len", ctypes.POINTER(ctypes.c_int)),
        ("canonname", ctypes.c_char_p),
        ("rcode", ctypes.c_int),
        ("answer_packet", ctypes.c_void_p),
        ("answer_len", ctypes.c_int),
        ("havedata", ctypes.c_int),
        ("nxdomain", ctypes.c_int),
        ("secure", ctypes.c_int),
        ("bogus", ctypes.c_int),
        ("why_bogus", ctypes.c_char_p),
        ("was_ratelimited", ctypes.c_int),
        ("ttl", ctypes.c_int),
    )


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Result))


def load() -> ctypes.CDLL:
    """The library.  Raises EngineMissing where it is not installed."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineMissing(
            f'[dns] dnssec = "validate" needs {_LIBRARY}: apt-get install libunbound8 ({error})'
        ) from error
    library.ub_ctx_create.restype = ctypes.c_void_p
    library.ub_strerror.restype = ctypes.c_char_p
    library.ub_resolve_async.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        _Callback,
        ctypes.POINTER(ctypes.c_int),
    )
    for name in ("ub_ctx_config", "ub_ctx_set_fwd", "ub_ctx_add_ta_file"):
        getattr(library, name).argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    for name in ("ub_fd", "ub_process"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    library.ub_ctx_async.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.ub_resolve_free.argtypes = (ctypes.POINTER(_Result),)
    library.ub_resolve_free.restype = None
    return library


class ValidatingResolver:
    """A validator in this process, forwarding to ``nameservers`` (ADDRESS or ADDRESS@PORT), iterating without any."""

    def __init__(self, nameservers: Sequence[str], trust_anchor: str, probe: str) -> None:
        """``trust_anchor`` is a file in zone-file form.  Raises SmillaError where it or the library cannot be used."""
        self._nameservers = [nameserver(text) for text in nameservers]
        self._trust_anchor = trust_anchor
        self._anchors = _anchor_names(trust_anchor)
        self._probe = probe.rstrip(".") + "."
        self._library = load()
        self._context: int | None = None
        self._starting = threading.Lock()
        self._waiting: dict[int, tuple[str, int, Future[DNSAnswer]]] = {}
        self._count = 0
        self._callback = _Callback(self._answered)

    def ask(self, owner: str, rdtype: int) -> _Pending:
        """Starts a question and returns at once."""
        future: Future[DNSAnswer] = Future()
        with self._starting:
            self._count += 1
            number = self._count
            self._waiting[number] = (owner, rdtype, future)
            if self._context is None:
                self._context = self._made_context()
                threading.Thread(target=self._run, args=(self._context,), name="validator", daemon=True).start()
        handle = ctypes.c_int()
        code = self._library.ub_resolve_async(
            self._context, owner.encode("ascii"), rdtype, 1, number, self._callback, ctypes.byref(handle)
        )
        if code:
            self._waiting.pop(number, None)
            future.set_result(_unreachable(owner, rdtype, self._words(code)))
        return _Pending(owner, rdtype, future)

    def probe(self, timeout_s: float) -> list[tuple[str, str]]:
        """Asks for the probe: one pair of a name for the validator and what is wrong ("" where it validates)."""
        answer = self.ask(self._probe, _SOA).result(time.monotonic() + timeout_s)
        secure = answer.status is DNSSECStatus.SECURE
        return [("libunbound", "" if secure else f"the probe {self._probe} is {answer.status.value}: {answer.detail}")]

    def _made_context(self) -> int:
        context = self._library.ub_ctx_create()
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
        return int(context)

    def _check(self, code: int, what: str) -> None:
        if code:
            raise SmillaError(f"libunbound: {what}: {self._words(code)}")

    def _words(self, code: int) -> str:
        return bytes(self._library.ub_strerror(code)).decode("ascii", "replace")

    def _run(self, context: int) -> None:
        """The one thread in which answers arrive."""
        descriptor = self._library.ub_fd(context)
        while True:
            select.select([descriptor], [], [])
            self._library.ub_process(context)

    def _answered(self, number: int, code: int, result: Any) -> None:
        waiting = self._waiting.pop(number, None)
        try:
            if waiting is None:
                return
            owner, rdtype, future = waiting
            answer = _unreachable(owner, rdtype, self._words(code)) if code else self._read(owner, rdtype, result[0])
            if future.set_running_or_notify_cancel():
                future.set_result(answer)
        finally:
            if result:
                self._library.ub_resolve_free(result)

    def _read(self, owner: str, rdtype: int, result: _Result) -> DNSAnswer:
        name = _TYPES.get(rdtype, f"TYPE{rdtype}")
        if result.bogus:
            why = (result.why_bogus or b"").decode("ascii", "replace")
            return DNSAnswer(owner, name, DNSSECStatus.BOGUS, detail=why)
        if result.rcode not in (_NOERROR, _NXDOMAIN):
            return _unreachable(owner, rdtype, _RCODES.get(result.rcode, f"RCODE {result.rcode}"))
        if not result.secure and not self._is_under_anchor(owner):
            return DNSAnswer(owner, name, DNSSECStatus.INDETERMINATE, detail="the name is under no trust anchor")
        records: list[bytes] = []
        while result.havedata and result.data[len(records)]:
            records.append(ctypes.string_at(result.data[len(records)], result.len[len(records)]))
        absent = "" if records else f"no {name} record ({'NXDOMAIN' if result.nxdomain else 'NOERROR'})"
        status = DNSSECStatus.SECURE if result.secure else DNSSECStatus.INSECURE
        return DNSAnswer(owner, name, status, tuple(records), 0, max(0, result.ttl), absent)

    def _is_under_anchor(self, owner: str) -> bool:
        name = "." + owner.lower()
        return any(anchor == "." or name.endswith("." + anchor) for anchor in self._anchors)


class _Pending:
    """A question under way."""

    __slots__ = ("_future", "_owner", "_rdtype")

    def __init__(self, owner: str, rdtype: int, future: Future[DNSAnswer]) -> None:
        self._owner, self._rdtype, self._future = owner, rdtype, future

    def result(self, deadline: float) -> DNSAnswer:
        """The answer, or at the deadline (monotonic seconds) one that says UNREACHABLE."""
        try:
            return self._future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            return _unreachable(self._owner, self._rdtype, "no answer before the deadline")


def _unreachable(owner: str, rdtype: int, detail: str) -> DNSAnswer:
    return DNSAnswer(owner, _TYPES.get(rdtype, f"TYPE{rdtype}"), DNSSECStatus.UNREACHABLE, detail=detail)


def _anchor_names(path: str) -> tuple[str, ...]:
    """The owner names of the DNSKEY and DS records in a zone file.  Raises SmillaError where there is none."""
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
