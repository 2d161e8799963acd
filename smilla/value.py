"""Values that are made anew for every message: dataclasses that nobody changes.

That nobody does is proven by mypy, which takes them for frozen; in the tests they are.  In production they are not,
since a frozen dataclass sets each field by a call of its own, and that is a twelfth of what a letter costs.  Keys and
options are made once and stay frozen everywhere.
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
