"""The options of what is decided, for all and by rule."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import (
    CIPHERS,
    ECDH_KDFS,
    FAILURE_ACTIONS,
    NEVER_PLAIN,
    PROTECTIONS,
    RSA_PADDINGS,
    SPLITS,
    option,
)
from smilla.model import Direction


def default_action(direction: Direction) -> str:
    """``unclear`` and ``unusable_key`` where they are empty: at rest a refusal would bounce mail that the sender cannot
    mend."""
    return "defer" if direction is Direction.INBOUND else "refuse"


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """[policy]: what each failure does."""

    no_key: str = option(
        "plain",
        "Proven absence, or a zone that is provably not signed and has no other key.",
        choices=FAILURE_ACTIONS,
    )
    unclear: str = option(
        "",
        "What smilla could not understand, though the MTA may deliver it: an address that two programs may read "
        "differently (the sender's, too, where a rule depends on it), or one for which DNS cannot be asked, such as an "
        "address literal. Nobody can tell whether there is a key, so it is never plain. Empty: refuse outbound, defer "
        "inbound.",
        choices=("", *NEVER_PLAIN),
    )
    insecure: str = option("plain", "A key was found but its zone is not signed.", choices=FAILURE_ACTIONS)
    bogus: str = option(
        "defer",
        "Forged or indeterminate, a name under no trust anchor, a resolver that fails the probe.",
        choices=NEVER_PLAIN,
    )
    unreachable: str = option("defer", "Time-out, SERVFAIL, no nameserver.", choices=NEVER_PLAIN)
    unusable_key: str = option(
        "",
        "Meant for encryption, but expired, revoked, for another address, too weak or malformed. "
        "Empty: refuse outbound, defer inbound.",
        choices=("", *FAILURE_ACTIONS),
    )
    mixed: str = option(
        "",
        "Recipients who need different forms of the message. stage: Postfix's queue splits it, sealed meanwhile, once "
        "Postfix has decided about it. reinject: a copy each leaves before the MTA has decided, through [reinject] "
        "smtp. defer, refuse: the message as a whole. Empty: stage with Postfix, reinject with Sendmail.",
        choices=("", *SPLITS, "defer", "refuse"),
    )
    one_fails: str = option(
        "whole",
        "A recipient to be deferred or refused beside others who can be served. whole: the reply is for the whole "
        "message. bounce: the others get it, and that one is bounced (a delivery status notification with the header "
        "fields only), where the client authenticated or is in internal_networks, a sender is named, and the "
        "recipient's NOTIFY allows it; whole otherwise. Needs mixed = stage or reinject.",
        choices=("whole", "bounce"),
    )
    wish_subject: str = option(
        "",
        "A word in the Subject of outbound mail, such as [encrypt], by which a sender asks that the message goes "
        "encrypted or not at all, to recipients in local_domains as well. It is removed before sending, but not from "
        "what is held. In mode auto it holds for mail from one of ours, to whomever, and for mail that is relayed; "
        "inbound, a stranger's word is neither heeded nor removed. Empty: no such word.",
    )
    wish_header: str = option(
        "",
        "The name of a header field, such as X-Encrypt, that says the same (unless its value is no, false or 0). It is "
        "removed before sending. Empty: no such field.",
        pattern=r"|[!-9;-~]{1,70}",
        expected="the name of a header field, such as X-Encrypt",
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """[[rule]]: the first that matches a recipient overrides the keys that it names. All its conditions must hold."""

    recipient: str = option(
        "",
        "Shell pattern for the recipient's address; its domain without regard to case, in A-labels or as people see "
        "it. A tag belongs to the address here, whatever [keys] subaddress says: bob@example.org is not "
        "bob+tag@example.org, for whom write a rule with bob+*@example.org.",
        check="pattern",
    )
    sender: str = option(
        "",
        "Shell pattern for the envelope sender, as given or completed by append_origin and append_domain; <> is the "
        "null sender. Where the sender is not written as RFC 5321 says, such as < > or Boss<boss@example.org>, of "
        "which an MTA may make another one, nobody can tell whether the rule holds, which is unclear.",
        check="pattern",
    )
    domain: tuple[str, ...] = option((), "Names or shell patterns; the recipient's domain is one.", check="domain")
    client: tuple[str, ...] = option((), "Networks; the client is in one.", check="network")
    user: str = option("", "Shell pattern for the name as which the client authenticated; * is any.", check="user")
    direction: str = option("", "The direction of the message for this recipient.", choices=("", "outbound", "inbound"))
    encrypt: str = option(
        "",
        "require: look for a key whatever mode and local_domains say, and refuse what would go plain; never: look for "
        "none, and send plain.",
        choices=("", "require", "never"),
    )
    formats: tuple[str, ...] = option(
        (),
        "The formats allowed: smime, openpgp, the preferred one first. Empty: any, in the order of the sources.",
        each=("smime", "openpgp"),
    )
    also_to: tuple[str, ...] = option(
        (),
        "Further readers: addresses whose usable keys are always among those that the message is encrypted to, sender "
        "for the envelope sender's. They can read it; they get no copy. Where such a key is bogus, unreachable or "
        "unclear the message is deferred, where there is none it goes without. Recipients may be unable to "
        "open a message that is for an EC key too (see separate in [smime]): an RSA certificate is best here.",
        check="reader",
    )
    cipher: str = option(
        "",
        "As in [smime], and whatever the certificate announces.",
        choices=("", *CIPHERS),
    )
    rsa_padding: str = option("", "As in [smime].", choices=("", *RSA_PADDINGS))
    ecdh_kdf: str = option("", "As in [smime].", choices=("", *ECDH_KDFS))
    hidden_recipients: bool = option(False, "As in [openpgp]; true where either of the two is.")
    at_rcpt: bool = option(
        False,
        "Defer or refuse this recipient alone, at RCPT, where its key fails; a message that is encrypted already is "
        "then deferred or refused as well, since nobody knows its content yet. Not for mail from sendmail(1).",
    )
    no_key: str = option("", "As in [policy].", choices=("", *FAILURE_ACTIONS))
    unclear: str = option("", "As in [policy].", choices=("", *NEVER_PLAIN))
    insecure: str = option("", "As in [policy].", choices=("", *FAILURE_ACTIONS))
    bogus: str = option("", "As in [policy].", choices=("", *NEVER_PLAIN))
    unreachable: str = option("", "As in [policy].", choices=("", *NEVER_PLAIN))
    unusable_key: str = option("", "As in [policy].", choices=("", *FAILURE_ACTIONS))
    protect_headers: str = option("", "As [headers] protect.", choices=("", *PROTECTIONS))
