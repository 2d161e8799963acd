"""Reads along on the loopback interface of this network: what travels over TCP to and from some ports.

Promises: nothing is missed unnoticed.  If the kernel had to drop a packet, ``streams`` raises.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable

from tests.lab.processes import Closing

_ALL, _IPV4, _TCP, _OUTGOING = 0x0003, 0x0800, 6, 4
_SO_RCVBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS = 33, 263, 6
_BUFFER = 64 << 20

Flow = tuple[str, int, str, int]


class Sniffer(Closing):
    """Begins at once.  ``wanted`` says of two ports, the sender's and the receiver's, whether they are of interest."""

    def __init__(self, wanted: Callable[[int, int], bool]) -> None:
        self._wanted = wanted
        self._flows: dict[Flow, dict[int, bytes]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind(("lo", _ALL))
        self._socket.settimeout(0.2)
        self._ends = False
        self._thread = threading.Thread(target=self._read, name="sniffer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Reads no more."""
        self._ends = True
        self._thread.join(5)
        self._socket.close()

    def streams(self) -> dict[Flow, bytes]:
        """What each side of each connection has sent until now: (address, port, address, port) and the octets."""
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if dropped:
            raise OSError(f"{dropped} packets were not seen")
        with self._lock:
            return {flow: _joined(pieces) for flow, pieces in self._flows.items()}

    def to(self, address: str) -> bytes:
        """All that was sent to an address, one connection after the other."""
        return b"".join(raw for (_, _, there, _), raw in self.streams().items() if there == address)

    def _read(self) -> None:
        while not self._ends:
            with contextlib.suppress(TimeoutError):
                raw, place = self._socket.recvfrom(1 << 17)
                if place[1] == _IPV4 and place[2] != _OUTGOING and raw[9] == _TCP:  # each comes twice
                    self._keep(raw)

    def _keep(self, raw: bytes) -> None:
        length, header = struct.unpack("!H", raw[2:4])[0], (raw[0] & 15) * 4
        segment = raw[header : length or None]
        here, there, sequence = struct.unpack("!HHI", segment[:8])
        payload = segment[(segment[12] >> 4) * 4 :]
        if payload and self._wanted(here, there):
            flow = socket.inet_ntoa(raw[12:16]), here, socket.inet_ntoa(raw[16:20]), there
            with self._lock:
                self._flows[flow][sequence] = payload


def _joined(pieces: dict[int, bytes]) -> bytes:
    """In the order in which they came first; what was sent again stands where it was."""
    return b"".join(pieces.values())
