"""The command line: ``smilla COMMAND``.

Output rules, for all commands: results on stdout; ``error:``, ``warning:`` and ``hint:`` lines on stderr; ``--json``
prints one JSON document.  Exit codes: 0 yes or done, 1 no, 2 usage, 75 deferred (EX_TEMPFAIL), 77 refused by policy
(EX_NOPERM), 78 a faulty configuration (EX_CONFIG).
"""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import sys
from collections.abc import Sequence

from smilla import __version__
from smilla.config import DEFAULT_PATH
from smilla.errors import ConfigError, EngineMissing, SmillaError

EX_OK, EX_NO, EX_USAGE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 0, 1, 2, 75, 77, 78


class UsageError(Exception):
    """Arguments that do not fit together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
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
    """An ``error:``, ``warning:`` or ``hint:`` line on stderr."""
    print(f"{kind}: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text that cannot control the terminal, even if it comes from a certificate, a name server or a message."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smilla", description="Encrypts mail to the keys that its recipients publish in DNS.", epilog="smilla(8)"
    )
    parser.add_argument("--version", action="version", version=f"smilla {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _with_config(commands.add_parser("milter", help="run the filter in the foreground until SIGTERM"))
    _encrypt(commands.add_parser("encrypt", help="encrypt one message as the filter would"))
    _explain(commands.add_parser("explain", help="show every step and reason for one message; change nothing"))
    _lookup(commands.add_parser("lookup", help="find the keys of one address"))
    _record(commands.add_parser("record", help="print the DNS record that publishes a certificate or key"))
    _journal(commands.add_parser("journal", help="show which messages still have copies owed"))
    _open(commands.add_parser("open", help="show what is inside a sealed message; the log says who looked"))
    _seal(commands.add_parser("seal", help="list, rotate or prune the keys that seal"))
    _config(commands.add_parser("config", help="check, show or write a configuration"))
    return parser


def _with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_PATH, help=f"configuration ({DEFAULT_PATH})")
    return parser


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from error


def _with_message(parser: argparse.ArgumentParser) -> None:
    _with_config(parser)
    parser.add_argument("--from", dest="sender", metavar="ADDR", required=True, help='envelope sender; "<>": null')
    parser.add_argument("--to", dest="recipients", metavar="ADDR", action="append", required=True, help="recipient")
    parser.add_argument("--client-ip", metavar="IP", type=_ip, default="127.0.0.1", help="the client, for mode auto")
    parser.add_argument("--authenticated-as", metavar="USER", default="", help="its user, for mode auto")
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="a file; default: standard input")


def _encrypt(parser: argparse.ArgumentParser) -> None:
    _with_message(parser)
    parser.add_argument("--output-dir", metavar="DIR", help="write 1.eml, 2.eml … and envelopes.json there")
    parser.add_argument("--require", action="store_true", help="exit 1 unless it is encrypted for every recipient")


def _explain(parser: argparse.ArgumentParser) -> None:
    _with_message(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _lookup(parser: argparse.ArgumentParser) -> None:
    _with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("address", metavar="ADDR")


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDR")
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument("--cert", metavar="FILE", help="certificate, PEM or DER: an SMIMEA record")
    key.add_argument("--key", metavar="FILE", help="OpenPGP public key, armoured or binary: an OPENPGPKEY record")
    parser.add_argument("--usage", type=int, choices=range(4), default=3, help="SMIMEA certificate usage (3)")
    parser.add_argument("--generic", action="store_true", help="in the form of RFC 3597, for older name servers")


def _journal(parser: argparse.ArgumentParser) -> None:
    _with_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _open(parser: argparse.ArgumentParser) -> None:
    _with_config(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--facts", action="store_true", help="sender, recipients and decisions instead of the message")
    shown.add_argument("--json", action="store_true", help="the same as one JSON document")
    parser.add_argument("message", metavar="MESSAGE", nargs="?", help="a file; default: standard input")


def _seal(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _with_config(actions.add_parser("list", help="the keys, when each was made, and which one seals"))
    listing.add_argument("--json", action="store_true", help="one JSON document")
    _with_config(actions.add_parser("rotate", help="make a new key, which seals from now on"))
    prune = _with_config(actions.add_parser("prune", help="remove the retired keys that no queued message needs"))
    _with_postfix(prune, action="append", several="; repeat it for each instance that shares the keys")


def _with_postfix(parser: argparse.ArgumentParser, *, action: str = "store", several: str = "") -> None:
    parser.add_argument(
        "--postfix-config",
        metavar="DIR",
        action=action,
        help=f"Postfix's configuration folder, if it is not the usual one{several}",
    )


def _config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = _with_config(actions.add_parser("check", help="name every fault"))
    check.add_argument(
        "--probe", action="store_true", help="also try resolver, socket, journal, re-injection listener and stage"
    )
    check.add_argument(
        "--postfix",
        action="store_true",
        help="check Postfix's lines for the stage, and leave the result where the filter reads it",
    )
    _with_postfix(check)
    _with_config(actions.add_parser("show", help="print the effective configuration"))
    actions.add_parser("sample", help="print a commented sample with every option")
