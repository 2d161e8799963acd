"""The documents themselves: their blocks, as far as nothing has to run; the version and the changelog."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from typing import TYPE_CHECKING

import pytest

import smilla
from smilla import cli, config
from tests.lab.documents import FILES, Block, all_blocks, of_page
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

_BLOCKS = all_blocks()
# Besides smilla itself: what the shell blocks call.  Anything else may be a file's block that lacks its first line.
_PROGRAMS = (
    "apt-get cat chmod cp echo gpg install journalctl make openssl pip postcat postconf postfix "
    "posttls-finger postmap rm runuser sh ssh su systemctl "
    "tsig-keygen"
)


def test_blocks_of_a_page_are_its_literal_displays() -> None:
    source = ".Bd -literal\n# main.cf\na = \\(dqb\\(dq\n.Ed\ntext\n.Dl smilla x \\e\n.Bd -filled\nno\n.Ed\n"
    assert [(block.number, block.what, block.text) for block in of_page("x.7", source)] == [
        (2, "main.cf", '# main.cf\na = "b"\n'),
        (6, "shell", "smilla x \\\n"),
    ]


def test_every_kind_of_block_is_found() -> None:
    assert {block.what for block in _BLOCKS} == {*FILES, "sendmail.mc", "drawing", "shell"}
    assert {block.page for block in _BLOCKS} >= {"README.md", "smilla-postfix.7", "smilla.8", "smilla.toml.5"}
    assert len([block for block in _BLOCKS if block.page == "README.md"]) == 8


@pytest.mark.parametrize("block", [block for block in _BLOCKS if block.what == "smilla.toml"], ids=str)
def test_configuration_in_a_document_has_no_fault(block: Block, tmp_path: Path) -> None:
    for name in ("circle.pem", "partner.crt", "relay.pem", "relay.key"):
        (tmp_path / name).touch()
    text = re.sub(
        "/etc/smilla/(keys|circle.pem|partner.crt|relay.pem|relay.key)",
        lambda m: str(tmp_path / m[1].removeprefix("keys")),
        block.text,
    )
    assert isinstance(config.parse(text), config.Config)


def _of_shell() -> list[tuple[Block, str]]:
    return [(block, command) for block in _BLOCKS if block.what == "shell" for command in block.commands]


@pytest.mark.parametrize(("block", "command"), _of_shell(), ids=str)
def test_shell_block_calls_known_programs_and_smilla_with_options_that_it_has(block: Block, command: str) -> None:
    for part in re.split(r" (?:&&|\|\|?) ", command):
        words = shlex.split(re.sub(r" [<>] ?\S+", "", part), comments=True)
        program = words[0].rpartition("/")[2]
        if program == "smilla":
            error = io.StringIO()
            with contextlib.redirect_stderr(error), contextlib.suppress(SystemExit):
                cli.parser(words[1:]).parse_args(words[1:])
            assert error.getvalue() == ""
        else:
            assert program in _PROGRAMS.split(), f"{block}: is this a file's?  Its first line must say so."


def test_version_is_that_of_the_newest_release_of_the_changelog() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    found = re.fullmatch(r"(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d", headings[1])
    assert found is not None
    assert found[1] == smilla.__version__


def test_changelog_has_only_the_usual_sections_and_says_nothing_twice() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    for release in text.split("\n## ")[1:]:
        assert len(release.splitlines()) <= 150, "did a merge by union bring back what was shortened for the release?"
        sections = re.findall(r"^### (.*)$", release, re.MULTILINE)
        assert len(set(sections)) == len(sections)
        assert set(sections) <= {"Added", "Changed", "Fixed", "Security"}
    entries = [" ".join(entry.split()) for entry in re.split(r"(?m)^- ", text)[1:]]
    assert len(set(entries)) == len(entries)
