"""Every failure that smilla raises.

An error carries a stable ``code`` (one word: the reason that the log gives for the recipients of a message which it
ended, as smilla(8) has it), whether it is ``temporary`` (trying again may help: the exit code of a command), and a text
for the administrator.  An error has a code of its own where the administrator can do something about it that is not
said of every internal error.  What a remote sender is told is decided by ``smilla.answer.reply`` alone, so nothing here
leaks into SMTP; there, every error keeps the mail with the sending side.
"""

from __future__ import annotations

from collections.abc import Sequence


class SmillaError(Exception):
    """The base of all: an error whose cause is unknown is temporary."""

    code = "internal"
    temporary = True


def code_of(error: BaseException | None) -> str:
    """The code of any error; that of an unknown one is that of the base."""
    return error.code if isinstance(error, SmillaError) else SmillaError.code


class AddressError(SmillaError):
    """An address that names no mailbox a key could be asked for."""

    temporary = False


class ConfigError(SmillaError):
    """A faulty configuration: every fault that was found, each naming its line or key."""

    temporary = False

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class EncryptionError(SmillaError):
    """An encrypter failed although its keys had passed: the mail is deferred, never sent in the clear."""


class KeyRefused(EncryptionError):
    """An engine says that a key which it was given is none that it can encrypt to."""


class EngineMissing(SmillaError):
    """The OpenPGP engine that was asked for is not installed."""


class ParseError(SmillaError):
    """Octets that are not what they claim to be (DER, OpenPGP packets, MIME, a resource record)."""

    temporary = False


class JournalError(SmillaError):
    """The journal of re-injected copies cannot be read or written: nothing leaves, the mail is deferred."""

    code = "journal"


class JournalBusy(JournalError):
    """Another worker has the same message at this moment."""

    code = "busy"


class SpoolError(SmillaError):
    """A large body cannot be put into the spool file, or not be read back: the mail is deferred."""


class SealBroken(SmillaError):
    """Octets that claim to be a sealed message, and are not what smilla sealed, or not for this use."""


class SealKeyMissing(SmillaError):
    """No seal key of that ID is there, or the keys cannot be read."""


class PostfixUnclear(SmillaError):
    """Postfix's programs do not tell what was asked of them, or not in time."""


class MTALost(SmillaError):
    """The MTA has closed the connection, or does not take a change, while a message was handed back to it."""

    code = "mta_lost"


class ReinjectError(SmillaError):
    """The MTA's listener for further copies did not take one."""
