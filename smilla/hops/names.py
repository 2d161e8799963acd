"""Names of hosts against the patterns of certificates and MTA-STS policies."""

from __future__ import annotations


def fits(pattern: str, host: str) -> bool:
    """Is the host, in A-labels, the pattern's?  ``*`` stands for exactly one label, the first, and for nothing less
    (RFC 6125 section 6.4.3, RFC 8461 section 4.1)."""
    pattern, host = _plain(pattern), _plain(host)
    if not pattern.startswith("*."):
        return bool(pattern) and pattern == host and "*" not in pattern
    label, dot, rest = host.partition(".")
    return bool(label and dot) and rest == pattern[2:] and "." in rest


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
