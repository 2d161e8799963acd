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


def test_zone_file_that_is_not_there_is_an_error(commands: CommandLine) -> None:
    done = commands.run(
        "withdraw", "pia@example.org", "--via", "zone-file", "--zone-file", commands.folder / "mistyped"
    )
    assert (done.code, "mistyped: there is no such file" in done.err) == (2, True)


def test_serial_is_to_be_raised_only_where_something_was_changed(commands: CommandLine) -> None:
    path = commands.file("zone", b"; empty\n")
    key = ("--cert", KEYS / "hugh.crt", "--force")
    for is_new in (True, False):
        done = commands.run("publish", "hugh@example.org", *key, "--via", "zone-file", "--zone-file", path)
        assert ("raise the serial" in done.err) is is_new, done.err


@pytest.mark.parametrize("server", ["127.0.0.1:53", "127.0.0.1@x", "127.0.0.1@0", "@53"])
def test_server_is_a_host_with_its_port_behind_an_at_sign(commands: CommandLine, server: str) -> None:
    done = commands.run("withdraw", "pia@example.org", "--config", commands.config(), "--server", server)
    assert (done.code, "HOST or HOST@PORT" in done.err) == (2, True), done.err


def test_without_a_file_it_says_what_to_take_away(commands: CommandLine) -> None:
    done = commands.run("withdraw", "pia@example.org", "--openpgpkey", "--via", "zone-file")
    assert done.out.startswith(b"; take away: ")
    assert b"._openpgpkey.example.org. IN OPENPGPKEY" in done.out
