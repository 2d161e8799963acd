"""What the laboratory, as the judge, expects to find inside an encrypted message.  Shares no code with smilla."""

from __future__ import annotations

import re

_FIELD = re.compile(rb"[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def inside(message: bytes) -> bytes:
    """The octets that are encrypted: the Content-* fields in their order, an empty line and the body; where there is
    no such field, what RFC 2045 section 5.2 takes for granted stands for them."""
    header, _, body = message.partition(b"\r\n\r\n")
    fields = _FIELD.findall(header + b"\r\n")
    moved = [field for field in fields if field.lower().startswith(b"content-")]
    return b"".join(moved or [b"Content-Type: text/plain\r\n"]) + b"\r\n" + body


def rejoined(arrived: bytes, inner: bytes) -> bytes:
    """The message as its reader has it after decryption: the header that stayed outside, and what was inside, with its
    MIME fields."""
    fields = _FIELD.findall(arrived.partition(b"\r\n\r\n")[0] + b"\r\n")
    return b"".join(field for field in fields if not field.lower().startswith((b"content-", b"x-smilla:"))) + inner


def header_fields(message: bytes, *names: str) -> list[bytes]:
    """The header fields of these names, in order, folding included, without the final line end."""
    wanted = {name.lower().encode() for name in names}
    header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
    fields = _FIELD.findall(header)
    return [field.removesuffix(b"\r\n") for field in fields if field.partition(b":")[0].rstrip().lower() in wanted]


def added_by_mta(arrived: bytes, sent: bytes) -> bytes | None:
    """What stands before the message that was sent: trace fields, mostly; None where the message was changed."""
    return arrived.removesuffix(sent) if arrived.endswith(sent) else None
