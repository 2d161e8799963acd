"""What a forger, or a careless hand, does to a signed zone file: functions for ``Zone.after_signing``.

A line is ``owner TTL IN TYPE RDATA``, in fields that white space separates; an RRSIG's RDATA is ``type-covered
algorithm labels …`` (RFC 4034 section 3.2).
"""

from __future__ import annotations

import base64
from collections.abc import Callable

Lines = list[str]
Tampering = Callable[[Lines], Lines]


def _of(line: str) -> tuple[str, str, str]:
    """Owner, type and type covered ("" but for an RRSIG) of a line; empty strings for a comment."""
    fields = line.split(None, 5)
    if len(fields) < 5 or line.startswith(";"):
        return "", "", ""
    return fields[0], fields[3], fields[4] if fields[3] == "RRSIG" else ""


def without(*rdtypes: str, owner: str = "") -> Tampering:
    """Drops the records of these types with their signatures, those of one owner alone where it is named."""

    def tamper(lines: Lines) -> Lines:
        return [
            line
            for line in lines
            if not ((not owner or _of(line)[0] == owner) and (_of(line)[1] in rdtypes or _of(line)[2] in rdtypes))
        ]

    return tamper


def without_signatures(*covered: str) -> Tampering:
    """Drops the signatures over records of these types, and leaves the records."""
    return lambda lines: [line for line in lines if _of(line)[2] not in covered]


def broken_signatures(*covered: str) -> Tampering:
    """Changes one bit in the signatures over records of these types."""

    def tamper(line: str) -> str:
        if _of(line)[2] not in covered:
            return line
        head, signature = line.rstrip().rsplit(None, 1)
        raw = bytearray(base64.b64decode(signature))
        raw[-1] ^= 1
        return f"{head} {base64.b64encode(raw).decode()}"

    return lambda lines: [tamper(line) for line in lines]


def replaced(owner: str, rdtype: str, rdata: bytes) -> Tampering:
    """Puts other RDATA under the signature of one record."""

    def tamper(line: str) -> str:
        if _of(line)[:2] != (owner, rdtype):
            return line
        return f"{' '.join(line.split(None, 4)[:4])} \\# {len(rdata)} {rdata.hex()}"

    return lambda lines: [tamper(line) for line in lines]


def copied(rdtype: str, source: str, victim: str) -> Tampering:
    """Gives the records of one type, and their signatures, to another owner; the victim's own are gone.  From a
    wildcard that is a replay: the signature holds (its label count says that it was expanded), the proof is missing."""

    def tamper(lines: Lines) -> Lines:
        kept = without(rdtype, owner=victim)(lines)
        taken = [line for line in lines if _of(line)[0] == source and rdtype in _of(line)[1:]]
        return kept + [victim + line[len(source) :] for line in taken]

    return tamper


def also(*steps: Tampering) -> Tampering:
    """One after the other."""

    def tamper(lines: Lines) -> Lines:
        for step in steps:
            lines = step(lines)
        return lines

    return tamper
