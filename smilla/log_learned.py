"""Events of the log about learned keys; see log.py."""

from __future__ import annotations

import logging

from smilla.log import _event
from smilla.model import LearnedKey

_failing: set[str] = set()
_full: set[str] = set()


def learned(queue_id: str, key: LearnedKey) -> None:
    """A message brought a key for its sender's address, and it is another one than before."""
    _event(
        logging.INFO,
        "key-learned",
        queue_id,
        rcpt=str(key.address),
        format=key.format.value,
        fingerprint=key.fingerprint,
        way=key.way,
    )


def forgotten(name: str, count: int) -> None:
    """Keys of an address or a domain were forgotten."""
    _event(logging.INFO, "key-forgotten", rcpt=name, keys=count)


def store_failed(path: str, detail: str) -> None:
    """A key could not be kept; said once in each process, until it works again."""
    if path not in _failing:
        _failing.add(path)
        _event(logging.ERROR, "learned-store-failed", file=path, detail=detail)


def store_full(path: str, most: int) -> None:
    """A key was not kept for want of room; said once in each process."""
    if path not in _full:
        _full.add(path)
        _event(logging.WARNING, "learned-store-full", file=path, most=most)


def store_works(path: str) -> None:
    """The store was used."""
    _failing.discard(path)


def not_learned(queue_id: str, why: str) -> None:
    """A message offers a key, and nothing was learned from it."""
    _event(logging.DEBUG, "key-not-learned", queue_id, detail=why)
