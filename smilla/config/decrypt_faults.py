"""Faults of what the configuration says about decrypting.  Pure: the files of keys are for smilla decrypt's user only,
so whoever else reads the configuration need not see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smilla.config.options import DecryptRule


def of_rule(rule: DecryptRule, _: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a rule as a whole."""
    if not rule.recipient:
        yield "names no recipient"
    if not rule.key_files and not rule.gnupg_home:
        yield "has no key: neither key_files nor gnupg_home"
    if rule.password_file and not rule.key_files:
        yield "has password_file without key_files"
    if rule.fingerprints and not rule.gnupg_home:
        yield "has fingerprints without gnupg_home"
