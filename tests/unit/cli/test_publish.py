"""smilla publish: what is refused before anything leaves, and the zone-file fragment; the rest needs servers (live)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import CommandLine
from tests.vectors.memory import KEYS

CERTIFICATE, KEY, EXPIRED = KEYS / "hugh.crt", KEYS / "pia.pgp", KEYS / "expired.crt"
FRAGMENT = ("--via", "zone-file")


def test_fragment_is_printed_with_its_ttl_and_what_to_do(commands: CommandLine) -> None:
    line = commands.run("record", "hugh@example.org", "--cert", CERTIFICATE).out
    done = commands.run("publish", "hugh@example.org", "--cert", CERTIFICATE, *FRAGMENT, "--ttl", "60")
    assert done.code == 0
    assert done.out == line.replace(b" IN ", b" 60 IN ", 1)
    assert "raise the serial" in done.err


def test_fragment_in_a_file_holds_each_record_once(commands: CommandLine) -> None:
    path = commands.folder / "smilla.zone"
    for given in (("hugh@example.org", "--cert", CERTIFICATE), ("pia@example.org", "--key", KEY)) * 2:
        assert commands.run("publish", *given, *FRAGMENT, "--zone-file", path).code == 0
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert [line.split()[3] for line in lines[1:]] == ["SMIMEA", "OPENPGPKEY"]
    done = commands.run("withdraw", "pia@example.org", *FRAGMENT, "--zone-file", path)
    assert done.code == 0
    assert path.read_text().splitlines() == lines[:2]


def test_record_that_is_there_already_is_told(commands: CommandLine) -> None:
    path = commands.folder / "smilla.zone"
    given = ("publish", "hugh@example.org", "--cert", CERTIFICATE, *FRAGMENT, "--zone-file", path)
    commands.run(*given)
    done = commands.run(*given)
    assert done.code == 0
    assert "is there already; nothing was changed" in done.err


@pytest.mark.parametrize(("option", "path"), [("--cert", EXPIRED), ("--key", KEYS / "pgp-revoked.pgp")])
def test_key_that_senders_would_not_use_is_refused_unless_forced(
    commands: CommandLine, option: str, path: Path
) -> None:
    given = ("publish", "hugh@example.org", option, path, *FRAGMENT)
    done = commands.run(*given)
    assert (done.code, done.out) == (77, b"")
    assert "warning: senders will not use it" in done.err
    assert "--force" in done.err
    forced = commands.run(*given, "--force")
    assert forced.code == 0
    assert forced.out
    assert "warning: senders will not use it" in forced.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--server", "127.0.0.1@0", "--no-wait"),
        ("--server", "127.0.0.1@x", "--no-wait"),
        ("--via", "desec"),
        (*FRAGMENT, "--ttl", "-1"),
        (*FRAGMENT, "--ttl", "100000"),
        (*FRAGMENT, "--wait", "-1"),
        (*FRAGMENT, "--wait", "1", "--no-wait"),
        (*FRAGMENT, "--minimal"),
        ("--server", "127.0.0.1", "--no-wait", "--tsig-key", "/dev/null"),
        ("--via", "desec", "--no-wait", "--token-file", "/dev/null"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_leaves(commands: CommandLine, arguments: tuple[str, ...]) -> None:
    done = commands.run("publish", "hugh@example.org", "--cert", CERTIFICATE, *arguments)
    assert (done.code, done.out) == (2, b"")


def test_configuration_is_read_before_anything_leaves(commands: CommandLine) -> None:
    broken = commands.config("[dns\n")
    path = commands.folder / "smilla.zone"
    to = (*FRAGMENT, "--zone-file", path, "--wait", "1", "--config", broken)
    done = commands.run("publish", "hugh@example.org", "--cert", CERTIFICATE, *to)
    assert done.code == 78
    assert not path.exists()


def test_fragment_of_somebody_else_is_left_alone(commands: CommandLine) -> None:
    path = commands.file("zone", b"@ IN SOA a b (\n 1 2 3 4 5 )\n")
    done = commands.run("publish", "hugh@example.org", "--cert", CERTIFICATE, *FRAGMENT, "--zone-file", path)
    assert done.code == 2
    assert path.read_bytes() == b"@ IN SOA a b (\n 1 2 3 4 5 )\n"
