"""How an encrypted message becomes the very message again that it was, octet for octet.

RFC 5322 does not care for the order of most fields, but whoever compares two copies does; and what lies in a mailbox
need not be well-formed.  ``smilla mailbox encrypt`` writes two fields:

    Content-Smilla-Proof   inside the ciphertext, the last field: a random secret
    X-Smilla-Places        outside: where the Content-* fields stood in the old header (numbers from 0, or ``none``),
                           ``mime-version`` if there was no such field, ``no-empty-line`` if none ended the header, and
                           ``proof``, the HMAC-SHA256 of all that is inside, under the secret

The proof does for a ciphertext without authentication (EnvelopedData) what its tag does for another: whoever changes
the ciphertext knows neither the secret nor all that would then be inside, so can make no proof for it (EFAIL,
CVE-2017-17689, needs just that).  So what is proven is given back as it is, whatever it looks like.  Outside, both
fields tell nobody more than the order.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace

from smilla.copies import rewrap
from smilla.mailbox.change import with_line_ends_of
from smilla.message import ParsedMessage, parse
from smilla.model import Header, Message, Rewrite

FIELD, SECRET = "X-Smilla-Places", "Content-Smilla-Proof"
_STAY = ("bcc", "resent-bcc", rewrap.MARK.lower())  # nobody but the owner sees the mailbox, and they would be lost
_VALUE = re.compile(
    rb"\s*(none|[0-9]{1,4}(?: [0-9]{1,4})*)(; mime-version)?(; no-empty-line)?;\s+proof=([0-9a-f]{64})\s*"
)


def with_secret(message: Message) -> Message:
    """The message that is to be encrypted: with a field at its end that goes inside."""
    default = () if _moved(message.headers) else rewrap.content_fields(message)
    secret = Header(SECRET.encode("ascii"), b" " + secrets.token_hex(16).encode("ascii"))
    return Message((*message.headers, *default, secret), message.body)


def noted(parsed: ParsedMessage, raw: bytes, secret: Message, change: Rewrite) -> Rewrite | None:
    """The change of ``secret``, which is the message with its secret, with the field that is enough to get ``raw`` back
    from what it makes; None if nothing is."""
    message = parsed.message
    kept = tuple(index for index in change.removed if secret.headers[index].name not in _STAY)
    moved = [index for index, header in enumerate(message.headers) if header.name.startswith("content-")]
    value = " ".join(map(str, moved)) or "none"
    if "mime-version" not in message.places:
        value += "; mime-version"
    if not parsed.raw_rest.startswith((b"\r\n", b"\n")):
        value += "; no-empty-line"
    raw_inside = rewrap.inner_head(rewrap.content_fields(secret)) + b"".join(secret.body.blocks())
    value += f";\r\n proof={_proof(secret.headers[-1], raw_inside).decode('ascii')}"
    marked = replace(change, removed=kept, added=(*change.added, (FIELD, value)))
    back = put_back(rewrap.edited(secret, marked), raw_inside)
    return marked if back is not None and with_line_ends_of(parsed, back) == raw else None


def put_back(message: Message, raw_inside: bytes) -> bytes | None:
    """The message as it was before it was encrypted, with CRLF; None unless a field says how, and proves that this was
    inside."""
    fields = [header for header in message.headers if header.name == FIELD.lower()]
    found = _VALUE.fullmatch(fields[-1].raw_value) if fields else None
    inner = parse(raw_inside).message
    if found is None or not inner.headers or inner.headers[-1].name != SECRET.lower():
        return None
    if not hmac.compare_digest(_proof(inner.headers[-1], raw_inside), found[4]):
        return None
    numbers = [] if found[1] == b"none" else [int(word) for word in found[1].split()]
    moved = _moved(inner.headers[:-1])
    if numbers and (len(numbers) != len(moved) or numbers != sorted(set(numbers))):
        return None
    headers = [header for header in message.headers if not header.name.startswith("content-")]
    for name in (FIELD, rewrap.MARK, *(("mime-version",) if found[2] else ())):
        headers = _without_last(headers, name.lower())
    for number, header in zip(numbers, moved, strict=False):
        headers.insert(number, header)
    empty_line = b"" if found[3] else b"\r\n"
    back = b"".join(header.raw for header in headers) + empty_line + b"".join(inner.body.blocks())
    # Whoever wrote the ciphertext wrote the proof, too: nothing that was inside may become a field of the header.
    return back if len(parse(back).raw_fields) == len(headers) else None


def _moved(headers: Iterable[Header]) -> list[Header]:
    return [header for header in headers if header.name.startswith("content-")]


def _proof(secret: Header, raw_inside: bytes) -> bytes:
    return hmac.digest(secret.raw_value, raw_inside, "sha256").hex().encode("ascii")


def _without_last(headers: list[Header], name: str) -> list[Header]:
    places = [index for index, header in enumerate(headers) if header.name == name]
    return [header for index, header in enumerate(headers) if not places or index != places[-1]]
