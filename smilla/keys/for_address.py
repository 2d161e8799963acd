"""The key for an address whoever writes to it: from the sources, or from the file that a rule names for it.

``smilla lookup`` and the status page look it up this way.  A message also has a sender and a client, on which other
rules may depend; what these may change is said in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smilla.keys import lookup
from smilla.policy import rules
from smilla.value import value

if TYPE_CHECKING:
    from smilla.address import EmailAddress
    from smilla.config import Config, Rule
    from smilla.model import KeyLookup
    from smilla.ports import PendingLookup, Ports


@value
class Found:
    """The look-up, and in words which rules have another key for this address in some messages."""

    lookup: KeyLookup
    others: tuple[str, ...] = ()


def look_up(address: EmailAddress, ports: Ports, config: Config) -> Found:
    """Waits for the answers no longer than a message would."""
    may_apply = rules.for_address(config.rule, address)
    certain = next((each for _, each in may_apply if rules.is_unconditional(each) and each.key), None)
    key_file, formats = (certain.key, certain.formats) if certain else ("", ())
    pending = _begun(address, key_file, ports, config)
    deadline = pending.asked_at + config.dns.timeout_s
    found = lookup.finish(pending, deadline, ports.clock.now(), ports, formats)
    return Found(found, tuple(_told(number, each) for number, each in may_apply if each.key != key_file))


def _begun(address: EmailAddress, key_file: str, ports: Ports, config: Config) -> PendingLookup:
    if key_file:
        return lookup.begin_of_rule(address, key_file, ports, config)
    return lookup.begin(address, ports, config)


def _told(number: int, rule: Rule) -> str:
    what = f"the key in {rule.key}" if rule.key else "the key that the sources have"
    return f"mail that rule {number} matches ({rules.in_words(rule)}) gets {what}; smilla explain says which mail does"
