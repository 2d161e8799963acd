"""Values that the tests of policy, copies and reply share: recipients, look-ups and decisions made up by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from smilla.address import parse
from smilla.errors import AddressError
from smilla.keys.validity import pgp, x509
from smilla.model import (
    Action,
    Candidate,
    Classification,
    Copy,
    CopyForm,
    Decision,
    Direction,
    Disposition,
    DNSSECStatus,
    Format,
    KeyLookup,
    KeyVerdict,
    MessageKind,
    Outcome,
    PGPKey,
    Reason,
    Recipient,
    Rewrite,
    X509Key,
)
from tests.vectors.memory import NOW, raw_key

PLAIN = Classification(MessageKind.PLAIN, Reason("plain", "text/plain is not encrypted"))


def recipient(text: str) -> Recipient:
    try:
        return Recipient(f"<{text}>", parse(text))
    except AddressError:
        return Recipient(f"<{text}>", None)


def certificate() -> X509Key:
    candidate = Candidate("directory", "", Format.SMIME, raw_key("hugh.crt"))
    return cast("X509Key", x509.assess(candidate, parse("hugh@example.org"), NOW, require_address=False).key)


def openpgp_key() -> PGPKey:
    candidate = Candidate("directory", "", Format.OPENPGP, raw_key("pia.pgp"))
    terms = pgp.Terms(require_user_id=False)
    return cast("PGPKey", pgp.assess_all([candidate], parse("pia@example.org"), NOW, terms)[0].key)


def lookup(text: str, verdict: KeyVerdict, key: X509Key | PGPKey | None = None, code: str = "") -> KeyLookup:
    reason = Reason(code or verdict.value, f"because {verdict.value}")
    return KeyLookup(parse(text), verdict, reason, key, "smimea", DNSSECStatus.SECURE)


def decision(text: str, action: Action, key: X509Key | PGPKey | None = None, code: str = "because") -> Decision:
    found = lookup(text, KeyVerdict.USABLE, key) if key else None
    return Decision(recipient(text), action, Reason(code, "a sentence"), "rule", found)


def outcome(disposition: Disposition, *copies: Copy, code: str = "ok", blocked_by: tuple[str, ...] = ()) -> Outcome:
    reason = Reason(code, "policy.no_key of /etc/smilla/smilla.toml at 127.0.0.1")
    return Outcome(disposition, (), PLAIN, Direction.OUTBOUND, copies, reason, tuple(map(recipient, blocked_by)))


def copy(form: CopyForm, *recipients: str) -> Copy:
    return Copy(form, tuple(map(recipient, recipients)), Rewrite())


def at(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)
