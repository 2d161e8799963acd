"""Owner names of SMIMEA and OPENPGPKEY records.

RFC 8162 section 3 and RFC 7929 section 3: the local part as UTF-8, unquoted, in NFC, is hashed with SHA-256, cut to 28
octets and written in hex; then ``_smimecert`` or ``_openpgpkey``, then the domain.  No lower-casing and no stripping of
``+tags`` or dots ("MUST NOT perform any kind of mapping rules").  What others do: some lower-case first, and find the
keys of people who publish both forms.  What we do: exactly the RFC, with ``try_lowercase`` for the others.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from smilla.model import Reason

SMIMEA, OPENPGPKEY = 53, 61
_LABELS = {SMIMEA: "_smimecert", OPENPGPKEY: "_openpgpkey"}
_LONGEST = 254 - len(f"{'0' * 56}._openpgpkey..")  # RFC 1035 section 2.3.4: 255 octets on the wire

# RFC 6761 and RFC 7686: names that no DNS resolves.  "test." is not here, since laboratories sign it.
_SPECIAL_USE = ("localhost", "invalid", "onion")
# RFC 6762, RFC 8375 and ICANN's choice: names that private DNS resolves and may sign.
_PRIVATE_USE = ("local", "home.arpa", "internal")


@lru_cache(maxsize=4096)
def owner_name(local_part: str, domain: str, rdtype: int) -> str:
    """The absolute owner name; ``local_part`` is unquoted and in NFC, ``domain`` in A-labels."""
    digest = hashlib.sha256(local_part.encode("utf-8")).digest()[:28]
    return f"{digest.hex()}.{_LABELS[rdtype]}.{domain}."


@lru_cache(maxsize=4096)
def not_asked(domain: str, *, local: bool = False) -> Reason | None:
    """Why we don't ask DNS about this domain, None if we do.  This proves nothing: the mailbox that the MTA delivers to
    may have a key under another name.  ``local``: the domain is in local_domains, so the MTA adds nothing to it."""
    if domain.startswith("["):
        return Reason("address_literal", "an address literal has no DNS name to ask about")
    if len(domain) > _LONGEST:
        return Reason("name_too_long", "a name below this domain would be too long for DNS")
    if name := _under(domain, _SPECIAL_USE):
        return Reason("special_use", f"{name}. is a special-use domain, which DNS does not know")
    if "." not in domain and not local:
        return Reason("single_label", f"{domain} is a single label, which the MTA may complete")
    return None


@lru_cache(maxsize=4096)
def unproven_silence(domain: str) -> Reason | None:
    """Why an empty unsigned answer proves nothing about this domain, None if it does.  Resolvers answer for private
    names from tables of their own (unbound: local-zone), while the MTA may know the real zone."""
    if name := _under(domain, _PRIVATE_USE):
        return Reason("special_use", f"{name}. is for private networks, and this answer about it is not signed")
    return None


def _under(domain: str, names: tuple[str, ...]) -> str:
    """The first of these names that equals the domain or contains it, "" for none."""
    return next((name for name in names if f".{domain}".endswith(f".{name}")), "")
