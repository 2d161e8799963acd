"""A zone-file fragment for $INCLUDE: one line a record, each of smilla's making; other lines stay as they are."""

from __future__ import annotations

from smilla.errors import ParseError
from smilla.records.record import TYPES, Record

_HEAD = "; Records of smilla, for $INCLUDE. Raise the zone's serial when this file changes.\n"


def with_record(text: str, record: Record, ttl_s: int) -> str:
    """The fragment where the records of this owner and type are replaced by one.  Raises ParseError."""
    return (without(text, record.owner, record.rdtype) or _HEAD) + record.line(ttl_s=ttl_s) + "\n"


def without(text: str, owner: str, rdtype: int) -> str:
    """The fragment without the records of this owner and type.  Raises ParseError."""
    # No splitlines(): a form feed, for one, ends no line of a zone file, and may stand in a comment.
    kept = [line for line in text.removesuffix("\n").split("\n") if not _is_of(line, owner, rdtype)]
    return "".join(f"{line}\n" for line in kept) if any(kept) else ""


def _is_of(line: str, owner: str, rdtype: int) -> bool:
    """Does the line hold such a record?  One over several lines, or without its full owner name, cannot be told."""
    code = line.partition(";")[0]
    words = code.split()
    if not words or words[0].startswith("$"):
        return False
    if "(" in code or ")" in code or code[0].isspace():
        raise ParseError(
            f"holds a line that smilla did not write, and cannot replace anything beside it: {line[:60]!r}"
        )
    is_type = TYPES[rdtype] in map(str.upper, words) or f"TYPE{rdtype}" in map(str.upper, words)
    name = words[0].lower()
    if is_type and (name == "@" or owner.lower().startswith(f"{name}.")):
        raise ParseError(f"holds a record under a relative name, perhaps the one to replace: {line[:60]!r}")
    return name == owner.lower() and is_type
