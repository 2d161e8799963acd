"""From a message and its ciphertext to the message that we hand back: fields removed, fields added, and the new body:
7-bit, CRLF, lines of 76.

The MIME header fields (Content-*) move inside, in their order and with their folding; MIME-Version and all others stay
where they are, untouched.  A message without any Content-* field goes inside as text/plain without a charset: RFC 2045
section 5.2 says what that means, and nobody knows the charset of a body with 8-bit octets.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from smilla.formats.base64_lines import base64_lines
from smilla.formats.covering import covered, room
from smilla.message import MOST_HEADER_FIELDS, MOST_HEADER_OCTETS
from smilla.model import Header, HeaderEdits, Message, Reason, Rewrite

MARK = "X-Smilla"
Encrypt = Callable[[Iterable[bytes], int], Iterator[bytes]]

_MOST_MOVED_FIELDS = 500
LONGEST_FIELD = 60_000  # the milter protocol cuts longer ones
_EMPTY_CR_LINE = re.compile(rb"\r\r(?!\n|\Z)")
_BARE_CR = re.compile(rb"\r(?!\n)")


def problem(message: Message) -> Reason | None:
    """Why a message cannot be handed back whole, None if it can.

    The milter protocol cuts a field at 64 KB, so we would encrypt less than was sent.  Each removed field makes Postfix
    read its queue file once more.  We keep the whole header in memory, so its size needs a limit.  A program that takes
    a bare CR for a line end would find more fields, and a body, inside a field that stays outside.
    """
    octets = sum(len(header.raw_name) + len(header.raw_value) for header in message.headers)
    if len(message.headers) > MOST_HEADER_FIELDS or octets > MOST_HEADER_OCTETS:
        return Reason(
            "header_too_large",
            f"more than {MOST_HEADER_FIELDS} header fields, or than {MOST_HEADER_OCTETS} octets of them",
        )
    moving = [h for h in message.headers if h.name.startswith("content-") or h.name == MARK.lower()]
    if len(moving) > _MOST_MOVED_FIELDS:
        return Reason(
            "too_many_fields", f"{len(moving)} Content-* or {MARK} fields; at most {_MOST_MOVED_FIELDS} are handled"
        )
    if any(len(header.raw_value) > LONGEST_FIELD for header in moving):
        return Reason("field_too_long", f"a Content-* field of more than {LONGEST_FIELD} octets")
    if any(_hides_body(header.raw_value, message) for header in message.headers if b"\r" in header.raw_value):
        return Reason("bare_cr", "a header field with a bare CR, which some programs take for the start of the body")
    return None


def _hides_body(raw_value: bytes, message: Message) -> bool:
    pattern = _EMPTY_CR_LINE if message.body.size else _BARE_CR
    return pattern.search(raw_value) is not None


def unchanged(message: Message) -> Rewrite:
    """The message as it came, minus any mark of ours that came from outside."""
    return Rewrite(removed=_marks(message))


def smime(
    message: Message, encrypt: Encrypt, inside: Sequence[Header] | None = None, *, authenticated: bool = False
) -> Rewrite:
    """application/pkcs7-mime (RFC 8551 sections 3.3 and 3.4); ``encrypt`` makes the DER from the inner octets.
    ``inside`` is their header, if it is more than the content fields."""
    kind = "authEnveloped-data" if authenticated else "enveloped-data"
    added = (
        ("Content-Type", f"application/pkcs7-mime; smime-type={kind}; name=smime.p7m"),
        ("Content-Transfer-Encoding", "base64"),
        ("Content-Disposition", "attachment; filename=smime.p7m"),
        (MARK, "encrypted; format=smime"),
    )

    def body() -> Iterator[bytes]:
        return covered(b"", base64_lines(encrypt(*_inner(message, inside))), room(message.body.blocks()))

    return _rewrite(message, added, body)


def openpgp(message: Message, encrypt: Encrypt, inside: Sequence[Header] | None = None) -> Rewrite:
    """multipart/encrypted (RFC 3156 section 4); ``encrypt`` makes the armour from the inner octets.  ``inside`` is
    their header, if it is more than the content fields."""
    boundary = f"smilla-{secrets.token_hex(16)}"
    added = (
        ("Content-Type", f'multipart/encrypted; protocol="application/pgp-encrypted";\r\n boundary="{boundary}"'),
        (MARK, "encrypted; format=openpgp"),
    )
    head = (
        f"--{boundary}\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"
        f'--{boundary}\r\nContent-Type: application/octet-stream; name="encrypted.asc"\r\n'
        f'Content-Disposition: inline; filename="encrypted.asc"\r\n\r\n'
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def body() -> Iterator[bytes]:
        # The engine starts before anything leaves: if it fails, the message is still untouched.
        armour = encrypt(*_inner(message, inside))
        first = next(armour, b"")
        return chain(covered(head, chain([first], armour), room(message.body.blocks())), [tail])

    return _rewrite(message, added, body)


def _rewrite(message: Message, added: tuple[tuple[str, str], ...], body: Callable[[], Iterator[bytes]]) -> Rewrite:
    if "mime-version" not in message.places:
        added = (("MIME-Version", "1.0"), *added)
    gone = sorted(index for name, places in message.places.items() if goes(name) for index in places)
    return Rewrite(tuple(gone), added, body)


def goes(name: str) -> bool:
    """Must a field of this name not stay outside the ciphertext?  Bcc names somebody whom the other readers must not
    learn about."""
    return name.startswith("content-") or name in (MARK.lower(), "bcc", "resent-bcc")


def combined(rewrite: Rewrite, further: HeaderEdits) -> Rewrite:
    """The rewrite, plus further header edits."""
    if not further.removed and not further.added and not further.inserted:
        return rewrite
    gone = tuple(sorted({*rewrite.removed, *further.removed}))
    inserted = (*further.inserted, *rewrite.inserted)
    return Rewrite(gone, (*further.added, *rewrite.added), rewrite.body, inserted=inserted)


def edited(message: Message, edits: HeaderEdits) -> Message:
    """The message with these changes in its header."""
    if not edits.removed and not edits.added and not edits.inserted:
        return message
    gone = frozenset(edits.removed)
    kept = [header for index, header in enumerate(message.headers) if index not in gone]
    return Message((*map(_header, edits.inserted), *kept, *map(_header, edits.added)), message.body)


def _header(added: tuple[str, str]) -> Header:
    return Header(added[0].encode("ascii"), b" " + added[1].encode("ascii"))


def applied(message: Message, rewrite: Rewrite) -> Iterator[bytes]:
    """The message that a rewrite makes, as octets: the header in one block, then the body in blocks."""
    body = rewrite.body() if rewrite.body is not None else message.body.blocks()
    yield b"".join([*(header.raw for header in edited(message, rewrite).headers), b"\r\n"])
    yield from body


def edits(message: Message, rewrite: Rewrite) -> Iterator[tuple[str, int, str]]:
    """The header edits in libmilter's terms: a field's name, its number among the fields of that name, from 1, and its
    new value, "" to remove it; number 0 adds a field at the end, -1 at the beginning.

    A field that is both removed and added is changed in place, which saves an edit.  The others are deleted from the
    last to the first, since Postfix renumbers them at once and Sendmail does not.  What comes at the beginning comes
    last, since it renumbers too; the last of these first, so that they stand in their order.
    """
    deleted: list[tuple[str, int]] = []
    for index in sorted(set(rewrite.removed)):
        header = message.headers[index]
        deleted.append((header.raw_name.decode("ascii"), 1 + bisect_left(message.places[header.name], index)))
    come = []
    for name, value in rewrite.added:
        places = [place for place in deleted if place[0].lower() == name.lower()]
        if places:
            deleted.remove(places[0])
            yield name, places[0][1], value
        else:
            come.append((name, 0, value))
    yield from ((name, number, "") for name, number in reversed(deleted))
    yield from come
    yield from ((name, -1, value) for name, value in reversed(rewrite.inserted))


def _marks(message: Message) -> tuple[int, ...]:
    return tuple(message.places.get(MARK.lower(), ()))


def content_fields(message: Message) -> tuple[Header, ...]:
    """The fields that move inside, or if there are none, the default of RFC 2045 section 5.2."""
    fields = tuple(header for header in message.headers if header.name.startswith("content-"))
    return fields or (Header(b"Content-Type", b" text/plain"),)


def inner_head(inside: Iterable[Header]) -> bytes:
    """The header of the encrypted content, up to and including its empty line."""
    return b"".join(header.raw for header in inside) + b"\r\n"


def _inner(message: Message, inside: Sequence[Header] | None) -> tuple[Iterator[bytes], int]:
    """The content to encrypt, in blocks, and its length in octets.  Its header is built on demand and not kept:
    otherwise each copy would hold one."""
    head = inner_head(inside or content_fields(message))
    return chain([head], message.body.blocks()), len(head) + message.body.size
