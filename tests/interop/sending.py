"""Messages through ``smilla encrypt`` in this process, with keys from a folder."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from smilla import cli

LETTER = (
    b"From: a@x.test\r\nTo: r@r.test\r\nSubject: matrix\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe\r\n.\r\n\r\n--smilla\r\nFrom here on \xff\xfe and a last line without an end"
)


class Refused(Exception):
    """The exit code of ``smilla encrypt``."""


@dataclass(frozen=True)
class Written:
    """One of the messages that came out; ``format`` is smime, openpgp, plain or unchanged."""

    format: str
    recipients: tuple[str, ...]
    octets: bytes


def encrypt(message: bytes, addresses: list[str], folder: Path, config: str = "") -> list[Written]:
    """``folder`` holds the published keys.  Raises Refused where the command does not end with 0."""
    with tempfile.TemporaryDirectory(prefix="smilla-") as scratch:
        settings, source, out = Path(scratch) / "smilla.toml", Path(scratch) / "message.eml", Path(scratch) / "out"
        settings.write_text(f'[keys]\nsources = ["directory"]\ndirectory = "{folder}"\n{config}', "utf-8")
        source.write_bytes(message)
        to = [argument for address in addresses for argument in ("--to", address)]
        arguments = ["--config", str(settings), "--from", "a@x.test", *to, "--output-dir", str(out), str(source)]
        code = cli.main(["encrypt", *arguments])
        if code != 0:
            raise Refused(code)
        listing = json.loads((out / "envelopes.json").read_bytes())
        return [
            Written(entry["format"], tuple(entry["rcpt_to"]), (out / entry["file"]).read_bytes()) for entry in listing
        ]


def inside(message: bytes) -> bytes:
    """What has to come out, worked out independently: the Content fields, an empty line, the body, all with CRLF."""
    fields, body = _split(message)
    return b"".join([f for f in fields if _is_content(f)] or [b"Content-Type: text/plain\r\n"]) + b"\r\n" + body


def protected(letter: bytes, protect: str) -> bytes:
    """The same for LETTER where [headers] protect is copy or hide (RFC 9788 sections 2.1 and 2.2)."""
    head, _, body = letter.partition(b"\r\n\r\n")
    fields = [line for line in head.split(b"\r\n") if line.startswith((b"From:", b"To:", b"Subject:"))]
    hidden = [b"Subject: [...]" if protect == "hide" and line.startswith(b"Subject:") else line for line in fields]
    outer = [b"HP-Outer: " + line for line in hidden]
    content = [b'Content-Type: text/plain;\r\n\tcharset=utf-8;\r\n protected-headers="v1"; hp="cipher"']
    content += [b"Content-Transfer-Encoding: 8bit"]
    return b"\r\n".join([*fields, *outer, *content, b"", body])


def outside(message: bytes) -> bytes:
    """The fields that stay where they are, likewise."""
    gone = (b"bcc", b"resent-bcc", b"x-smilla")
    return b"".join(f for f in _split(message)[0] if not _is_content(f) and _name(f) not in gone)


def _split(message: bytes) -> tuple[list[bytes], bytes]:
    """The header ends at an empty line, or before the first line that is neither a field nor a continuation."""
    lines = [line + b"\r\n" for line in message.replace(b"\r\n", b"\n").split(b"\n")]
    lines[-1] = lines[-1].removesuffix(b"\r\n")
    fields: list[bytes] = []
    while lines:
        if fields and lines[0][:1] in (b" ", b"\t"):
            fields[-1] += lines.pop(0)
        elif b":" in lines[0] and _name(lines[0]) and all(32 < octet < 127 for octet in _name(lines[0])):
            fields.append(lines.pop(0))
        else:
            break
    if lines and lines[0] == b"\r\n":
        lines.pop(0)
    if fields and not fields[-1].endswith(b"\r\n"):
        fields[-1] += b"\r\n"
    return fields, b"".join(lines)


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].rstrip(b" \t").lower()


def _is_content(field: bytes) -> bool:
    return _name(field).startswith(b"content-")
