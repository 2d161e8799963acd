"""A mutant put into modules that are imported already: the code objects of its functions take the place of ours.

That is some hundred times as fast as to import smilla and to collect the tests anew.  What runs while a module is
imported (constants, tables, fields of dataclasses, decorators, defaults) cannot be changed so: see imported.py.
"""

from __future__ import annotations

import gc
import inspect
from collections import defaultdict
from collections.abc import Iterator
from types import CodeType, FunctionType

Functions = dict[tuple[str, int], CodeType]
Alive = dict[tuple[str, str, int], list[FunctionType]]


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
        else ("line",)
        if "__firstlineno__" in code.co_names and value == code.co_firstlineno  # of a class, since Python 3.13
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


def alive(folder: str) -> Alive:
    """The functions that were made from files below a folder.  Asked for once: it looks at all there is."""
    found: Alive = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(folder):
            found[_key(thing.__code__)].append(thing)
    return found


def swap(pairs: list[tuple[CodeType, CodeType]], living: Alive) -> bool:
    """Give every function its new code; whether there was one for each."""
    for old, new in pairs:
        for function in living.get(_key(old), ()):
            function.__code__ = new
    return all(_key(old) in living for old, _ in pairs)


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno
