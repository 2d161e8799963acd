"""What each engine writes opens in programs that we did not write, octet for octet."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pysequoia
import pytest

from smilla.adapters import openpgp as engines
from smilla.adapters.gnupg import GnuPGEngine
from smilla.address import parse
from smilla.encrypt import pgp
from smilla.errors import EncryptionError, EngineMissing
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import encrypted_message, packets
from smilla.formats.openpgp_output import OutputReader
from smilla.keys.validity.pgp import assess
from smilla.model import Candidate, Format, PGPKey, Style
from smilla.ports import OpenPGPEngine
from tests.interop.readers.pgp_programs import Sq
from tests.lab.programs import require

pytestmark = pytest.mark.interop

ALGORITHMS = (
    ("rsa2048", "rsa2048"),
    ("rsa3072", "rsa3072"),
    ("ed25519", "cv25519"),
    ("nistp256", "nistp256"),
    ("nistp384", "nistp384"),
    ("nistp521", "nistp521"),
    ("brainpoolP256r1", "brainpoolP256r1"),
    ("brainpoolP384r1", "brainpoolP384r1"),
)
ENGINES = ("sequoia", "gnupg", "auto")
READERS = ("gpg", "rnp", "sq", "sqop")
LETTER = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n\0\xff\r\n"


@dataclass(frozen=True)
class Owner:
    """Somebody with a secret key in gpg's home and in a file."""

    key: PGPKey
    published: bytes
    secret: Path


@dataclass(frozen=True)
class Owners:
    home: Path
    by_name: dict[str, Owner]


def ran(command: list[str], content: bytes) -> bytes:
    run = subprocess.run(command, input=content, capture_output=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def gpg(home: Path, *arguments: str) -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--no-tty", "-q", "--pinentry-mode", "loopback"]
    return ran([*command, "--passphrase", "", *arguments], b"")


def gated(published: bytes, address: str) -> PGPKey:
    found = assess(Candidate("openpgpkey", "", Format.OPENPGP, published), parse(address), datetime.now(UTC))
    assert isinstance(found.key, PGPKey), found.reasons
    return found.key


@pytest.fixture(scope="session")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    require("gpg", "gpgconf")
    home = tmp_path_factory.mktemp("h")
    home.chmod(0o700)
    found = {}
    for signing, encryption in ALGORITHMS:
        address = f"{encryption}@example.org"
        gpg(home, "--quick-gen-key", address, signing, "sign", "1y")
        listing = gpg(home, "--list-keys", "--with-colons", address).decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        gpg(home, "--quick-add-key", fingerprint, encryption, "encr", "1y")
        published = gpg(home, "--export", address)
        secret = home / f"{encryption}.secret"
        secret.write_bytes(gpg(home, "--export-secret-keys", address))
        found[encryption] = Owner(gated(published, address), published, secret)
    yield Owners(home, found)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False, timeout=30)


def opened(reader: str, home: Path, owner: Owner, message: bytes, tmp_path: Path) -> bytes:
    path = tmp_path / "message.asc"
    path.write_bytes(message)
    commands = {
        "gpg": ["gpg", "--homedir", str(home), "--batch", "--no-tty", "-q", "--decrypt", str(path)],
        "rnp": [
            "rnp",
            "--homedir",
            str(tmp_path),
            "--keyfile",
            str(owner.secret),
            "--password=",
            "--decrypt",
            str(path),
        ],
        "sq": ["sq", str(owner.secret), str(path)],
        "sqop": ["sqop", "decrypt", str(owner.secret)],
    }
    command = commands[reader]
    if reader == "sq":
        command[:1] = [str(word) for word in Sq(tmp_path).decrypting()]
    if reader == "rnp":
        command += ["--output", str(tmp_path / "opened"), "--overwrite"]
    output = ran(command, message)
    return (tmp_path / "opened").read_bytes() if reader == "rnp" else output


def written(engine: OpenPGPEngine, content: bytes, *owners_: Owner) -> bytes:
    blocks = [content[at : at + 65536] for at in range(0, len(content), 65536)]
    return b"".join(pgp.encrypt(blocks, len(content), [owner.key for owner in owners_], engine))


def without_impossible_ones() -> Iterator[tuple[str, str, str]]:
    """Every engine, key and reader, but no Brainpool curve where Sequoia's builds are in play."""
    for engine, (_, algorithm), reader in itertools.product(ENGINES, ALGORITHMS, READERS):
        if "brainpool" not in algorithm or not {engine, reader} & {"sequoia", "sq", "sqop"}:
            yield engine, algorithm, reader


@pytest.mark.parametrize(("engine", "algorithm", "reader"), list(without_impossible_ones()))
def test_message_opens_octet_for_octet(
    engine: str, algorithm: str, reader: str, owners: Owners, tmp_path: Path
) -> None:
    require(reader)
    owner = owners.by_name[algorithm]
    message = written(engines.engine(engine), LETTER, owner)
    assert encrypted_message([message]).encrypted
    assert opened(reader, owners.home, owner, message, tmp_path) == LETTER


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_writes_integrity_protected_packets_that_all_programs_read(engine: str, owners: Owners) -> None:
    owner = owners.by_name["cv25519"]
    found = list(packets(dearmour(written(engines.engine(engine), LETTER, owner)).data))
    assert [(p.tag, p.body[0]) for p in found] == [(1, 3), (18, 1)]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_message_for_several_opens_for_each(engine: str, reader: str, owners: Owners, tmp_path: Path) -> None:
    require(reader)
    several = [owners.by_name[name] for name in ("rsa2048", "cv25519", "nistp384")]
    message = written(engines.engine(engine), LETTER, *several)
    for owner in several:
        assert opened(reader, owners.home, owner, message, tmp_path) == LETTER


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5_000_000, 5_000_001, 5_000_002])
def test_empty_and_large_binary_content_opens(
    engine: str, reader: str, size: int, owners: Owners, tmp_path: Path
) -> None:
    require(reader)
    content = os.urandom(size)
    owner = owners.by_name["cv25519"]
    message = written(engines.engine(engine), content, owner)
    assert opened(reader, owners.home, owner, message, tmp_path) == content


@pytest.mark.parametrize("suite", ["Cv25519", "Cv448", "P256", "RSA3k", "MLDSA65_Ed25519", "MLDSA87_Ed448"])
def test_version_6_message_opens_in_sequoia(suite: str) -> None:
    address = "alice@example.org"
    tsk = pysequoia.Tsk.generate(
        user_id=address, profile=pysequoia.Profile.RFC9580, cipher_suite=getattr(pysequoia.CipherSuite, suite)
    )
    key = gated(bytes(tsk.extract_certificate()), address)
    for engine in ("sequoia", "auto"):
        message = b"".join(pgp.encrypt([LETTER], len(LETTER), [key], engines.engine(engine)))
        assert encrypted_message([message]).encrypted
        assert pysequoia.decrypt(message, tsk.decryptor()).bytes == LETTER


def made(address: str, profile: pysequoia.Profile, suite: str = "Cv25519") -> tuple[PGPKey, pysequoia.Tsk]:
    """A key of pysequoia, which announces SEIPDv2 whatever its version."""
    tsk = pysequoia.Tsk.generate(user_id=address, profile=profile, cipher_suite=getattr(pysequoia.CipherSuite, suite))
    return gated(bytes(tsk.extract_certificate()), address), tsk


def written_as(engine: str, *keys: PGPKey, content: bytes = LETTER, **style: object) -> list[tuple[int, int]]:
    """The packets of a message, and their versions."""
    chosen = replace(Style(), **style)  # type: ignore[arg-type]
    blocks = pgp.encrypt([content], len(content), keys, engines.engine(engine), chosen)
    return [(p.tag, p.body[0]) for p in packets(dearmour(b"".join(blocks)).data)]


V1, V2 = [(1, 3), (18, 1)], [(1, 6), (18, 2)]


@pytest.mark.parametrize("engine", ["sequoia", "auto"])
def test_version_2_of_the_container_is_for_those_who_announce_it(engine: str, owners: Owners) -> None:
    announces, _ = made("alice@example.org", pysequoia.Profile.RFC4880)
    version_6, _ = made("six@example.org", pysequoia.Profile.RFC9580)
    silent = owners.by_name["rsa2048"].key
    assert written_as(engine, announces, seipd2="announced") == V2
    assert written_as(engine, version_6, seipd2="announced") == V2
    assert written_as(engine, announces, version_6, seipd2="announced") == [V2[0], *V2]
    assert written_as(engine, silent, seipd2="announced") == V1
    assert written_as(engine, announces, silent, seipd2="announced") == [V1[0], *V1]
    assert written_as(engine, silent, version_6, seipd2="announced") == [V1[0], *V1]


@pytest.mark.parametrize("engine", ["sequoia", "auto"])
def test_version_2_of_the_container_is_kept_for_version_6_keys(engine: str) -> None:
    announces, _ = made("alice@example.org", pysequoia.Profile.RFC4880)
    version_6, _ = made("six@example.org", pysequoia.Profile.RFC9580)
    assert written_as(engine, announces) == V1
    assert written_as(engine, version_6) == V2
    assert written_as(engine, announces, version_6) == [V1[0], *V1]


@pytest.mark.parametrize("seipd2", ["announced", "v6"])
def test_gpg_writes_version_1_of_the_container_whatever_is_announced(seipd2: str) -> None:
    announces, _ = made("alice@example.org", pysequoia.Profile.RFC4880)
    assert written_as("gnupg", announces, seipd2=seipd2) == V1


@pytest.mark.parametrize("suite", ["Cv25519", "Cv448", "MLDSA65_Ed25519"])
@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.parametrize("engine", ["sequoia", "auto"])
def test_every_mixture_of_versions_opens_for_all(
    engine: str, size: int, suite: str, owners: Owners, tmp_path: Path
) -> None:
    require(*READERS)
    content = os.urandom(size)
    (four, four_secret), (six, six_secret) = (
        made("four@example.org", pysequoia.Profile.RFC4880),
        made("six@example.org", pysequoia.Profile.RFC9580, suite),
    )
    silent = owners.by_name["cv25519"]
    for keys in ([four], [six], [four, six], [silent.key, six], [six, four, silent.key]):
        message = b"".join(pgp.encrypt([content], size, keys, engines.engine(engine)))
        assert encrypted_message([message]).encrypted
        for key, secret in ((four, four_secret), (six, six_secret)):
            assert key not in keys or pysequoia.decrypt(message, secret.decryptor()).bytes == content
        for reader in READERS if silent.key in keys else ():
            assert opened(reader, owners.home, silent, message, tmp_path) == content


# --- hidden recipients

HIDDEN = Style(hidden_recipients=True)


@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.parametrize("engine", ["gnupg", "auto"])
def test_hidden_recipients_are_named_nowhere_and_open(engine: str, size: int, owners: Owners, tmp_path: Path) -> None:
    require("gpg", "sq")
    content = os.urandom(size)
    several = [owners.by_name[name] for name in ("rsa2048", "cv25519", "nistp384")]
    keys = [owner.key for owner in several]
    message = b"".join(pgp.encrypt([content], size, keys, engines.engine(engine), HIDDEN))
    reader = OutputReader()
    reader.feed(dearmour(message).data)
    assert (reader.recipients, reader.anonymous, reader.version) == (3, 3, 1)
    for owner in several:
        for program in ("gpg", "sq"):
            assert opened(program, owners.home, owner, message, tmp_path) == content


@pytest.mark.parametrize("reader", ["gpg", "sq", "sqop"])
@pytest.mark.parametrize("algorithm", ["rsa2048", "cv25519", "nistp384"])
def test_hidden_recipient_alone_opens(algorithm: str, reader: str, owners: Owners, tmp_path: Path) -> None:
    """Debian 12's sqop opens a message for several only where the first session key is for the reader's algorithm."""
    require(reader)
    owner = owners.by_name[algorithm]
    message = b"".join(pgp.encrypt([LETTER], len(LETTER), [owner.key], engines.engine("auto"), HIDDEN))
    assert opened(reader, owners.home, owner, message, tmp_path) == LETTER


def test_hidden_recipients_without_gpg_fail_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = made("alice@example.org", pysequoia.Profile.RFC4880)
    six, _ = made("six@example.org", pysequoia.Profile.RFC9580)
    for engine, keys in (("sequoia", [key]), ("auto", [six]), ("auto", [key, six])):
        with pytest.raises(EncryptionError, match="gpg"):
            list(pgp.encrypt([LETTER], len(LETTER), keys, engines.engine(engine), HIDDEN))
    monkeypatch.setenv("PATH", "/nonexistent")
    engines.engine("auto")
    with pytest.raises(EngineMissing, match=r"openpgp\.hidden_recipients needs gpg"):
        engines.engine("auto", hides=True)


# --- gpg and what it leaves behind


def running(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(line.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, with a HOME that must stay empty."""
    for name in ("scratch", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GNUPGHOME", raising=False)
    return tmp_path / "scratch"


def test_gpg_leaves_no_agent_no_keyring_and_no_file(owners: Owners, scratch: Path) -> None:
    engine = GnuPGEngine()
    for _ in range(5):
        written(engine, LETTER, owners.by_name["rsa2048"])
    assert list(scratch.iterdir()) == []
    assert list((scratch.parent / "home").iterdir()) == []
    assert running(str(scratch)) == []


def test_plaintext_stands_in_no_file_and_no_argument_while_gpg_runs(owners: Owners, scratch: Path) -> None:
    canary = b"the canary sings"
    lines: list[str] = []
    open_files: set[str] = set()

    def content() -> Iterator[bytes]:
        yield canary * 100_000
        lines.extend(line for line in running("--recipient-file") if "/nonexistent" in line)
        for link in Path("/proc/self/fd").iterdir():
            if link.exists() and str(scratch) in (target := str(link.readlink())):
                open_files.add(target)
                assert canary not in link.read_bytes()
        assert list(scratch.iterdir()) == []
        yield canary * 100_000

    owner = owners.by_name["rsa2048"]
    assert b"".join(pgp.encrypt(content(), 2 * 1_600_000, [owner.key], GnuPGEngine(folder=str(scratch))))
    assert lines
    assert not any("canary" in line for line in lines)
    assert len(open_files) == 1
    assert all("(deleted)" in target for target in open_files)


def test_many_threads_at_once_encrypt_with_one_engine(owners: Owners, tmp_path: Path) -> None:
    engine = GnuPGEngine()
    owner = owners.by_name["cv25519"]
    results: list[tuple[bytes, bytes]] = []

    def work(number: int) -> None:
        for turn in range(5):
            content = b"%d %d " % (number, turn) * 1000
            results.append((content, written(engine, content, owner)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    for content, message in results[::10]:
        assert opened("gpg", owners.home, owner, message, tmp_path) == content


def fake_gpg(folder: Path, does: str) -> str:
    """A program that is gpg until it is to encrypt, and then does something else."""
    program = folder / "gpg"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--encrypt*) {does};; *) exec gpg "$@";; esac\n')
    program.chmod(0o755)
    return str(program)


def test_gpg_that_takes_too_long_is_killed_and_nothing_comes_out(owners: Owners, scratch: Path, tmp_path: Path) -> None:
    nap = f"4711.{os.getpid()}"
    engine = GnuPGEngine(fake_gpg(tmp_path, f"exec sleep {nap}"), timeout_s=0.3)
    with pytest.raises(EncryptionError, match=r"did not end within 0\.3 s"):
        written(engine, LETTER * 100_000, owners.by_name["rsa2048"])
    assert running(f"sleep\0{nap}") == []
    assert list(scratch.iterdir()) == []


def test_what_a_script_around_gpg_has_started_ends_with_it(owners: Owners, scratch: Path, tmp_path: Path) -> None:
    """It holds the pipes, so that a message would have to wait for it."""
    marker = tmp_path / "lived"
    engine = GnuPGEngine(fake_gpg(tmp_path, f"(sleep 100; touch {marker}); exit 0"), timeout_s=0.3)
    with pytest.raises(EncryptionError, match=r"did not end within 0\.3 s"):
        written(engine, LETTER * 100_000, owners.by_name["rsa2048"])
    assert not marker.exists()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("exit 0", "without a word|write an encrypted message"),
        ("cat; exit 0", "without a word|write an encrypted message"),
        ('cat; echo "[GNUPG:] END_ENCRYPTION" >&2; exit 0', "did not write an encrypted message"),
        ('gpg "$@"; exit 2', "gpg failed"),
        ('gpg "$@"; kill -9 $$', "gpg failed"),
        ('gpg "$@" | head -c 500000; exit 0', "whole message|gpg failed"),
        ('head -c 500000 | gpg "$@"; exit 0', "gpg failed|read all|whole message"),
        ("head -c 100000 /dev/zero >&2; exit 1", "gpg failed"),
        ("yes | head -c 1000000 >&2; exit 1", "gpg failed"),
    ],
)
def test_nothing_of_a_gpg_that_fails_leaves(does: str, why: str, owners: Owners, scratch: Path, tmp_path: Path) -> None:
    engine = GnuPGEngine(fake_gpg(tmp_path, does))
    left: list[bytes] = []
    content = b"the canary sings" * 100_000
    with pytest.raises(EncryptionError, match=why):
        left.extend(pgp.encrypt([content], len(content), [owners.by_name["rsa2048"].key], engine))
    assert b"canary" not in b"".join(left)
    assert not b"".join(left).endswith(b"-----END PGP MESSAGE-----\r\n")
    assert list(scratch.iterdir()) == []


def test_folder_for_ciphertext_that_is_full_or_missing_is_an_error(owners: Owners, tmp_path: Path) -> None:
    engine = GnuPGEngine(folder=str(tmp_path / "missing"))
    with pytest.raises(EncryptionError, match="missing"):
        written(engine, LETTER, owners.by_name["rsa2048"])


@pytest.mark.parametrize("repeat", [1, 10_000])
def test_content_that_breaks_off_is_never_sent_cut_short(repeat: int, owners: Owners) -> None:
    def content() -> Iterator[bytes]:
        yield LETTER * repeat
        raise OSError("the spool is gone")

    engine = GnuPGEngine()
    with pytest.raises(EncryptionError, match="the spool is gone"):
        list(pgp.encrypt(content(), 2 * repeat * len(LETTER), [owners.by_name["rsa2048"].key], engine))


def test_key_that_gpg_refuses_gives_its_words_and_no_message() -> None:
    require("gpg")
    engine = GnuPGEngine()
    broken = PGPKey(b"\xc6\x01\x04", "F", "RSA 2048", 112, None, 4)
    with pytest.raises(EncryptionError, match="gpg failed: gpg: "):
        list(pgp.encrypt([LETTER * 100_000], len(LETTER) * 100_000, [broken], engine))


def test_engine_made_before_a_fork_works_after_it(owners: Owners, scratch: Path) -> None:
    engine = GnuPGEngine()
    child = os.fork()
    if not child:
        status = 1
        try:
            message = written(engine, LETTER, owners.by_name["cv25519"])
            status = 0 if encrypted_message([message]).encrypted else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(scratch.iterdir()) == []


def test_configuration_of_the_user_is_not_read(owners: Owners, scratch: Path) -> None:
    folder = scratch.parent / "home" / ".gnupg"
    folder.mkdir(mode=0o700)
    (folder / "gpg.conf").write_text("no-such-option\n")
    assert written(GnuPGEngine(), LETTER, owners.by_name["cv25519"])


# --- the choice of an engine


def test_engine_that_is_not_installed_is_named_with_what_to_install() -> None:
    with pytest.raises(EngineMissing, match="install GnuPG"):
        GnuPGEngine("/nonexistent/gpg")
    with pytest.raises(EngineMissing, match="auto, sequoia, gnupg"):
        engines.engine("pgpy")


def test_auto_takes_gpg_for_what_sequoia_cannot_do_and_says_when_neither_can(owners: Owners) -> None:
    engine = engines.engine("auto")
    brainpool = owners.by_name["brainpoolP256r1"].key
    assert encrypted_message(pgp.encrypt([LETTER], len(LETTER), [brainpool], engine)).encrypted
    tsk = pysequoia.Tsk.generate(user_id="alice@example.org", profile=pysequoia.Profile.RFC9580)
    version_6 = gated(bytes(tsk.extract_certificate()), "alice@example.org")
    with pytest.raises(EncryptionError, match="at once"):
        list(pgp.encrypt([LETTER], len(LETTER), [brainpool, version_6], engine))
