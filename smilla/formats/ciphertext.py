"""Is it ciphertext?  Distinguishes a cipher's output from text that a person can read, for CMS and OpenPGP alike."""

from __future__ import annotations

from smilla.errors import ParseError

_WINDOW = 4096
LONGEST_RUN = 100
_PRINTABLE = frozenset(b"\t\n\r" + bytes(range(32, 127)))
_LETTERS = frozenset(b" abcdefghijklmnopqrstuvwxyz")
# Each octet's kind: a small letter or space, other printable ASCII, above 127, the rest; and whether it is printable.
_KINDS = bytes(b"hplc"[0 if o > 127 else 2 if o in _LETTERS else 1 if o in _PRINTABLE else 3] for o in range(256))
_IS_PRINTABLE = bytes(o in _PRINTABLE for o in range(256))


class FaultError(ParseError):
    """A ParseError with its own stable word."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


class Ciphertext:
    """Distinguishes ciphertext from readable text, window by window, as it comes; raises FaultError at the first text.

    In ciphertext all octets are equally likely.  So in n octets each kind has its share of the 256 values to within 4 *
    sqrt(n), except in one of 10**15 windows.  Text in any charset, base64, or text with other octets mixed in does
    not.  Nor does ciphertext have a hundred printable octets in a row, except in one of 10**38 places.  A message
    mistaken for text is only encrypted again.
    """

    def __init__(self) -> None:
        self._held = b""
        self._edge = b""

    def feed(self, octets: bytes) -> None:
        """The next octets, in any number."""
        at = _WINDOW - len(self._held)
        if len(octets) < at:
            self._held += octets
            return
        self._judge(self._held + octets[:at])
        for start in range(at, len(octets) - _WINDOW + 1, _WINDOW):
            self._judge(octets[start : start + _WINDOW])
        self._held = octets[len(octets) - (len(octets) - at) % _WINDOW :]

    def finish(self) -> None:
        """Says that nothing follows."""
        self._judge(self._held)

    def _judge(self, window: bytes) -> None:
        kinds = window.translate(_KINDS)
        letters, above = kinds.count(b"l"), kinds.count(b"h")
        printable = letters + kinds.count(b"p")
        shares = (letters, len(_LETTERS)), (printable, len(_PRINTABLE)), (above, 128)
        odd = any((count - len(window) * values / 256) ** 2 > 16 * len(window) for count, values in shares)
        if odd or has_run(self._edge + window, LONGEST_RUN):
            raise FaultError("readable", "what should be ciphertext is readable text")
        self._edge = window[1 - LONGEST_RUN :]


def check_ciphertext(octets: bytes) -> None:
    """Raises FaultError if ``octets``, taken together, are readable text and not ciphertext."""
    ciphertext = Ciphertext()
    ciphertext.feed(octets)
    ciphertext.finish()


def has_run(octets: bytes, length: int) -> bool:
    """Are there this many printable octets in a row?"""
    return b"\1" * length in octets.translate(_IS_PRINTABLE)


def is_mostly_text(octets: bytes) -> bool:
    """In English as UTF-16 nearly half the octets are letters; in other scripts as UTF-8 nearly all octets are above
    127."""
    kinds = octets.translate(_KINDS)
    return 5 * kinds.count(b"l") > 2 * len(octets) or 4 * kinds.count(b"h") > 3 * len(octets)
