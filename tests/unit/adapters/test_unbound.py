"""The real unbound-checkconf is asked in tests/live/test_doctor.py."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from smilla.adapters import unbound


@pytest.mark.parametrize(("state", "kept"), [(0, True), (1, True), (5, False), (-1, None)])
def test_clock_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, state: int, kept: bool | None) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(adjtimex=lambda _: state))
    assert unbound.clock_is_kept() is kept


def test_kernel_without_that_call_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert unbound.clock_is_kept() is None


@pytest.mark.parametrize(("script", "told"), [("echo 10", "10"), ("echo 10; exit 1", ""), ("echo a >&2", "")])
def test_option_is_what_the_program_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, told: str
) -> None:
    program = tmp_path / "unbound-checkconf"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert unbound.option("incoming-num-tcp") == told
