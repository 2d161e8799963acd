"""The mailbox that the options of ``smilla mailbox`` name: over IMAP, or a Maildir."""

from __future__ import annotations

import argparse
import getpass
import importlib
import ipaddress
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from smilla.adapters.maildir import INBOX, Maildir
from smilla.cli import UsageError
from smilla.cli.material import first_line, read_password
from smilla.errors import EngineMissing
from smilla.mailbox.store import Folder

_ONLY_WITH = {  # what of the options goes with which mailbox
    ("imap",): ("user", "password_file", "token_file", "ca_file", "search"),
    ("imap", "maildir"): ("folder", "all_folders", "since", "before", "journal"),
    ("mbox",): ("from_lines",),
}
_PORTS = {"implicit": 993, "starttls": 143, "none": 143}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the mailbox is, and which folders of it are meant."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--imap", metavar="HOST", help="a server, as HOST or HOST:PORT")
    where.add_argument("--maildir", metavar="DIR", help="a Maildir that nothing else uses meanwhile")
    where.add_argument("--mbox", metavar="FILE", help="an mbox file, which is written anew as a whole")
    parser.add_argument(
        "--from-lines",
        choices=("quoted", "plain"),
        default="",
        help='with --mbox: whether its writer puts a > before a line that begins with "From "',
    )
    parser.add_argument("--user", metavar="NAME", help="with --imap: who logs in")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--password-file", metavar="FILE", help="a file whose first line is the password")
    secret.add_argument("--token-file", metavar="FILE", help="a file whose first line is an OAuth 2 access token")
    parser.add_argument(
        "--tls", choices=tuple(_PORTS), default="implicit", help="none: to this machine only (implicit)"
    )
    parser.add_argument("--ca-file", metavar="FILE", default="", help="authorities for TLS, not those of the system")
    parser.add_argument(
        "--folder", metavar="NAME", action="append", help=f"only this folder ({INBOX}); may be repeated"
    )
    parser.add_argument("--all-folders", action="store_true", help="every folder")
    parser.add_argument(
        "--except", metavar="NAME", dest="left_out", action="append", help="with --all-folders: not this"
    )


class Mailbox(Protocol):
    """Where folders are found."""

    def folder_names(self) -> list[str]:
        """All folders.  Raises MailboxError."""

    def folder(self, name: str, *, is_read_only: bool = False) -> Folder:
        """One of them.  Raises MailboxError."""

    def make(self, name: str) -> None:
        """Makes a folder for old messages, if it is not there.  Raises MailboxError."""

    def forget(self) -> None:
        """Drops a connection that was lost; the next use makes another."""


class Place:
    """The mailbox, and what it is called in the journal.  ``folder_names`` are those to do."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        """``stack`` closes it.  Raises UsageError, EngineMissing, FileProblem or MailboxError."""
        self._options = options
        self.mailbox: Mailbox
        if options.maildir:
            self.mailbox, self.what = Maildir(Path(options.maildir)), f"maildir {Path(options.maildir).resolve()}"
        else:
            self.mailbox, self.what = _server(options, stack)
        self.folder_names = self._chosen()

    def _chosen(self) -> list[str]:
        keep = self._options.keep_original
        if not self._options.all_folders:
            names = list(dict.fromkeys(self._options.folder or [INBOX]))
            if keep and keep in names:
                raise UsageError(f"--keep-original {keep}: is a folder whose messages are to be changed")
            return names
        left_out = {keep, *(self._options.left_out or ())}
        return [name for name in self.mailbox.folder_names() if name not in left_out]

    def folder(self, name: str) -> Folder:
        """One of ``folder_names``, over a connection that works.  Raises MailboxError."""
        return self.mailbox.folder(name, is_read_only=self._options.dry_run)


def check(options: argparse.Namespace) -> None:
    """Raises UsageError for options that do not fit together."""
    if options.folder and options.all_folders:
        raise UsageError("give --folder or --all-folders, not both")
    if options.left_out and not options.all_folders:
        raise UsageError("--except goes with --all-folders")
    for where, names in _ONLY_WITH.items():
        given = [name for name in names if getattr(options, name)]
        if given and not any(getattr(options, word) for word in where):
            words = " or ".join(f"--{word}" for word in where)
            raise UsageError(f"--{given[0].replace('_', '-')} goes with {words}")


def _server(options: argparse.Namespace, stack: ExitStack) -> tuple[Mailbox, str]:
    host, port = _address(options.imap, _PORTS[options.tls])
    if options.tls == "none" and not _is_this_machine(host):
        raise UsageError(
            f"--tls none: {host} is not this machine, and the password would go over the wire in the clear"
        )
    if find_spec("imapclient") is None:
        raise EngineMissing("--imap needs imapclient: pip install 'smilla[imap]' (the Debian package has it)")
    imap = importlib.import_module("smilla.adapters.imap")
    user = options.user or getattr(options, "address", "")
    if not user:
        raise UsageError("--imap needs --user NAME, who logs in")
    token = first_line(options.token_file).decode("ascii", "replace") if options.token_file else ""
    password = "" if token else _password(options, user, host)
    server = imap.Server(host, port, user, password, token, options.tls, options.ca_file)
    return stack.enter_context(imap.IMAPMailbox(server)), f"imap {user} at {host}:{port}"


def _address(text: str, usual_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(usual_port)
    if not host.strip("[]") or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UsageError(f"--imap {text}: give HOST or HOST:PORT")
    return host.strip("[]"), int(port)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _password(options: argparse.Namespace, user: str, host: str) -> str:
    if options.password_file:
        return read_password(options.password_file).decode("utf-8", "surrogateescape")
    if not sys.stdin.isatty():
        raise UsageError("give the password by --password-file, or a token by --token-file")
    return getpass.getpass(f"Password of {user} at {host}: ")
