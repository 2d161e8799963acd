"""The encrypter trusts no engine: what an engine may hand over, and what leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import cast

import pysequoia
import pytest

from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import parse
from smilla.encrypt import pgp
from smilla.errors import EncryptionError
from smilla.formats.openpgp import encrypted_message
from smilla.model import Candidate, Format, PGPKey
from smilla.validity.pgp import assess
from tests.openpgp_maker import armoured, mpi, packet

CANARY = b"the canary sings"


def made_key(address: str = "alice@example.org") -> tuple[PGPKey, pysequoia.Tsk]:
    tsk = pysequoia.Tsk.generate(user_id=address)
    candidate = Candidate("directory", "", Format.OPENPGP, bytes(tsk.extract_certificate()))
    key = assess(candidate, parse(address), datetime.now(UTC)).key
    assert isinstance(key, PGPKey)
    return key, tsk


ALICE, ALICE_SECRET = made_key()
BOB, BOB_SECRET = made_key("bob@example.org")

PKESK = packet(1, b"\x03" + bytes(8) + b"\x12" + mpi(b"\x40" + bytes(range(1, 33))) + b"\x30" + bytes(48))
NOISE = bytes(range(256)) * 4
SEIPD = packet(18, b"\x01" + NOISE)


class FakeEngine:
    name = "fake"

    def __init__(self, *blocks: bytes | Exception) -> None:
        self.blocks = blocks

    def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block


def taken(engine: FakeEngine, *keys: PGPKey) -> list[bytes]:
    return list(pgp.encrypt([CANARY], keys or (ALICE,), engine))


def test_content_opens_octet_for_octet_for_every_key() -> None:
    content = [b"\0\xff\r\n" * 1000, b"", b"end"]
    raw = b"".join(pgp.encrypt(content, [ALICE, BOB], SequoiaEngine()))
    for tsk in (ALICE_SECRET, BOB_SECRET):
        assert pysequoia.decrypt(raw, tsk.decryptor()).bytes == b"".join(content)
    assert encrypted_message([raw]).encrypted


def test_output_is_ascii_with_crlf_in_blocks() -> None:
    blocks = list(pgp.encrypt([bytes(200_000)], [ALICE], SequoiaEngine()))
    raw = b"".join(blocks)
    assert len(blocks) > 2
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 76


def test_what_is_no_key_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        pgp.encrypt([CANARY], [ALICE, cast("PGPKey", b"a certificate")], FakeEngine(armoured(PKESK + SEIPD)))
    with pytest.raises(EncryptionError):
        pgp.encrypt([CANARY], [], FakeEngine(armoured(PKESK + SEIPD)))


def test_engine_that_does_well_is_passed_through() -> None:
    good = armoured(PKESK + SEIPD)
    assert b"".join(taken(FakeEngine(good))) == good
    assert b"".join(taken(FakeEngine(*[good[i : i + 1] for i in range(len(good))]))) == good
    assert b"".join(taken(FakeEngine(armoured(PKESK * 2 + SEIPD)), ALICE, BOB))


@pytest.mark.parametrize(
    "output",
    [
        b"",
        CANARY,
        armoured(packet(11, b"b\0\0\0\0\0" + CANARY)),
        armoured(SEIPD),
        armoured(PKESK),
        armoured(PKESK + packet(11, b"b\0\0\0\0\0" + CANARY)),
        armoured(packet(20, b"\x01\x09\x02\x10" + NOISE)),
        armoured(PKESK + packet(20, b"\x01\x09\x02\x10" + NOISE)),
        armoured(PKESK + packet(9, NOISE)),
        armoured(PKESK + SEIPD, "PGP SIGNATURE"),
        armoured(PKESK + SEIPD, "PGP MESSAGE", "Canary: sings"),
        b"gpg: warning\r\n" + armoured(PKESK + SEIPD),
    ],
)
def test_output_that_is_not_an_encrypted_message_never_leaves(output: bytes) -> None:
    for blocks in ([output], [output[i : i + 1] for i in range(len(output))]):
        left = []
        with pytest.raises(EncryptionError):
            for block in pgp.encrypt([CANARY], [ALICE], FakeEngine(*blocks)):
                left.append(block)
        assert left == []


def test_engine_that_forgets_a_key_is_caught() -> None:
    with pytest.raises(EncryptionError, match="1 of 2"):
        taken(FakeEngine(armoured(PKESK + SEIPD)), ALICE, BOB)


def test_engine_that_never_comes_to_the_point_is_stopped() -> None:
    asked_for = 0

    class EndlessEngine(FakeEngine):
        def encrypt(self, content: Iterable[bytes], keys: Sequence[PGPKey]) -> Iterator[bytes]:
            nonlocal asked_for
            yield b"-----BEGIN PGP MESSAGE-----\r\n\r\n"
            for turn in range(1000):
                asked_for = turn
                yield b"\r\n" * 50_000

    with pytest.raises(EncryptionError):
        taken(EndlessEngine())
    assert asked_for < 100


@pytest.mark.parametrize("odd", [b"\xc3\xa4\r\n", b"\n", b"\r", b"x\n\r\n", b"\r\r\n"])
def test_lines_that_mail_cannot_carry_are_caught(odd: bytes) -> None:
    good = armoured(PKESK + SEIPD)
    at = len(good) - 60
    at -= good[:at][::-1].index(b"\n\r")
    with pytest.raises(EncryptionError):
        taken(FakeEngine(good[:at], odd, good[at:]))


def test_message_without_its_end_is_caught() -> None:
    good = armoured(PKESK + SEIPD)
    for cut in (1, 2, 10, 30, 100):
        with pytest.raises(EncryptionError):
            taken(FakeEngine(good[:-cut]))


def test_failure_of_the_engine_comes_through() -> None:
    for blocks in ([EncryptionError("broken")], [armoured(PKESK + SEIPD)[:200], EncryptionError("broken")]):
        with pytest.raises(EncryptionError):
            taken(FakeEngine(*blocks))


def test_content_that_fails_while_it_is_read_fails_the_encryption() -> None:
    def content() -> Iterator[bytes]:
        yield CANARY
        raise OSError("the spool is gone")

    with pytest.raises(OSError, match="spool"):
        list(pgp.encrypt(content(), [ALICE], SequoiaEngine()))


def test_key_that_sequoia_cannot_read_is_an_encryption_error_without_a_stack_trace() -> None:
    broken = PGPKey(b"\xc6\x01\x04", "F", "RSA 2048", 112, None, 4)
    with pytest.raises(EncryptionError) as caught:
        list(pgp.encrypt([CANARY], [broken], SequoiaEngine()))
    assert "\n" not in str(caught.value)
    assert "backtrace" not in str(caught.value).lower()
