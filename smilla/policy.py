"""The decision table: ``wanted`` before the look-ups, ``decide`` after them.  Pure: no I/O, no clock.

Directions.  In mode outbound all mail is outbound, in mode inbound all is inbound.  In mode auto a message is
outbound where its client authenticated, came through a listener named ORIGINATING or from one of internal_networks,
and inbound otherwise; mail from here to a recipient here is inbound for that recipient.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from smilla import address
from smilla.config import Config, Rule, domain_pattern
from smilla.errors import AddressError
from smilla.model import (
    Action,
    Classification,
    Client,
    Decision,
    KeyLookup,
    KeyVerdict,
    Reason,
    Recipient,
)

OUTBOUND, INBOUND = "outbound", "inbound"
_ROUTED = Reason(
    "routed_address", "the local part routes the mail on (%, ! or @ within it), so its recipient is not known here"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """Whether encryption is wanted for one recipient, and in which direction the message goes for them."""

    wanted: bool
    direction: str
    reason: Reason


def direction(client: Client, config: Config) -> str:
    """The direction of a message as a whole."""
    if config.mode != "auto":
        return config.mode
    if client.authenticated_as or client.daemon_name.upper() == "ORIGINATING":
        return OUTBOUND
    return OUTBOUND if _is_internal(client.ip, config.internal_networks) else INBOUND


@lru_cache(maxsize=4096)
def _is_internal(ip: str, networks: tuple[str, ...]) -> bool:
    try:
        client = ipaddress.ip_address(ip.removeprefix("IPv6:"))
    except ValueError:
        return False
    mapped = getattr(client, "ipv4_mapped", None) or client
    return any(mapped in ipaddress.ip_network(network, strict=False) for network in networks)


def wanted(recipient: Recipient, message_direction: str, config: Config) -> Wish:
    """Is a key to be looked up for this recipient?  Known at RCPT, before anything of the message has come."""
    if hides_destination(recipient):
        return Wish(False, message_direction, _ROUTED)
    domain = recipient.address.domain if recipient.address else ""
    local = is_local(domain, config.local_domains)
    if message_direction == OUTBOUND and not (config.mode == "auto" and local):
        if local:
            return Wish(False, OUTBOUND, Reason("local", f"outbound, and {domain} is in local_domains"))
        return Wish(True, OUTBOUND, Reason("wanted", "outbound, and not in local_domains"))
    if local or recipient.address is None or recipient.address.is_literal:
        return Wish(True, INBOUND, Reason("wanted", f"inbound, and {domain or 'without a domain'}: it is local"))
    return Wish(False, INBOUND, Reason("not_local", f"inbound, and {domain} is not in local_domains"))


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


@lru_cache(maxsize=4096)
def is_local(domain: str, patterns: tuple[str, ...]) -> bool:
    """Does the domain (lower-case A-labels) match one of local_domains?"""
    return any(fnmatchcase(domain, domain_pattern(pattern)) for pattern in patterns)


def already_encrypted(recipient: Recipient, classification: Classification) -> Decision:
    """What is encrypted already is left alone, whoever it is for."""
    return Decision(recipient, Action.UNCHANGED, classification.reason, "already encrypted")


def refused(recipient: Recipient, reason: Reason) -> Decision:
    """A message that cannot be handed back whole is refused, whoever it is for."""
    return Decision(recipient, Action.REFUSE, reason, "message")


def decide(recipient: Recipient, sender: str, wish: Wish, lookup: KeyLookup | None, config: Config) -> Decision:
    """What happens for one recipient.  ``lookup`` is None only where nothing was wanted."""
    if hides_destination(recipient):
        return Decision(recipient, Action.REFUSE, _ROUTED, "routed address")
    if not wish.wanted:
        return Decision(recipient, Action.PLAIN, wish.reason, "mode")
    if lookup is None:
        raise AssertionError("encryption was wanted, but nothing was looked up")
    if lookup.verdict is KeyVerdict.USABLE and lookup.key is not None:
        return Decision(recipient, Action.ENCRYPT, lookup.reason, "usable key", lookup)
    action, rule = _action_for(lookup.verdict, recipient, sender, wish.direction, config)
    return Decision(recipient, action, lookup.reason, rule, lookup)


def _action_for(
    verdict: KeyVerdict, recipient: Recipient, sender: str, towards: str, config: Config
) -> tuple[Action, str]:
    """The configured action for a failure, and the name of what configured it."""
    number, rule = matching_rule(recipient, sender, config.rule)
    if rule is not None and (value := getattr(rule, verdict.value)):
        return Action(value), f"rule {number}: {verdict.value}"
    value = getattr(config.policy, verdict.value) or unusable_default(towards)
    return Action(value), f"policy: {verdict.value}"


def unusable_default(towards: str) -> str:
    """[policy] unusable_key where it is empty: at rest a refusal would bounce mail that the sender cannot mend."""
    return "defer" if towards == INBOUND else "refuse"


def matching_rule(recipient: Recipient, sender: str, rules: tuple[Rule, ...]) -> tuple[int, Rule | None]:
    """The first rule that matches and its number (from 1), or (0, None)."""
    # The parsed address, since the MTA's domain is appended to a recipient without one.
    named = recipient.address.raw if recipient.address else recipient.raw.strip("<>")
    for number, rule in enumerate(rules, 1):
        if _matches(rule.recipient, named) and _matches(rule.sender, sender):
            return number, rule
    return 0, None


def _matches(pattern: str, text: str) -> bool:
    if pattern in ("", "*"):
        return True
    if pattern == "<>" or not text:
        return pattern == "<>" and not text
    folded = _folded(pattern)
    return any(fnmatchcase(form, folded) for form in _forms(text))


def _forms(text: str) -> Iterator[str]:
    """An address as it was given, and without the quoting, source route or final dot that whoever writes it may
    choose: none of them leads around a rule."""
    yield _folded(text)
    try:
        parsed = address.parse(text)
    except AddressError:
        return
    yield f"{parsed.local_part}@{parsed.domain}"


def _folded(text: str) -> str:
    local, at, domain = text.rpartition("@")
    return unicodedata.normalize("NFC", local) + at + domain_pattern(domain)
