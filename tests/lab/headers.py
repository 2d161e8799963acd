"""What the laboratory, as the judge, expects of protected header fields (RFC 9788).  Shares no code with smilla."""

from __future__ import annotations

import email
import email.policy

HIDDEN = ("Subject", "Comments", "Keywords")
PROTECTED = ("Subject", "Comments", "Keywords", "From", "To", "Cc", "Date", "Message-ID", "References", "X-Mark")


def fields_of(raw: bytes, *names: str) -> list[tuple[str, str]]:
    """Name and unfolded value of the fields of these names, as Python's parser reads them."""
    found = email.message_from_bytes(raw, policy=email.policy.compat32)
    wanted = {name.lower() for name in names}
    return [(name, " ".join(str(value).split())) for name, value in found.items() if name.lower() in wanted]


def body_of(raw: bytes) -> bytes:
    """The octets after the header."""
    return raw.partition(b"\r\n\r\n")[2]


def confidential(opened: bytes) -> set[str]:
    """The names of the fields that a reader takes for "encrypted-only": sections 4.2.1 and 4.3.1, word for word."""
    protected: list[tuple[str, str]] = []
    outer: list[tuple[str, str]] = []
    for name, value in email.message_from_bytes(opened, policy=email.policy.compat32).items():
        plain = " ".join(str(value).split())
        if name.lower() == "hp-outer":
            inner_name, _, inner_value = plain.partition(":")
            outer.append((inner_name.lower(), inner_value.lstrip()))
        elif name.lower() != "mime-version" and not name.lower().startswith("content-"):
            protected.append((name.lower(), plain))
    return {name for name, value in protected if (name, value) not in outer}


def check_inside(opened: bytes, sent: bytes, *, hide: bool) -> None:
    """What was decrypted: each field of the author as it was sent, a record of each that stands outside, the parameters
    that say so, and the body, octet for octet."""
    assert body_of(opened) == body_of(sent)
    read = email.message_from_bytes(opened, policy=email.policy.default)
    assert read.defects == []
    parameters = dict(read["Content-Type"].params)
    assert (parameters.pop("hp"), parameters.pop("protected-headers")) == ("cipher", "v1")
    assert parameters == dict(email.message_from_bytes(sent, policy=email.policy.default)["Content-Type"].params)
    authored = sorted(fields_of(sent, *PROTECTED))
    assert sorted(fields_of(opened, *PROTECTED)) == authored
    record = sorted(f"{name}: {value}" for name, value in authored if not hide or name not in HIDDEN)
    record += ["Subject: [...]"] if hide else []
    assert sorted(value for _, value in fields_of(opened, "HP-Outer")) == sorted(record)
    assert confidential(opened) == ({name.lower() for name in HIDDEN} if hide else set())
    assert fields_of(opened, "Bcc", "Received", "X-Smilla", "MIME-Version", "Return-Path") == []


def check_outside(arrived: bytes, sent: bytes, *, hide: bool) -> None:
    """The header that everybody sees."""
    shown = [pair for pair in fields_of(sent, *PROTECTED) if not hide or pair[0] not in HIDDEN]
    shown += [("Subject", "[...]")] if hide else []
    assert sorted(fields_of(arrived, *PROTECTED)) == sorted(shown)
