"""What a recipient needs, and what happens: ``wanted`` before the look-ups, ``decide`` after them."""

from smilla.policy.decision import (
    already_encrypted,
    awaits_expansion,
    decide,
    over_hop,
    refused,
    styled,
    unclear_sender,
)
from smilla.policy.requirement import (
    Circumstances,
    Requirement,
    direction,
    hides_destination,
    is_ours,
    is_relayed,
    is_unclear,
    may_ask,
    may_use_hop,
    on_request,
    rule_table,
    wanted,
)

__all__ = [
    "Circumstances",
    "Requirement",
    "already_encrypted",
    "awaits_expansion",
    "decide",
    "direction",
    "hides_destination",
    "is_ours",
    "is_relayed",
    "is_unclear",
    "may_ask",
    "may_use_hop",
    "on_request",
    "over_hop",
    "refused",
    "rule_table",
    "styled",
    "unclear_sender",
    "wanted",
]
