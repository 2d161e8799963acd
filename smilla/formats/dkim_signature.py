"""What a DKIM-Signature field says that it covers (RFC 6376 section 3.5).  Whether it holds, the verifier says."""

from __future__ import annotations

import re

from smilla.errors import ParseError
from smilla.value import value

NAME = "DKIM-Signature"
_LONGEST = 16 * 1024
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.DOTALL)
_BLANK = re.compile(r"[ \t\r\n]+")


@value
class Signature:
    """The signing domain and selector in lower case, the signature in base64 without white space, and the names of the
    fields that it covers, in lower case."""

    domain: str
    selector: str
    signature: str
    covers: tuple[str, ...]


def read(raw_value: bytes) -> Signature:
    """The field's value.  Raises ParseError."""
    if len(raw_value) > _LONGEST or not raw_value.isascii():
        raise ParseError("a DKIM-Signature field that is too long or not ASCII")
    tags: dict[str, str] = {}
    for part in raw_value.decode("ascii").rstrip("; \t\r\n").split(";"):
        tag = _TAG.fullmatch(part)
        if tag is None or tag[1] in tags:  # names of tags are case-sensitive (section 3.2)
            raise ParseError("a DKIM-Signature field with a malformed tag, or one that stands twice")
        tags[tag[1]] = _BLANK.sub("", tag[2])
    if missing := [name for name in ("d", "s", "b", "h") if not tags.get(name)]:
        raise ParseError(f"a DKIM-Signature field without {missing[0]}=")
    covers = tuple(name.lower() for name in tags["h"].split(":"))
    return Signature(tags["d"].lower().rstrip("."), tags["s"].lower(), tags["b"], covers)
