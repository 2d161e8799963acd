"""A mutant put into modules that are imported already: the code objects of its functions take the place of ours.

That is some hundred times as fast as to import smilla and to collect the tests anew.  What runs while a module is
imported (constants, tables, fields of dataclasses, decorators, defaults) cannot be changed so: see imported.py.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

Functions = dict[tuple[str, int], CodeType]


class RunsAtImport(Exception):
    """The change is in what runs while the module is imported."""


def functions(module: CodeType) -> Functions:
    """The functions and methods of a module by name, and how many of that name came before."""
    found: Functions = {}
    for code in _outermost(module):
        nth = sum(1 for name, _ in found if name == code.co_qualname)
        found[code.co_qualname, nth] = code
    return found


def _outermost(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & inspect.CO_NEWLOCALS and inner.co_flags & inspect.CO_OPTIMIZED:
                yield inner
            else:
                yield from _outermost(inner)


def shape(code: CodeType, *, whole: bool) -> tuple[object, ...]:
    """What a code object does, line numbers left out; of a module or class, with or without its functions."""
    inner = tuple(
        shape(value, whole=whole)
        if isinstance(value, CodeType) and (whole or not value.co_flags & inspect.CO_OPTIMIZED)
        else ("function",)
        if isinstance(value, CodeType)
        else (type(value), value)
        for value in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags, inner, code.co_exceptiontable


def changed(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]]:
    """The functions that differ; empty where none does.  RunsAtImport where something else does."""
    old, new = functions(before), functions(after)
    if old.keys() != new.keys() or shape(before, whole=False) != shape(after, whole=False):
        raise RunsAtImport
    return [(old[key], new[key]) for key in old if shape(old[key], whole=True) != shape(new[key], whole=True)]


def swap(pairs: list[tuple[CodeType, CodeType]]) -> bool:
    """Give every function that is alive its new code; whether there was one for each."""
    waiting = {(old.co_filename, old.co_qualname, old.co_firstlineno): new for old, new in pairs}
    found = set()
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            key = (thing.__code__.co_filename, thing.__code__.co_qualname, thing.__code__.co_firstlineno)
            if key in waiting:
                thing.__code__ = waiting[key]
                found.add(key)
    return found == set(waiting)
