"""smilla record: the line for a zone file, read back by dnspython."""

from __future__ import annotations

import base64
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from smilla.formats.crc24 import crc24
from tests.openpgp_maker import armoured
from tests.unit.cli.conftest import CommandLine, Done
from tests.vectors.memory import KEYS, raw_key

HUGH = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6"
CERTIFICATE, KEY = KEYS / "hugh.crt", KEYS / "pia.pgp"


def rdata_of(done: Done, rdtype: str) -> bytes:
    """What a zone file with this one line holds, in wire form."""
    assert done.code == 0, done.err
    (line,) = done.out.decode("ascii").splitlines()
    _, klass, kind, text = line.split(" ", 3)
    found = dns.rdata.from_text(dns.rdataclass.from_text(klass), dns.rdatatype.from_text(kind), text)
    assert dns.rdatatype.from_text(kind) == dns.rdatatype.from_text(rdtype)
    return found.to_wire() or b""


@pytest.mark.parametrize("generic", [(), ("--generic",)])
def test_certificate_becomes_an_smimea_record(commands: CommandLine, generic: tuple[str, ...]) -> None:
    done = commands.run("record", "hugh@example.org", "--cert", CERTIFICATE, *generic)
    kind = b"TYPE53 \\# " if generic else b"SMIMEA 3 0 0 "
    assert done.out.startswith(f"{HUGH}._smimecert.example.org. IN ".encode() + kind)
    assert rdata_of(done, "SMIMEA") == b"\3\0\0" + raw_key("hugh.crt")
    assert done.err == ""


@pytest.mark.parametrize("generic", [(), ("--generic",)])
def test_key_becomes_an_openpgpkey_record(commands: CommandLine, generic: tuple[str, ...]) -> None:
    done = commands.run("record", "pia@example.org", "--key", KEY, *generic)
    assert b"._openpgpkey.example.org. IN " in done.out
    assert (b"TYPE61 \\# " if generic else b" OPENPGPKEY ") in done.out
    assert rdata_of(done, "OPENPGPKEY") == raw_key("pia.pgp")
    assert done.err == ""


def test_key_in_base64_is_the_whole_of_the_record(commands: CommandLine) -> None:
    done = commands.run("record", "pia@example.org", "--key", KEY)
    assert base64.b64decode(done.out.split()[-1]) == raw_key("pia.pgp")


@pytest.mark.parametrize("usage", ["0", "1", "2", "3"])
def test_usage_stands_in_the_record(commands: CommandLine, usage: str) -> None:
    for generic in ((), ("--generic",)):
        done = commands.run("record", "hugh@example.org", "--cert", CERTIFICATE, "--usage", usage, *generic)
        assert rdata_of(done, "SMIMEA")[:3] == bytes([int(usage), 0, 0])


def test_certificate_may_be_der(commands: CommandLine) -> None:
    path = commands.file("hugh.der", raw_key("hugh.crt"))
    assert rdata_of(commands.run("record", "hugh@example.org", "--cert", path), "SMIMEA")[3:] == raw_key("hugh.crt")


def test_key_may_be_armoured(commands: CommandLine) -> None:
    raw = raw_key("pia.pgp")
    crc = base64.b64encode(crc24(raw).to_bytes(3, "big")).decode()
    lines = ["-----BEGIN PGP PUBLIC KEY BLOCK-----", "", base64.encodebytes(raw).decode().rstrip(), f"={crc}"]
    text = "\n".join([*lines, "-----END PGP PUBLIC KEY BLOCK-----", ""])
    done = commands.run("record", "pia@example.org", "--key", commands.file("pia.asc", text.encode()))
    assert rdata_of(done, "OPENPGPKEY") == raw


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("Hugh@example.org", "7063a398942ba5c6125429518d0608563f3974bb48013ddf58fb01d4._smimecert.example.org."),
        ('"hu\\gh"@Bücher.example', f"{HUGH}._smimecert.xn--bcher-kva.example."),
    ],
)
def test_owner_name_is_the_rfcs(commands: CommandLine, address: str, owner: str) -> None:
    assert commands.run("record", address, "--cert", CERTIFICATE).out.startswith(owner.encode() + b" IN SMIMEA ")


@pytest.mark.parametrize("name", ["expired.crt", "other-address.crt", "sign-only.crt", "weak.crt", "ca.crt"])
def test_certificate_that_senders_would_not_use_comes_with_a_warning(commands: CommandLine, name: str) -> None:
    done = commands.run("record", "hugh@example.org", "--cert", KEYS / name)
    assert rdata_of(done, "SMIMEA")[3:] == raw_key(name)
    assert done.err.startswith("warning: ")


@pytest.mark.parametrize(
    "name",
    ["pgp-expired.pgp", "pgp-revoked.pgp", "pgp-other-address.pgp", "pgp-sign-only.pgp", "pgp-expired-subkey.pgp"],
)
def test_key_that_senders_would_not_use_comes_with_a_warning(commands: CommandLine, name: str) -> None:
    done = commands.run("record", "pia@example.org", "--key", KEYS / name)
    assert rdata_of(done, "OPENPGPKEY") == raw_key(name)
    assert done.err.startswith("warning: ")


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("--key", KEYS / "pia.secret"),
        ("--key", CERTIFICATE),
        ("--key", KEYS / "hugh.key"),
        ("--key", Path("/nonexistent.pgp")),
        ("--key", Path("/dev/null")),
        ("--cert", KEY),
        ("--cert", KEYS / "hugh.key"),
        ("--cert", KEYS / "pia.secret"),
        ("--cert", Path("/nonexistent.crt")),
        ("--cert", Path("/dev/null")),
    ],
)
def test_wrong_file_is_refused_and_no_record_printed(commands: CommandLine, option: str, path: Path) -> None:
    done = commands.run("record", "hugh@example.org", option, path)
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("error: ")


def test_secret_key_beside_a_certificate_is_never_printed(commands: CommandLine) -> None:
    both = (KEYS / "hugh.key").read_bytes() + CERTIFICATE.read_bytes()
    for raw in (both, CERTIFICATE.read_bytes() + (KEYS / "hugh.key").read_bytes()):
        done = commands.run("record", "hugh@example.org", "--cert", commands.file("both.pem", raw))
        assert done.code == 2 or rdata_of(done, "SMIMEA")[3:] == raw_key("hugh.crt")


def test_several_keys_in_one_file_are_refused(commands: CommandLine) -> None:
    path = commands.file("two.pgp", raw_key("pia.pgp") + raw_key("quinn.pgp"))
    assert commands.run("record", "pia@example.org", "--key", path).code == 2


@pytest.mark.parametrize(
    "address", ["hugh", "hugh@localhost", "hugh@[192.0.2.1]", "hugh@a.invalid", "", "a b@example.org"]
)
def test_address_that_nobody_would_ask_for_is_refused(commands: CommandLine, address: str) -> None:
    done = commands.run("record", address, "--cert", CERTIFICATE)
    assert (done.code, done.out) == (2, b"")


@pytest.mark.parametrize(
    "arguments", [(), ("--cert", str(CERTIFICATE), "--key", str(KEY)), ("--cert", str(CERTIFICATE), "--usage", "4")]
)
def test_wrong_arguments_are_refused(commands: CommandLine, arguments: tuple[str, ...]) -> None:
    assert commands.run("record", "hugh@example.org", *arguments).code == 2


def test_certificate_that_fits_the_address_is_taken_from_a_file_with_several(commands: CommandLine) -> None:
    others = [(KEYS / name).read_bytes() for name in ("ca.crt", "expired.crt", "sign-only.crt", "other-address.crt")]
    for blocks in ([*others, CERTIFICATE.read_bytes()], [CERTIFICATE.read_bytes(), *others]):
        path = commands.file("several.pem", b"some text\n".join(blocks))
        done = commands.run("record", "hugh@example.org", "--cert", path)
        assert rdata_of(done, "SMIMEA")[3:] == raw_key("hugh.crt")
        assert "of 5 certificates in it, this is" in done.err
        assert "warning" not in done.err


def encrypted_pkcs12(commands: CommandLine) -> Path:
    certificate = x509.load_pem_x509_certificate(CERTIFICATE.read_bytes())
    key = load_pem_private_key((KEYS / "hugh.key").read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    raw = pkcs12.serialize_key_and_certificates(b"hugh", key, certificate, None, encryption)  # type: ignore[arg-type]
    return commands.file("hugh.p12", raw)


def test_pkcs12_gives_its_certificate_and_nothing_else(commands: CommandLine) -> None:
    path, password = encrypted_pkcs12(commands), commands.file("password", b"secret\n")
    password.chmod(0o600)
    done = commands.run("record", "hugh@example.org", "--cert", path, "--password-file", password)
    assert rdata_of(done, "SMIMEA")[3:] == raw_key("hugh.crt")
    assert done.err == ""


def test_pkcs12_without_its_password_prints_nothing(commands: CommandLine) -> None:
    path, wrong = encrypted_pkcs12(commands), commands.file("password", b"else\n")
    for given, words in (((), "--password-file"), (("--password-file", wrong), "the password is wrong")):
        done = commands.run("record", "hugh@example.org", "--cert", path, *given)
        assert (done.code, done.out) == (2, b"")
        assert words in done.err


def test_minimal_is_for_keys_and_for_their_own_address(commands: CommandLine) -> None:
    done = commands.run("record", "pia@example.org", "--key", KEY, "--minimal")
    assert rdata_of(done, "OPENPGPKEY") == raw_key("pia.pgp")
    for given in (("pia@example.org", "--cert", CERTIFICATE), ("else@example.org", "--key", KEY)):
        assert commands.run("record", *given, "--minimal").code == 2


def test_line_that_another_reader_understands_otherwise_is_not_printed(
    commands: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smilla.records.record.Record.text", "3 0 0 30")
    done = commands.run("record", "hugh@example.org", "--cert", CERTIFICATE)
    assert done.out == b""
    assert done.code != 0


def test_password_is_asked_for_on_a_terminal_and_not_shown(commands: CommandLine) -> None:
    """``setsid`` makes the terminal that of the command alone."""
    path = encrypted_pkcs12(commands)
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "smilla", "record", "hugh@example.org", "--cert", str(path)]
    running = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"Password of" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"secret\n")
    out, _ = running.communicate()
    with suppress(OSError):  # the end of a terminal that nobody holds any more
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    assert running.returncode == 0
    assert out.split()[-1] == raw_key("hugh.crt").hex().encode()
    assert b"secret" not in shown


@pytest.mark.parametrize("end", [b"", b"\n-----END PGP PUBLIC KEY BLOCK-----\n"])
def test_damaged_armour_makes_no_record(commands: CommandLine, end: bytes) -> None:
    whole = armoured(raw_key("pia.pgp"), "PGP PUBLIC KEY BLOCK")
    done = commands.run("record", "pia@example.org", "--key", commands.file("cut.asc", whole[: len(whole) // 2] + end))
    assert (done.out, "its OpenPGP armour is damaged or cut off" in done.err) == (b"", True), done.err
    assert done.code != 0
