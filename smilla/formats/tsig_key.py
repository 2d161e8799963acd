"""A TSIG key (RFC 8945) from a file in named's format: ``key "name" { algorithm hmac-sha256; secret "…"; };``.

It is what tsig-keygen and keymgr write.  Comments may be in any of named's three forms.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from smilla.errors import ParseError

ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")  # RFC 8945 section 6: MD5 and SHA-1 are for old servers
_COMMENT = re.compile(r'"[^"\n]*"|//[^\n]*|#[^\n]*|/\*.*?\*/', re.DOTALL)
_KEY = re.compile(r'\s*key\s+"?([A-Za-z0-9_.-]{1,253})"?\s*\{([^{}]*)\}\s*;\s*')
_CLAUSE = re.compile(r'\s*(algorithm|secret)\s+"?([^\s";]+)"?\s*;')


@dataclass(frozen=True, slots=True)
class TSIGKey:
    """``name`` as in the file; ``algorithm`` one of ALGORITHMS."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


def parse(text: str) -> TSIGKey:
    """The one key of a file.  Raises ParseError, which never repeats the secret."""
    bare = _COMMENT.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)
    found = _KEY.fullmatch(bare)
    if not found:
        raise ParseError('is not one key as named has it: key "name" { algorithm hmac-sha256; secret "…"; };')
    clauses = dict(_CLAUSE.findall(found[2]))
    if _CLAUSE.sub("", found[2]).strip() or set(clauses) != {"algorithm", "secret"}:
        raise ParseError("the key needs an algorithm and a secret, and nothing else")
    algorithm = clauses["algorithm"].lower().removesuffix(".")
    if algorithm not in ALGORITHMS:
        raise ParseError(f"the algorithm {algorithm} is none of {', '.join(ALGORITHMS)}")
    try:
        secret = base64.b64decode(clauses["secret"], validate=True)
    except ValueError:
        raise ParseError("the secret is not base64") from None
    if len(secret) < 16:
        raise ParseError("the secret has less than 128 bits; make a key with tsig-keygen")
    return TSIGKey(found[1], algorithm, secret)
