"""The arguments of the commands of SMTP (RFC 5321) and of Postfix's XFORWARD.  No socket.

What is not as the protocols say is refused, never guessed.  A parameter that the next hop does not offer is refused,
too, since it could not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smilla.errors import ParseError
from smilla.model import Offer

# An extension, and the parameters of MAIL and RCPT that come with it.
_OF_MAIL = {
    "SIZE": "SIZE",  # RFC 1870
    "BODY": "8BITMIME",  # RFC 6152
    "SMTPUTF8": "SMTPUTF8",  # RFC 6531
    "RET": "DSN",  # RFC 3461
    "ENVID": "DSN",
    "AUTH": "AUTH",  # RFC 4954 section 5: says nothing that we pass on
}
_OF_RCPT = {"NOTIFY": "DSN", "ORCPT": "DSN"}
_VALUES = {
    "SIZE": re.compile("[0-9]{1,20}"),
    "BODY": re.compile("7BIT|8BITMIME", re.IGNORECASE),
    "SMTPUTF8": re.compile(""),
    "RET": re.compile("FULL|HDRS", re.IGNORECASE),
}
_LONGEST = 1000  # characters of an address; RFC 5321 section 4.5.3.1.3 asks for 256 octets
_PATH = re.compile(r"\s*<((?:[^<>\"]|\"(?:[^\"\\]|\\.)*\")*)>((?:\s+\S+)*)\s*", re.DOTALL)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^=\s]+))?")
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_UNKNOWN = ("", "[UNAVAILABLE]", "[TEMPUNAVAIL]")
FORWARDED = ("NAME", "ADDR", "PROTO", "HELO", "SOURCE", "PORT", "IDENT")


class CommandRefused(ParseError):
    """A command that gets this reply."""

    def __init__(self, code: str, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = code, enhanced, text


def mail(rest: str, offer: Offer) -> tuple[str, tuple[str, ...]]:
    """The envelope sender, without brackets, and the parameters.  Raises CommandRefused."""
    sender, parameters = _path(rest, "FROM:", _OF_MAIL, offer)
    if 0 < offer.size_limit < _size(parameters):
        raise CommandRefused("552", "5.3.4", "The message is larger than the next hop takes")
    if not sender.isascii() and not is_utf8(parameters):
        raise CommandRefused("550", "5.6.7", "Such an address needs SMTPUTF8")
    return sender, parameters


def rcpt(rest: str, offer: Offer, *, utf8: bool) -> tuple[str, tuple[str, ...]]:
    """A recipient, without brackets, and the parameters; ``utf8``: MAIL had SMTPUTF8.  Raises CommandRefused."""
    recipient, parameters = _path(rest, "TO:", _OF_RCPT, offer)
    if not recipient.strip():
        raise CommandRefused("501", "5.1.3", "A recipient without an address")
    if not recipient.isascii() and not utf8:
        raise CommandRefused("553", "5.6.7", "Such an address needs SMTPUTF8 at MAIL")
    return recipient, parameters


def is_utf8(parameters: Iterable[str]) -> bool:
    """Is SMTPUTF8 among the parameters of MAIL?"""
    return any(parameter.upper() == "SMTPUTF8" for parameter in parameters)


def xforward(rest: str) -> dict[str, str]:
    """The attributes in XFORWARD_README's terms, by name in capitals; "" for one that is not known.  Raises
    CommandRefused."""
    found = {}
    for word in rest.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if name not in FORWARDED or not equals or len(value) > 255:
            raise CommandRefused("501", "5.5.4", "XFORWARD is not as it should be")
        text = _XTEXT.sub(lambda match: chr(int(match[1], 16)), value)
        found[name] = "" if text.upper() in _UNKNOWN or not text.isprintable() else text
    return found


def _path(rest: str, begin: str, known: dict[str, str], offer: Offer) -> tuple[str, tuple[str, ...]]:
    found = _PATH.fullmatch(rest[len(begin) :]) if rest[: len(begin)].upper() == begin else None
    if found is None or len(found[1]) > _LONGEST:
        raise CommandRefused("501", "5.5.4", f"Write {begin}<address>")
    parameters = tuple(found[2].split())
    names = set[str]()
    for parameter in parameters:
        matched = _PARAMETER.fullmatch(parameter)
        name = matched[1].upper() if matched else ""
        if matched is None or name in names or known.get(name) not in offer.keywords:
            raise CommandRefused("555", "5.5.4", "A parameter that is not offered, or comes twice")
        if (values := _VALUES.get(name)) is not None and not values.fullmatch(matched[2] or ""):
            raise CommandRefused("501", "5.5.4", f"This is no value for {name}")
        names.add(name)
    return found[1], parameters


def _size(parameters: Iterable[str]) -> int:
    return next((int(p.partition("=")[2]) for p in parameters if p[:5].upper() == "SIZE="), 0)
