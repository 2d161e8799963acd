"""RDATA, in wire form without compression, of the records that lead to a mail server: MX, A, AAAA and TXT (RFC 1035
section 3.3, RFC 3596)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from smilla.errors import ParseError
from smilla.formats import domain_name

A, CNAME, MX, TXT, AAAA, TLSA = 1, 5, 15, 16, 28, 52  # the types' numbers


def exchange(raw: bytes) -> tuple[int, str]:
    """An MX record: its preference, and the host with its final dot.  Raises ParseError."""
    return int.from_bytes(raw[:2]), domain_name.from_wire(raw[2:])


def address(raw: bytes) -> str:
    """An A or AAAA record, as text.  Raises ParseError."""
    if len(raw) not in (4, 16):
        raise ParseError(f"an address of {len(raw)} octets")
    return str(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw))


def text(raw: bytes) -> str:
    """A TXT record: its strings joined, in US-ASCII; other octets are replaced.  Raises ParseError."""
    strings, at = b"", 0
    while at < len(raw):
        end = at + 1 + raw[at]
        if end > len(raw):
            raise ParseError("a TXT record is cut off")
        strings, at = strings + raw[at + 1 : end], end
    return strings.decode("ascii", "replace")
