"""The decision table: ``wanted`` before the look-ups, ``decide`` after them.  Pure: no I/O, no clock.

Directions.  In mode outbound all mail is outbound, in mode inbound all is inbound.  In mode auto a message is
outbound where its client authenticated, came through a listener named ORIGINATING or from one of internal_networks,
and inbound otherwise; for a recipient it is inbound where they are local and outbound where they are not, whoever the
client is, since the MTA has agreed to send it on.  A recipient whose domain is not known goes by the client.

Local.  Besides local_domains, where mail is inbound: localhost and the MTA's own name, which are mailboxes of this
machine, to be asked for under append_origin as those without any domain are.  Outbound, localhost alone: a key may be
published for the MTA's own name, as for any other.

The sender's request.  It holds for all recipients of a message that may carry one: outbound, or in mode auto from one
of ours or for somebody who is not local.  Inbound, a stranger's Subject commands nothing.

Rules.  The first that matches a recipient overrides what it names: whether encryption is wanted at all (encrypt), in
which formats, for which further readers, and what a failure does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from smilla.address import EmailAddress
from smilla.config import Config, Rule
from smilla.config.options import default_action
from smilla.model import (
    Action,
    Classification,
    Client,
    Decision,
    Direction,
    KeyLookup,
    KeyVerdict,
    PGPKey,
    Reason,
    Recipient,
    X509Key,
)
from smilla.model.style import Style, cipher_for
from smilla.policy import rules

_ROUTED = Reason(
    "routed_address", "the local part routes the mail on (%, ! or @ within it), so its recipient is not known here"
)
_UNCLEAR = Reason("unclear_address", "it is not written as RFC 5321 says, and the MTA may read it as another address")
_UNCLEAR_SENDER = Reason(
    "unclear_sender", "the sender is not written as RFC 5321 says, and the MTA may read another one, which matters here"
)
_AMBIGUOUS = Reason("ambiguous_domain", "its domain has a letter of which IDNA 2003 and IDNA 2008 make two names")
_ABSENT = (KeyVerdict.NO_KEY, KeyVerdict.INSECURE, KeyVerdict.UNUSABLE_KEY)
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ODD_ROUTE = re.compile(r"\s*@[^:]*[^:\w\s.,@-][^:]*:")
_ODD = re.compile(r'[\x00-\x20\x7f()<>,;:\\"]|\.\.|@\.')


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What of the envelope and the connection, besides the recipient, rules may ask for."""

    sender: str
    client: Client


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether encryption is wanted for one recipient, in which direction the message goes for them, and the rule that
    matches them (and its number, from 1).  ``address`` is the one to look a key up for, None where none is known.
    ``unclear`` is why nobody can tell what is wanted."""

    wanted: bool
    direction: Direction
    reason: Reason
    number: int = 0
    rule: Rule | None = None
    address: EmailAddress | None = None
    unclear: Reason | None = None

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


def direction(client: Client, config: Config) -> Direction:
    """The direction of a message as a whole."""
    if config.mode != "auto":
        return Direction(config.mode)
    return Direction.OUTBOUND if is_ours(client, config) else Direction.INBOUND


def is_ours(client: Client, config: Config) -> bool:
    """Is the client one of ours: authenticated, through a listener named ORIGINATING, or in internal_networks?"""
    if client.authenticated_as or client.daemon_name.upper() == "ORIGINATING":
        return True
    return rules.is_within(client.ip, config.internal_networks)


def may_ask(wishes: Iterable[Wish], client: Client, config: Config) -> bool:
    """May a message ask by itself to be encrypted?  ``wishes`` are those for its recipients."""
    if config.mode != "auto":
        return config.mode == Direction.OUTBOUND
    return is_ours(client, config) or any(wish.direction == Direction.OUTBOUND for wish in wishes)


def is_relayed(wish: Wish) -> bool:
    """Does a message of a client that is none of ours, in mode auto, leave for somebody elsewhere?  internal_networks
    or local_domains may lack something.  A rule that says never has considered it."""
    return wish.direction == Direction.OUTBOUND and wish.encrypt != "never"


def requested(wish: Wish) -> Wish:
    """The same, where the sender asks for encryption: somebody who is local is looked up as well."""
    if wish.wanted or wish.unclear is not None or wish.encrypt:
        return wish
    return replace(
        wish, wanted=True, reason=Reason("wished", f"{wish.reason.text}, but the sender asks for encryption")
    )


def wanted(recipient: Recipient, circumstances: Circumstances, config: Config) -> Wish:
    """Is a key to be looked up for this recipient?  Known at RCPT, before anything of the message has come."""
    case = _case(recipient, circumstances, config)
    number, rule = rules.first(config.rule, case)
    wish = Wish(False, case.direction, Reason("wanted", ""), number, rule, _mailbox(case, config))
    if (unknown := _unknown_destination(recipient)) is not None:
        return replace(wish, reason=unknown, unclear=unknown)
    if rules.hinges_on_sender(config.rule, case):
        return replace(wish, reason=_UNCLEAR_SENDER, unclear=_UNCLEAR_SENDER, number=0, rule=None)
    if "sender" in wish.also_to and not rules.is_clear(case.sender):
        return replace(wish, reason=_UNCLEAR_SENDER, unclear=_UNCLEAR_SENDER)
    if rule is not None and rule.encrypt == "never":
        return replace(wish, reason=Reason("never", f"rule {number} says never"))
    if rule is not None and rule.encrypt == "require":
        return replace(wish, wanted=True, reason=Reason("wanted", f"rule {number} requires it"))
    is_wanted, reason = _wanted_by_mode(case, config)
    return replace(wish, wanted=is_wanted, reason=reason)


def _wanted_by_mode(case: rules.Case, config: Config) -> tuple[bool, Reason]:
    domain = _domain(case.recipient)
    if case.direction == Direction.OUTBOUND:
        if rules.is_in(domain, config.local_domains):
            return False, Reason("local", f"outbound, and {domain} is in local_domains")
        if config.mode == Direction.OUTBOUND and domain in _own_labels(case.client):
            return False, Reason("local", f"outbound, and {domain} is this machine")
        return True, Reason("wanted", "outbound, and not in local_domains")
    if not _is_elsewhere(case.recipient, case.client, config):
        return True, Reason("wanted", f"inbound, and {domain or 'without a domain'}: it is local, or may be")
    return False, Reason("not_local", f"inbound, and {domain} is not in local_domains")


def _domain(recipient: Recipient) -> str:
    return recipient.address.domain if recipient.address else ""


def _is_local(recipient: Recipient, client: Client, config: Config) -> bool:
    """Local where mail is inbound."""
    return rules.is_in(_domain(recipient), config.local_domains) or _is_own_name(recipient, client, config)


def _is_elsewhere(recipient: Recipient, client: Client, config: Config) -> bool:
    """Is the recipient's domain known, and not local?  A single label may be completed to a local one."""
    address = recipient.address
    if address is None or address.is_literal or address.is_single_label:
        return False
    return not _is_local(recipient, client, config)


def _own_labels(client: Client) -> tuple[str, ...]:
    """The single labels that are this machine wherever mail to them is written (RFC 6761 section 6.3)."""
    own = client.mta.lower().rstrip(".")
    return ("localhost", own) if own and "." not in own else ("localhost",)


def _is_own_name(recipient: Recipient, client: Client, config: Config) -> bool:
    """Is it to a mailbox of this machine, by a name that is not in local_domains: that of the MTA, or localhost with or
    without one of its domains, as Postfix has them in mydestination?"""
    domain = _domain(recipient)
    if not domain or rules.is_in(domain, config.local_domains):
        return False
    own = client.mta.lower().rstrip(".")
    host, _, parent = domain.partition(".")
    if domain in (*_own_labels(client), own):
        return True
    appended = rules.is_in(parent, (config.append_domain,)) if config.append_domain else False
    if host == own and appended:
        return True
    at_home = parent in ("localdomain", own.partition(".")[2]) or rules.is_in(parent, config.local_domains)
    return host == "localhost" and (appended or at_home)


def _mailbox(case: rules.Case, config: Config) -> EmailAddress | None:
    """The address to look a key up for: where mail is inbound, a mailbox of this machine has that of the origin."""
    if case.direction == Direction.INBOUND and _is_own_name(case.recipient, case.client, config):
        return case.mailbox
    return case.recipient.address


def _case(recipient: Recipient, circumstances: Circumstances, config: Config) -> rules.Case:
    client = circumstances.client
    towards = _direction_for(recipient, client, config)
    case = rules.Case(recipient, circumstances.sender, client, towards, completion=config.completion)
    if recipient.address is None or not config.origin:
        return case
    stands_for_another = case.direction == Direction.INBOUND and _is_own_name(recipient, client, config)
    return replace(case, mailbox=recipient.address.at(config.origin)) if stands_for_another else case


def _direction_for(recipient: Recipient, client: Client, config: Config) -> Direction:
    towards = direction(client, config)
    if config.mode != "auto":
        return towards
    if _is_local(recipient, client, config):
        return Direction.INBOUND
    known = _is_elsewhere(recipient, client, config) and _unknown_destination(recipient) is None
    return Direction.OUTBOUND if known else towards


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
    MTAs that are liberal in what they accept deliver to bob@r.test, whom nobody asked about.  A tab in a quoted local
    part is a blank to Postfix."""
    text = recipient.raw.strip().removeprefix("<").removesuffix(">")
    if recipient.address is not None:
        return recipient.address.is_odd_host or _ODD_ROUTE.match(text) is not None
    quoted = _QUOTED_STRING.match(text)
    return "\t" in text or _ODD.search(text, quoted.end() if quoted else 0) is not None


def _unknown_destination(recipient: Recipient) -> Reason | None:
    """Why nobody can tell here where the MTA delivers to; None where that is clear."""
    if hides_destination(recipient):
        return _ROUTED
    if is_unclear(recipient):
        return _UNCLEAR
    return _AMBIGUOUS if recipient.address is not None and recipient.address.ambiguous else None


def unclear_sender(recipient: Recipient, towards: Direction, config: Config) -> Decision:
    """A message that would leave in several forms, each with a sender of its own, whom nobody can tell."""
    action, decider = _action_for(KeyVerdict.UNCLEAR, Wish(False, towards, _UNCLEAR_SENDER), config)
    return Decision(recipient, Action.DEFER if action is Action.HOLD else action, _UNCLEAR_SENDER, decider)


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
    if (unknown := wish.unclear or _unknown_destination(recipient)) is not None:
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


def waits(decision: Decision, wish: Wish, client: Client, config: Config) -> bool:
    """May this be an alias that the MTA expands after the filter, so that the stage has to decide ([keys] aliases)?
    Whoever has a usable key gets it all the same; what nobody can tell now is deferred as ever."""
    if config.keys.aliases != "expanded" or config.policy.mixed != "stage" or decision.key is not None:
        return False
    if wish.encrypt == "never" or (wish.unclear or _unknown_destination(decision.recipient)) is not None:
        return False
    absent = decision.lookup is None or decision.lookup.verdict in _ABSENT
    return absent and _is_local(decision.recipient, client, config)


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
    """Who is not looked for gets plaintext, save where the sender asked for encryption."""
    never = wish.encrypt == "never"
    decider = f"rule {wish.number}: encrypt" if never else "mode"
    if not wished:
        return Decision(recipient, Action.PLAIN, wish.reason, decider)
    why = f"rule {wish.number} says never" if never else wish.reason.text
    return Decision(recipient, Action.REFUSE, Reason("wished", f"the sender asked for encryption, but {why}"), decider)


def _action_for(verdict: KeyVerdict, wish: Wish, config: Config) -> tuple[Action, str]:
    """The configured action for a failure, and the name of what configured it."""
    if wish.rule is not None and (value := getattr(wish.rule, verdict.value)):
        return Action(value), f"rule {wish.number}: {verdict.value}"
    value = getattr(config.policy, verdict.value) or default_action(wish.direction)
    return Action(value), f"policy: {verdict.value}"
