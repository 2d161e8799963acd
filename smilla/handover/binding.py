"""The field that binds a copy to a verified hop while it is in the MTA's queue.

The listener of ``secure_smtp`` binds by its content_filter.  postsuper -r forgets that, so the copy also has this
field, and the requeued copy goes back to the stage by it, whatever it says.  The stage hands it to that listener anew,
if the field is ours: a random ID, the ID of a seal key, and HMAC-SHA-256 under a key made from that one (HKDF, RFC
5869), over the ID and the envelope sender.  So a field that a bounce tells to somebody is good for no other sender, and
one that comes from outside is refused.  The transport that knows no clear text takes the field off.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smilla.errors import SealBroken
from smilla.model import Header, Message, Reason
from smilla.ports import SealKey, SealKeyStore

NAME = "X-Smilla-Hop"
_ID_OCTETS = 16
_VALUE = re.compile(rb"\s*([0-9a-f]{32}) ([0-9a-f]{16}) ([0-9a-f]{64})\s*")


def field(sender: str, key: SealKey) -> bytes:
    """A new field for a copy from this envelope sender, with its CRLF."""
    raw_id = secrets.token_bytes(_ID_OCTETS)
    return f"{NAME}: {raw_id.hex()} {key.raw_id.hex()} {_mac(raw_id, sender, key).hex()}\r\n".encode("ascii")


def is_bound(headers: Iterable[Header]) -> bool:
    """Has the message such a field, of whatever content?"""
    return any(header.name == NAME.lower() for header in headers)


def verified_id(headers: Iterable[Header], sender: str, keys: SealKeyStore) -> bytes:
    """The random ID in the one field of a copy of ours.  Raises SealBroken, SealKeyMissing."""
    found = [header.raw_value for header in headers if header.name == NAME.lower()]
    match = _VALUE.fullmatch(found[0]) if len(found) == 1 else None
    if match is None:
        raise SealBroken(f"its {NAME} field is not as we write it, or there are several")
    raw_id, raw_key_id, raw_mac = (bytes.fromhex(part.decode("ascii")) for part in match.groups())
    if not hmac.compare_digest(raw_mac, _mac(raw_id, sender, keys.find(raw_key_id))):
        raise SealBroken(f"its {NAME} field is forged, or was made for another envelope sender")
    return raw_id


def key_ids(headers: Iterable[Header]) -> frozenset[str]:
    """The IDs, in hex, of the seal keys that such fields name."""
    found = (_VALUE.fullmatch(header.raw_value) for header in headers if header.name == NAME.lower())
    return frozenset(match[2].decode("ascii") for match in found if match)


def forged(message: Message) -> Reason | None:
    """Why an incoming message with such a field is refused: only we set it."""
    if NAME.lower() in message.places:
        return Reason("forged_mark", f"it has an {NAME} field, which only this filter may add")
    return None


def _mac(raw_id: bytes, sender: str, key: SealKey) -> bytes:
    secret = HKDF(SHA256(), 32, salt=None, info=b"smilla hop").derive(key.raw)
    return hmac.digest(secret, raw_id + sender.encode("utf-8", "surrogateescape"), "sha256")
