"""OpenPGP packets (RFC 9580 section 4), and whether octets are one encrypted message (section 10.3.1).

Promises: nothing here raises anything but ParseError.  An encrypted message is read in pieces of any size, with bounded
memory and in linear time.  It must have one shape: encrypted session keys, then one container of encrypted data, then
nothing.  The filter passes such a message on unchanged, so everything beside the ciphertext that could hold readable
text is bounded, and anything odd counts as not encrypted: encrypting it once more is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smilla.errors import ParseError
from smilla.formats.armour import MESSAGE, ArmourReader
from smilla.formats.armour_headers import check_message_headers
from smilla.formats.ciphertext import Ciphertext, FaultError, check_ciphertext, has_run, is_mostly_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PKESK, SIGNATURE, SKESK, SECRET_KEY, PUBLIC_KEY, SECRET_SUBKEY = 1, 2, 3, 5, 6, 7
SED, MARKER, TRUST, USER_ID, PUBLIC_SUBKEY, USER_ATTRIBUTE = 9, 10, 12, 13, 14, 17
SEIPD, AEAD, PADDING = 18, 20, 21  # 20 is GnuPG's own container, never in an RFC

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its tag, its body, and the octets as they came."""

    tag: int
    body: bytes
    raw: bytes


def packets(raw: bytes) -> Iterator[Packet]:
    """The packets of a key or signature, which have definite lengths (RFC 9580 section 4.2.1.4).

    Raises ParseError at the first malformed octet.
    """
    at = 0
    while at < len(raw):
        header = read_header(raw[at : at + 6])
        if header is None:
            raise ParseError("a packet header is cut off")
        if header.length is None or header.partial:
            raise ParseError(f"a packet with tag {header.tag} is of indefinite length")
        start, end = at + header.size, at + header.size + header.length
        if end > len(raw):
            raise ParseError(f"a packet with tag {header.tag} is cut off")
        yield Packet(header.tag, raw[start:end], raw[at:end])
        at = end


@dataclass(frozen=True, slots=True)
class PacketHeader:
    """``length`` of the body, or of its first part if ``partial``; None if it extends to the end."""

    tag: int
    size: int
    length: int | None
    partial: bool = False


def read_header(raw: bytes) -> PacketHeader | None:
    """The header at the start of ``raw`` (RFC 9580 section 4.2), None if more octets are needed."""
    if not raw:
        return None
    if not raw[0] & 0x80:
        raise ParseError("the octets are not an OpenPGP packet")
    if raw[0] & 0x40:
        length = read_length(raw[1:])
        return length and PacketHeader(raw[0] & 0x3F, 1 + length.size, length.length, length.partial)
    tag, size = raw[0] >> 2 & 0x0F, (1, 2, 4, 0)[raw[0] & 3]
    if not tag:
        raise ParseError("a packet with the reserved tag 0")
    if not size:
        return PacketHeader(tag, 1, None)
    if len(raw) <= size:
        return None
    return PacketHeader(tag, 1 + size, int.from_bytes(raw[1 : 1 + size], "big"))


def read_length(raw: bytes) -> PacketHeader | None:
    """A body length of one, two or five octets, or a partial one (RFC 9580 section 4.2.1); the tag is left 0."""
    if not raw:
        return None
    if raw[0] < 192:
        return PacketHeader(0, 1, raw[0])
    if 224 <= raw[0] < 255:
        return PacketHeader(0, 1, 1 << (raw[0] & 0x1F), partial=True)
    if raw[0] == 255:
        return PacketHeader(0, 5, int.from_bytes(raw[1:5], "big")) if len(raw) >= 5 else None
    return PacketHeader(0, 2, ((raw[0] - 192) << 8) + raw[1] + 192) if len(raw) >= 2 else None


# --- is this one encrypted message? ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageCheck:
    """Whether octets are one encrypted OpenPGP message, and why (not), in words."""

    encrypted: bool
    reason: str


def encrypted_message(blocks: Iterable[bytes]) -> MessageCheck:
    """Whether a body is exactly one armoured, encrypted message, plus white space.  Never raises ParseError."""
    packets_of = EncryptedMessageReader()
    reader = ArmourReader(check_message_headers)
    try:
        for block in blocks:
            for octets in reader.feed(block):
                packets_of.feed(octets)
            if reader.label not in ("", MESSAGE):
                return MessageCheck(False, f"the armour holds a {reader.label}")
        packets_of.feed(reader.finish())
        packets_of.finish()
    except ParseError as error:
        return MessageCheck(False, str(error))
    return MessageCheck(True, packets_of.description)


class EncryptedMessageReader:
    """Takes binary packets in pieces and raises ParseError as soon as they are no encrypted message.

    ``recipients`` counts the public-key encrypted session keys.  ``container`` is the tag of the encrypted data once
    its beginning has been checked, else 0.
    """

    _MAX_PACKETS = 5000
    _MAX_SMALL = 4096  # the longest session key packet, ML-KEM-1024 with X448, is under 2 KB
    _MAX_PADDING = 64

    def __init__(self) -> None:
        self.recipients = 0
        self.container = 0
        self._passphrases = 0
        self._packets = 0
        self._padding = 0
        self._parts = 0
        self._pending = b""
        self._at = 0
        self._step: Callable[[], bool] = self._begin
        self._header = PacketHeader(0, 0, 0)
        self._left: int | None = 0
        self._start = b""
        self._octets = 0
        self._ciphertext = Ciphertext()

    @property
    def description(self) -> str:
        """A description for a person."""
        names = {SED: "encrypted data without integrity protection", SEIPD: "encrypted data", AEAD: "AEAD data"}
        return f"{self.recipients} recipient(s), {self._passphrases} passphrase(s), {names[self.container]}"

    def feed(self, octets: bytes) -> None:
        """The next octets.  Raises ParseError."""
        for start in range(0, len(octets), _PIECE):
            self._pending = self._pending[self._at :] + octets[start : start + _PIECE]
            self._at = 0
            while self._step():
                pass

    def finish(self) -> None:
        """Says that nothing follows.  Raises ParseError if the message is not complete."""
        if self._step == self._inside and self._left is None:
            self._close_container()
        if self._step != self._end:
            raise ParseError("the OpenPGP message is not complete")

    # Each step takes what it can from ``_pending``, starting at ``_at``, and returns whether to go on.

    def _begin(self) -> bool:
        header = read_header(self._pending[self._at : self._at + 6])
        if header is None:
            return False
        self._packets += 1
        if self._packets > self._MAX_PACKETS:
            raise ParseError("more packets than a message has")
        self._header = header
        self._at += header.size
        if header.tag in (SED, SEIPD, AEAD):
            self._open_container(header)
        elif header.tag in _SMALL:
            self._step = self._small
        else:
            raise ParseError(f"an OpenPGP message that is not encrypted (packet tag {header.tag})")
        return True

    def _small(self) -> bool:
        length = self._header.length
        if length is None or self._header.partial or length > self._MAX_SMALL:
            raise ParseError(f"a packet with tag {self._header.tag} that is too long")
        if len(self._pending) - self._at < length:
            return False
        body = self._take(length)
        if has_run(body, _SHORT):
            raise FaultError("readable", f"a packet with tag {self._header.tag} is readable text")
        _SMALL[self._header.tag](body)
        self.recipients += self._header.tag == PKESK
        self._passphrases += self._header.tag == SKESK
        self._padding += length if self._header.tag == PADDING else 0
        if self._padding > self._MAX_PADDING:
            raise ParseError("padding outside the encrypted data")
        self._step = self._begin
        return True

    def _take(self, most: int | None) -> bytes:
        end = len(self._pending) if most is None else self._at + most
        taken = self._pending[self._at : end]
        self._at += len(taken)
        return taken

    def _open_container(self, header: PacketHeader) -> None:
        if not self.recipients + self._passphrases:
            raise ParseError("encrypted data without an encrypted session key")
        self._left = header.length
        self._step = self._inside

    def _inside(self) -> bool:
        taken = self._take(self._left)
        self._octets += len(taken)
        self._ciphertext.feed(taken)
        if not self.container:
            self._look_at_start(taken)
        if self._left is not None:
            self._left -= len(taken)
            if not self._left:
                return self._close_part()
        return False

    def _look_at_start(self, taken: bytes) -> None:
        self._start += taken[:64]
        if len(self._start) >= 4:
            check_container(self._header.tag, self._start)
            self.container = self._header.tag

    def _close_part(self) -> bool:
        if self._header.partial:
            self._step = self._next_part
        else:
            self._close_container()
        return True

    def _next_part(self) -> bool:
        length = read_length(self._pending[self._at : self._at + 5])
        if length is None:
            return False
        self._parts += 1
        # Parts of one octet would cost a second for each megabyte; writers use at least 512 octets.
        if self._parts > 1000 and self._octets < 64 * self._parts:
            raise ParseError("encrypted data in very small parts")
        self._at += length.size
        self._header = PacketHeader(self._header.tag, 0, 0, length.partial)
        self._left = length.length
        self._step = self._inside
        return True

    def _close_container(self) -> None:
        if self._octets < LEAST_OCTETS[self._header.tag] or not self.container:
            raise ParseError("too little encrypted data to be a message")
        self._ciphertext.finish()
        self._step = self._end

    def _end(self) -> bool:
        if self._at < len(self._pending):
            raise ParseError("something follows the encrypted data")
        return False


# SED: the CFB prefix of an 8-octet block cipher and a literal packet; SEIPD: also a version and 22 octets of
# modification detection; AEAD: four octets of header, nonce, a tag for the chunk and one for all.
LEAST_OCTETS = {SED: 18, SEIPD: 41, AEAD: 52}
_CIPHERS = (1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13)


def check_container(tag: int, start: bytes) -> None:
    """RFC 9580 section 5.13; for tag 20, the draft that GnuPG implements."""
    version, cipher, aead, chunk = start[:4]
    known = cipher in _CIPHERS and aead in (1, 2, 3)
    if tag == SEIPD and not (version == 1 or (version == 2 and known and chunk <= 16)):
        raise ParseError("encrypted data of an unknown version or algorithm")
    if tag == AEAD and not (version == 1 and known and chunk <= 56):
        raise ParseError("AEAD data of an unknown version or algorithm")


# No packet before the data has so many printable octets in a row; 500 random octets do once in 10**8 packets.
_SHORT, _SHORT_PADDING = 24, 12

# Session keys of RSA, ElGamal and ML-KEM are long enough to hold a letter, and are practically random.
_READABLE_SIZE = 256


def check_pkesk(body: bytes) -> None:
    """A public-key encrypted session key (RFC 9580 section 5.1) with exactly its fields."""
    if body[:1] == b"\x03":
        head = 9
    elif body[:1] == b"\x06" and len(body) > 1 and body[1] in (0, 21, 33):
        head = 2 + body[1]
    else:
        raise ParseError("an encrypted session key of an unknown version")
    if len(body) <= head:
        raise ParseError("an encrypted session key is cut off")
    algorithm, fields = body[head], body[head + 1 :]
    if len(fields) >= _READABLE_SIZE:
        check_ciphertext(fields)
    if not _session_key_fits(algorithm, fields):
        raise ParseError(f"an encrypted session key that does not fit its algorithm {algorithm}")


_FIXED = {25: 32, 26: 56, 35: 32 + 1088, 36: 56 + 1568}  # X25519, X448, and with ML-KEM-768 and ML-KEM-1024


def _session_key_fits(algorithm: int, fields: bytes) -> bool:
    if algorithm in (1, 2):
        return _skip_mpi(fields, 1000) == len(fields)
    if algorithm == 16:
        first = _skip_mpi(fields, 1)
        return 0 < first < len(fields) and _skip_mpi(fields[first:], 1) == len(fields) - first
    if algorithm == 18:
        fixed = _skip_mpi(fields, 100)
        return fixed > 0 and _wrapped_fits(fields[fixed:])
    return algorithm in _FIXED and _wrapped_fits(fields[_FIXED[algorithm] :])


def _skip_mpi(fields: bytes, least_bits: int) -> int:
    """The length in octets of the number at the start of ``fields``, 0 if there is none (RFC 9580 section 3.2)."""
    bits = int.from_bytes(fields[:2], "big")
    size = 2 + (bits + 7) // 8
    return size if bits >= least_bits and size <= len(fields) else 0


def _wrapped_fits(wrapped: bytes) -> bool:
    """A length octet and that many octets: a key wrapped by RFC 3394, perhaps with an octet for the cipher."""
    return 17 <= len(wrapped) <= 66 and wrapped[0] == len(wrapped) - 1


def _check_skesk(body: bytes) -> None:
    """A passphrase-encrypted session key (RFC 9580 section 5.3): short, of a known version and cipher."""
    cipher = body[2:3] if body[:1] == b"\x06" else body[1:2]
    if body[:1] not in (b"\x04", b"\x05", b"\x06") or not 4 <= len(body) <= 128 or cipher[0] not in _CIPHERS:
        raise ParseError("an encrypted session key of an unknown version or cipher")


def _check_marker(body: bytes) -> None:
    if body != b"PGP":
        raise ParseError("a marker packet that says something")


def _check_padding(body: bytes) -> None:
    """The octets are random (RFC 9580 section 5.14); the reader limits their number."""
    check_ciphertext(body)
    if has_run(body, _SHORT_PADDING) or (len(body) >= 48 and is_mostly_text(body)):
        raise FaultError("readable", "the padding is readable text")


_SMALL: dict[int, Callable[[bytes], None]] = {
    PKESK: check_pkesk,
    SKESK: _check_skesk,
    MARKER: _check_marker,
    PADDING: _check_padding,
}
