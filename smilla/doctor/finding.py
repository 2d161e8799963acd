"""A finding of the doctor: what is wrong, why it matters, and the line that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a finding is about: a stable word, for programs.  Their order is that in which to mend."""

    CONFIGURATION = "configuration"  # a fault of the file: exit code 78
    IDLE = "idle"  # what has no effect
    OPEN_SOCKET = "open-socket"  # other machines reach the filter
    ENGINE = "engine"
    ASKS = "asks"  # the check could not do this as smilla's user, or not at all
    CLOCK = "clock"
    RIGHTS = "rights"  # smilla's user may not read or write this
    RIGHTS_TOO_WIDE = "rights-too-wide"
    KEY_FOLDER = "key-folder"
    KEY_FILE = "key-file"
    PRIVATE_KEY = "private-key"
    RESOLVER_DOWN = "resolver-down"
    RESOLVER_NOT_VALIDATING = "resolver-not-validating"
    RESOLVER_TCP = "resolver-tcp"
    RESOLVER = "resolver"  # in order, or not needed
    LDAP = "ldap"  # the directory of [ldap]
    HTTPS = "https"  # the way to the web servers of wkd
    SPOOL = "spool"
    JOURNAL = "journal"
    STORE = "store"  # the database of [store] url
    SEAL_KEYS = "seal-keys"
    SOCKET_FOLDER = "socket-folder"
    SOCKET_TAKEN = "socket-taken"  # something other than a filter listens there
    SOCKET_DENIED = "socket-denied"
    NOT_RUNNING = "not-running"  # the MTA asks the filter, and nobody answers
    NOT_RELOADED = "not-reloaded"  # the filter goes on with the configuration before
    SOCKET = "socket"
    CHROOT = "chroot"  # the MTA looks for the socket within its chroot
    OTHER_SOCKET = "other-socket"  # the MTA names another one
    NOT_ATTACHED = "not-attached"
    NO_MTA = "no-mta"
    POSTFIX_UNSEEN = "postfix-unseen"  # nobody can tell what its lines are
    POSTFIX_NOT_READ = "postfix-not-read"  # rests on the running processes
    POSTFIX_NOT_TOLD = "postfix-not-told"  # nobody can see the running processes
    POSTFIX_STOPPED = "postfix-stopped"
    DEFAULT_ACTION = "default-action"  # what the MTA does while the filter is away
    SWALLOWED_LINE = "swallowed-line"  # a parameter's value goes on with what should be a parameter of its own
    NON_SMTPD = "non-smtpd-milters"
    MILTER_ORDER = "milter-order"
    UNSEEN_MAIL = "unseen-mail"  # what another milter quarantines
    TIMEOUT = "timeout"
    SIZE = "size"
    REWRITING = "rewriting"
    ACCESS_TABLE = "access-table"  # HOLD, REDIRECT, FILTER
    STAGE = "stage"
    STAGE_WAY = "stage-way"  # Postfix's lines that lead to the stage
    CIRCLE = "circle"  # the file of its authorities
    HOP_WAY = "hop-way"  # Postfix's lines that bind a copy to a verified hop
    STAGE_FORGED = "stage-forged"
    LISTENER = "listener"  # the one of [reinject]
    CERTIFICATE = "certificate"  # the relay's own
    NEXT_HOP = "next-hop"  # of the relay
    FILTERS_SKIPPED = "filters-skipped"
    TRANSPORT = "transport"  # what is said of how mail came, and what may be forged
    POLICY = "policy"
    DECRYPT = "decrypt"  # smilla decrypt, and how Postfix asks it
    SENDMAIL = "sendmail"


_KINDS = list(Kind)
_SEVERITIES = ("error", "to do", "warning", "hint", "")


@dataclass(frozen=True, slots=True)
class Finding:
    """``severity`` is error, warning, hint, or "" for what is in order; ``smilla init`` has "to do", for what its own
    next steps mend.  ``subject`` is what it is about: a file, a
    socket, a program.  ``mend`` is the line that mends it; ``why`` says why that matters, if the text does not."""

    kind: Kind
    severity: str
    subject: str
    text: str
    mend: str = ""
    why: str = ""

    @property
    def line(self) -> str:
        """In one line, without the reason why."""
        said = f"{self.subject}: {self.text}" if self.subject else self.text
        return f"{said}; {self.mend}" if self.mend else said

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """What to print, each with its severity: a hint follows if there is a reason why."""
        if not self.why:
            return ((self.severity, self.line),)
        said = f"{self.subject}: {self.text}" if self.subject else self.text
        return (self.severity, said), ("hint", f"{self.why}; {self.mend}" if self.mend else self.why)

    @property
    def document(self) -> dict[str, str]:
        """For ``--json``; the severity of what is in order is "ok"."""
        return {**asdict(self), "kind": self.kind.value, "severity": self.severity or "ok"}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once: errors, then warnings, then hints, each in the order in which to mend them."""
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda found: (_SEVERITIES.index(found.severity), _KINDS.index(found.kind)))


def error(kind: Kind, subject: str, text: str, mend: str = "", why: str = "") -> Finding:
    """Something fails, or would let plaintext out."""
    return Finding(kind, "error", subject, text, mend, why)


def warning(kind: Kind, subject: str, text: str, mend: str = "", why: str = "") -> Finding:
    """Something that the administrator should know."""
    return Finding(kind, "warning", subject, text, mend, why)


def hint(kind: Kind, subject: str, text: str, mend: str = "", why: str = "") -> Finding:
    """Something that may be as it should be."""
    return Finding(kind, "hint", subject, text, mend, why)


def fine(kind: Kind, subject: str, text: str) -> Finding:
    """Something in order."""
    return Finding(kind, "", subject, text)
