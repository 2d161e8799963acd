"""Values are frozen here, before anything else of smilla is imported, so that a test sees who would change one."""

from __future__ import annotations

from smilla import value

value.are_frozen = True
