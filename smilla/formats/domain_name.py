"""Domain names in wire form without compression (RFC 1035 section 3.1), as the RDATA of an answer has them."""

from __future__ import annotations

from smilla.errors import ParseError


def from_wire(raw: bytes) -> str:
    """The name with its final dot; RDATA that is one name and nothing else.  Raises ParseError."""
    labels, at = [], 0
    while at < len(raw) and raw[at]:
        end = at + 1 + raw[at]
        label = raw[at + 1 : end]
        if raw[at] > 63 or not label.isascii() or not label.decode("ascii").isprintable() or b"." in label:
            raise ParseError("a domain name with a label that is none of a host's")
        labels.append(label.decode("ascii"))
        at = end
    if at + 1 != len(raw):
        raise ParseError("a malformed domain name")
    return ".".join(labels) + "."
