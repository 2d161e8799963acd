"""The options of the policy, for all mail and by rule."""

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
    TRUST,
    option,
)
from smilla.model import Direction


def default_action(direction: Direction) -> str:
    """The default of ``unclear`` and ``unusable_key``: at rest, a refusal would bounce mail for a fault that the sender
    cannot mend."""
    return "defer" if direction is Direction.INBOUND else "refuse"


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """[policy]: what each failure does."""

    no_key: str = option(
        "plain",
        "It is proven that there is no key, or the zone is provably unsigned and has no other key. secure-hop: the "
        "copy goes over a verified hop only (a circle, DANE or MTA-STS), never in the clear; see no_hop and "
        "smilla-hops(7). It needs Postfix and mixed = stage, and it is for outbound mail: in mode auto, only a rule "
        "with direction = outbound has it.",
        choices=FAILURE_ACTIONS,
    )
    unclear: str = option(
        "",
        "smilla could not understand the address, though the MTA may deliver to it: two programs may read it "
        "differently (this includes the sender, if a rule depends on it), or DNS cannot be asked for it, as with an "
        "address literal. Nobody can tell whether there is a key, so such mail never goes plain. Empty: refuse "
        "outbound, defer inbound.",
        choices=("", *NEVER_PLAIN),
    )
    insecure: str = option("plain", "A key was found, but its zone is not signed.", choices=FAILURE_ACTIONS)
    bogus: str = option(
        "defer",
        "The answer is forged or indeterminate, the name is under no trust anchor, or the resolver fails the probe.",
        choices=NEVER_PLAIN,
    )
    unreachable: str = option("defer", "Time-out, SERVFAIL, or no nameserver.", choices=NEVER_PLAIN)
    unusable_key: str = option(
        "",
        "The key is meant for encryption but is expired, revoked, for another address, too weak or malformed. Empty: "
        "refuse outbound, defer inbound.",
        choices=("", *FAILURE_ACTIONS),
    )
    no_hop: str = option(
        "refuse",
        "For secure-hop: it is proven that no hop to the domain can be verified. Where nobody can know now, the "
        "message is always deferred.",
        choices=("refuse", "defer"),
    )
    mixed: str = option(
        "",
        "What to do if recipients need different forms of the message. stage: the message is sealed, and split after "
        "Postfix's queue, once Postfix has decided about it. reinject: each further copy leaves through "
        "[reinject] smtp, before the MTA has decided. defer, refuse: the message as a whole. Empty: stage with "
        "Postfix, reinject with Sendmail.",
        choices=("", *SPLITS, "defer", "refuse"),
    )
    one_fails: str = option(
        "whole",
        "What to do if one recipient must be deferred or refused and others can be served. whole: one reply for the "
        "whole message. bounce: the others get the message, and that recipient is bounced (a delivery status "
        "notification with the header fields only). bounce needs a client that authenticated or is in "
        "internal_networks, a named sender, and a NOTIFY that allows it; otherwise whole applies. Needs mixed = stage "
        "or reinject.",
        choices=("whole", "bounce"),
    )
    wish_subject: str = option(
        "",
        "A word in the Subject of outbound mail, such as [encrypt]. With it, a sender asks that the message go "
        "encrypted or not at all, to recipients in local_domains as well. smilla removes the word before sending, but "
        "not from held mail. In mode auto it works for mail from your own clients, to any recipient, and for relayed "
        "mail. Inbound, a stranger's word is neither heeded nor removed. Empty: no such word.",
    )
    wish_header: str = option(
        "",
        "The name of a header field, such as X-Encrypt, that asks for the same (unless its value is no, false or 0). "
        "smilla removes it before sending. Empty: no such field.",
        pattern=r"|[!-9;-~]{1,70}",
        expected="the name of a header field, such as X-Encrypt",
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """[[rule]]: the first rule that matches a recipient overrides the options that it names. All its conditions must
    hold."""

    recipient: str = option(
        "",
        "Shell pattern for the recipient's address. Its domain matches in any case, in A-labels or as people see it. "
        "Here a tag is part of the address, whatever [keys] subaddress says: bob@example.org does not match "
        "bob+tag@example.org. Write a rule with bob+*@example.org for that.",
        check="pattern",
    )
    sender: str = option(
        "",
        "Shell pattern for the envelope sender, as given or as completed by append_origin and append_domain; <> is "
        "the null sender. If the sender is not written as RFC 5321 says, such as < > or Boss<boss@example.org>, an "
        "MTA may turn it into another one. Then nobody can tell whether the rule holds: it is unclear.",
        check="pattern",
    )
    domain: tuple[str, ...] = option(
        (), "Names or shell patterns; the recipient's domain must match one.", check="domain"
    )
    client: tuple[str, ...] = option((), "Networks; the client must be in one.", check="network")
    user: str = option("", "Shell pattern for the name that the client authenticated as; * means any.", check="user")
    direction: str = option("", "The direction of the message for this recipient.", choices=("", "outbound", "inbound"))
    encrypt: str = option(
        "",
        "require: look for a key, whatever mode and local_domains say, and refuse anything that would go plain. "
        "never: look for no key, and send plain.",
        choices=("", "require", "never"),
    )
    key: str = option(
        "",
        "A file with the key of these recipients: the certificate of a gateway or of a whole domain, say. No source is "
        "asked for them, in DNS or elsewhere. A rule with a key wants encryption, whatever mode and local_domains say. "
        "The file is the administrator's word, so the key need not name the recipient; everything else about it is "
        "judged as usual. If it holds several keys, one that names the recipient comes first, then a certificate, then "
        "as prefer in [keys] says. A changed file counts at once. A file that cannot be read is unreachable; one "
        "without a usable key is unusable_key, never no_key.",
        absolute=True,
    )
    formats: tuple[str, ...] = option(
        (),
        "The formats allowed: smime, openpgp, the preferred one first. Empty: any, in the order of the sources.",
        each=("smime", "openpgp"),
    )
    trust: tuple[str, ...] = option((), "As in [keys], for these recipients and their further readers.", each=TRUST)
    also_to: tuple[str, ...] = option(
        (),
        "Further readers: the message is also encrypted to the usable keys of these addresses; sender means the "
        "envelope sender. They can read the message, but get no copy. If such a key is bogus, unreachable or unclear, "
        "the message is deferred; if there is none, the message goes without it. Some recipients cannot open a "
        "message that is also for an EC key (see separate in [smime]), so an RSA certificate is best here.",
        check="reader",
    )
    cipher: str = option(
        "",
        "As in [smime], whatever the certificate announces.",
        choices=("", *CIPHERS),
    )
    rsa_padding: str = option("", "As in [smime].", choices=("", *RSA_PADDINGS))
    ecdh_kdf: str = option("", "As in [smime].", choices=("", *ECDH_KDFS))
    hidden_recipients: bool = option(False, "As in [openpgp]; true if either of the two is true.")
    at_rcpt: bool = option(
        False,
        "If the key fails, defer or refuse this recipient alone, at RCPT. A message that is already encrypted is then "
        "deferred or refused too, because nobody knows its content yet. Not for mail from sendmail(1).",
    )
    no_key: str = option(
        "",
        "As in [policy].",
        choices=("", *FAILURE_ACTIONS),
    )
    unclear: str = option(
        "",
        "As in [policy].",
        choices=("", *NEVER_PLAIN),
    )
    insecure: str = option("", "As in [policy].", choices=("", *FAILURE_ACTIONS))
    bogus: str = option(
        "",
        "As in [policy].",
        choices=("", *NEVER_PLAIN),
    )
    unreachable: str = option("", "As in [policy].", choices=("", *NEVER_PLAIN))
    unusable_key: str = option(
        "",
        "As in [policy].",
        choices=("", *FAILURE_ACTIONS),
    )
    protect_headers: str = option("", "As [headers] protect.", choices=("", *PROTECTIONS))
