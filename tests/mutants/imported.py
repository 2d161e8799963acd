"""A pytest plugin: one module of smilla is imported from the text of a mutant (SMILLA_MUTANT=module:file)."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

MODULE, _, TEXT = os.environ["SMILLA_MUTANT"].partition(":")


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        return compile(Path(TEXT).read_bytes(), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin)
        return spec


if MODULE in sys.modules:
    raise ImportError(f"{MODULE} is imported already")
sys.meta_path.insert(0, _Finder())
