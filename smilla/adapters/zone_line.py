"""Reads a line of a zone file by dnspython, which did not write it."""

from __future__ import annotations

import dns.exception
import dns.name
import dns.zonefile

from smilla.errors import ParseError


def read(line: str) -> tuple[str, int, bytes]:
    """Owner name with its final dot, type, and RDATA in wire form of a line with one record.  Raises ParseError."""
    try:
        rrsets = dns.zonefile.read_rrsets(line, rdclass=None, default_ttl=0, origin=dns.name.root)
    except (dns.exception.DNSException, ValueError) as error:
        raise ParseError(f"the line is none of a zone file: {error}") from error
    if len(rrsets) != 1 or len(rrsets[0]) != 1:
        raise ParseError("the line does not have one record")
    (rdata,) = rrsets[0]
    return rrsets[0].name.to_text(), int(rrsets[0].rdtype), rdata.to_wire() or b""
