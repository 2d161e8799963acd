"""The encrypter trusts no engine: what an engine may hand over, and what leaves."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pysequoia
import pytest

from smilla.adapters.gnupg import GnuPGEngine
from smilla.adapters.openpgp import Either
from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import parse
from smilla.encrypt import pgp
from smilla.errors import EncryptionError, EngineMissing
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import encrypted_message
from smilla.formats.openpgp_output import OutputReader
from smilla.keys.validity.pgp import assess
from smilla.model import Candidate, Format, PGPKey, Reason, Style
from tests.lab.programs import require
from tests.openpgp_maker import armoured, mpi, packet

CANARY = b"the canary sings"
ANNOUNCED = Style(seipd2="announced")


def made_key(address: str = "alice@example.org") -> tuple[PGPKey, pysequoia.Tsk]:
    tsk = pysequoia.Tsk.generate(user_id=address)
    candidate = Candidate("directory", "", Format.OPENPGP, bytes(tsk.extract_certificate()))
    key = assess(candidate, parse(address), datetime.now(UTC)).key
    assert isinstance(key, PGPKey)
    return key, tsk


ALICE, ALICE_SECRET = made_key()
BOB, BOB_SECRET = made_key("bob@example.org")
CAROL, _ = made_key("carol@example.org")

PKESK = packet(1, b"\x03" + bytes(range(8)) + b"\x12" + mpi(b"\x40" + bytes(range(1, 33))) + b"\x30" + bytes(48))
PKESK6 = packet(1, b"\x06\x15\x04" + bytes(20) + b"\x12" + mpi(b"\x40" + bytes(range(1, 33))) + b"\x30" + bytes(48))
NOISE = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(32))
SEIPD = packet(18, b"\x01" + NOISE)
SEIPD2 = packet(18, b"\x02\x09\x02\x06" + NOISE)
IN_PARTS = b"\xd2\xe9\x01" + NOISE[:511] + b"\xe9" + NOISE[:512] + b"\xe0x\xe1xy\x05later"
LITERAL = packet(11, b"b\0\0\0\0\0" + CANARY)
NO_MESSAGE = [
    b"",
    CANARY,
    LITERAL,
    SEIPD,
    PKESK,
    PKESK + LITERAL,
    LITERAL + PKESK + SEIPD,
    packet(3, b"\x04\x09\x00\x08") + PKESK + SEIPD,
    packet(20, b"\x01\x09\x02\x10" + NOISE),
    PKESK + packet(20, b"\x01\x09\x02\x10" + NOISE),
    PKESK + packet(9, NOISE),
    PKESK + packet(18, b"\x03" + NOISE),
    PKESK + packet(18, b"\x01" + NOISE[:39]),
    PKESK + packet(18, b"\x01" + CANARY * 10),
    PKESK + SEIPD2,
    PKESK6 + SEIPD,
    PKESK + PKESK6 + SEIPD,
    PKESK + PKESK6 + SEIPD2,
    b"gpg: warning\n" + PKESK + SEIPD,
    armoured(PKESK + SEIPD),
]


class FakeEngine:
    name = "fake"

    def __init__(self, *blocks: bytes | Exception, reads: bool = True) -> None:
        self.blocks = blocks
        self.reads = reads

    def only_by(self, key: PGPKey) -> str:
        return ""

    def fault(self, key: PGPKey) -> Reason | None:
        return None

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        if self.reads:
            assert sum(map(len, content)) == size
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block


def taken(engine: FakeEngine, *keys: PGPKey, style: Style = Style()) -> list[bytes]:  # noqa: B008 - it is frozen
    return list(pgp.encrypt([CANARY], len(CANARY), keys or (ALICE,), engine, style))


def test_content_opens_octet_for_octet_for_every_key() -> None:
    content = [b"\0\xff\r\n" * 1000, b"", b"end"]
    raw = b"".join(pgp.encrypt(content, 4003, [ALICE, BOB], SequoiaEngine()))
    for tsk in (ALICE_SECRET, BOB_SECRET):
        assert pysequoia.decrypt(raw, tsk.decryptor()).bytes == b"".join(content)
    assert encrypted_message([raw]).encrypted


def test_output_is_ascii_with_crlf_in_blocks() -> None:
    blocks = list(pgp.encrypt([bytes(200_000)], 200_000, [ALICE], SequoiaEngine()))
    raw = b"".join(blocks)
    assert len(blocks) == 5
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 76


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", range(47_600, 47_780, 11))
def test_armour_is_well_formed_at_every_size(size: int, version: int) -> None:
    """Around the 47,880 octets of which one block of lines is made; with a CRC24 where RFC 9580 section 6.1 lets one
    stand, since gpg 2.2 needs it."""
    style = Style(seipd2="announced" if version == 2 else "v6")
    raw = b"".join(pgp.encrypt([bytes(size)], size, [ALICE], SequoiaEngine(), style))
    assert encrypted_message([raw]).encrypted
    assert pysequoia.decrypt(raw, ALICE_SECRET.decryptor()).bytes == bytes(size)
    assert raw.startswith(b"-----BEGIN PGP MESSAGE-----\r\n\r\n")
    assert raw.endswith(b"\r\n-----END PGP MESSAGE-----\r\n")
    assert b":" not in raw
    lines = raw.split(b"\r\n")[2:-2]
    if version == 1:
        assert len(lines[-1]) == 5
        assert lines.pop().startswith(b"=")
    assert 0 < len(lines.pop()) <= 76
    assert set(map(len, lines)) == {76}


def test_what_is_no_key_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        pgp.encrypt([CANARY], 1, [ALICE, cast("PGPKey", b"a certificate")], FakeEngine(PKESK + SEIPD))
    with pytest.raises(EncryptionError):
        pgp.encrypt([CANARY], 1, [], FakeEngine(PKESK + SEIPD))


def test_engine_that_does_well_is_passed_through() -> None:
    for raw, keys in ((PKESK + SEIPD, [ALICE]), (PKESK * 2 + IN_PARTS, [ALICE, BOB]), (PKESK6 + SEIPD2, [ALICE])):
        for size in (1, 2, 7, 100, 512, 513, 100_000):
            blocks = [raw[at : at + size] for at in range(0, len(raw), size)]
            assert dearmour(b"".join(taken(FakeEngine(*blocks), *keys, style=ANNOUNCED))).data == raw


@pytest.mark.parametrize("output", NO_MESSAGE, ids=map(str, itertools.count()))
def test_output_that_is_not_an_encrypted_message_never_leaves(output: bytes) -> None:
    for blocks in ([output], [output[i : i + 1] for i in range(len(output))]):
        left = []
        with pytest.raises(EncryptionError):
            for block in pgp.encrypt([CANARY], len(CANARY), [ALICE], FakeEngine(*blocks)):
                left.append(block)
        assert left == []


def test_engine_that_forgets_a_key_is_caught() -> None:
    with pytest.raises(EncryptionError, match="1 keys instead of 2"):
        taken(FakeEngine(PKESK + SEIPD), ALICE, BOB)


def test_engine_that_adds_a_reader_is_caught() -> None:
    """As encrypt-to in somebody's gpg.conf would."""
    with pytest.raises(EncryptionError, match="2 keys instead of 1"):
        taken(FakeEngine(PKESK * 2 + SEIPD))


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("name", ["sequoia", "gnupg"])
def test_subkey_that_a_stranger_publishes_as_his_own_holds_nothing_up(name: str, announces: bool) -> None:
    """gpg takes it once, so that somebody would seem to be forgotten, and mail to both be deferred for ever."""
    if name == "gnupg":
        require("gpg")
    engine = SequoiaEngine() if name == "sequoia" else GnuPGEngine()
    thief = replace(ALICE, fingerprint="f" * 40, raw_bound_seipd2=ALICE.raw_bound_seipd2 if announces else b"")
    for keys in ((ALICE, thief, BOB), (thief, ALICE, BOB)):
        raw = b"".join(pgp.encrypt([CANARY], len(CANARY), keys, engine, ANNOUNCED))
        found = OutputReader()
        found.feed(dearmour(raw).data)
        assert (found.recipients, found.version) == (2, 2 if announces and name == "sequoia" else 1)
        for tsk in (ALICE_SECRET, BOB_SECRET):
            assert pysequoia.decrypt(raw, tsk.decryptor()).bytes == CANARY


def test_engine_that_names_who_shall_be_hidden_is_caught() -> None:
    hidden = packet(1, b"\x03" + bytes(8) + PKESK[-85:])
    hidden6 = packet(1, b"\x06\x00" + PKESK6[-85:])
    style = Style(hidden_recipients=True, seipd2="announced")
    assert taken(FakeEngine(hidden + SEIPD), style=style)
    assert taken(FakeEngine(hidden6 + SEIPD2), style=style)
    for output, keys in ((PKESK + SEIPD, [ALICE]), (hidden + PKESK + SEIPD, [ALICE, BOB]), (PKESK6 + SEIPD2, [ALICE])):
        with pytest.raises(EncryptionError, match="hid"):
            taken(FakeEngine(output), *keys, style=style)
    with pytest.raises(EncryptionError, match="hid"):
        taken(FakeEngine(hidden + SEIPD))


def test_version_2_of_the_container_for_somebody_who_cannot_read_it_is_caught() -> None:
    silent = replace(BOB, raw_bound_seipd2=b"")
    for keys, style in (([ALICE, silent], ANNOUNCED), ([ALICE, BOB], Style())):
        with pytest.raises(EncryptionError, match="not every recipient reads"):
            taken(FakeEngine(PKESK6 * 2 + SEIPD2), *keys, style=style)
    assert taken(FakeEngine(PKESK6 * 2 + SEIPD2), ALICE, BOB, style=ANNOUNCED)


@pytest.mark.parametrize("endless", [PKESK, packet(10, b"PGP"), b""], ids=["session keys", "markers", "nothing"])
def test_engine_that_never_comes_to_the_point_is_stopped(endless: bytes) -> None:
    asked_for = 0

    class EndlessEngine(FakeEngine):
        def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
            nonlocal asked_for
            for turn in range(1000):
                asked_for = turn
                yield endless * 1000

    with pytest.raises(EncryptionError):
        taken(EndlessEngine())
    assert asked_for < 100 or not endless


@pytest.mark.parametrize("cut", [1, 2, 10, 400, 511, 512, 513, 600, 1020])
def test_message_without_its_end_is_caught(cut: int) -> None:
    left: list[bytes] = []
    with pytest.raises(EncryptionError):
        left.extend(pgp.encrypt([CANARY], len(CANARY), [ALICE], FakeEngine((PKESK + IN_PARTS)[:-cut])))
    assert left == []


def test_what_follows_a_message_never_leaves() -> None:
    """Nor does the end of the message, so that nobody takes it for whole."""
    follows = packet(11, b"b\0\0\0\0\0" + CANARY * 10_000)
    for message in (PKESK + SEIPD, PKESK + IN_PARTS):
        left: list[bytes] = []
        with pytest.raises(EncryptionError, match="follows"):
            left.extend(pgp.encrypt([CANARY], len(CANARY), [ALICE], FakeEngine(message, follows)))
        assert left == []


def test_engine_that_does_not_read_all_is_caught() -> None:
    with pytest.raises(EncryptionError, match="did not read all"):
        taken(FakeEngine(PKESK + SEIPD, reads=False))


@pytest.mark.parametrize("said", [0, 15, 17, 1000])
def test_content_of_another_size_than_was_said_fails(said: int) -> None:
    with pytest.raises(EncryptionError, match="content of 16 octets"):
        list(pgp.encrypt([CANARY], said, [ALICE], SequoiaEngine()))


def test_failure_of_the_engine_comes_through() -> None:
    for blocks in ([EncryptionError("broken")], [(PKESK + SEIPD)[:200], EncryptionError("broken")]):
        with pytest.raises(EncryptionError):
            taken(FakeEngine(*blocks))


def test_content_that_fails_while_it_is_read_fails_the_encryption() -> None:
    def content() -> Iterator[bytes]:
        yield CANARY
        raise OSError("the spool is gone")

    with pytest.raises(OSError, match="spool"):
        list(pgp.encrypt(content(), 1000, [ALICE], SequoiaEngine()))


def test_key_that_sequoia_cannot_read_is_an_encryption_error_without_a_stack_trace() -> None:
    broken = PGPKey(b"\xc6\x01\x04", "F", "RSA 2048", 112, None, 4)
    with pytest.raises(EncryptionError) as caught:
        list(pgp.encrypt([CANARY], len(CANARY), [broken], SequoiaEngine()))
    assert "\n" not in str(caught.value)
    assert "backtrace" not in str(caught.value).lower()


def test_sequoia_that_is_too_old_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def encrypt(data: bytes, recipients: object) -> bytes:
        """As in 2024."""
        return data

    monkeypatch.setattr(pysequoia, "encrypt", encrypt)
    with pytest.raises(EngineMissing, match="too old"):
        SequoiaEngine()


def test_threads_share_what_sequoia_remembers_of_a_key() -> None:
    engine = SequoiaEngine()
    found: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            found.append(b"".join(pgp.encrypt([CANARY], len(CANARY), [ALICE, BOB], engine)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 80
    assert all(pysequoia.decrypt(raw, BOB_SECRET.decryptor()).bytes == CANARY for raw in found)


class Named(SequoiaEngine):
    """Sequoia under another name, which knows some keys only."""

    def __init__(self, name: str, *known: PGPKey) -> None:
        self.name, self.known, self.asked = name, known, 0

    def supports(self, key: PGPKey, style: Style) -> bool:  # type: ignore[override]
        return key in self.known

    def encrypt(self, content: Iterable[bytes], size: int, keys: Sequence[PGPKey], style: Style) -> Iterator[bytes]:
        self.asked += 1
        return super().encrypt(content, size, keys, style)


@pytest.mark.parametrize(
    ("size", "keys", "asked"),
    [
        (10, [ALICE], "small"),
        (11, [ALICE], "large"),
        (11, [BOB], "small"),
        (1, [CAROL], "large"),
        (1, [ALICE, CAROL], "large"),
        (11, [ALICE, BOB], "small"),
        (1, [BOB, CAROL], ""),
    ],
)
def test_auto_takes_gpg_for_large_messages_and_either_for_keys_of_its_own(
    size: int, keys: list[PGPKey], asked: str
) -> None:
    small, large = Named("small", ALICE, BOB), Named("large", ALICE, CAROL)
    engine = Either(small, cast("GnuPGEngine", large), threshold=10)
    try:
        list(pgp.encrypt([bytes(size)], size, keys, engine))
    except EncryptionError:
        assert not asked
    assert (small.asked, large.asked) == (asked == "small", asked == "large")
