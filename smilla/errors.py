"""Every failure that smilla raises.

An error has a stable ``code``: one word, which smilla(8) describes and the log gives as the reason for each recipient
of the message that it ended.  ``temporary`` says whether trying again may help; it sets a command's exit code.  The
text is for the administrator.  An error has its own code only if the administrator can do more about it than about any
internal error.  ``smilla.answer.reply`` alone decides what a remote sender sees, so nothing here leaks into SMTP; there
every error leaves the mail with the sending side.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class SmillaError(Exception):
    """The base class.  An error of unknown cause is temporary."""

    code = "internal"
    temporary = True


def code_of(error: BaseException | None) -> str:
    """The code of any error; an unknown one has the code of the base class."""
    return error.code if isinstance(error, SmillaError) else SmillaError.code


def words_of(error: BaseException) -> str:
    """What an error of the system or of TLS says, without its number and its place in a library."""
    if getattr(error, "library", None) and (reason := getattr(error, "reason", None)):  # ssl.SSLError
        return f"TLS: {str(reason).replace('_', ' ').lower()}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class AddressError(SmillaError):
    """An address that names no mailbox for which we could look up a key."""

    temporary = False


class ConfigError(SmillaError):
    """A faulty configuration; lists every fault found, each with its line or key."""

    temporary = False

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class EncryptionError(SmillaError):
    """Encryption failed although the keys had passed: the mail is deferred, never sent in the clear."""


class KeyRefused(EncryptionError):
    """An engine says that it cannot encrypt to a key."""


class EngineMissing(SmillaError):
    """An OpenPGP engine or a library that the configuration needs is missing or too old."""


class ParseError(SmillaError):
    """Octets that are not what they claim to be (DER, OpenPGP packets, MIME, a resource record)."""

    temporary = False


class NotDecrypted(SmillaError):
    """A message stays encrypted.  The stable ``code`` says why, in a word; the text holds nothing that was inside the
    message.  ``temporary``: what decrypts could not be asked."""

    temporary = False

    def __init__(self, code: str, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.temporary = temporary


class FileProblem(SmillaError):
    """A file that a command was given, or was to write, cannot be read or made."""

    temporary = False


class MailboxError(SmillaError):
    """A mailbox cannot be used, or does not do what it is told; no message is lost by that."""


class MailboxLost(MailboxError):
    """The connection to a mailbox is gone; whoever connects anew may go on."""


class MailboxRefused(MailboxError):
    """A mailbox did not take a message, and nothing of it was written.  ``is_full``: for want of room."""

    def __init__(self, text: str, *, is_full: bool = False) -> None:
        super().__init__(text)
        self.is_full = is_full


class DirectoryStep(StrEnum):
    """How far somebody came who asks a directory (LDAP)."""

    FILE = "file"
    NAME = "name"
    CONNECTION = "connection"
    TLS = "tls"
    CERTIFICATE = "certificate"
    BIND = "bind"
    SEARCH = "search"


class DirectoryError(SmillaError):
    """A directory (LDAP) did not give a whole answer.  ``step`` is the one that failed, None if nobody knows;
    ``result`` the result code (RFC 4511 section 4.1.9), 0 without one."""

    def __init__(self, text: str, *, step: DirectoryStep | None = None, result: int = 0) -> None:
        super().__init__(text)
        self.step, self.result = step, result


class FetchError(SmillaError):
    """A web server did not give a whole answer; ``temporary`` says whether that may change."""

    def __init__(self, text: str, *, temporary: bool) -> None:
        super().__init__(text)
        self.temporary = temporary


class HopError(SmillaError):
    """A mail server did not present a certificate, or not a valid one.  ``code``: ``no_starttls`` if it offers no TLS,
    ``untrusted`` if the certificate is not valid, ``no_authorities`` without a usable file of authorities, and
    ``no_connection`` (nothing came back, or the network forbids it), ``refused``, ``unreachable`` or
    ``unexpected_reply`` if nobody can tell."""

    def __init__(self, text: str, *, code: str) -> None:
        super().__init__(text)
        self.code = code
        self.temporary = code in ("no_connection", "refused", "unreachable", "unexpected_reply")


class PublishError(SmillaError):
    """A name server, or a service in front of it, did not take a record, or cannot be asked; ``temporary`` says which
    of both may change."""

    def __init__(self, text: str, *, temporary: bool) -> None:
        super().__init__(text)
        self.temporary = temporary


class JournalError(SmillaError):
    """The journal of re-injected copies cannot be read or written: no copy leaves, and the mail is deferred."""

    code = "journal"


class JournalBusy(JournalError):
    """Another worker has the same message at this moment."""

    code = "busy"


class DatabaseProblem(SmillaError):
    """A store cannot be read or written: ``detail`` says why, and the text also where."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.detail = detail


class PolicyStoreError(SmillaError):
    """The MTA-STS policies that are remembered cannot be read: nobody knows whether a domain has one."""


class SpoolError(SmillaError):
    """A large body cannot be written to the spool file or read back: the mail is deferred."""


class HeaderTooLarge(SmillaError):
    """A header that is larger than anybody needs: it is kept in memory, so its size has a limit."""

    temporary = False


class SealBroken(SmillaError):
    """Octets that claim to be a sealed message, but are not what smilla sealed, or not for this use."""


class SealKeyMissing(SmillaError):
    """There is no seal key with that ID, or the keys cannot be read."""


class PostfixUnclear(SmillaError):
    """Postfix's programs do not give a clear answer, or not in time."""


class ServiceFailed(SmillaError):
    """The service manager could not start the filter."""


class MTALost(SmillaError):
    """The MTA closed the connection or rejected a change while we handed a message back to it."""

    code = "mta_lost"


class ReinjectError(SmillaError):
    """The MTA's listener for further copies did not take one."""
