"""What is counted, as a class whose methods count nothing; a part of ports.py."""

from __future__ import annotations

from collections.abc import Iterator

from smilla.model import Decision, DNSSECStatus


class Metrics:
    """Counts what happens.  This one counts nothing, for commands and tests; metrics.meter has the other.  Every method
    returns at once and raises nothing."""

    def recipient(self, decision: Decision | None, action: str, reason: str, *, observed: bool = False) -> None:
        """What happened for one recipient: ``action`` is the event of the log, ``reason`` a code.  None if nothing was
        decided."""

    def message(self, code: str, seconds: float) -> None:
        """The end of a message was answered with this SMTP code ("" to accept), after so many seconds."""

    def encrypting(self, form: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks; measures the time spent on making them."""
        return blocks

    def lookup(self, status: DNSSECStatus, seconds: float) -> None:
        """A question to the resolver was answered."""

    def cache(self, *, hit: bool) -> None:
        """A question about DNS was asked, and the answer was remembered or not."""

    def hop(self, way: str, verdict: str) -> None:
        """The search for a verified hop to a domain is over; ``way`` is "" where there is none."""

    def fetch(self, source: str, result: str, seconds: float) -> None:
        """A source over a network other than DNS, or the web server of an MTA-STS policy, was asked.  ``result`` is
        found, absent, unclear or unreachable."""

    def decrypted(self, recipients: int, reason: str, signature: tuple[str, str] = ("", ""), *, observed: bool) -> None:
        """A message for so many recipients with a rule was decrypted (``reason`` is ""), or stays encrypted.
        ``signature`` is the format and the result, if there was one."""

    def gauge(self, name: str, number: float) -> None:
        """A value that goes up and down, of this process: cache_entries, resolvers_proven …"""

    def flush(self, patience_s: float = 0.0) -> bool:
        """Hands on what was counted, before the process ends; the one method that waits, so long at most."""
        return True
