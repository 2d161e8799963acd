"""MTA-STS policies (RFC 8461): the TXT record that announces one, the policy's text, and the MX hosts it allows.

"No policy" is only what the RFC calls so: no record, or several.  A policy that cannot be read raises ParseError; what
that means is the caller's concern (a sender goes on with the policy that it remembers, section 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from smilla.errors import ParseError
from smilla.hops.names import fitting, plain
from smilla.value import value

LARGEST = 64 * 1024  # octets of a policy (section 3.2)
LONGEST_S = 31557600  # max_age
_RECORD = re.compile(r"v=STSv1[ \t]*;(.*)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_MOST_MX = 1000
_SHOWN, _SHOWN_CHARACTERS = 10, 100


class Mode(StrEnum):
    """What a sender does where no MX host of the policy is valid (section 5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@value
class Policy:
    """``mx`` are patterns; ``max_age_s`` is how long a sender may keep it."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int

    def allows(self, host: str) -> bool:
        """Does a pattern fit this MX host, in A-labels (section 4.1)?"""
        return bool(self.allowed((host,)))

    def allowed(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Those of these MX hosts that a pattern allows; a thousand patterns and as many hosts cost no more than their
        sum."""
        known = frozenset(map(plain, self.mx))
        return tuple(host for host in hosts if not known.isdisjoint(fitting(host)))

    def forbidden(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """The MX hosts that no pattern allows; none with mode none."""
        if self.mode is Mode.NONE:
            return ()
        allowed = frozenset(self.allowed(hosts))
        return tuple(host for host in hosts if host not in allowed)

    @property
    def shown(self) -> str:
        """The patterns, for people: the first ones."""
        return ", ".join(pattern[:_SHOWN_CHARACTERS] for pattern in self.mx[:_SHOWN])


def policy_id(texts: Sequence[str]) -> str:
    """The id in the TXT records of ``_mta-sts.DOMAIN``, each with its strings joined; "" if no policy is announced (no
    record of this version, or several).  Raises ParseError for a record without a good id (section 3.1)."""
    found = [match for text in texts if (match := _RECORD.fullmatch(text))]
    if len(found) != 1:
        return ""
    fields = [field.strip(" \t") for field in found[0][1].split(";")]
    ids = [field.partition("=")[2] for field in fields if field.partition("=")[0] == "id"]
    if len(ids) != 1 or not _ID.fullmatch(ids[0]):
        raise ParseError("the _mta-sts record has no id of 1 to 32 letters and digits")
    return ids[0]


def lines(raw: bytes) -> tuple[str, ...]:
    """The lines of a policy's text that are not empty.  Raises ParseError."""
    try:
        found = raw.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ParseError("the policy is no UTF-8") from error
    return tuple(filter(None, (line.strip(" \t") for line in found)))


def read(raw: bytes) -> Policy:
    """From the text of a policy (section 3.2).  Unknown fields are passed over; of a field that is repeated, other than
    mx, the first counts.  Raises ParseError."""
    if len(raw) > LARGEST:
        raise ParseError(f"the policy has more than {LARGEST} octets")
    fields: dict[str, list[str]] = {}
    for line in lines(raw):
        name, colon, text = line.partition(":")
        if not colon:
            raise ParseError("a line of the policy has no colon")
        fields.setdefault(name.strip(" \t"), []).append(text.strip(" \t"))
    return _policy({name: texts[0] for name, texts in fields.items()}, fields.get("mx", []))


def _policy(first: dict[str, str], mx: list[str]) -> Policy:
    if first.get("version") != "STSv1":
        raise ParseError("the policy's version is not STSv1")
    if first.get("mode") not in list(Mode):
        raise ParseError("the policy's mode is none of enforce, testing and none")
    age = first.get("max_age", "")
    if not re.fullmatch("[0-9]{1,10}", age) or int(age) > LONGEST_S:
        raise ParseError(f"the policy's max_age is no number of seconds up to {LONGEST_S}")
    mode = Mode(first["mode"])
    if (not mx and mode is not Mode.NONE) or len(mx) > _MOST_MX:
        raise ParseError(f"the policy has no mx, or more than {_MOST_MX}")
    return Policy(mode, tuple(mx), int(age))
