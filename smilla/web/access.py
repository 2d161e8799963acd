"""Who may see the status page: the token, sessions in a signed cookie, marks against forged requests, and rates.

Nothing is kept but the ends of sessions and the times of recent attempts: a session is a random name, an instant and a
signature under a key that is made from the token.  So another token ends all sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import deque
from collections.abc import Callable

SESSION_S = 8 * 3600
_NAME_OCTETS = 16
_MOST_ENDED = 1000  # sessions that somebody left before their time


class Rate:
    """At most ``most`` events within ``window_s`` seconds, whoever causes them."""

    def __init__(self, most: int, window_s: float, clock: Callable[[], float]) -> None:
        self._most, self._window_s, self._clock = most, window_s, clock
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Counts an event; False if there were too many, and then it does not count."""
        with self._lock:
            now = self._clock()
            while self._times and self._times[0] <= now - self._window_s:
                self._times.popleft()
            if len(self._times) >= self._most:
                return False
            self._times.append(now)
            return True


class Sessions:
    """Sessions of those who knew the token.  ``clock`` gives seconds since 1970."""

    def __init__(self, token: str, clock: Callable[[], float]) -> None:
        self._token = token.encode()
        self._key = hmac.digest(self._token, b"smilla web session", "sha256")
        self._clock = clock
        self._ended: deque[str] = deque(maxlen=_MOST_ENDED)

    def is_token(self, given: str) -> bool:
        """Is this the token?  Takes equally long for every wrong one."""
        return hmac.compare_digest(_digest(given.encode("utf-8", "replace")), _digest(self._token))

    def begin(self) -> str:
        """The cookie of a new session."""
        facts = f"{secrets.token_hex(_NAME_OCTETS)}.{int(self._clock()) + SESSION_S}"
        return f"{facts}.{self._signed('cookie', facts)}"

    def is_valid(self, cookie: str) -> bool:
        """Is this a cookie of ours, and its time not over?"""
        facts, _, signature = cookie.rpartition(".")
        if not facts or not hmac.compare_digest(signature.encode(), self._signed("cookie", facts).encode()):
            return False
        return int(facts.partition(".")[2]) > self._clock() and facts not in self._ended

    def end(self, cookie: str) -> None:
        """The session is over, though its time is not."""
        if self.is_valid(cookie):
            self._ended.append(cookie.rpartition(".")[0])

    def mark(self, cookie: str) -> str:
        """What a form of this session carries, so that no other page can send it."""
        return self._signed("form", cookie)

    def is_mark(self, cookie: str, given: str) -> bool:
        """Does the form come from this session?"""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.mark(cookie).encode())

    def _signed(self, use: str, facts: str) -> str:
        return hmac.new(self._key, f"{use}:{facts}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()
