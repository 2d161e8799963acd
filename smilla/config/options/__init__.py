"""Every option once: its name, type, default, bounds and help.

The reader of the file and its errors (config/reader.py), ``smilla config sample`` and smilla.toml(5) (config/text.py)
are all made from the dataclasses below.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from smilla.address import Completion
from smilla.config.options.basic import (
    CONDITIONS,
    DEFAULT_PATH,
    FAILURES,
    FORMATS_OF,
    HOP_FAILURES,
    KEY_FAILURES,
    OUTSIDE_DNS,
    PREFERENCES,
    RULE,
    SECURE_HOP,
    SOURCES,
    SPLITS,
    STYLE,
    TRUST,
    WITHOUT_RESOLVER,
    option,
)
from smilla.config.options.decrypt import DecryptOptions, DecryptRule
from smilla.config.options.hop import Circle, HopOptions
from smilla.config.options.keys import HeadersOptions, KeysOptions, OpenPGPOptions, SMIMEOptions
from smilla.config.options.ldap import LDAPOptions
from smilla.config.options.learned import LearnedOptions
from smilla.config.options.policy import PolicyOptions, Rule, default_action
from smilla.config.options.relay import RelayOptions
from smilla.config.options.service import (
    DNSOptions,
    LogOptions,
    MetricsOptions,
    MilterOptions,
    ReinjectOptions,
    SpoolOptions,
    StageOptions,
    WebOptions,
)
from smilla.config.options.store import StoreOptions
from smilla.config.options.transport import TransportOptions

__all__ = [
    "CONDITIONS",
    "DEFAULT_PATH",
    "FAILURES",
    "FORMATS_OF",
    "HOP_FAILURES",
    "KEY_FAILURES",
    "OUTSIDE_DNS",
    "PREFERENCES",
    "RULE",
    "SECTIONS",
    "SECURE_HOP",
    "SOURCES",
    "SPLITS",
    "STYLE",
    "TRUST",
    "WITHOUT_RESOLVER",
    "Circle",
    "Config",
    "DNSOptions",
    "DecryptOptions",
    "DecryptRule",
    "HeadersOptions",
    "HopOptions",
    "KeysOptions",
    "LDAPOptions",
    "LearnedOptions",
    "LogOptions",
    "MetricsOptions",
    "MilterOptions",
    "OpenPGPOptions",
    "PolicyOptions",
    "ReinjectOptions",
    "RelayOptions",
    "Rule",
    "SMIMEOptions",
    "SpoolOptions",
    "StageOptions",
    "StoreOptions",
    "TransportOptions",
    "WebOptions",
    "default_action",
    "options",
]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. It is immutable: a reload makes a new one."""

    observe: bool = option(False, "Decide and log, but change nothing. For the first days.")
    mode: str = option(
        "outbound",
        "outbound: protect mail in transit. inbound: protect mail at rest. auto: a message is outbound if "
        "{auth_authen} is set, {daemon_name} is ORIGINATING or the client is in internal_networks; otherwise it is "
        "inbound. In auto, each recipient also has a direction: inbound if they are in local_domains, outbound if "
        "not, whoever the client is.",
        choices=("outbound", "inbound", "auto"),
    )
    local_domains: tuple[str, ...] = option(
        (),
        "Names or shell patterns (*.example.org). Inbound mode encrypts only for recipients in these domains (empty: "
        "a fault). Outbound mode encrypts for all others (empty: for everyone). In auto, mail to these is inbound and "
        "mail to all others is outbound. For inbound mail, the MTA's own name and localhost are local too, and their "
        "mailboxes use the keys of append_origin. In auto, list the domains that the MTA relays for (relay_domains of "
        'a backup MX) here, or in a rule with encrypt = "never".',
        check="domain",
    )
    internal_networks: tuple[str, ...] = option(
        ("127.0.0.0/8", "::1"),
        "For mode auto: your own clients, besides those that authenticate. List every network that the MTA relays for "
        "(Postfix: mynetworks). Mail that the MTA relays for other clients is outbound too, but is logged as relayed.",
        check="network",
    )
    append_origin: str = option(
        "",
        "The domain that the MTA appends to a recipient without one (Postfix: myorigin). Empty: the first name in "
        "local_domains that is not a pattern.",
        check="origin",
    )
    append_domain: str = option(
        "",
        "The domain that the MTA appends to a domain of one label (Postfix: mydomain, if append_dot_mydomain = yes): "
        "bob@partner becomes bob@partner.example.org, for rules and look-ups. Empty: none; then a single label is "
        "unclear, unless it is in local_domains or is localhost, which is this machine.",
        check="origin",
    )
    milter: MilterOptions = field(default_factory=MilterOptions)
    dns: DNSOptions = field(default_factory=DNSOptions)
    keys: KeysOptions = field(default_factory=KeysOptions)
    learned: LearnedOptions = field(default_factory=LearnedOptions)
    ldap: LDAPOptions = field(default_factory=LDAPOptions)
    smime: SMIMEOptions = field(default_factory=SMIMEOptions)
    openpgp: OpenPGPOptions = field(default_factory=OpenPGPOptions)
    headers: HeadersOptions = field(default_factory=HeadersOptions)
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    rule: tuple[Rule, ...] = ()
    reinject: ReinjectOptions = field(default_factory=ReinjectOptions)
    stage: StageOptions = field(default_factory=StageOptions)
    relay: RelayOptions = field(default_factory=RelayOptions)
    hop: HopOptions = field(default_factory=HopOptions)
    circle: tuple[Circle, ...] = ()
    decrypt: DecryptOptions = field(default_factory=DecryptOptions)
    decrypt_rule: tuple[DecryptRule, ...] = ()
    transport: TransportOptions = field(default_factory=TransportOptions)
    store: StoreOptions = field(default_factory=StoreOptions)
    spool: SpoolOptions = field(default_factory=SpoolOptions)
    log: LogOptions = field(default_factory=LogOptions)
    web: WebOptions = field(default_factory=WebOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)

    completion: Completion = field(init=False, repr=False, compare=False)
    """What the MTA adds to an incomplete recipient."""

    def __post_init__(self) -> None:
        names = (name for name in self.local_domains if not set(name) & set("*?["))
        completion = Completion(self.append_origin or next(names, ""), self.append_domain)
        object.__setattr__(self, "completion", completion)

    @property
    def origin(self) -> str:
        """The domain of recipients without one, "" if it is not known."""
        return self.completion.origin

    def behind(self, mta: str) -> Config:
        """With this MTA in [milter] mta (postfix, sendmail, or "" if unknown), and the [policy] mixed that it gets."""
        known = self.milter.mta or mta
        if not known:
            return self
        mixed = self.policy.mixed or ("stage" if known == "postfix" else "reinject")
        policy, milter = dataclasses.replace(self.policy, mixed=mixed), dataclasses.replace(self.milter, mta=known)
        return dataclasses.replace(self, policy=policy, milter=milter)

    def relaying(self) -> Config:
        """As it applies in the relay: no MTA holds the message, so every copy is handed over."""
        mixed = "reinject" if self.may_split or self.relay.protocol == "lmtp" else self.policy.mixed
        policy = dataclasses.replace(self.policy, mixed=mixed)
        milter = dataclasses.replace(self.milter, mta="", message_size_limit=0)
        return dataclasses.replace(self, policy=policy, milter=milter)

    @property
    def status_socket(self) -> str:
        """The path of the socket that smilla status asks."""
        return self.metrics.status or f"{self.reinject.spool}/status.sock"

    @property
    def decrypt_status(self) -> str:
        """The path of the socket where smilla decrypt tells its counts, "" if it does not."""
        kind, _, path = self.decrypt.socket.partition(":")
        beside = f"{path.rpartition('/')[0]}/status.sock" if kind in ("unix", "local") else ""
        return self.decrypt.status or beside

    @property
    def uses_hop(self) -> bool:
        """May any recipient's copy be sent over a verified hop only?"""
        named = (getattr(where, name) for where in (self.policy, *self.rule) for name in HOP_FAILURES)
        return SECURE_HOP in named

    @property
    def hop_store(self) -> str:
        """The file of the MTA-STS policies that are remembered, so that a restart is no downgrade."""
        return f"{self.reinject.spool}/hops.sqlite"

    @property
    def uses_learned(self) -> bool:
        """Are learned keys used, or learned?"""
        return "learned" in self.keys.sources or bool(self.learned.accept)

    @property
    def learned_store(self) -> str:
        """The file of the learned keys."""
        return f"{self.reinject.spool}/learned.sqlite"

    @property
    def may_split(self) -> bool:
        """May recipients get different forms, with any MTA?"""
        return self.policy.mixed in ("", *SPLITS)

    @property
    def may_seal(self) -> bool:
        """May messages be sealed, with any MTA?"""
        return self.policy.mixed == "stage" or (not self.policy.mixed and self.milter.mta != "sendmail")


SECTIONS: dict[str, type[Any]] = {
    "milter": MilterOptions,
    "dns": DNSOptions,
    "keys": KeysOptions,
    "learned": LearnedOptions,
    "ldap": LDAPOptions,
    "smime": SMIMEOptions,
    "openpgp": OpenPGPOptions,
    "headers": HeadersOptions,
    "policy": PolicyOptions,
    "rule": Rule,
    "reinject": ReinjectOptions,
    "stage": StageOptions,
    "relay": RelayOptions,
    "hop": HopOptions,
    "circle": Circle,
    "decrypt": DecryptOptions,
    "decrypt_rule": DecryptRule,
    "transport": TransportOptions,
    "store": StoreOptions,
    "spool": SpoolOptions,
    "log": LogOptions,
    "web": WebOptions,
    "metrics": MetricsOptions,
}


def options_of(section: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The options of one section by name, sections and rules left out."""
    return {f.name: f for f in dataclasses.fields(section) if "help" in f.metadata}
