"""Messages, certificates and keys for the benchmark."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.certificates import make_certificate
from tests.milter.material import CANARY as _CANARY
from tests.milter.material import make_pgp_pair

if TYPE_CHECKING:
    from pathlib import Path

CANARY = _CANARY.decode("ascii")
LETTER = 10 * 1024  # octets of an ordinary message's body
_LINE = 72


def certificate(address: str, number: int = 0) -> bytes:
    """An RSA-2048 certificate for an address, valid today; one of few keys, but another certificate each time."""
    now = datetime.now(UTC)
    _, der = make_certificate(
        email=address,
        usages=("digital_signature", "key_encipherment"),
        number=number,
        common_name=address[:60],
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=30),
    )
    return der


def openpgp_key(address: str) -> bytes:
    """An OpenPGP key of version 4, Curve25519."""
    return make_pgp_pair(address).raw


def write_letter(path: Path, octets: int = LETTER, *, to: str = "@RCPT@") -> Path:
    """A text of this many octets, with the header of an ordinary message; the driver puts the recipients in."""
    words = random.Random(4711)
    lines = [f"{CANARY}\r\n"]
    size = len(lines[0])
    while size < octets:
        line = "".join(words.choices("abcdefghij klmnop qrst uvwxyz ", k=_LINE)) + "\r\n"
        lines.append(line)
        size += len(line)
    body = "".join(lines)[: octets - 2] + "\r\n"
    path.write_bytes(_header("text/plain; charset=utf-8", to) + body.encode())
    return path


def write_attachment(path: Path, octets: int) -> Path:
    """A message whose body has this many octets: a few words, and a file in base64."""
    start = f"--limit\r\nContent-Type: text/plain\r\n\r\n{CANARY}\r\n--limit\r\nContent-Type: image/png\r\n"
    start += "Content-Transfer-Encoding: base64\r\n\r\n"
    stop = "\r\n--limit--\r\n"
    lines = base64.encodebytes(random.Random(4711).randbytes(57 * 1000)).replace(b"\n", b"\r\n")
    wanted = octets - len(start) - len(stop)
    with path.open("wb") as file:
        file.write(_header('multipart/mixed; boundary="limit"', "@RCPT@") + start.encode())
        for at in range(0, wanted, len(lines)):
            file.write(lines[: wanted - at])
        file.write(stop.encode())
    return path


ENCODED = {
    "7bit": b"a line of an ordinary letter, of seventy-two octets with its line end.\r\n",
    "8bit": "größer als sonst, länger als üblich, älter als möglich: eine Zeile.\r\n".encode(),
    "binary": bytes(octet for octet in range(1, 256) if octet not in b"\r\n"),
    "base64": base64.encodebytes(random.Random(4711).randbytes(57)).replace(b"\n", b"\r\n"),
    "quoted-printable": b"=C3=A4" * 12 + b"=\r\n",
}


def write_encoded(path: Path, octets: int, encoding: str) -> Path:
    """A text of about this many octets in a transfer encoding; binary is one long line."""
    unit = ENCODED[encoding] * 1000
    with path.open("wb") as file:
        file.write(f"Content-Transfer-Encoding: {encoding}\r\n".encode())
        file.write(_header("text/plain; charset=utf-8", "@RCPT@"))
        for _ in range(0, octets, len(unit)):
            file.write(unit)
        file.write(b"\r\n")
    return path


def _header(content_type: str, to: str) -> bytes:
    """Fields as a usual client and two hops write them."""
    fields = (
        "Received: from relay.s.test (relay.s.test [192.0.2.9])\r\n\tby mta.test (Postfix) with ESMTPS id 4ABCDEF"
        "\r\n\tfor <somebody@r.test>; Thu, 26 Nov 2026 09:00:00 +0000 (UTC)",
        "From: A Sender <sender@s.test>",
        f"To: {to}",
        "Subject: minutes of the meeting",
        "Date: Thu, 26 Nov 2026 09:00:00 +0000",
        "Message-ID: <20261126090000.4711@s.test>",
        "User-Agent: a client",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
        "Content-Transfer-Encoding: 8bit",
        "Content-Language: en",
    )
    return "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"
