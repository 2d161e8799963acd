"""The command line in this process, with ports in memory and keys from a table."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smilla import cli
from smilla.config import Config
from smilla.ports import Ports
from tests.vectors.memory import TableResolver, make_ports, raw_key, smimea


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs commands; ``resolver`` is what DNS says, ``files`` are those of the key folder."""

    folder: Path
    capture: pytest.CaptureFixture[bytes]
    monkeypatch: pytest.MonkeyPatch
    resolver: TableResolver = field(default_factory=TableResolver)
    files: dict[str, bytes | None] = field(default_factory=dict)

    def run(self, *arguments: str | Path, stdin: bytes = b"") -> Done:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self.capture.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = self.capture.readouterr()
        return Done(code, out, err.decode())

    def config(self, text: str = "") -> Path:
        path = self.folder / "smilla.toml"
        path.write_text(text, "utf-8")
        return path

    def file(self, name: str, octets: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(octets)
        return path


@pytest.fixture
def commands(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    found = CommandLine(tmp_path, capsysbinary, monkeypatch)
    found.resolver.publish("hugh@example.org", "smimea", "secure", smimea("hugh.crt"))
    found.resolver.publish("pia@example.org", "openpgpkey", "secure", raw_key("pia.pgp"))
    found.resolver.publish("old@example.org", "smimea", "secure", smimea("expired.crt"))
    found.resolver.publish("unsigned@example.org", "smimea", "insecure", smimea("hugh.crt"))
    found.resolver.publish("forged@example.org", "smimea", "bogus")
    found.resolver.publish("silent@example.org", "smimea", "unreachable")

    def ports(_: Config) -> Ports:
        return make_ports(found.resolver, found.files)

    for module in ("transaction", "lookup", "config", "expiring", "mailbox", "watch"):
        monkeypatch.setattr(f"smilla.cli.{module}.make_ports", ports)
    return found
