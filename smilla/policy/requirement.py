"""What is wanted for a recipient, before any look-up.  Pure: no I/O, no clock.

Directions.  In mode outbound all mail is outbound; in mode inbound all mail is inbound.  In mode auto a message is
outbound if its client authenticated, came through a listener named ORIGINATING or from one of internal_networks;
otherwise it is inbound.  For a recipient it is inbound if they are local and outbound if they are not, whoever the
client is, since the MTA has agreed to relay it.  If a recipient's domain is unknown, the client decides.

Local.  For inbound mail, besides local_domains: localhost and the MTA's own name.  They are mailboxes on this machine,
and we look them up under append_origin, like recipients without a domain.  For outbound mail: only localhost, since a
key may be published for the MTA's own name as for any other.

The sender's request.  It applies to all recipients of a message that may carry one: outbound, or in mode auto from one
of our clients or to somebody who is not local.  Inbound, a stranger's Subject has no say.

Rules.  The first rule that matches a recipient overrides the settings that it names: whether encryption is wanted at
all (encrypt), in which formats, for which further readers, and what a failure does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from smilla.address import EmailAddress
from smilla.config import Config, Rule
from smilla.config.options import HOP_FAILURES, SECURE_HOP
from smilla.model import (
    Client,
    Direction,
    Reason,
    Recipient,
)
from smilla.policy import rules
from smilla.value import value

_ROUTED = Reason(
    "routed_address",
    "the local part routes the mail on (it contains %, ! or @), so its recipient is not known here",
)
_UNCLEAR = Reason("unclear_address", "it does not follow RFC 5321, and the MTA may read it as another address")
UNCLEAR_SENDER = Reason(
    "unclear_sender",
    "the sender does not follow RFC 5321, and the MTA may read it as another one, which matters here",
)
_AMBIGUOUS = Reason("ambiguous_domain", "its domain has a letter that IDNA 2003 and IDNA 2008 map to different names")
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ODD_ROUTE = re.compile(r"\s*@[^:]*[^:\w\s.,@-][^:]*:")
_ROUTING_SIGNS = frozenset("@%!")
_ODD = re.compile(r'[\x00-\x20\x7f()<>,;:\\"]|\.\.|@\.')


@value
class Circumstances:
    """What rules may ask about the envelope and the connection, besides the recipient."""

    sender: str
    client: Client


@value
class Requirement:
    """Whether encryption is wanted for one recipient, the direction for them, and the rule that matches them (and its
    number, from 1).  ``address`` is the one to look a key up for, None if unknown.  ``unclear`` is why nobody can tell
    what is wanted."""

    wanted: bool
    direction: Direction
    reason: Reason
    number: int = 0
    rule: Rule | None = None
    address: EmailAddress | None = None
    unclear: Reason | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """The allowed formats, the preferred one first; () for any."""
        return self.rule.formats if self.rule else ()

    @property
    def key_file(self) -> str:
        """The file of the key that the rule names, "" for the sources."""
        return self.rule.key if self.rule else ""

    @property
    def trust(self) -> tuple[str, ...]:
        """What a key must rest on; () for what [keys] says."""
        return self.rule.trust if self.rule else ()

    @property
    def also_to(self) -> tuple[str, ...]:
        """Further readers: addresses, or ``sender``."""
        return self.rule.also_to if self.rule else ()

    @property
    def at_rcpt(self) -> bool:
        """Should this recipient be deferred or refused individually, at RCPT?"""
        return self.rule is not None and self.rule.at_rcpt

    @property
    def encrypt(self) -> str:
        """``require``, ``never`` or "", as in the rule."""
        return self.rule.encrypt if self.rule else ""


def may_use_hop(requirement: Requirement, config: Config) -> bool:
    """May the copy for this recipient have to leave over a verified hop, once their key is known to be of no use?"""
    if not requirement.wanted:
        return False
    rule = requirement.rule
    failures = ("unusable_key",) if requirement.key_file else HOP_FAILURES
    actions = ((rule and getattr(rule, name)) or getattr(config.policy, name) for name in failures)
    return SECURE_HOP in actions


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


def may_ask(requirements: Iterable[Requirement], client: Client, config: Config) -> bool:
    """May a message itself ask to be encrypted?  ``requirements`` are its recipients'."""
    if config.mode != "auto":
        return config.mode == Direction.OUTBOUND
    return is_ours(client, config) or any(requirement.direction == Direction.OUTBOUND for requirement in requirements)


def is_relayed(requirement: Requirement) -> bool:
    """In mode auto, does a message from somebody else's client leave for somebody elsewhere?  Then internal_networks or
    local_domains may be incomplete.  A rule that says never has considered this."""
    return requirement.direction == Direction.OUTBOUND and requirement.encrypt != "never"


def on_request(requirement: Requirement) -> Requirement:
    """The same, when the sender asks for encryption: local recipients are looked up as well."""
    if requirement.wanted or requirement.unclear is not None or requirement.encrypt:
        return requirement
    return replace(
        requirement,
        wanted=True,
        reason=Reason("wished", f"{requirement.reason.text}, but the sender asks for encryption"),
    )


def wanted(recipient: Recipient, circumstances: Circumstances, config: Config) -> Requirement:
    """Should we look a key up for this recipient?  This is known at RCPT, before any of the message has arrived."""
    case = _case(recipient, circumstances, config)
    number, rule = rules.first(config.rule, case)
    unclear = unknown_destination(recipient)
    if unclear is None and rules.hinges_on_sender(config.rule, case):
        unclear, number, rule = UNCLEAR_SENDER, 0, None
    if unclear is None and rule is not None and "sender" in rule.also_to and not rules.is_clear(case.sender):
        unclear = UNCLEAR_SENDER
    is_wanted, reason = (False, unclear) if unclear is not None else _wanted_by(rule, number, case, config)
    return Requirement(is_wanted, case.direction, reason, number, rule, _mailbox(case, config), unclear)


def _wanted_by(rule: Rule | None, number: int, case: rules.Case, config: Config) -> tuple[bool, Reason]:
    if rule is not None and rule.encrypt == "never":
        return False, Reason("never", f"rule {number} says never")
    if rule is not None and rule.encrypt == "require":
        return True, Reason("wanted", f"rule {number} requires it")
    if rule is not None and rule.key:
        return True, Reason("wanted", f"rule {number} names a key")
    return _wanted_by_mode(case, config)


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


def is_local(recipient: Recipient, client: Client, config: Config) -> bool:
    """Local, for inbound mail."""
    return rules.is_in(_domain(recipient), config.local_domains) or _is_own_name(recipient, client, config)


def _is_elsewhere(recipient: Recipient, client: Client, config: Config) -> bool:
    """Is the recipient's domain known, and not local?  The MTA may complete a single label to a local domain."""
    address = recipient.address
    if address is None or address.is_literal or address.is_single_label:
        return False
    return not is_local(recipient, client, config)


def _own_labels(client: Client) -> tuple[str, ...]:
    """The single labels that always mean this machine (RFC 6761 section 6.3)."""
    own = client.mta.lower().rstrip(".")
    return ("localhost", own) if own and "." not in own else ("localhost",)


def _is_own_name(recipient: Recipient, client: Client, config: Config) -> bool:
    """Is it a mailbox on this machine, by a name that is not in local_domains: the MTA's own, or localhost with or
    without one of its domains, as in Postfix's mydestination?"""
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
    """The address to look a key up for; for inbound mail, a mailbox on this machine takes the origin as its domain."""
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
    if is_local(recipient, client, config):
        return Direction.INBOUND
    known = _is_elsewhere(recipient, client, config) and unknown_destination(recipient) is None
    return Direction.OUTBOUND if known else towards


def rule_table(recipient: Recipient, circumstances: Circumstances, config: Config) -> tuple[rules.Checked, ...]:
    """Every rule, whether its conditions hold for this recipient, and the first one that does not."""
    return rules.table(config.rule, _case(recipient, circumstances, config))


def hides_destination(recipient: Recipient) -> bool:
    """``user%domain@relay``, ``domain!user`` and ``"user@domain"@relay``: MTAs rewrite these (Postfix's
    allow_percent_hack, swap_bangpath, resolve_dequoted_address) and then deliver to an address that nobody looked up.
    A look-up of the text as it stands would be a way around encryption."""
    if recipient.address is not None:
        local_part = recipient.address.local_part
    else:
        text = recipient.raw.strip("<>")
        quoted = text.startswith('"') and text.endswith('"')
        local_part = text if quoted else text.rpartition("@")[0] or text
    return not _ROUTING_SIGNS.isdisjoint(local_part)


def is_unclear(recipient: Recipient) -> bool:
    """``(x)bob@r.test``, ``b\\ob@r.test``, ``bob @r.test``, ``bob@[r.test]``: not addresses by RFC 5321 section 4.1.2,
    but liberal MTAs deliver them to bob@r.test, whom nobody looked up.  A tab in a quoted local part is a blank to
    Postfix."""
    text = recipient.raw.strip().removeprefix("<").removesuffix(">")
    if recipient.address is not None:
        return recipient.address.is_odd_host or _ODD_ROUTE.match(text) is not None
    quoted = _QUOTED_STRING.match(text)
    return "\t" in text or _ODD.search(text, quoted.end() if quoted else 0) is not None


def unknown_destination(recipient: Recipient) -> Reason | None:
    """Why nobody here can tell where the MTA delivers; None if that is clear."""
    if hides_destination(recipient):
        return _ROUTED
    if is_unclear(recipient):
        return _UNCLEAR
    return _AMBIGUOUS if recipient.address is not None and recipient.address.ambiguous else None
