"""How a mutant comes into modules that are imported already."""

from __future__ import annotations

import ast
import sqlite3
import sys
from contextlib import closing
from types import ModuleType

import pytest

from tests.mutants import codes

SOURCE = """
LIMIT = 3
LIMITS = (LIMIT, 9)
FREE = 5

def usual(value):
    return [inner for inner in value if inner > LIMIT]

class Thing:
    size: int = FREE - 1

    @property
    def doubled(self):
        return self.size * 2
"""


def changed(before: str, after: str) -> list[str]:
    pairs = codes.changed(
        compile(SOURCE, "thing.py", "exec"), compile(SOURCE.replace(before, after), "thing.py", "exec")
    )
    return [old.co_qualname for old, _ in pairs]


def test_changed_function_is_found_and_nothing_else() -> None:
    assert changed("* 2", "* 3") == ["Thing.doubled"]
    assert changed("inner > LIMIT", "inner >= LIMIT") == ["usual"]
    assert changed("\nclass", "\n\nclass") == []


@pytest.mark.parametrize(("before", "after"), [("LIMIT = 3", "LIMIT = 4"), ("FREE - 1", "FREE - 2"), ("@property", "")])
def test_what_runs_while_a_module_is_imported_cannot_be_swapped(before: str, after: str) -> None:
    if before == "@property":
        before = "    @property\n"
    with pytest.raises(codes.RunsAtImport):
        changed(before, after)


def test_function_that_is_alive_takes_the_new_code() -> None:
    space: dict[str, object] = {}
    exec(compile(SOURCE, "/made/up/thing.py", "exec"), space)
    thing = space["Thing"]
    assert isinstance(thing, type)
    before = compile(SOURCE, "/made/up/thing.py", "exec")
    after = compile(SOURCE.replace("* 2", "* 3"), "/made/up/thing.py", "exec")
    assert codes.swap(codes.changed(before, after), codes.alive("/made/up/"))
    assert thing().doubled == 12


def constants(before: str, after: str) -> list[str] | None:
    again = codes.constants(SOURCE, SOURCE.replace(before, after))
    return None if again is None else [ast.unparse(statement) for statement in again]


def test_constant_is_assigned_again_with_all_that_is_made_of_it() -> None:
    assert constants("LIMIT = 3", "LIMIT = 4") == ["LIMIT = 4", "LIMITS = (LIMIT, 9)"]
    assert constants("9", "8") == ["LIMITS = (LIMIT, 8)"]
    assert constants("FREE = 5", "FREE = 6") is None  # a field has it as default
    assert constants("    @property\n", "") is None


def test_constant_that_was_assigned_again_is_the_new_one_where_it_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    made, importer = ModuleType("made"), ModuleType("importer")
    made.__file__ = "/made/up/thing.py"
    exec(SOURCE, vars(made))
    vars(importer).update(LIMITS=made.LIMITS)
    monkeypatch.setitem(sys.modules, "importer", importer)
    statements = codes.constants(SOURCE, SOURCE.replace("LIMIT = 3", "LIMIT = 4"))
    assert statements
    codes.assign(statements, made)
    assert made.usual([4, 5]) == [5]
    assert importer.LIMITS == (4, 9)


def test_what_was_remembered_is_forgotten() -> None:
    space: dict[str, object] = {}
    exec(compile("import functools\n@functools.cache\ndef one(): return []", "/made/up/thing.py", "exec"), space)
    one = space["one"]
    assert callable(one)
    before = one()
    assert one() is before
    with closing(sqlite3.connect(":memory:")):
        (cache,) = codes.caches("/made/up/")
    cache.cache_clear()
    assert one() is not before
