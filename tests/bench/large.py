"""One message of 25 MB, from its last body chunk to the last reply, against what its cryptography costs alone."""

from __future__ import annotations

import binascii
import os
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pysequoia
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.bench import driver
from tests.bench.memory import Sampler
from tests.bench.stage import FORMATS, OPENPGP, RECIPIENTS, SMIME
from tests.bench.table import AT_MOST, Row, Target, medians, ratios
from tests.lab.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.stage import Stage

_OCTETS = 25 << 20
_BLOCK = 48 * 1024  # octets that make whole lines of base64
_CUT = struct.Struct("64s" * (_BLOCK // 48))
# What smilla gives to gpg, as far as it bears on the speed (smilla/adapters/gnupg.py).
_GPG = (
    *("--no-options", "--batch", "--no-tty", "--quiet", "--yes", "--no-keyring", "--no-autostart", "--lock-never"),
    *("--no-auto-check-trustdb", "--trust-model", "always", "--cipher-algo", "AES256", "--compress-algo", "none"),
    *("--no-textmode", "--set-filename", "", "--armor"),
)


def measure(stage: Stage) -> list[Row]:
    """Milliseconds."""
    message = stage.attachment(_OCTETS)
    raw = message.read_bytes().partition(b"\r\n\r\n")[2]
    home = stage.place("gpg")
    home.chmod(0o700)
    (home / "key.pgp").write_bytes(stage.key)
    sides: dict[str, list[float]] = {name: [] for name in (*FORMATS, "cms", "gpg", "sequoia")}
    with stage.smilla(workers=1) as smilla, Sampler(smilla.workers) as sampler:
        for number in range(len(stage.rounds(7)) + 1):
            figures = {
                name: driver.measure(smilla.address, message, [[RECIPIENTS[name]]], name, canary=stage.canary)
                for name in FORMATS
            }
            costs: dict[str, Callable[[], object]] = {
                "cms": lambda: _encrypt_in_blocks(raw),
                "gpg": lambda: _gpg(raw, home),
                "sequoia": lambda: pysequoia.encrypt(raw, [pysequoia.Cert.from_bytes(stage.key)]),
            }
            measured = {name: run.end_ms.p50 for name, run in figures.items()}
            measured |= {name: _timed(cost) for name, cost in costs.items()}
            if number:  # the first round only warms up
                for name, figure in measured.items():
                    sides[name].append(figure)
    return _rows(sides, "gpg" if "gpg" in sampler.children else "sequoia")


def _rows(sides: dict[str, list[float]], engine: str) -> list[Row]:
    details = {f"{name}_ms": figure for name, figure in medians(**sides).items()} | {"engine": engine}
    what = "25 MB, last body chunk to last reply"
    other = "sequoia" if engine == "gpg" else "gpg"
    return [
        Row(
            "large-smime",
            what,
            "AES-256-CBC, base64, CRLF in blocks",
            ratios(sides[SMIME], sides["cms"]),
            Target(AT_MOST, 2.0),
            details=details,
        ),
        Row(
            "large-openpgp",
            what,
            f"{engine}, the engine used for it",
            ratios(sides[OPENPGP], sides[engine]),
            Target(AT_MOST, 1.5),
            details=details,
        ),
        Row("large-other", what, f"{other}, not used for it", ratios(sides[OPENPGP], sides[other]), details=details),
    ]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _encrypt_in_blocks(raw: bytes) -> int:
    """The raw cost of S/MIME: every octet encrypted, in base64, in lines that end with CRLF."""
    encryptor = Cipher(algorithms.AES256(os.urandom(32)), modes.CBC(os.urandom(16))).encryptor()
    encrypted, view, made = bytearray(_BLOCK + 16), memoryview(raw), 0
    for at in range(0, len(raw), _BLOCK):
        size = encryptor.update_into(view[at : at + _BLOCK], encrypted)
        text = binascii.b2a_base64(memoryview(encrypted)[:size], newline=False)
        made += len(b"\r\n".join(_CUT.unpack(text)) if size == _BLOCK else text)
    return made


def _gpg(raw: bytes, home: Path) -> None:
    """gpg from a pipe into a file."""
    command: list[str | Path] = [find_program("gpg"), "--homedir", home, *_GPG, "--recipient-file", home / "key.pgp"]
    command += ["--output", home / "message.asc", "--encrypt"]
    subprocess.run(command, input=raw, check=True)
