"""Letters as they reach the filter: with what our own verifiers say of them, and what their senders' servers signed."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from smilla.message import parse
from smilla.model import Message
from tests.vectors.memory import raw_key

OURS = "mx.home.test"
PIA = "pia@example.org"
DATE = "Fri, 20 Nov 2026 11:00:00 +0000"
DMARC = f"Authentication-Results: {OURS}; dmarc=pass (p=reject) header.from=example.org"
DKIM = f'Authentication-Results: {OURS}; dkim=pass header.d=example.org header.s=s1 header.b="abcdefgh"'
RECEIVED = "Received: from mail.example.org by mx.home.test; Fri, 20 Nov 2026 11:00:01 +0000"
SIGNATURE = "DKIM-Signature: v=1; d=example.org; s=s1; h=From:Date:Subject:Autocrypt; bh=x; b=abcdefghijklmnop"
VERIFIED = (DKIM, DMARC)


def offer(name: str = "pia.pgp", addr: str = PIA, preference: str = " prefer-encrypt=mutual;") -> str:
    """An Autocrypt field with a key of the vectors."""
    text = base64.b64encode(raw_key(name)).decode()
    lines = "\r\n ".join(text[at : at + 76] for at in range(0, len(text), 76))
    return f"Autocrypt: addr={addr};{preference} keydata=\r\n {lines}"


def letter(
    above: Iterable[str] = VERIFIED,
    below: Iterable[str] = (),
    *,
    author: str = f"Pia <{PIA}>",
    date: str = DATE,
    signatures: Sequence[str] = (SIGNATURE,),
    offers: Sequence[str] | None = None,
) -> Message:
    """``above`` and ``below`` are fields before and after the first Received field."""
    fields = [*above, RECEIVED, *below, *signatures, f"From: {author}", f"Date: {date}", "Subject: Hello"]
    fields += [offer()] if offers is None else offers
    return parse("\r\n".join([*fields, "", "Kanarienvogel", ""]).encode()).message
