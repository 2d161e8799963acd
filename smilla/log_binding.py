"""Events of the log about copies that are bound to a verified hop; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event


def bound_again(queue_id: str, recipient: str, answer: str) -> None:
    """A requeued copy (postsuper -r) went to the listener of ``secure_smtp`` once more, which gave this answer."""
    _event(
        logging.INFO if answer.startswith("2") else logging.WARNING,
        "bound-again",
        queue_id,
        rcpt=recipient,
        reply=answer,
    )
