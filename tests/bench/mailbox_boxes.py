"""The mailboxes of ``tests.bench.mailbox``, and the letters that are put into them."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from imapclient import IMAPClient

from tests.lab.dovecot import PASSWORD, Dovecot
from tests.lab.processes import LOOPBACK

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

USER, OWNER = "hugh", "hugh@home.test"
CANARY = b"the canary sings"
_AT_ONCE = 500
_FLAGS = ((), ("\\Seen",), ("\\Seen", "\\Answered", "$Label1"), ("\\Flagged", "Work"), ("\\Deleted",))
_LETTERS = {"\\Seen": "S", "\\Answered": "R", "\\Flagged": "F", "\\Deleted": "T", "$Label1": "a", "Work": "b"}
_LINE = b"And the seventy characters of a line, as people and their programs write.\r\n"
_HEADS = (
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
    b"\r\n%s",
    b"Content-Transfer-Encoding: 8bit\r\nX-Mid: 1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain;\r\n"
    b" charset=iso-8859-1\r\nX-End: 2\r\n\r\nGr\xfc\xdfe %s",
    b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n\r\n%s\r\n--b\r\nContent-Type:"
    b" application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQFBgcICQ==\r\n--b--\r\n",
    b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=s\r\nMIME-Version: 1.0\r\n\r\n--s'
    b"\r\nContent-Type: text/html\r\n\r\n%s\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
    b"-----BEGIN PGP SIGNATURE-----\r\n\r\n--s--\r\n",
)


@dataclass(frozen=True)
class Letter:
    raw: bytes
    flags: frozenset[str]
    came_at: datetime


Signs = tuple[bytes, frozenset[str], float]


def signs_of(letter: Letter) -> Signs:
    """The digest of all octets, the flags, the date."""
    return hashlib.sha256(letter.raw).digest(), letter.flags, letter.came_at.timestamp()


def letter(number: int, chance: random.Random) -> Letter:
    """One of 1 to 40 KB; its kind, flags and date go by its number."""
    text = b"%d: %s\r\n%s" % (number, CANARY, _LINE * chance.choice((10, 40, 60, 100, 200, 500)))
    head = b"From: sue@s.test\r\nTo: hugh@home.test\r\nSubject: %d\r\nMessage-ID: <%d@s.test>\r\n" % (number, number)
    came_at = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(hours=2, seconds=7919 * number)
    kind = _HEADS[number // len(_FLAGS) % len(_HEADS)]
    return Letter(head + kind.replace(b"%s", text), frozenset(_FLAGS[number % len(_FLAGS)]), came_at)


class Box(Protocol):
    """A mailbox; ``options`` name it to smilla."""

    options: list[str]

    def put(self, letters: list[Letter]) -> None: ...

    def letters(self) -> Iterator[Letter]: ...


class ImapBox:
    def __init__(self, folder: Path, dovecot: Dovecot) -> None:
        self._port = dovecot.port
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o600)
        self.options = ["--imap", f"{LOOPBACK}:{self._port}", "--tls", "none", "--user", USER]
        self.options += ["--password-file", str(password)]

    def put(self, letters: list[Letter]) -> None:
        with self._client() as client:
            batch = [{"msg": it.raw, "flags": sorted(it.flags), "date": it.came_at} for it in letters]
            client.multiappend("INBOX", batch)

    def letters(self) -> Iterator[Letter]:
        with self._client() as client:
            client.select_folder("INBOX", readonly=True)
            uids = client.search("ALL")
            for first in range(0, len(uids), _AT_ONCE):
                found = client.fetch(uids[first : first + _AT_ONCE], ["BODY.PEEK[]", "FLAGS", "INTERNALDATE"])
                for one in found.values():
                    flags = frozenset(flag.decode() for flag in one[b"FLAGS"]) - {"\\Recent"}
                    yield Letter(one[b"BODY[]"], flags, one[b"INTERNALDATE"])

    def _client(self) -> Any:
        client = IMAPClient(LOOPBACK, self._port, ssl=False, timeout=600)
        client.login(USER, PASSWORD)
        client.normalise_times = False
        return client


class MaildirBox:
    def __init__(self, folder: Path) -> None:
        self._root = folder / "Maildir"
        for part in ("cur", "new", "tmp"):
            (self._root / part).mkdir(parents=True)
        self._count = 0
        self.options = ["--maildir", str(self._root)]

    def put(self, letters: list[Letter]) -> None:
        for one in letters:
            self._count += 1
            at_ns = int(one.came_at.timestamp()) * 10**9
            letters_of = "".join(sorted(_LETTERS[flag] for flag in one.flags))
            path = self._root / "cur" / f"{at_ns // 10**9}.M{self._count}.host:2,{letters_of}"
            path.write_bytes(one.raw)
            os.utime(path, ns=(at_ns, at_ns))

    def letters(self) -> Iterator[Letter]:
        words = {letter: flag for flag, letter in _LETTERS.items()}
        for path in (self._root / "cur").iterdir():
            flags = frozenset(words[letter] for letter in path.name.partition(":2,")[2])
            yield Letter(path.read_bytes(), flags, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        assert not any((self._root / "new").iterdir())


class MboxFile:
    """The flags stand in a field of each message, the date in the line before it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "mbox"
        self._path.touch()
        self.options = ["--mbox", str(self._path), "--from-lines", "plain"]

    def put(self, letters: list[Letter]) -> None:
        with self._path.open("ab") as file:
            for one in letters:
                line = b"From sue@s.test %s\n" % time.asctime(one.came_at.utctimetuple()).encode()
                flags = b"X-Keywords: %s\n" % " ".join(sorted(one.flags)).encode()
                file.write(line + flags + one.raw.replace(b"\r\n", b"\n") + b"\n")

    def letters(self) -> Iterator[Letter]:
        for one in self._path.read_bytes().removeprefix(b"From ").split(b"\nFrom "):
            line, _, rest = one.partition(b"\n")
            field, _, raw = rest.partition(b"\n")
            came_at = datetime.strptime(line[-24:].decode(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
            flags = frozenset(field.removeprefix(b"X-Keywords:").decode().split())
            assert field.startswith(b"X-Keywords:"), field
            yield Letter((raw.rstrip(b"\n") + b"\n").replace(b"\n", b"\r\n"), flags, came_at)
