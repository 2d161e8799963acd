"""The Autocrypt field (Autocrypt Level 1, "The Autocrypt Header"): whose key a message offers.

Promises: whatever octets a field has, the answer is an Offer or a ParseError, in time that grows with its length.
"""

from __future__ import annotations

import binascii
import re

from smilla.errors import ParseError
from smilla.value import value

NAME = "Autocrypt"
_LONGEST = 48 * 1024  # octets of a field; the specification asks for less than 10 KiB
_KNOWN = ("addr", "prefer-encrypt", "keydata")
_ATTRIBUTE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=\s*(.*?)\s*", re.DOTALL)
_BLANK = re.compile(r"[ \t\r\n]+")


@value
class Offer:
    """What a field says.  ``addr`` is as written, ``raw_key`` a transferable public key in binary (not judged);
    ``is_mutual``: the sender asks for encryption where both sides can."""

    addr: str
    raw_key: bytes
    is_mutual: bool = False


def read(raw_value: bytes) -> Offer:
    """The offer in a field's value.  An attribute that is not known makes the field invalid, unless its name begins
    with an underscore.  Raises ParseError."""
    if len(raw_value) > _LONGEST:
        raise ParseError(f"an Autocrypt field of more than {_LONGEST} octets")
    try:
        text = raw_value.decode("ascii")
    except UnicodeDecodeError as error:
        raise ParseError("an Autocrypt field that is not ASCII") from error
    attributes = _attributes(text)
    for name in ("addr", "keydata"):
        if not attributes.get(name):
            raise ParseError(f"an Autocrypt field without {name}")
    preference = attributes.get("prefer-encrypt", "nopreference")
    try:
        raw_key = binascii.a2b_base64(_BLANK.sub("", attributes["keydata"]), strict_mode=True)
    except ValueError as error:
        raise ParseError(f"an Autocrypt field whose keydata is not base64: {error}") from error
    return Offer(attributes["addr"], raw_key, preference == "mutual")


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.rstrip("; \t\r\n").split(";"):
        attribute = _ATTRIBUTE.fullmatch(part)
        if attribute is None:
            raise ParseError("an Autocrypt field with a malformed attribute")
        name = attribute[1].lower()
        if name.startswith("_"):
            continue
        if name not in _KNOWN or name in found:
            raise ParseError(f"an Autocrypt field with the attribute {name}, which is unknown or stands twice")
        found[name] = attribute[2]
    return found
