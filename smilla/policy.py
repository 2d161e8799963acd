"""The decision table: ``wanted`` before the look-ups, ``decide`` after them.  Pure: no I/O, no clock.

Directions.  In mode outbound all mail is outbound, in mode inbound all is inbound.  In mode auto a message is
outbound where its client authenticated, came through a listener named ORIGINATING or from one of internal_networks,
and inbound otherwise; mail from here to a recipient here is inbound for that recipient.

Rules.  The first that matches a recipient overrides what it names: whether encryption is wanted at all (encrypt), in
which formats, for which further readers, and what a failure does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from smilla import rules
from smilla.config import Config, Rule
from smilla.model import (
    Action,
    Classification,
    Client,
    Decision,
    KeyLookup,
    KeyVerdict,
    PGPKey,
    Reason,
    Recipient,
    X509Key,
)
from smilla.style import Style, cipher_for

OUTBOUND, INBOUND = "outbound", "inbound"
_ROUTED = Reason(
    "routed_address", "the local part routes the mail on (%, ! or @ within it), so its recipient is not known here"
)
_UNCLEAR = Reason("unclear_address", "it is not written as RFC 5321 says, and the MTA may read it as another address")
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ODD = re.compile(r'[\x00-\x20\x7f()<>,;:\\"]|\.\.|@\.')
_HOST_LITERAL = re.compile(r"\[(?!\d+(?:\.\d+){3}\]|[a-z0-9-]+:)")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What of the envelope and the connection, besides the recipient, rules may ask for."""

    sender: str
    client: Client


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether encryption is wanted for one recipient, in which direction the message goes for them, and the rule that
    matches them (and its number, from 1)."""

    wanted: bool
    direction: str
    reason: Reason
    number: int = 0
    rule: Rule | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats allowed, the preferred one first; () for any."""
        return self.rule.formats if self.rule else ()

    @property
    def also_to(self) -> tuple[str, ...]:
        """Further readers: addresses, or ``sender``."""
        return self.rule.also_to if self.rule else ()

    @property
    def at_rcpt(self) -> bool:
        """Is this recipient to be deferred or refused alone, at RCPT?"""
        return self.rule is not None and self.rule.at_rcpt

    @property
    def encrypt(self) -> str:
        """``require``, ``never`` or "", as the rule says."""
        return self.rule.encrypt if self.rule else ""


def direction(client: Client, config: Config) -> str:
    """The direction of a message as a whole."""
    if config.mode != "auto":
        return config.mode
    return OUTBOUND if is_ours(client, config) else INBOUND


def is_ours(client: Client, config: Config) -> bool:
    """Is the client one of ours: authenticated, through a listener named ORIGINATING, or in internal_networks?"""
    if client.authenticated_as or client.daemon_name.upper() == "ORIGINATING":
        return True
    return rules.is_within(client.ip, config.internal_networks)


def wanted(recipient: Recipient, circumstances: Circumstances, config: Config) -> Wish:
    """Is a key to be looked up for this recipient?  Known at RCPT, before anything of the message has come."""
    case = _case(recipient, circumstances, config)
    number, rule = rules.first(config.rule, case)
    if (unknown := _unknown_destination(recipient)) is not None:
        return Wish(False, case.direction, unknown, number, rule)
    if rule is not None and rule.encrypt == "never":
        return Wish(False, case.direction, Reason("never", f"rule {number} says never"), number, rule)
    if rule is not None and rule.encrypt == "require":
        return Wish(True, case.direction, Reason("wanted", f"rule {number} requires it"), number, rule)
    is_wanted, reason = _wanted_by_mode(recipient, case.direction, config)
    return Wish(is_wanted, case.direction, reason, number, rule)


def _wanted_by_mode(recipient: Recipient, towards: str, config: Config) -> tuple[bool, Reason]:
    domain = _domain(recipient)
    local = rules.is_in(domain, config.local_domains)
    if towards == OUTBOUND:
        if local:
            return False, Reason("local", f"outbound, and {domain} is in local_domains")
        return True, Reason("wanted", "outbound, and not in local_domains")
    if local or recipient.address is None or recipient.address.is_literal:
        return True, Reason("wanted", f"inbound, and {domain or 'without a domain'}: it is local")
    return False, Reason("not_local", f"inbound, and {domain} is not in local_domains")


def _domain(recipient: Recipient) -> str:
    return recipient.address.domain if recipient.address else ""


def _case(recipient: Recipient, circumstances: Circumstances, config: Config) -> rules.Case:
    towards = direction(circumstances.client, config)
    if config.mode == "auto" and rules.is_in(_domain(recipient), config.local_domains):
        towards = INBOUND
    return rules.Case(recipient, circumstances.sender, circumstances.client, towards)


def rule_table(recipient: Recipient, circumstances: Circumstances, config: Config) -> tuple[rules.Checked, ...]:
    """Every rule, whether its conditions hold for this recipient, and the first that does not."""
    return rules.table(config.rule, _case(recipient, circumstances, config))


def hides_destination(recipient: Recipient) -> bool:
    """``user%domain@relay``, ``domain!user`` and ``"user@domain"@relay``: MTAs rewrite these (Postfix's
    allow_percent_hack, swap_bangpath, resolve_dequoted_address), and then deliver to an address that nobody asked
    about.  Whatever is looked up for the text as it stands would be a way around encryption."""
    if recipient.address is not None:
        local_part = recipient.address.local_part
    else:
        text = recipient.raw.strip("<>")
        quoted = text.startswith('"') and text.endswith('"')
        local_part = text if quoted else text.rpartition("@")[0] or text
    return any(sign in local_part for sign in "@%!")


def is_unclear(recipient: Recipient) -> bool:
    """``(x)bob@r.test``, ``b\\ob@r.test``, ``bob @r.test``, ``bob@[r.test]``: no address of RFC 5321 section 4.1.2, but
    MTAs that are liberal in what they accept deliver to bob@r.test, whom nobody asked about."""
    if recipient.address is not None:
        return _HOST_LITERAL.match(recipient.address.domain) is not None
    text = recipient.raw.strip().removeprefix("<").removesuffix(">")
    quoted = _QUOTED_STRING.match(text)
    return _ODD.search(text, quoted.end() if quoted else 0) is not None


def _unknown_destination(recipient: Recipient) -> Reason | None:
    """Why nobody can tell here where the MTA delivers to; None where that is clear."""
    if hides_destination(recipient):
        return _ROUTED
    return _UNCLEAR if is_unclear(recipient) else None


def already_encrypted(recipient: Recipient, classification: Classification) -> Decision:
    """What is encrypted already is left alone, whoever it is for."""
    return Decision(recipient, Action.UNCHANGED, classification.reason, "already encrypted")


def refused(recipient: Recipient, reason: Reason) -> Decision:
    """A message that cannot be handed back whole is refused, whoever it is for."""
    return Decision(recipient, Action.REFUSE, reason, "message")


def decide(
    recipient: Recipient, wish: Wish, lookup: KeyLookup | None, config: Config, *, wished: bool = False
) -> Decision:
    """What happens for one recipient.  ``lookup`` is None only where nothing was wanted; ``wished`` says that the
    sender asked for encryption in the message itself."""
    if (unknown := _unknown_destination(recipient)) is not None:
        action, decider = _action_for(KeyVerdict.UNCLEAR, wish, config)
        return Decision(recipient, action, unknown, decider)
    if not wish.wanted:
        return _unwanted(recipient, wish, wished)
    if lookup is None:
        raise AssertionError("encryption was wanted, but nothing was looked up")
    if lookup.verdict is KeyVerdict.USABLE and lookup.key is not None:
        how, _ = styled(lookup.key, wish, config)
        return Decision(recipient, Action.ENCRYPT, lookup.reason, "usable key", lookup, style=how)
    how, _ = styled(None, wish, config)
    action, decider = _action_for(lookup.verdict, wish, config)
    if action is Action.PLAIN and wish.encrypt == "require":
        action, decider = Action.REFUSE, f"rule {wish.number}: encrypt"
    elif action is Action.PLAIN and wished:
        action, decider = Action.REFUSE, "the sender's wish"
    return Decision(recipient, action, lookup.reason, decider, lookup, style=how)


def styled(key: X509Key | PGPKey | None, wish: Wish | None, config: Config) -> tuple[Style, str]:
    """How what is encrypted to this key is written, and why with this content cipher; without a key, what would hold
    whatever it were.  A rule overrides [smime] and [headers], and what the certificate announces; None stands for no
    rule."""
    rule, number = (wish.rule, wish.number) if wish else (None, 0)
    protect = (rule.protect_headers if rule else "") or config.headers.protect
    if not isinstance(key, X509Key):
        hidden = config.openpgp.hidden_recipients or bool(rule and rule.hidden_recipients)
        return Style(protect_headers=protect, seipd2=config.openpgp.seipd2, hidden_recipients=hidden), ""
    padding = (rule and rule.rsa_padding) or config.smime.rsa_padding
    kdf = (rule and rule.ecdh_kdf) or config.smime.ecdh_kdf
    if rule and rule.cipher:
        return Style(rule.cipher, padding, kdf, protect), f"rule {number}: cipher"
    configured = config.smime.cipher
    cipher = cipher_for(configured, key.ciphers)
    if cipher != configured:
        reason = f"the certificate announces {', '.join(key.ciphers)}, not {configured} of smime.cipher"
    elif key.ciphers and configured not in key.ciphers:
        reason = f"smime.cipher, though the certificate announces {', '.join(key.ciphers)} only"
    else:
        reason = "smime.cipher"
    return Style(cipher, padding, kdf, protect), reason


def _unwanted(recipient: Recipient, wish: Wish, wished: bool) -> Decision:
    """A rule that says never contradicts the sender, mode and local_domains do not: they say who is out of reach."""
    if wish.encrypt != "never":
        return Decision(recipient, Action.PLAIN, wish.reason, "mode")
    decider = f"rule {wish.number}: encrypt"
    if not wished:
        return Decision(recipient, Action.PLAIN, wish.reason, decider)
    reason = Reason("wished", f"the sender asked for encryption, but rule {wish.number} says never")
    return Decision(recipient, Action.REFUSE, reason, decider)


def _action_for(verdict: KeyVerdict, wish: Wish, config: Config) -> tuple[Action, str]:
    """The configured action for a failure, and the name of what configured it."""
    if wish.rule is not None and (value := getattr(wish.rule, verdict.value)):
        return Action(value), f"rule {wish.number}: {verdict.value}"
    value = getattr(config.policy, verdict.value) or default_action(wish.direction)
    return Action(value), f"policy: {verdict.value}"


def default_action(towards: str) -> str:
    """[policy] unclear and unusable_key where they are empty: at rest a refusal would bounce mail that the sender
    cannot mend."""
    return "defer" if towards == INBOUND else "refuse"
