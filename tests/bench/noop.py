"""A pymilter that does nothing: it is told of every step that smilla is told of, and accepts.

    noop.py PATH WORKERS [OCTETS]      one parent that only waits, and WORKERS processes on one UNIX socket

Steps are answered, or not answered, as smilla does it, so that what is compared is the work and not the protocol.
With OCTETS each message gets a new body of that size and the edits of the header that smilla makes, without a thought:
the ceiling for whatever encrypts behind libmilter and pymilter.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import Milter
import milter

if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[..., int]

_unanswered: Callable[[Callback], Callback] = Milter.noreply


class Noop(Milter.Base):  # type: ignore[misc]
    """Goes on until the end.  Like smilla it is not told of DATA and of the end of the header."""

    @_unanswered
    def connect(self, hostname: str, family: int, address: Any) -> int:
        return int(Milter.CONTINUE)

    @_unanswered
    def hello(self, name: str) -> int:
        return int(Milter.CONTINUE)

    def envfrom(self, sender: str, *parameters: str) -> int:
        return int(Milter.CONTINUE)

    def envrcpt(self, recipient: str, *parameters: str) -> int:
        return int(Milter.CONTINUE)

    @_unanswered
    def header(self, name: str, value: str) -> int:
        return int(Milter.CONTINUE)

    @_unanswered
    def body(self, block: bytes) -> int:
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        return int(Milter.ACCEPT)


class Replacing(Noop):
    """Makes the edits of an S/MIME message (smilla/copies/rewrap.py)."""

    new_body = b""

    def eom(self) -> int:
        self.replacebody(self.new_body)
        self.chgheader("Content-Type", 1, " application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m")
        self.chgheader("Content-Transfer-Encoding", 1, " base64")
        self.chgheader("Content-Language", 1, "")
        self.addheader("Content-Disposition", " attachment; filename=smime.p7m")
        self.addheader("X-Smilla", " encrypted; format=smime")
        return int(Milter.ACCEPT)


def main(path: str, workers: int, octets: int = 0) -> None:
    """Listens until SIGTERM."""
    Replacing.new_body = (b"M" * 76 + b"\r\n") * (octets // 78)
    Milter.factory = Replacing if octets else Noop
    Milter.enable_protocols(Noop, Milter.P_HDR_LEADSPC)
    milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.MODBODY | Milter.QUARANTINE | Milter.DELRCPT)
    milter.set_connect_callback(Milter.connect_callback)
    milter.set_helo_callback(lambda ctx, host: ctx.getpriv().hello(host))
    milter.set_envfrom_callback(lambda ctx, *words: ctx.getpriv().envfrom(*words))
    milter.set_envrcpt_callback(lambda ctx, *words: ctx.getpriv().envrcpt(*words))
    milter.set_header_callback(lambda ctx, name, value: ctx.getpriv().header(name, value))
    milter.set_eoh_callback(lambda ctx: ctx.getpriv().eoh())
    milter.set_body_callback(lambda ctx, block: ctx.getpriv().body(block))
    milter.set_eom_callback(lambda ctx: ctx.getpriv().eom())
    milter.set_abort_callback(lambda ctx: ctx.getpriv().abort())
    milter.set_close_callback(Milter.close_callback)
    milter.setconn(f"unix:{path}")
    milter.settimeout(7210)
    milter.register("noop", data=lambda ctx: ctx.getpriv().data(), negotiate=Milter.negotiate_callback)
    os.umask(0)
    milter.opensocket(True)
    children = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            milter.main()
            os._exit(0)
        children.append(pid)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(sys.argv[1], *map(int, sys.argv[2:]))
