"""Checks an engine's output before it leaves: is it one encrypted message and nothing else, and for whom?

Promises: nothing here raises anything but ParseError.  We read everything up to the beginning of the encrypted data.
Of the data itself, we check that the first octets are not readable text, and then read only the lengths of its parts,
so that 25 MB cost a few milliseconds.  Memory is bounded by the head and the block fed in.
"""

from __future__ import annotations

from smilla.errors import ParseError
from smilla.formats.ciphertext import check_ciphertext
from smilla.formats.openpgp import (
    LEAST_OCTETS,
    PKESK,
    SEIPD,
    PacketHeader,
    check_container,
    check_pkesk,
    read_header,
    read_length,
)

_MAX_RECIPIENTS = 5000
_MAX_PKESK = 4096
_VERSIONS = {1: 3, 2: 6}  # encrypted data to its session keys (RFC 9580 section 10.3.2.1)
_LOOKED_AT = 1024  # octets of the encrypted data


class OutputReader:
    """Takes an engine's binary packets, in blocks of any size.

    Once ``begun``, ``version`` is that of the encrypted data (SEIPD, RFC 9580 section 5.13), ``recipients`` counts the
    encrypted session keys, and ``anonymous`` those that name no recipient.
    """

    def __init__(self) -> None:
        self.begun = False
        self.version = 0
        self.recipients = 0
        self.anonymous = 0
        self._session_keys: set[int] = set()  # their versions
        self._held = b""  # octets not parsed yet
        self._left = 0  # octets left of the current part of the encrypted data
        self._goes_on = True  # another part, or the length of the first, is still to come

    def feed(self, block: bytes) -> None:
        """The next octets.  Raises ParseError."""
        if self.begun:
            self._skip(block)
            return
        self._held += block
        while not self.begun and self._packet():
            pass

    def finish(self) -> None:
        """Says that nothing follows.  Raises ParseError if the message is not complete."""
        if not self.begun or self._goes_on or self._left:
            raise ParseError("the message is not complete")

    def _packet(self) -> bool:
        """Takes the packet at the start of ``_held``; False if more octets are needed."""
        header = read_header(self._held[:6])
        if header is None:
            return False
        if header.tag == SEIPD:
            return self._begin_container(header)
        if header.tag != PKESK or header.partial or header.length is None or header.length > _MAX_PKESK:
            raise ParseError(f"a packet with tag {header.tag} before the encrypted data")
        end = header.size + header.length
        if len(self._held) < end:
            return False
        self._session_key(self._held[header.size : end])
        self._held = self._held[end:]
        return True

    def _session_key(self, body: bytes) -> None:
        check_pkesk(body)
        self._session_keys.add(body[0])
        self.recipients += 1
        if self.recipients > _MAX_RECIPIENTS:
            raise ParseError("more session keys than a message has")
        named = body[1:9].strip(b"\0") if body[0] == 3 else body[1:2].strip(b"\0")  # key ID, or length of fingerprint
        self.anonymous += not named

    def _begin_container(self, header: PacketHeader) -> bool:
        if header.length is None:
            raise ParseError("encrypted data of indeterminate length, which RFC 9580 does not allow")
        if header.length < LEAST_OCTETS[SEIPD]:
            raise ParseError("too little encrypted data to be a message")
        start = self._held[header.size :]
        if len(start) < min(header.length, _LOOKED_AT):
            return False
        check_container(SEIPD, start)
        if self._session_keys != {_VERSIONS[start[0]]}:
            raise ParseError("session keys whose version does not match the encrypted data, or none")
        check_ciphertext(start[1 : min(header.length, _LOOKED_AT)])
        self.version = start[0]
        self._left, self._goes_on = header.length, header.partial
        self.begun, self._held = True, b""
        self._skip(start)
        return True

    def _skip(self, block: bytes) -> None:
        """Moves from one part of the encrypted data to the next (RFC 9580 section 4.2.1.4)."""
        at, size = 0, len(block)
        while True:
            if self._left > size - at:
                self._left -= size - at
                return
            at += self._left
            self._left = 0
            if at == size:
                return
            if not self._goes_on:
                raise ParseError("something follows the encrypted data")
            length = read_length(self._held + block[at : at + 5 - len(self._held)])
            if length is None or length.length is None:
                self._held += block[at:]
                return
            at += length.size - len(self._held)
            self._held = b""
            self._left, self._goes_on = length.length, length.partial
