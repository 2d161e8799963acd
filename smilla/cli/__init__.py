"""The command line: ``smilla COMMAND``.

Output rules, for all commands: results on stdout; ``error:``, ``warning:`` and ``hint:`` lines on stderr; ``--json``
prints one JSON document.  Exit codes: 0 yes or done, 1 no, 2 usage, 75 deferred (EX_TEMPFAIL), 77 refused by policy
(EX_NOPERM), 78 a faulty configuration (EX_CONFIG).
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from smilla import __version__
from smilla.adapters import log_target
from smilla.answer.describe import printable as printable  # for every command
from smilla.config import DEFAULT_PATH
from smilla.errors import ConfigError, EngineMissing, SmillaError

EX_OK, EX_NO, EX_USAGE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 0, 1, 2, 75, 77, 78


COMMANDS = {  # each has a file of its own here, with add_arguments() and run()
    "milter": "run the filter in the foreground until SIGTERM",
    "relay": "encrypt without a milter: SMTP or LMTP in, SMTP out",
    "policyd": "answer Postfix about TLS, without the filter",
    "decrypt": "run the milter that decrypts where a rule says so, until SIGTERM",
    "encrypt": "encrypt one message as the filter would",
    "mailbox": "encrypt or decrypt what lies in a mailbox already",
    "explain": "show every step and reason for one message; change nothing",
    "lookup": "find the keys of one address",
    "hop": "show how the hop to a domain can be verified",
    "record": "print the DNS record that publishes a certificate or key",
    "keygen": "make a certificate or OpenPGP key, and the record that publishes it",
    "publish": "put a certificate or key into DNS, and wait until senders can use it",
    "withdraw": "take an address's records out of DNS",
    "keys": "put keys into the key folder, check, list or remove them",
    "wkd": "write one's own users' OpenPGP keys as a Web Key Directory",
    "learned": "list or forget the keys that authenticated mail has brought",
    "expiring": "list the keys that end soon, and write to their owners",
    "watch": "compare what is published with what is held",
    "survey": "show how mail to other domains would travel",
    "status": "show how the running filter fares, on one screen",
    "top": "the same, again every second",
    "journal": "show which messages still have copies owed",
    "open": "show what is inside a sealed message; the log says who looked",
    "seal": "list, rotate or prune the keys that seal",
    "config": "check, show or write a configuration",
    "init": "write a configuration for this machine, and attach smilla to its MTA",
}


_PRIORITIES = {"error": "<3>", "warning": "<4>", "to do": "<5>", "hint": "<6>"}


class UsageError(Exception):
    """Arguments that do not fit together."""


def _mend_streams() -> None:
    """A stream that the caller has closed is empty and takes nothing (or anybody who opened a file next would get its
    number), and a letter that a terminal does not know is written as Python would write it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper) and mode == "w" and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _parsed(given: Sequence[str]) -> argparse.Namespace | int:
    """The exit code where there is no command to run."""
    try:
        if not given:
            parser(given).print_help(sys.stderr)
            return EX_USAGE
        return parser(given).parse_args(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    except OSError as error:  # the help could not be written
        say("error", f"output: {error.strerror}")
        return EX_TEMPFAIL


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    _mend_streams()
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    if isinstance(options, int):
        return options
    try:
        command = importlib.import_module(f"smilla.cli.{options.command}")
        return int(command.run(options))
    except (UsageError, SmillaError) as error:
        for fault in error.faults if isinstance(error, ConfigError) else [str(error)]:
            say("error", fault)
        return _exit_code(error)
    except BrokenPipeError:
        sys.stderr.close()
        return EX_TEMPFAIL
    except OSError as error:
        say("error", f"{error.filename or 'output'}: {error.strerror}")
        return EX_TEMPFAIL


def _exit_code(error: Exception) -> int:
    if isinstance(error, UsageError):
        return EX_USAGE
    if isinstance(error, (ConfigError, EngineMissing)):
        return EX_CONFIG
    return EX_TEMPFAIL if isinstance(error, SmillaError) and error.temporary else EX_NO


def say(kind: str, text: str) -> None:
    """An ``error:``, ``warning:`` or ``hint:`` line on stderr; ``smilla init`` also says ``to do:``."""
    priority = _PRIORITIES[kind] if log_target.is_journald(2) else ""  # sd-daemon(3)
    print(f"{priority}{kind}: {printable(text)}", file=sys.stderr)


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Knows every command, and the arguments of those that are named; a command's file is read where it is used."""
    whole = argparse.ArgumentParser(
        prog="smilla", description="Encrypts mail to the keys that its recipients publish in DNS.", epilog="smilla(8)"
    )
    whole.add_argument("--version", action="version", version=f"smilla {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in arguments:
            importlib.import_module(f"smilla.cli.{name}").add_arguments(command)
    return whole


def with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds ``--config``."""
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_PATH, help=f"configuration ({DEFAULT_PATH})")
    return parser


def with_postfix(parser: argparse.ArgumentParser, *, action: str = "store", several: str = "") -> None:
    """Adds ``--postfix-config``; ``action="append"`` where it may be repeated, which ``several`` says in words."""
    parser.add_argument(
        "--postfix-config",
        metavar="DIR",
        action=action,
        help=f"Postfix's configuration folder, if it is not the usual one{several}",
    )
