"""Which recipients share a copy of the message.

Recipients who see each other in To or Cc share one ciphertext if their keys have the same format and it is written in
the same style.  A recipient who is in the envelope but not in To or Cc (a blind copy, a list, an alias) shares a
ciphertext with nobody, so no recipient info or key ID gives them away.  Certificates that need different mechanisms are
kept apart ([smime] separate): an older program may reject any message with a recipient info that it does not know.
Unencrypted copies reveal nothing, so all who get one share it; held mail is kept apart from sent mail.

Two keys that a message would call by the same name never share it: a program looks for its own name (issuer and serial
number, or OpenPGP's key ID) and may try the other key's session key, which it cannot open.  Anybody can publish a
certificate with somebody else's issuer and serial number.  Others put both keys in one message.  OpenPGP keys also
share none if no single engine can encrypt to all of them.

One copy stays in the message that the MTA holds; we remove that message's other recipients.  If a milter removes a
recipient that the MTA cannot find, Postfix and Sendmail say nothing, and that recipient would get this copy too.  They
compare spellings, so we remove only plain spellings; with any other spelling no copy stays, and all are re-injected.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from smilla.address import in_header
from smilla.errors import EncryptionError
from smilla.formats.issuer import comparable
from smilla.model import Action, CopyForm, Decision, KeyLookup, Mechanism, Message, Recipient, Style, X509Key

Group = tuple[CopyForm, tuple[Decision, ...]]

_VISIBLE_FIELDS = ("to", "cc", "resent-to", "resent-cc")
_MOST_OCTETS = 256 * 1024
_ENCRYPTED = (CopyForm.SMIME, CopyForm.OPENPGP)


def visible_recipients(message: Message) -> frozenset[str]:
    """The mailboxes in To, Cc, Resent-To and Resent-Cc, folded for comparison.  We stop after 256 KiB of such fields: a
    recipient who is not found gets a copy of their own, which is the safe side."""
    mailboxes: set[str] = set()
    octets = 0
    for header in message.headers:
        octets += len(header.raw_value) if header.name in _VISIBLE_FIELDS else 0
        if header.name in _VISIBLE_FIELDS and octets <= _MOST_OCTETS:
            mailboxes |= in_header(header.raw_value)
    return frozenset(mailboxes)


def group(decisions: Iterable[Decision], message: Message, *, separate: bool = True) -> list[Group]:
    """The copies owed, in the order of their first recipients: the form of each and the decisions it serves."""
    decided = [(_form(decision), decision) for decision in decisions]
    readers = {mailbox(decision.recipient) for form, decision in decided if form in _ENCRYPTED}
    # If only one recipient gets ciphertext, there is nobody to hide them from.
    visible = visible_recipients(message) if len(readers) > 1 else None
    together: dict[tuple[CopyForm, Style | None, str, str], list[_Shared]] = {}
    made: list[_Shared] = []
    for form, decision in decided:
        private = form in _ENCRYPTED and visible is not None and not _is_visible(decision.recipient, visible)
        alone = mailbox(decision.recipient) if private else ""
        kind, style = _kind(decision, separate), None
        if form in _ENCRYPTED:
            style = _relevant_style(decision.style, kind) if separate else decision.style
        named = _names_of(decision)
        if named is None:
            raise EncryptionError(f"{decision.recipient.shown} and a further reader cannot share a copy")
        candidates = together.setdefault((form, style, kind, alone), [])
        shared = next((each for each in candidates if not _collides(each.names, named)), None)
        if shared is None:
            shared = _Shared(form)
            candidates.append(shared)
            made.append(shared)
        shared.names |= named
        shared.members.append(decision)
    return [(shared.form, tuple(shared.members)) for shared in made]


_Names = dict[Hashable, Hashable]  # from each name to its one bearer in a copy


@dataclass(slots=True)
class _Shared:
    """A copy in the making: who shares it so far, and the names of its readers' keys."""

    form: CopyForm
    members: list[Decision] = field(default_factory=list)
    names: _Names = field(default_factory=dict)


def are_confusable(decision: Decision) -> bool:
    """Must a recipient and their further readers share a copy, although their keys cannot?"""
    return _names_of(decision) is None


def _names_of(decision: Decision) -> _Names | None:
    """The names of all who read one recipient's copy; None if a name has two bearers."""
    if decision.key is None or decision.lookup is None:
        return {}
    names = _names(decision.lookup)
    for reader in decision.readers:
        named = _names(reader)
        if _collides(names, named):
            return None
        names |= named
    return names


def _names(lookup: KeyLookup) -> _Names:
    """Issuer and serial number: two certificates for one key may share them, since it opens either.  Or the key ID (RFC
    9580 section 5.5.4), and the one engine that can encrypt to the key, if there is only one."""
    key = lookup.key
    if isinstance(key, X509Key):
        return {comparable(key.raw_issuer_and_serial): key.public_key}
    if key is None:
        return {}
    subkey = key.encrypts_to or key.fingerprint
    named: _Names = {subkey[-16:] if key.version == 4 else subkey[:16]: subkey}
    return named | {"engine": lookup.engine} if lookup.engine else named


def _collides(these: Mapping[Hashable, Hashable], those: Mapping[Hashable, Hashable]) -> bool:
    """Whether some name has different bearers here and there."""
    return any(these.get(name, bearer) != bearer for name, bearer in those.items())


def _kind(decision: Decision, separate: bool) -> str:
    """What keeps recipients of one form apart: the mechanisms of their keys and of their further readers' keys."""
    if decision.action is Action.HOLD:
        return "held"
    if not separate or not isinstance(decision.key, X509Key):
        return ""
    if not decision.readers:
        return _mechanism(decision.key, decision.style)
    keys = (decision.key, *(reader.key for reader in decision.readers))
    return "+".join(sorted({_mechanism(key, decision.style) for key in keys if isinstance(key, X509Key)}))


def _mechanism(key: X509Key, style: Style) -> str:
    """How the content-encryption key reaches the holder of this key."""
    is_oaep = key.mechanism is Mechanism.RSA and (key.oaep or style.rsa_padding != "pkcs1")
    return "oaep" if is_oaep else key.mechanism.value


@lru_cache(maxsize=64)
def _relevant_style(style: Style, kind: str) -> Style:
    """The style without the fields that do not affect keys of this kind, so that those keep no keys apart."""
    kinds, unset = kind.split("+"), Style()
    has_rsa, has_ec = "rsa" in kinds or "oaep" in kinds, "ec" in kinds
    return replace(
        style,
        rsa_padding=style.rsa_padding if has_rsa else unset.rsa_padding,
        ecdh_kdf=style.ecdh_kdf if has_ec else unset.ecdh_kdf,
    )


def stays(groups: Sequence[Group]) -> int | None:
    """The index of the group that stays with the MTA's message: held mail first, then unencrypted mail, so that we
    don't hand plaintext over again, then the largest.  None if there is no group."""

    def preference(index: int) -> tuple[bool, bool, int]:
        form, members = groups[index]
        return any(d.action is Action.HOLD for d in members), form not in _ENCRYPTED, len(members)

    return max(range(len(groups)), key=lambda index: (*preference(index), -index), default=None)


def removable(removed: Iterable[Recipient], recipients: Sequence[Recipient]) -> bool:
    """Is it certain that the MTA finds each of these recipients, spelled as given, and nobody else with them?

    Not with a source route or blanks, without brackets (sendmail(1)), with a final dot, or beside another spelling of
    the same mailbox, which the MTA may have merged.
    """
    spellings: dict[str, set[str]] = {}
    for recipient in recipients:
        spellings.setdefault(recipient.address.folded if recipient.address else "", set()).add(recipient.raw)
    return all(_is_plain(recipient) and not _has_double(recipient, spellings) for recipient in removed)


def _is_plain(recipient: Recipient) -> bool:
    raw, bare = recipient.raw, recipient.raw[1:-1]
    bracketed = raw.startswith("<") and raw.endswith(">") and not bare.startswith("@") and bare == bare.strip()
    return bracketed and recipient.address is not None and not bare.endswith(".")


def _has_double(recipient: Recipient, spellings: Mapping[str, set[str]]) -> bool:
    """Is there another spelling, or a recipient without an address, who may be anybody?  ``spellings`` are all
    recipients as given, by their folded address, "" for none."""
    folded = recipient.address.folded if recipient.address else ""
    return any(raw != recipient.raw for raw in spellings[folded] | spellings.get("", set()))


def _form(decision: Decision) -> CopyForm:
    """The form that a decision asks for.  Raises EncryptionError if there is none, so that no new kind of decision and
    no lost key can ever fall through to plaintext."""
    if decision.action is Action.ENCRYPT and decision.key is not None:
        return CopyForm(decision.key.format.value)
    if decision.action is Action.UNCHANGED:
        return CopyForm.UNCHANGED
    if decision.action is Action.SECURE_HOP and decision.hop is not None and decision.hop.is_verified:
        return CopyForm.SECURE_HOP
    if decision.action in (Action.PLAIN, Action.HOLD):
        return CopyForm.PLAIN
    raise EncryptionError(f"{decision.action.value} for {decision.recipient.shown} has no form to be delivered in")


def mailbox(recipient: Recipient) -> str:
    """Whom a copy is for.  Two spellings of a domain are one mailbox; two of a local part may be two (RFC 5321 section
    2.4)."""
    address = recipient.address
    return f"{address.local_part}@{address.domain}" if address else recipient.raw


def notice(recipient: Recipient) -> str:
    """The journal's name for the notification about a recipient; no mailbox contains a NUL."""
    return f"\0{mailbox(recipient)}"


def _is_visible(recipient: Recipient, visible: frozenset[str]) -> bool:
    return recipient.address is not None and recipient.address.folded in visible
