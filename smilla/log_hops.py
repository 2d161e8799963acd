"""Events of the log about verified hops; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event
from smilla.model import Hop, HopVerdict

_failing: set[str] = set()


def hop(found: Hop) -> None:
    """The search for a verified hop to a domain is over."""
    _event(
        logging.INFO if found.verdict in (HopVerdict.VERIFIED, HopVerdict.NONE) else logging.WARNING,
        "hop",
        domain=found.domain,
        verdict=found.verdict.value,
        way=found.way.value if found.way else "",
        reason=found.reason.code,
        names=",".join(found.names),
        policy_id=found.policy_id,
        detail="" if found.is_verified else found.reason.text,
    )


def policy_fetched(domain: str, policy_id: str, detail: str) -> None:
    """An MTA-STS policy was fetched, and is remembered."""
    _event(logging.INFO, "sts-policy", domain=domain, policy_id=policy_id, detail=detail)


def policy_not_fetched(domain: str, policy_id: str, detail: str) -> None:
    """An MTA-STS policy is announced and could not be fetched; one that is remembered goes on applying."""
    _event(logging.WARNING, "sts-policy-failed", domain=domain, policy_id=policy_id, detail=detail)


def store_failed(path: str, detail: str) -> None:
    """Policies are not remembered; said once in each process, until it works again."""
    if path not in _failing:
        _failing.add(path)
        _event(logging.ERROR, "hop-store-failed", file=path, detail=detail)


def store_works(path: str) -> None:
    """The store was used."""
    _failing.discard(path)


def closed(detail: str) -> None:
    """Postfix cannot ask smilla how it must protect connections."""
    _event(logging.ERROR, "hop-socket-closed", detail=detail)


def policyd_started(socket: str, version: str) -> None:
    """The policy server alone (smilla policyd) listens."""
    _event(logging.INFO, "policyd-started", socket=socket, version=version)
