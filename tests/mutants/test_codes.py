"""How a mutant comes into modules that are imported already."""

from __future__ import annotations

import pytest

from tests.mutants import codes

SOURCE = """
LIMIT = 3

def usual(value):
    return [inner for inner in value if inner > LIMIT]

class Thing:
    size: int = 4

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


@pytest.mark.parametrize(
    ("before", "after"), [("LIMIT = 3", "LIMIT = 4"), ("size: int = 4", "size: int = 5"), ("@property", "")]
)
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
