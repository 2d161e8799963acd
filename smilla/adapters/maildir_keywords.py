"""The keywords of a Maildir folder: Dovecot writes them as letters, and each folder has a list of its own.

The file dovecot-keywords has a line for each, "NUMBER KEYWORD"; number 0 is the letter a, 25 is z.
"""

from __future__ import annotations

from pathlib import Path

from smilla.adapters import new_file
from smilla.errors import MailboxError

_FILE = "dovecot-keywords"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def carried(flags: frozenset[str], source: Path, target: Path) -> frozenset[str]:
    """The flags as the other folder writes them; its list grows where it must.  Raises MailboxError or FileProblem, and
    OSError."""
    letters = flags & frozenset(_LETTERS)
    if not letters or source == target:
        return flags
    known, there = _read(source), _read(target)
    told = {letter: known[number] for letter in letters if (number := _LETTERS.index(letter)) in known}
    missing = sorted(set(told.values()) - set(there.values()))
    for keyword in missing:
        free = [number for number in range(len(_LETTERS)) if number not in there]
        if not free:
            raise MailboxError(f"{target / _FILE}: has no room for the keyword {keyword}")
        there[free[0]] = keyword
    if missing:
        text = "".join(f"{number} {keyword}\n" for number, keyword in sorted(there.items()))
        new_file.replace(target / _FILE, text.encode("utf-8", "surrogateescape"), new_file.PRIVATE)
    numbers = {keyword: number for number, keyword in there.items()}
    return (flags - letters) | {_LETTERS[numbers[told[letter]]] if letter in told else letter for letter in letters}


def _read(folder: Path) -> dict[int, str]:
    try:
        text = (folder / _FILE).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    found: dict[int, str] = {}
    for line in text.splitlines():
        number, _, keyword = line.partition(" ")
        if not number.isdecimal() or not keyword or int(number) in found:
            raise MailboxError(f"{folder / _FILE}: cannot be understood: {line[:80]!r}")
        found[int(number)] = keyword
    return found
