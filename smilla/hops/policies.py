"""MTA-STS policies as a sender keeps them (RFC 8461 sections 3.3, 5.1 and 10): fetched where the TXT record has a new
id, remembered for max_age, also over restarts, and fetched anew while they are used.

Promises: a policy that is remembered and has not expired applies whatever happens to the TXT record and the web server;
only a policy that was fetched takes its place, also one with mode none.  Where a fetch has failed, the same id is not
tried again for five minutes.

Where the RFC leaves a choice:

* A policy is announced and cannot be fetched, and none is remembered.  The RFC says to send as if there were none, and
  most senders do.  Here nobody knows: UNREACHABLE, or UNCLEAR if the web server gave something that is no policy.
* A TXT record that cannot be read is no record (section 3.1 says so, with MUST).
* No policy is announced, and what is remembered cannot be read.  Somebody may withhold the record, which is what the
  memory is for (section 10.2): UNREACHABLE, until the store can be read or is removed.
* The web server may be anywhere.  A stranger can so have us connect to port 443 of an address inside our own network,
  also to loopback.  We do not forbid it, as no other sender does: one GET of a fixed path is sent, and only after the
  server has shown a certificate for mta-sts.DOMAIN of an authority in [hop] ca_file.  Nothing that comes back is shown
  to the stranger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from smilla import log_hops
from smilla.errors import FetchError, ParseError, PolicyStoreError
from smilla.hops import mta_sts, mx, rdata
from smilla.hops.mta_sts import Policy
from smilla.hops.mx import State
from smilla.hops.verified import Announced, of_status, policy_unknown
from smilla.model import DNSAnswer, HopVerdict, KeptPolicy
from smilla.value import value

_AGAIN_S = 300  # section 3.3: at most one attempt in five minutes
_REFRESH_S = 86400  # section 3.3 suggests once a day
_MOST_TRIED = 3  # addresses of the web server
_MOST_FETCHES = 96  # at once; the search for hops has more places than that
_BUSY = "too many other policies are being fetched at this moment"
_UNTOLD_TTL_S = 300  # while the record cannot be had, a remembered policy holds for so long without another look
_LIVE_PATIENCE_S = 2.0
_AHEAD_S = 300.0  # clocks that are put right by less are no fault
_MOST_SHOWN = 8192  # octets of a policy whose text is kept with each result; most have a few hundred


@value
class Fetched:
    """What the web server answered."""

    status: int
    media_type: str
    raw: bytes


class Fetch(Protocol):
    """GET https://mta-sts.DOMAIN/.well-known/mta-sts.txt, from the server at one address."""

    def __call__(self, host: str, address: str) -> Fetched:
        """``host`` is mta-sts.DOMAIN.  Raises FetchError."""


class PolicyStore(Protocol):
    """Remembers MTA-STS policies over restarts; all processes share it.  A store that cannot be used is logged, and
    remembers nothing."""

    def recall(self, domain: str) -> KeptPolicy | None:
        """What is remembered of this domain.  Raises PolicyStoreError where that cannot be read, so that nobody knows
        whether there is a policy."""

    def keep(self, domain: str, kept: KeptPolicy) -> None:
        """A policy that was fetched, in place of what was remembered."""

    def failed(self, domain: str, kept: KeptPolicy) -> None:
        """Remembers the attempt that failed (``tried_id`` and what follows), and leaves the policy as it is."""


Ask = Callable[[str, int], DNSAnswer]
Later = Callable[[Callable[[], object]], bool]


class Policies:
    """Finds the policy of a domain.  Safe for any number of threads and processes, as the store is."""

    def __init__(self, store: PolicyStore, fetch: Fetch, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives seconds since 1970."""
        self._store, self._fetch, self._clock = store, fetch, clock
        self._lock = threading.Lock()
        self._refreshing: set[str] = set()
        self._places = threading.BoundedSemaphore(_MOST_FETCHES)

    def find(self, domain: str, ask_txt: Callable[[float], DNSAnswer], ask: Ask, later: Later) -> Announced:
        """The policy in force.  ``ask_txt`` gives the answer about ``_mta-sts.DOMAIN``, after so many seconds at most;
        ``later`` runs something in the background, and says whether there is room.  Who has a policy waits neither for
        a name server nor, more than once, for a web server that is not there."""
        now = self._clock()
        kept, lost = self._recalled(domain, now)
        live = _announced(kept, now) if kept else None
        txt = ask_txt(_LIVE_PATIENCE_S if live is not None else float("inf"))
        wanted, verdict, why = _announcement(txt)
        if not wanted:
            if live is not None:
                return replace(live, steps=(*live.steps, f"remembered, though now: {why}"), ttl_s=_UNTOLD_TTL_S)
            if lost and verdict is HopVerdict.NONE:
                verdict, why = HopVerdict.UNREACHABLE, f"{why}; but {lost}"
            reason = None if verdict is HopVerdict.NONE else policy_unknown(verdict, why)
            return Announced((f"MTA-STS: {why}",), verdict=verdict, reason=reason, ttl_s=txt.ttl_s)
        if live is not None and live.policy_id == wanted:
            if kept is not None and _is_due(kept, live, now):
                self._refresh(domain, wanted, ask, kept, later)
            return replace(live, ttl_s=txt.ttl_s)
        if kept is not None and kept.tried_id == wanted and (live is not None or _was_just_tried(kept, now)):
            if not _was_just_tried(kept, now):
                self._refresh(domain, wanted, ask, kept, later)
            return self._failed(kept, live, txt.ttl_s)
        return self._fetched(domain, wanted, ask, kept, txt.ttl_s)

    def _recalled(self, domain: str, now: float) -> tuple[KeptPolicy | None, str]:
        """What is remembered; and why nobody can know whether that is all, "" if it is.  What was fetched at a time
        that is still to come, since the clock went wrong, counts as fetched now: otherwise it would last too long, and
        not be fetched anew."""
        try:
            kept = self._store.recall(domain)
        except PolicyStoreError as error:
            return None, f"the policies that smilla remembers cannot be read: {error}"
        if kept is None or not kept.raw:
            return kept, ""
        if kept.fetched_at > now + _AHEAD_S:
            kept = replace(kept, fetched_at=now)
            self._store.keep(domain, kept)
        return kept, _damage(kept, now)

    def _refresh(self, domain: str, policy_id: str, ask: Ask, kept: KeptPolicy, later: Later) -> None:
        """Fetches in the background, unless that is under way."""
        with self._lock:
            if domain in self._refreshing:
                return
            self._refreshing.add(domain)

        def work() -> None:
            try:
                self._fetched(domain, policy_id, ask, kept)
            finally:
                self._refreshing.discard(domain)

        if not later(work):
            self._refreshing.discard(domain)

    def _fetched(self, domain: str, policy_id: str, ask: Ask, before: KeptPolicy | None, ttl_s: int = 0) -> Announced:
        """Fetches, and keeps what came or that it failed.  A crowd of web servers that say nothing takes all places for
        this, and none for domains that need no fetch."""
        began_at = self._clock()
        if not self._places.acquire(blocking=False):
            kept = replace(before or KeptPolicy(), tried_id=policy_id, failure=_BUSY, is_unclear=False)
            return self._failed(kept, _announced(kept, began_at), 0)
        try:
            verdict, text, raw = self._get(domain, ask)
        finally:
            self._places.release()
        if verdict is HopVerdict.VERIFIED:
            log_hops.policy_fetched(domain, policy_id, text)
            kept = KeptPolicy(policy_id, raw, began_at)
            self._store.keep(domain, kept)
            announced = _announced(kept, began_at, least_s=1)
            if announced is not None:
                return replace(announced, ttl_s=ttl_s)
        log_hops.policy_not_fetched(domain, policy_id, text)
        kept = replace(
            before or KeptPolicy(),
            tried_id=policy_id,
            tried_at=self._clock(),
            failure=text,
            is_unclear=verdict is HopVerdict.UNCLEAR,
        )
        self._store.failed(domain, kept)
        return self._failed(kept, _announced(kept, self._clock()), ttl_s)

    def _failed(self, kept: KeptPolicy, live: Announced | None, ttl_s: int) -> Announced:
        text = f"the policy with id {kept.tried_id} could not be fetched: {kept.failure}"
        if live is not None:
            return replace(live, steps=(*live.steps, f"remembered, since {text}"), ttl_s=min(ttl_s, _AGAIN_S))
        verdict = HopVerdict.UNCLEAR if kept.is_unclear else HopVerdict.UNREACHABLE
        return Announced((f"MTA-STS: {text}",), verdict=verdict, reason=policy_unknown(verdict, text))

    def _get(self, domain: str, ask: Ask) -> tuple[HopVerdict, str, bytes]:
        """VERIFIED with the policy's octets; UNREACHABLE or UNCLEAR with the reason in words."""
        host = f"mta-sts.{domain}"
        faults, addresses = mx.addresses(domain, host, [ask(f"{host}.", kind) for kind in (rdata.A, rdata.AAAA)])
        if not addresses:
            return HopVerdict.UNREACHABLE, f"{host}: {faults[0].text}", b""
        text = ""
        for address in addresses[:_MOST_TRIED]:
            try:
                found = self._fetch(host, address)
            except FetchError as error:
                text = str(error)
                continue
            finding, policy = mx.policy(domain, found.status, found.media_type, found.raw, ())
            if policy is not None:
                return HopVerdict.VERIFIED, finding.text, found.raw
            is_down = finding.state is State.UNREACHABLE
            return HopVerdict.UNREACHABLE if is_down else HopVerdict.UNCLEAR, finding.text, b""
        return HopVerdict.UNREACHABLE, text, b""


def _announcement(txt: DNSAnswer) -> tuple[str, HopVerdict, str]:
    """The id that the TXT record has; or "", with what that means and why."""
    if verdict := of_status(txt):
        return "", verdict, f"_mta-sts: {txt.detail or verdict.value}"
    try:
        if found := mta_sts.policy_id([rdata.text(raw) for raw in txt.raw_rdata]):
            return found, HopVerdict.NONE, ""
    except ParseError as error:
        return "", HopVerdict.NONE, f"{error}, so there is no policy"
    return "", HopVerdict.NONE, "no _mta-sts record announces a policy, or several do"


def _damage(kept: KeptPolicy, now: float) -> str:
    """Why the policy that was there cannot be read any more; "" if it can, or would have expired."""
    try:
        mta_sts.read(kept.raw)
    except ParseError as error:
        if now < kept.fetched_at + mta_sts.LONGEST_S:
            return f"smilla remembers a policy that cannot be read: {error}"
    return ""


def _was_just_tried(kept: KeptPolicy, now: float) -> bool:
    """A time that is still to come tells nothing: the clock went wrong."""
    return 0 <= now - kept.tried_at < _AGAIN_S


def _announced(kept: KeptPolicy, now: float, least_s: int = 0) -> Announced | None:
    """The policy, if it has not expired; ``least_s``: one that was just fetched is good for this once."""
    if not kept.raw:
        return None
    try:
        policy: Policy = mta_sts.read(kept.raw)
    except ParseError:  # whatever is in the store: it was a policy once
        return None
    left_s = max(least_s, int(kept.fetched_at + policy.max_age_s - now))
    if left_s <= 0:
        return None
    lines = mta_sts.lines(kept.raw) if len(kept.raw) <= _MOST_SHOWN else ()
    step = f"MTA-STS: id {kept.policy_id}, mode {policy.mode.value}, mx {policy.shown or 'none'}, {left_s} s"
    return Announced((step,), policy, kept.policy_id, lines, left_s)


def _is_due(kept: KeptPolicy, live: Announced, now: float) -> bool:
    """Is it time to fetch the policy anew?  Once a day, and sooner if it does not last that long."""
    if live.policy is None or (kept.tried_id == live.policy_id and _was_just_tried(kept, now)):
        return False
    return now - kept.fetched_at > min(_REFRESH_S, live.policy.max_age_s / 2)
