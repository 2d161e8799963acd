"""The header lines of an armoured message (RFC 9580 section 6.2.2), judged by what a person could read in them.

A reader that cannot decrypt the message shows its armour, Comment and all.  Programs write their names and an address
there; GnuPG lets people write what they like.  So these lines follow the same rule as a part's header: a label is
allowed, a letter is not.  Sentences that programs write are in the table, word for word.
"""

from __future__ import annotations

import re

from smilla.errors import ParseError
from smilla.formats import parts, words

_KNOWN_HEADERS = ("Version", "Comment", "MessageID", "Hash", "Charset")
_MAX_OCTETS = 100
_MAX_HEADERS = 4
_MAX_WORDS = 4  # in all lines together; PGP, FlowCrypt and others have two in Version

_IDENTIFIER = re.compile(r"[!-~]{1,40}")
_LINK = r"<? ?((?:https?://|www\.)[!-~]{1,60})"
# The groups hold the parts that vary; their words count.  The comments say who writes the sentence.
_SENTENCES = re.compile(
    rf"using gnupg with ([a-z0-9.]{{2,12}}(?: [a-z0-9.]{{2,12}})?) - {_LINK}"  # Enigmail; the program or the system
    r"|seamlessly send and receive encrypted email"  # FlowCrypt
    r"|seamlessly send,? receive and search encrypted email"  # CryptUp, which became FlowCrypt
    r"|(pgp[a-z]{0,12}(?: [a-z]{2,10})?) [\d.]{1,10}(?: \(build \d{1,6}\))?(?: -)? "  # PGP Desktop, PGPfreeware
    rf"(?:not licensed for commercial use:|for non-commercial use) {_LINK}"
    r"|encrypted using aes with \d{3}-bit key"  # the examples of RFC 9580
    rf"|(?:my )?public key(?: is)? at {_LINK}|for info see {_LINK}|see {_LINK} for (?:my )?public key",  # gpg.conf
    re.IGNORECASE,
)


def check_message_headers(headers: list[tuple[str, str]]) -> None:
    """Raises ParseError if the lines of an encrypted message are unusual, or could hold a letter."""
    together: list[str] = []
    for name, value in headers:
        if name not in _KNOWN_HEADERS or len(value.encode()) > _MAX_OCTETS:
            raise ParseError(f"an armour header {name!r} that is unusual or too long")
        unusual = _words(name, value)
        if unusual is None or len(unusual) > parts.MOST_WORDS:
            raise ParseError(f"an armour header {name!r} that could hold words of a person")
        together += unusual
    if len(headers) > _MAX_HEADERS or len(together) > _MAX_WORDS:
        raise ParseError("more armour headers than usual")


def _words(name: str, value: str) -> list[str] | None:
    if name == "MessageID" and _IDENTIFIER.fullmatch(value):
        return words.identifier_words(value)
    if sentence := _SENTENCES.fullmatch(" ".join(value.split())):
        return words.unusual_words(" ".join(filter(None, sentence.groups())))
    return words.unusual_words(value)
