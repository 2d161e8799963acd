"""Events of the log about decrypting; see log.py."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from smilla.log import _event


def decrypted(queue_id: str, recipients: Iterable[str], fields: dict[str, str], *, observed: bool) -> None:
    """The recipients get the message as it was before it was encrypted; a line each."""
    for recipient in recipients:
        _event(logging.INFO, "decrypted", queue_id, rcpt=recipient, **fields, observe="true" if observed else "")


def not_decrypted(queue_id: str, recipients: Iterable[str], code: str, detail: str) -> None:
    """The recipients get the message as it came; a line each."""
    for recipient in recipients:
        _event(logging.WARNING, "not-decrypted", queue_id, rcpt=recipient, reason=code, detail=detail)


def started(socket: str, rules: int, workers: int, version: str) -> None:
    """smilla decrypt listens."""
    _event(logging.INFO, "decrypt-started", socket=socket, rules=rules, workers=workers, version=version)
