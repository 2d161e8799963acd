"""The outer structure of CMS enveloped data (RFC 5652, RFC 5083), judged as it arrives.

Accepts BER as well as DER, since clients that write S/MIME in one pass use indefinite lengths.  Holds one block at a
time, and takes linear time, little for each octet.  Anything beside the ciphertext that could hold a letter is bounded
and checked; ``Ciphertext`` distinguishes text from ciphertext, for OpenPGP too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats.ciphertext import LONGEST_RUN, Ciphertext, FaultError, check_ciphertext, has_run, is_mostly_text
from smilla.formats.cms_fields import Field, check_attributes, check_originator, check_recipient
from smilla.formats.der import INTEGER, OCTET_STRING, OID, SEQUENCE, SET, dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NO_LIMIT = 1 << 62
_MAX_DEPTH = 16  # real messages nest their elements six deep
# Each element costs microseconds.  A recipient has five; a segment of ciphertext has about a thousand octets.
_MAX_ELEMENTS = 20_000
_LEAST_SEGMENT = 64


@dataclass(frozen=True, slots=True)
class _Element:
    """The header of an element: ``limit`` is its end if that is ``definite``, else that of its container."""

    tag: int
    limit: int
    definite: bool


class _Stream:
    """The octets as they come, with one block in memory; every failure is a ParseError."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._block = b""
        self._at = 0
        self.position = 0
        self._elements = 0
        self._in_strings = 0

    def _left(self) -> int:
        while self._at == len(self._block):
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block, self._at = block, 0
        return len(self._block) - self._at

    def rest(self) -> Iterator[bytes]:
        """Everything that follows, cut as the blocks are."""
        while left := self._left():
            yield from self.pieces(left)

    def pieces(self, length: int) -> Iterator[bytes]:
        """The next ``length`` octets, cut as the blocks are."""
        while length:
            size = min(self._left(), length)
            if size == 0:
                raise ParseError(f"the data ends at octet {self.position}, inside an element")
            piece = self._block[self._at : self._at + size]
            self._at += size
            self.position += size
            length -= size
            yield piece

    def take(self, length: int) -> bytes:
        """The next ``length`` octets in one piece; for a few octets only."""
        return b"".join(self.pieces(length))

    def open(self, parent: _Element) -> _Element:
        """Reads the header of the next element."""
        self._elements += 1
        if self._elements > _MAX_ELEMENTS + self._in_strings // _LEAST_SEGMENT:
            raise FaultError("too_complex", f"too complex: {self._elements} elements before octet {self.position}")
        tag, first = self.take(2)
        if tag & 0x1F == 0x1F:
            raise ParseError(f"a tag number above 30 before octet {self.position}")
        if first == 0x80:
            if not tag & 0x20:
                raise ParseError(f"an element without an end before octet {self.position}")
            return _Element(tag, parent.limit, definite=False)
        length = first if first < 0x80 else int.from_bytes(self.take(first & 0x7F), "big")
        if length > parent.limit - self.position:
            raise ParseError(f"the element before octet {self.position} is longer than what holds it")
        return _Element(tag, self.position + length, definite=True)

    def more(self, element: _Element) -> bool:
        """Whether another element follows inside; if none does, reads the end-of-contents octets."""
        if element.definite:
            return self.position < element.limit
        if self._left() and self._block[self._at]:
            return True
        if self.take(2) != b"\0\0" or self.position > element.limit:
            raise ParseError(f"malformed end-of-contents octets before octet {self.position}")
        return False

    def children(self, element: _Element) -> Iterator[_Element]:
        """The headers of the elements inside; the caller must read each one's content before asking for the next."""
        while self.more(element):
            yield self.open(element)

    def octets(self, element: _Element, most: int, depth: int = 0) -> bytes:
        """The content of a field that is small in real messages, without inner headers if its length is indefinite."""
        if element.definite:
            if element.limit - self.position > most:
                raise ParseError(f"a field that is too long before octet {self.position}")
            return self.take(element.limit - self.position)
        if depth == _MAX_DEPTH:
            raise ParseError("the elements are nested too deep")
        content = b""
        for child in self.children(element):
            content += self.octets(child, most - len(content), depth + 1)
        return content

    def string(self, element: _Element, depth: int = 0) -> Iterator[bytes]:
        """The octets of an OCTET STRING, even one in segments (X.690 section 8.7.3)."""
        if not element.tag & 0x20:
            self._in_strings += element.limit - self.position
            yield from self.pieces(element.limit - self.position)
            return
        if depth == _MAX_DEPTH:
            raise ParseError("the elements are nested too deep")
        for segment in self.children(element):
            if segment.tag & ~0x20 != OCTET_STRING:
                raise ParseError(f"a segment of an octet string is malformed before octet {self.position}")
            yield from self.string(segment, depth + 1)


# --- CMS enveloped data ------------------------------------------------------------------------------------

ENVELOPED_DATA = "1.2.840.113549.1.7.3"
AUTH_ENVELOPED_DATA = "1.2.840.113549.1.9.16.1.23"

_OTHER_CONTENT = {
    "1.2.840.113549.1.7.1": "plain data",
    "1.2.840.113549.1.7.2": "signed data",
    "1.2.840.113549.1.7.5": "digested data",
    "1.2.840.113549.1.9.16.1.2": "authenticated data",
    "1.2.840.113549.1.9.16.1.9": "compressed data",
}

# The arcs below which content-encryption algorithms are registered.  We list known ciphers, since
# anything else there (a digest, a compression, an invented identifier) would let plaintext pass for encrypted.
_CIPHERS = re.compile(
    r"2\.16\.840\.1\.101\.3\.4\.1\."  # AES
    r"|1\.2\.840\.113549\.3\."  # DES-EDE3, RC2, RC5
    r"|1\.2\.840\.113549\.1\.9\.16\.3\.18$"  # ChaCha20-Poly1305 (RFC 8103)
    r"|1\.2\.392\.200011\.61\.1\.1\.1\."  # Camellia
    r"|1\.2\.410\.200004\.1\.|1\.2\.410\.200046\.1\.1\."  # SEED, ARIA
    r"|1\.2\.643\.2\.2\.21$|1\.2\.643\.7\.1\.1\.5\."  # GOST
    r"|1\.2\.156\.10197\.1\.104\."  # SM4
    r"|1\.2\.840\.113533\.7\.66\.10$|1\.3\.6\.1\.4\.1\.188\.7\.1\.1\.|1\.3\.14\.3\.2\.7$"  # CAST5, IDEA, DES
)
_CBC_BLOCK = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 16,
    "2.16.840.1.101.3.4.1.42": 16,
    "1.2.840.113549.3.7": 8,
}

# The tags of a RecipientInfo's fields (RFC 5652 section 6.2): key transport, key agreement, key-encryption key,
# password, other; and those that may follow the encrypted content (section 6.1; RFC 5083 section 2.1).
_RECIPIENT_FIELDS = {
    0x30: re.compile(rb"\x02[\x30\x80]\x30[\x04\x24]", re.DOTALL),
    0xA1: re.compile(rb"\x02\xa0\xa1?\x30\x30", re.DOTALL),
    0xA2: re.compile(rb"\x02\x30\x30[\x04\x24]", re.DOTALL),
    0xA3: re.compile(rb"\x02\xa0?\x30[\x04\x24]", re.DOTALL),
    0xA4: re.compile(rb"\x06.?", re.DOTALL),
}
_TRAILING_FIELDS = {
    ENVELOPED_DATA: re.compile(rb"\xa1?"),
    AUTH_ENVELOPED_DATA: re.compile(rb"\xa1?\x04\xa2?"),
}
_ORIGINATOR_FIELDS = re.compile(rb"\xa0?\xa1?")  # certificates and revocation lists (section 6.1)
_MAX_FIELDS = 8
# Octets per field: version; names, certificates and encrypted keys; the parameters of a cipher; attributes and MAC.
_MAX_VERSION, _MAX_FIELD, _MAX_PARAMETERS, _MAX_ATTRIBUTES = 4, 16 * 1024, 256, 4096


@dataclass(frozen=True, slots=True)
class EnvelopedCheck:
    """Whether octets are CMS enveloped data: a stable word and a text that say why or why not, and the content type, ""
    if it could not be read."""

    encrypted: bool
    code: str
    reason: str
    content_type: str


def is_enveloped(blocks: Iterable[bytes]) -> EnvelopedCheck:
    """Judges a ContentInfo (RFC 5652 section 3) in DER or BER by its whole outer structure, in one pass.

    It counts as encrypted only if it is EnvelopedData or AuthEnvelopedData from the first octet to the last, for at
    least one recipient, under a known cipher, with the ciphertext present and not readable, and no letter in the fields
    around it.  White space may follow.  ``blocks`` are decoded octets in pieces of any length.  Raises nothing.
    """
    check = _Envelope(blocks)
    try:
        check.content_info()
    except FaultError as error:
        return EnvelopedCheck(False, error.word, str(error), check.content_type)
    except ParseError as error:
        return EnvelopedCheck(False, check.fault, str(error), check.content_type)
    name = "enveloped-data" if check.content_type == ENVELOPED_DATA else "authEnveloped-data"
    return EnvelopedCheck(True, "enveloped", name, check.content_type)


class _Envelope:
    """The grammar, top down; ``fault`` is the code for a ParseError without its own."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._stream = _Stream(blocks)
        self.content_type = ""
        self.fault = "not_cms"

    def content_info(self) -> None:
        outer = self._expect(_Element(0, _NO_LIMIT, definite=True), SEQUENCE)
        self.content_type = self._oid(outer)
        if self.content_type not in _TRAILING_FIELDS:
            what = _OTHER_CONTENT.get(self.content_type, "content of another type")
            raise FaultError("not_enveloped", f"{what}, not encrypted")
        self.fault = "malformed"
        explicit = self._expect(outer, 0xA0)
        self._enveloped_data(self._expect(explicit, SEQUENCE))
        self._close(explicit)
        self._close(outer)
        self._nothing_but_space()

    def _enveloped_data(self, data: _Element) -> None:
        self._stream.octets(self._expect(data, INTEGER), _MAX_VERSION)
        recipients = self._expect(data, SET, 0xA0)
        if recipients.tag == 0xA0:  # OriginatorInfo
            fields = self._fields(recipients, _MAX_FIELD, _check_field)
            if not _ORIGINATOR_FIELDS.fullmatch(bytes(tag for tag, _ in fields)):
                raise ParseError("the originator info is malformed")
            check_originator(fields)
            recipients = self._expect(data, SET)
        self._recipients(recipients)
        self._encrypted_content(self._expect(data, SEQUENCE))
        if not _TRAILING_FIELDS[self.content_type].fullmatch(self._tags(data, _MAX_ATTRIBUTES, _check_attributes)):
            raise ParseError("the fields after the encrypted content are not those of enveloped data")

    def _recipients(self, recipients: _Element) -> None:
        count = 0
        for recipient in self._stream.children(recipients):
            form = _RECIPIENT_FIELDS.get(recipient.tag)
            fields = self._fields(recipient, _MAX_FIELD, _check_field) if form else []
            if form is None or not form.fullmatch(bytes(tag for tag, _ in fields)):
                raise ParseError(f"recipient info {count + 1} is malformed")
            check_recipient(recipient.tag, fields)
            count += 1
        if not count:
            raise ParseError("encrypted to nobody: the set of recipient infos is empty")

    def _encrypted_content(self, info: _Element) -> None:
        self._oid(info)
        algorithm = self._expect(info, SEQUENCE)
        cipher = self._oid(algorithm)
        if len(self._tags(algorithm, _MAX_PARAMETERS, _check_attributes)) > 1:
            raise ParseError("the cipher has more than one parameter")
        if not _CIPHERS.match(cipher):
            raise FaultError("unknown_cipher", f"{cipher} is not known as a cipher")
        if not self._stream.more(info):
            raise FaultError("no_content", "the ciphertext is not in the message")
        self._ciphertext(self._expect(info, 0x80, 0xA0), _CBC_BLOCK.get(cipher, 1))
        self._close(info)

    def _ciphertext(self, content: _Element, block: int) -> None:
        size, ciphertext = 0, Ciphertext()
        for piece in self._stream.string(content):
            ciphertext.feed(piece)
            size += len(piece)
        ciphertext.finish()
        if size % block:
            raise ParseError(f"the ciphertext of {size} octets is not a multiple of the cipher's block")
        if not size and block > 1:
            raise ParseError("the ciphertext is empty")

    def _expect(self, parent: _Element, *tags: int) -> _Element:
        child = self._stream.open(parent) if self._stream.more(parent) else None
        if child is None or child.tag not in tags:
            raise ParseError(f"not the structure of CMS before octet {self._stream.position}")
        return child

    def _close(self, element: _Element) -> None:
        if self._stream.more(element):
            raise ParseError(f"a field too many at octet {self._stream.position}")

    def _oid(self, parent: _Element) -> str:
        element = self._expect(parent, OID)
        return dotted(self._stream.take(min(element.limit - self._stream.position, 65)))

    def _tags(self, element: _Element, most: int, check: Callable[[int, bytes], None]) -> bytes:
        """The tags of the fields inside, each of at most ``most`` octets; ``check`` may reject a field."""
        return bytes(tag for tag, _ in self._fields(element, most, check))

    def _fields(self, element: _Element, most: int, check: Callable[[int, bytes], None]) -> list[Field]:
        """The same, with the fields' content."""
        fields: list[Field] = []
        for child in self._stream.children(element):
            if len(fields) == _MAX_FIELDS:
                raise ParseError(f"a field too many before octet {self._stream.position}")
            content = self._stream.octets(child, most)
            check(child.tag, content)
            fields.append((child.tag, content))
        return fields

    def _nothing_but_space(self) -> None:
        for piece in self._stream.rest():
            if after := piece.lstrip(b"\r\n\t "):
                raise ParseError(f"octets follow the end of the data at octet {self._stream.position - len(after)}")


def _check_field(tag: int, content: bytes) -> None:
    """A field of a recipient info or the originator: an encrypted key, or names and numbers, which may hold words but
    no letter.  No word in a real name is as long as LONGEST_RUN, and no certificate has this many letters."""
    if tag & ~0x20 == OCTET_STRING:
        check_ciphertext(content)
    elif has_run(content, LONGEST_RUN) or (len(content) >= 1024 and is_mostly_text(content)):
        raise FaultError("readable", "a field of a recipient or the originator is readable text")


def _check_attributes(_tag: int, content: bytes) -> None:
    """Attributes and parameters are object identifiers, numbers and times."""
    if has_run(content, 32) or (len(content) >= 64 and is_mostly_text(content)):
        raise FaultError("readable", "an attribute or parameter is readable text")
    check_attributes(content)
