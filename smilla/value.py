"""Values that are made afresh for every message: dataclasses that nobody changes.

mypy proves this, since it sees them as frozen, and in the tests they are frozen.  In production they are not: a frozen
dataclass sets each field by a separate call, and that is a twelfth of the cost of a letter.  Keys and options are made
once and stay frozen everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Class = TypeVar("_Class")
are_frozen = False  # tests/conftest.py sets it before anything else is imported


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_Class]) -> type[_Class]:
    """A dataclass with slots, compared and hashed by its fields."""
    return dataclass(slots=True, frozen=are_frozen, unsafe_hash=True)(cls)
