"""Lists of addresses, in a file or on standard input."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import CommandLine, Done

LIST = b"""\
\xef\xbb\xbf# ours
hugh@example.org\r
   zoe@example.org   # left in May
\t# nobody
a#b@example.org

"o #x"@example.org #1
hugh@example.org
D\xc3\xb6rte@example.org
"""
FOUND = ["hugh@example.org", "zoe@example.org", "a#b@example.org", '"o #x"@example.org', "D\xf6rte@example.org"]
COMMANDS = pytest.mark.parametrize("command", ["watch", "expiring"])


def run(commands: CommandLine, command: str, *arguments: str, stdin: bytes = b"") -> Done:
    more = ["--all"] if command == "expiring" else []
    config = commands.config('[keys]\ndirectory = "/keys"\n')
    return commands.run(command, "--config", config, "--json", *more, *arguments, stdin=stdin)


@COMMANDS
def test_addresses_stand_one_a_line_with_comments(commands: CommandLine, command: str) -> None:
    done = run(commands, command, "-f", str(commands.file("list", LIST)))
    assert [one["address"] for one in done.json] == FOUND
    assert run(commands, command, "-f", "-", stdin=LIST).json == done.json


@COMMANDS
def test_arguments_come_before_the_file(commands: CommandLine, command: str) -> None:
    done = run(commands, command, "-f", "-", "zoe@example.org", "new@example.org", stdin=LIST)
    assert [one["address"] for one in done.json][:3] == ["zoe@example.org", "new@example.org", "hugh@example.org"]


@COMMANDS
def test_every_bad_line_is_named_with_its_number_and_nothing_is_asked(commands: CommandLine, command: str) -> None:
    lines = b'# ours\nhugh@example.org\nhugh\n\nAnn <ann@example.org>\n\xff@example.org\n"open@example.org #\n'
    done = run(commands, command, "-f", "-", stdin=lines)
    assert (done.code, done.out) == (2, b"")
    for number in (3, 5, 6, 7):
        assert f"standard input, line {number}: " in done.err
    assert done.err.count("standard input, line ") == 4
    path = commands.file("list", b"hugh\n" * 30)
    done = run(commands, command, "-f", str(path), "also-bad")
    assert f"{path}, line 19: 'hugh' is not an address" in done.err
    assert "and 11 more" in done.err
    assert not commands.resolver.asked


@COMMANDS
def test_empty_list_is_no_list_of_all(commands: CommandLine, command: str) -> None:
    """Whoever gives a list that came out empty does not mean the whole folder."""
    commands.files["hugh@example.org.cer"] = None
    done = run(commands, command, "-f", "-", stdin=b"# nobody\n")
    assert (done.code, done.json) == (0, [])


@COMMANDS
def test_list_that_cannot_be_read_is_told(commands: CommandLine, command: str) -> None:
    done = run(commands, command, "-f", str(commands.folder / "missing"))
    assert (done.code, done.out) == (1, b"")
    assert "missing: cannot be read: No such file" in done.err
