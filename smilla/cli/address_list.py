"""The addresses that ``watch`` and ``expiring`` are given: as arguments, and in a file or on standard input."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from smilla import address
from smilla.address import EmailAddress
from smilla.cli import UsageError
from smilla.errors import AddressError, FileProblem

Thing = TypeVar("Thing")

MOST_DAYS = 36500  # ahead; further, there is no date
_MOST_SHOWN = 20  # bad lines
_BEFORE_COMMENT = re.compile(r'((?:"(?:\\.|[^"\\])*"|[^"\s]|\s(?!#))*)(?:\s#.*)?')


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    """``-f``."""
    parser.add_argument(
        "-f", "--file", metavar="FILE", help='addresses, one a line; # begins a comment; "-": standard input'
    )


def postmaster(domain: str) -> EmailAddress:
    """Of a domain that somebody wrote.  Raises AddressError, which names the domain."""
    try:
        return address.parse(f"postmaster@{domain}")
    except AddressError as error:
        raise AddressError(f"{domain[:80]!r} is no domain") from error


def given(options: argparse.Namespace, append_domain: str) -> list[EmailAddress]:
    """The arguments, then the file's, each address once.  Raises UsageError, which names every bad line, or
    FileProblem."""
    return each(options.address, options.file, lambda text: address.parse(text).completed(append_domain))


def each(arguments: Sequence[str], file: str | None, read: Callable[[str], Thing]) -> list[Thing]:
    """The same for whatever ``read`` makes of a text, or raises AddressError."""
    texts = [("", text) for text in arguments]
    texts += _lines(file) if file is not None else []
    found: dict[str, Thing] = {}
    faults = []
    for where, text in texts:
        try:
            one = read(text)
            found.setdefault(str(one), one)
        except AddressError as error:
            faults.append(f"{where}{error}")
    if faults:
        more = [f"and {len(faults) - _MOST_SHOWN} more"] if len(faults) > _MOST_SHOWN else []
        raise UsageError("; ".join(faults[:_MOST_SHOWN] + more))
    return list(found.values())


def _lines(name: str) -> Iterator[tuple[str, str]]:
    """Each line that has an address, after its place.  A comment begins at the start of a line or after white space,
    since # may stand in a local part (RFC 5322 section 3.2.3)."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileProblem(f"{name}: cannot be read: {error.strerror}") from error
    shown = "standard input" if name == "-" else name
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        place = f"{shown}, line {number}: "
        text = line.decode("utf-8", "surrogateescape").strip()  # no address has a surrogate
        if text and not text.startswith("#"):
            found = _BEFORE_COMMENT.fullmatch(text)
            yield place, found[1].strip() if found else text
