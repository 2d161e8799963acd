"""Events of the log that say what works again; each follows one that said what fails, in the same process."""

from __future__ import annotations

from smilla.log import _INFO, _event, failing


def resolver_works(nameserver: str, probe: str) -> None:
    """The resolver has proven that it validates."""
    if _is_over(f"{nameserver} {probe}"):
        _event(_INFO, "resolver-ok", nameserver=nameserver, probe=probe)


def journal_works(queue_id: str) -> None:
    """The journal was written."""
    if _is_over("journal"):
        _event(_INFO, "journal-ok", queue_id)


def journal_is_in_doubt() -> bool:
    """Has this process logged that the journal fails, and not yet that it works again?"""
    return "journal" in failing


def listener_fails() -> None:
    """The listener of [reinject] was lost; ``copy-failed`` or ``started`` says so."""
    failing.add("listener")


def listener_works(queue_id: str) -> None:
    """The listener has answered."""
    if _is_over("listener"):
        _event(_INFO, "listener-ok", queue_id)


def _is_over(part: str) -> bool:
    if part not in failing:  # the usual case, for every message
        return False
    failing.discard(part)
    return True
