"""The decision table: what happens for a recipient once the look-ups are done.  Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from smilla.config import Config
from smilla.config.options import default_action
from smilla.model import (
    Action,
    Classification,
    Client,
    Decision,
    Direction,
    Hop,
    HopVerdict,
    KeyLookup,
    KeyVerdict,
    PGPKey,
    Reason,
    Recipient,
    Style,
    X509Key,
)
from smilla.policy.requirement import UNCLEAR_SENDER, Requirement, is_local, unknown_destination

_NO_STAGE = Reason("no_stage", 'a verified hop needs Postfix and [policy] mixed = "stage"')
_NO_FINDER = Reason("no_hop_finder", "nothing here looks for verified hops")
_ABSENT = (KeyVerdict.NO_KEY, KeyVerdict.INSECURE, KeyVerdict.UNUSABLE_KEY)


def unclear_sender(recipient: Recipient, towards: Direction, config: Config) -> Decision:
    """A message that would leave in several forms, each with its own sender, but nobody can tell who the sender is."""
    action, decider = _action_for(KeyVerdict.UNCLEAR, Requirement(False, towards, UNCLEAR_SENDER), config)
    return Decision(recipient, Action.DEFER if action is Action.HOLD else action, UNCLEAR_SENDER, decider)


def already_encrypted(recipient: Recipient, classification: Classification) -> Decision:
    """A message that is already encrypted passes unchanged, whoever it is for."""
    return Decision(recipient, Action.UNCHANGED, classification.reason, "already encrypted")


def refused(recipient: Recipient, reason: Reason) -> Decision:
    """A message that we cannot hand back whole is refused, whoever it is for."""
    return Decision(recipient, Action.REFUSE, reason, "message")


def decide(
    recipient: Recipient, requirement: Requirement, lookup: KeyLookup | None, config: Config, *, requested: bool = False
) -> Decision:
    """What happens for one recipient.  ``lookup`` is None only if no encryption was wanted; ``requested``: the sender
    asked for encryption in the message itself."""
    if (unknown := requirement.unclear or unknown_destination(recipient)) is not None:
        action, decider = _action_for(KeyVerdict.UNCLEAR, requirement, config)
        return Decision(recipient, action, unknown, decider)
    if not requirement.wanted:
        return _unwanted(recipient, requirement, requested)
    if lookup is None:
        raise AssertionError("encryption was wanted, but nothing was looked up")
    if lookup.verdict is KeyVerdict.USABLE and lookup.key is not None:
        how, _ = styled(lookup.key, requirement, config)
        return Decision(recipient, Action.ENCRYPT, lookup.reason, "usable key", lookup, style=how)
    how, _ = styled(None, requirement, config)
    action, decider = _action_for(lookup.verdict, requirement, config)
    is_weaker = action is Action.PLAIN or (action is Action.SECURE_HOP and not decider.startswith("rule"))
    if is_weaker and requirement.encrypt == "require":
        action, decider = Action.REFUSE, f"rule {requirement.number}: encrypt"
    elif action in (Action.PLAIN, Action.SECURE_HOP) and requested:
        action, decider = Action.REFUSE, "the sender's wish"
    return Decision(recipient, action, lookup.reason, decider, lookup, style=how)


def over_hop(decision: Decision, hop: Hop | None, config: Config) -> Decision:
    """A decision for SECURE_HOP once the hop is known: it stands if that is verified, and is never plain.  ``hop`` is
    None where nobody looks for one."""
    if hop is None:
        return replace(decision, action=Action.DEFER, reason=_NO_FINDER)
    if config.policy.mixed not in ("", "stage"):
        return replace(decision, action=Action.DEFER, reason=_NO_STAGE, hop=hop)
    if hop.is_verified:
        return replace(decision, hop=hop)
    is_proven = hop.verdict is HopVerdict.NONE
    action = Action(config.policy.no_hop) if is_proven else Action.DEFER
    decider = f"{decision.rule}, policy: no_hop" if is_proven else decision.rule
    return replace(decision, action=action, reason=hop.reason, rule=decider, hop=hop)


def awaits_expansion(decision: Decision, requirement: Requirement, client: Client, config: Config) -> bool:
    """May this be an alias that the MTA expands after the filter, so that the stage has to decide ([keys] aliases)?  A
    recipient with a usable key gets ciphertext anyway; one whose state is unknown now is deferred as usual."""
    if config.keys.aliases != "expanded" or config.policy.mixed != "stage" or decision.key is not None:
        return False
    if requirement.encrypt == "never" or (requirement.unclear or unknown_destination(decision.recipient)) is not None:
        return False
    absent = decision.lookup is None or decision.lookup.verdict in _ABSENT
    return absent and is_local(decision.recipient, client, config)


def styled(key: X509Key | PGPKey | None, requirement: Requirement | None, config: Config) -> tuple[Style, str]:
    """How to write what is encrypted to this key, and why with this content cipher.  Without a key: the style that
    would apply to any key.  A rule overrides [smime], [headers] and what the certificate announces; None means no rule.
    """
    rule, number = (requirement.rule, requirement.number) if requirement else (None, 0)
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


def cipher_for(configured: str, announced: Iterable[str]) -> str:
    """The content cipher for a certificate that announces these of ours, in its order of preference.

    RFC 8551 section 2.7.1: a sending agent should take the first one that it supports.  Others: Outlook and NSS take
    the strongest that all recipients announce; OpenSSL and gpgsm ignore the list.  What we do: the configured cipher if
    it is announced, or if none of ours is; else the first announced one, but no list turns CBC into GCM.  Such a list
    is what a CA writes into all its certificates rather than what the reading program can do: AES-CBC is mandatory for
    every receiving agent (section 2.7), whereas no common client opens GCM yet.  If GCM is configured, a certificate
    that announces only CBC gets CBC.
    """
    wanted = tuple(announced)
    if configured in wanted:
        return configured
    same_mode = [cipher for cipher in wanted if Style(cipher).is_authenticated is Style(configured).is_authenticated]
    others = [cipher for cipher in wanted if not Style(cipher).is_authenticated]
    return next(iter((*same_mode, *others)), configured)


def _unwanted(recipient: Recipient, requirement: Requirement, requested: bool) -> Decision:
    """A recipient without a look-up gets plaintext, unless the sender asked for encryption."""
    never = requirement.encrypt == "never"
    decider = f"rule {requirement.number}: encrypt" if never else "mode"
    if not requested:
        return Decision(recipient, Action.PLAIN, requirement.reason, decider)
    why = f"rule {requirement.number} says never" if never else requirement.reason.text
    return Decision(recipient, Action.REFUSE, Reason("wished", f"the sender asked for encryption, but {why}"), decider)


def _action_for(verdict: KeyVerdict, requirement: Requirement, config: Config) -> tuple[Action, str]:
    """The configured action for a failure, and the name of the option or rule that set it."""
    if requirement.rule is not None and (value := getattr(requirement.rule, verdict.value)):
        return Action(value), f"rule {requirement.number}: {verdict.value}"
    value = getattr(config.policy, verdict.value) or default_action(requirement.direction)
    return Action(value), f"policy: {verdict.value}"
