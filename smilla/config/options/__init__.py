"""Every option once: its name, type, default, bounds and help.

The configuration file and its errors (config.py), ``smilla config sample`` and smilla.toml(5) (config_text.py) are all
made from the dataclasses below.
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
    KEY_FAILURES,
    PREFERENCES,
    SOURCES,
    SPLITS,
    STYLE,
    option,
)
from smilla.config.options.keys import HeadersOptions, KeysOptions, OpenPGPOptions, SMIMEOptions
from smilla.config.options.policy import PolicyOptions, Rule, default_action
from smilla.config.options.service import (
    DNSOptions,
    LogOptions,
    MilterOptions,
    ReinjectOptions,
    SpoolOptions,
    StageOptions,
)

__all__ = [
    "CONDITIONS",
    "DEFAULT_PATH",
    "FAILURES",
    "FORMATS_OF",
    "KEY_FAILURES",
    "PREFERENCES",
    "SECTIONS",
    "SOURCES",
    "SPLITS",
    "STYLE",
    "Config",
    "DNSOptions",
    "HeadersOptions",
    "KeysOptions",
    "LogOptions",
    "MilterOptions",
    "OpenPGPOptions",
    "PolicyOptions",
    "ReinjectOptions",
    "Rule",
    "SMIMEOptions",
    "SpoolOptions",
    "StageOptions",
    "default_action",
    "options",
]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, immutable: a reload makes another one."""

    observe: bool = option(False, "Decide and log, change nothing; for the first weeks.")
    mode: str = option(
        "outbound",
        "outbound: protect mail on its way; inbound: protect mail at rest; auto: outbound where {auth_authen} is set, "
        "{daemon_name} is ORIGINATING or the client is in internal_networks, else inbound; for each recipient, inbound "
        "where they are in local_domains, outbound where they are not, whoever the client is.",
        choices=("outbound", "inbound", "auto"),
    )
    local_domains: tuple[str, ...] = option(
        (),
        "Names or shell patterns (*.example.org). Inbound mode encrypts for recipients in these only (empty: a "
        "fault), outbound for all others (empty: for all); in auto, mail to these is inbound, to all others outbound. "
        "The MTA's own name and localhost are local as well where mail is inbound; their mailboxes have the keys of "
        "append_origin. In auto, the domains that the MTA relays for (relay_domains of a backup MX) belong here, or in "
        'a rule with encrypt = "never".',
        check="domain",
    )
    internal_networks: tuple[str, ...] = option(
        ("127.0.0.0/8", "::1"),
        "Clients that are ours in mode auto, besides those that authenticate: every network that the MTA relays for "
        "(Postfix: mynetworks). Mail that it relays for others is outbound all the same, and logged as relayed.",
        check="network",
    )
    append_origin: str = option(
        "",
        "The domain that the MTA appends to a recipient without one (Postfix: myorigin). Empty: the first of "
        "local_domains that is no pattern.",
        check="origin",
    )
    append_domain: str = option(
        "",
        "The domain that the MTA appends to the domain of a recipient where that is a single label (Postfix: mydomain, "
        "where append_dot_mydomain = yes): bob@partner is then bob@partner.example.org, for rules and for look-ups. "
        "Empty: none; a single label that is not in local_domains is unclear, save localhost, which is this machine.",
        check="origin",
    )
    milter: MilterOptions = field(default_factory=MilterOptions)
    dns: DNSOptions = field(default_factory=DNSOptions)
    keys: KeysOptions = field(default_factory=KeysOptions)
    smime: SMIMEOptions = field(default_factory=SMIMEOptions)
    openpgp: OpenPGPOptions = field(default_factory=OpenPGPOptions)
    headers: HeadersOptions = field(default_factory=HeadersOptions)
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    rule: tuple[Rule, ...] = ()
    reinject: ReinjectOptions = field(default_factory=ReinjectOptions)
    stage: StageOptions = field(default_factory=StageOptions)
    spool: SpoolOptions = field(default_factory=SpoolOptions)
    log: LogOptions = field(default_factory=LogOptions)

    @property
    def origin(self) -> str:
        """The domain of recipients without one, "" where it is not known."""
        names = (name for name in self.local_domains if not set(name) & set("*?["))
        return self.append_origin or next(names, "")

    def behind(self, mta: str) -> Config:
        """With [policy] mixed as it is behind this MTA (postfix, sendmail, or "" where nobody knows)."""
        known = self.milter.mta or mta
        if self.policy.mixed or not known:
            return self
        mixed = "stage" if known == "postfix" else "reinject"
        return dataclasses.replace(self, policy=dataclasses.replace(self.policy, mixed=mixed))

    @property
    def may_split(self) -> bool:
        """May recipients get different forms, behind some MTA?"""
        return self.policy.mixed in ("", *SPLITS)

    @property
    def may_seal(self) -> bool:
        """May messages be sealed, behind some MTA?"""
        return self.policy.mixed == "stage" or (not self.policy.mixed and self.milter.mta != "sendmail")

    @property
    def completion(self) -> Completion:
        """What the MTA adds to an incomplete recipient."""
        return Completion(self.origin, self.append_domain)


SECTIONS: dict[str, type[Any]] = {
    "milter": MilterOptions,
    "dns": DNSOptions,
    "keys": KeysOptions,
    "smime": SMIMEOptions,
    "openpgp": OpenPGPOptions,
    "headers": HeadersOptions,
    "policy": PolicyOptions,
    "rule": Rule,
    "reinject": ReinjectOptions,
    "stage": StageOptions,
    "spool": SpoolOptions,
    "log": LogOptions,
}


def options_of(section: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The options of one section by name, sections and rules left out."""
    return {f.name: f for f in dataclasses.fields(section) if "help" in f.metadata}
