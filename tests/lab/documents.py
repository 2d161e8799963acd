"""The blocks of README.md and of the manual, as an administrator copies them, and what each of them is.

The first line of a block for a file is a comment with the file's name; everything else is for the shell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

README = REPOSITORY / "README.md"
FILES = (
    "smilla.toml",
    "main.cf",
    "master.cf",
    "exim4.conf",
    "smtpd.conf",
    "unbound.conf",
    "opendkim.conf",
    "named.conf",
    "prometheus.yml",
    "nginx.conf",
    "pg_hba.conf",
    "pgpass",
    "crontab",
)
_FIRST_LINE = re.compile(rf"(?:#|//) ({'|'.join(re.escape(name) for name in FILES)})\b")
_ESCAPES = {r"\e": "\\", r"\-": "-", r"\&": "", r"\(dq": '"', r"\(aq": "'"}


@dataclass(frozen=True)
class Block:
    """``what`` is one of FILES, "sendmail.mc", "drawing" or "shell"; ``number`` is its first line in the document."""

    page: str
    number: int
    text: str

    @property
    def what(self) -> str:
        """What reads it."""
        if named := _FIRST_LINE.match(self.text):
            return named[1]
        if re.search(r"\bdnl$", self.text, re.MULTILINE):
            return "sendmail.mc"
        return "drawing" if " -> " in self.text else "shell"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line, without the comment behind it."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(re.sub(r"\s+# .*", "", line).split()) for line in lines if line.strip()]

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def pages() -> list[Path]:
    """All pages of the manual that have such blocks."""
    return sorted(path for path in (REPOSITORY / "man").glob("*.[578]"))


def all_blocks() -> list[Block]:
    """Those of README.md first, then those of each page."""
    found = _of_readme(README.read_text())
    for page in pages():
        found += of_page(page.name, page.read_text())
    return found


def _of_readme(text: str) -> list[Block]:
    found: list[Block] = []
    for match in re.finditer(r"(?m)(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", text):
        number = text.count("\n", 0, match.start()) + 1
        found.append(Block("README.md", number, re.sub(r"(?m)^ {4}", "", match[0])))
    return found


def of_page(name: str, source: str) -> list[Block]:
    """The literal displays of a page of mdoc: .Bd to .Ed, and each .Dl."""
    found: list[Block] = []
    lines: list[str] | None = None
    number = 0
    for at, line in enumerate(source.splitlines(), 1):
        if line.startswith(".Bd -literal"):
            lines, number = [], at + 1
        elif line == ".Ed" and lines is not None:
            found.append(Block(name, number, "\n".join(lines) + "\n"))
            lines = None
        elif lines is not None:
            lines.append(_plain(line))
        elif line.startswith(".Dl "):
            found.append(Block(name, at, _plain(line.removeprefix(".Dl ")) + "\n"))
    return found


def _plain(line: str) -> str:
    return re.sub(r"\\(?:\(..|.)", lambda match: _ESCAPES[match[0]], line)
