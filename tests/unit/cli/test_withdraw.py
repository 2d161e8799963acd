"""smilla withdraw: which records go."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import CommandLine
from tests.vectors.memory import KEYS


@pytest.mark.parametrize(
    ("arguments", "left"), [((), []), (("--smimea",), ["OPENPGPKEY"]), (("--openpgpkey",), ["SMIMEA"])]
)
def test_both_records_go_unless_one_is_named(
    commands: CommandLine, arguments: tuple[str, ...], left: list[str]
) -> None:
    path = commands.folder / "zone"
    to = ("--via", "zone-file", "--zone-file", path)
    for given in (("--cert", KEYS / "hugh.crt"), ("--key", KEYS / "pia.pgp")):
        commands.run("publish", "pia@example.org", *given, *to, "--force")
    done = commands.run("withdraw", "pia@example.org", *to, *arguments)
    assert done.code == 0
    assert [line.split()[3] for line in path.read_text().splitlines()[1:]] == left


def test_record_that_is_not_there_is_told(commands: CommandLine) -> None:
    path = commands.file("zone", b"; empty\n")
    done = commands.run("withdraw", "pia@example.org", "--smimea", "--via", "zone-file", "--zone-file", path)
    assert done.code == 0
    assert "is not there; nothing was changed" in done.err


def test_without_a_file_it_says_what_to_take_away(commands: CommandLine) -> None:
    done = commands.run("withdraw", "pia@example.org", "--openpgpkey", "--via", "zone-file")
    assert done.out.startswith(b"; take away: ")
    assert b"._openpgpkey.example.org. IN OPENPGPKEY" in done.out
