"""A mutant put into modules that are imported already: the code objects of its functions take the place of ours.

That is some hundred times as fast as to import smilla and to collect the tests anew.  Of what runs while a module is
imported, constants and tables are assigned again (``constants``); fields of dataclasses, decorators and defaults cannot
be changed so: see imported.py.
"""

from __future__ import annotations

import ast
import gc
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from types import CodeType, FunctionType, ModuleType

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


def caches(folder: str) -> list[_lru_cache_wrapper[object]]:
    """The caches of the functions below a folder.  What is remembered from another test, or since the tests were
    collected, would hide a mutant.  Not all that is wrapped is a function: sqlite3 keeps its statements so."""
    return [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, _lru_cache_wrapper)
        and isinstance(thing.__wrapped__, FunctionType)
        and thing.__wrapped__.__code__.co_filename.startswith(folder)
    ]


def swap(pairs: list[tuple[CodeType, CodeType]], living: Alive) -> bool:
    """Give every function its new code; whether there was one for each."""
    for old, new in pairs:
        for function in living.get(_key(old), ()):
            function.__code__ = new
    return all(_key(old) in living for old, _ in pairs)


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def constants(before: str, after: str) -> list[ast.stmt] | None:
    """The assignments of a module to do again, where nothing else has changed than constants and what is made of them.

    None where a class, a decorator or a default takes part, so that the module has to be imported anew.
    """
    old, new = (ast.parse(text).body for text in (before, after))
    if len(old) != len(new):
        return None
    again: list[ast.stmt] = []
    names: set[str] = set()
    for was, now in zip(old, new, strict=True):
        if ast.dump(was) == ast.dump(now) and names.isdisjoint(_read_at_import(now)):
            continue
        targets = now.targets if isinstance(now, ast.Assign) else [now.target] if isinstance(now, ast.AnnAssign) else []
        if not targets or not all(isinstance(target, ast.Name) for target in targets):
            return None
        names.update(target.id for target in targets if isinstance(target, ast.Name))
        again.append(now)
    return again


def _read_at_import(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement reads while the module is imported, and more: those of functions within a class."""
    nodes: list[ast.AST] = [statement]
    if isinstance(statement, ast.FunctionDef):
        nodes = [*statement.decorator_list, *statement.args.defaults, *filter(None, statement.args.kw_defaults)]
    elif isinstance(statement, ast.ClassDef):
        inner = [part for part in statement.body if not isinstance(part, ast.FunctionDef)]
        nodes = [*statement.decorator_list, *statement.bases, *inner]
        for part in statement.body:
            if isinstance(part, ast.FunctionDef):
                yield from _read_at_import(part)
    for node in nodes:
        yield from (name.id for name in ast.walk(node) if isinstance(name, ast.Name))


def assign(statements: list[ast.stmt], module: ModuleType) -> bool:
    """Do the assignments in a module, and wherever a constant of it was imported; always true, as ``swap`` may be."""
    space = vars(module)
    before = dict(space)
    exec(compile(ast.Module(statements, []), str(module.__file__), "exec", dont_inherit=True), space)
    for name, value in space.items():
        if name in before and before[name] is not value and not name.startswith("_"):
            for other in list(sys.modules.values()):
                if vars(other).get(name) is before[name]:
                    setattr(other, name, value)
    return True
