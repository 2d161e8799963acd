"""Every reason that a line of the log may have is a value of the label; nothing else is."""

from __future__ import annotations

import ast
from pathlib import Path

import smilla
from smilla.errors import SmillaError
from smilla.metrics.reasons import KNOWN, LEFT
from smilla.model import DNSSECStatus

PACKAGE = Path(smilla.__file__).parent
_CALLS = ("Reason", "RefusedError", "against", "not_meant", "_plain")


def _stated(calls: tuple[str, ...] = _CALLS) -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in calls and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    return found


def _codes(kind: type[SmillaError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


def test_the_known_reasons_are_those_of_the_code() -> None:
    """Where this fails, put the new reason into smilla/metrics/reasons.py, or take the old one out."""
    assert _stated() | _codes(SmillaError) | {status.value for status in DNSSECStatus} == KNOWN


def test_the_reasons_of_smilla_decrypt_are_those_of_the_code() -> None:
    assert KNOWN | _stated(("NotDecrypted",)) == LEFT
