"""What an SMTP client says of itself and of others, and the content, so that nothing in it can end a command."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator

from smilla.errors import ReinjectError

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SMUGGLED = re.compile(rb"(?<!\r)\n\.")
_BLANKS = re.compile(r"[\x00-\x20\x7f-\x9f]+")


def own_name() -> str:
    """The name for EHLO: the machine's, if it has a domain."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else "localhost"


def bare_address(raw: str) -> str:
    """Without brackets and source route (RFC 5321 appendix C).  Raises ReinjectError if it could end a command."""
    bare = raw.strip().removeprefix("<").removesuffix(">").strip(" ")
    if bare.startswith("@"):
        bare = bare.partition(":")[2]
    if re.search(r"[\x00-\x1f\x7f]", bare) or (_CONTROL.search(bare) and not bare.startswith('"')):
        raise ReinjectError("an address contains a forbidden character")
    return bare


def xtext(value: str) -> str:
    """As in RFC 3461 section 4; [UNAVAILABLE] for a value that is unknown or unsuitable."""
    if not value or len(value) > 255 or not value.isascii():
        return "[UNAVAILABLE]"
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value)


def shown(code: int, text: bytes) -> str:
    """A reply in one line, however many it had: what we say of it to others is one line, too."""
    return _BLANKS.sub(" ", f"{code} {text.decode('utf-8', 'replace')}")[:300].rstrip()


def stuffed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Doubles leading dots, also across blocks (RFC 5321 section 4.5.2), and adds a line end if the last is missing.

    Raises ReinjectError for a dot after a bare line feed: some servers take it for the end of the message and the rest
    for commands (SMTP smuggling), and others would not undo the doubling.
    """
    last = b"\r\n"
    for block in blocks:
        if not block:
            continue
        if _SMUGGLED.search(last + block, len(last) - 1):
            raise ReinjectError("a line begins with a dot after a bare line feed, which no server reads safely")
        joined = (last + block).replace(b"\r\n.", b"\r\n..")
        yield joined[len(last) :]
        last = (last + block)[-2:]
    if last != b"\r\n":
        yield b"\r\n"
