"""smilla top where there is no terminal; on one, see tests/milter/test_status.py."""

from __future__ import annotations

from tests.unit.cli.conftest import CommandLine


def test_without_a_terminal_it_names_the_command_for_programs(commands: CommandLine) -> None:
    done = commands.run("top", "--config", commands.config())
    assert (done.code, done.out) == (2, b"")
    assert "smilla status --json" in done.err


def test_an_interval_out_of_bounds_is_a_fault_of_usage(commands: CommandLine) -> None:
    for seconds in ("0", "nan", "1e9"):
        assert commands.run("top", "--config", commands.config(), "--interval", seconds).code == 2
