"""smilla keygen: files, their modes, and a record that our own gate takes."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from smilla.adapters import zone_line
from smilla.address import parse
from smilla.cli.keygen import file_name
from smilla.formats.armour import dearmour
from smilla.records import pkcs12
from tests.unit.cli.conftest import CommandLine, Done

ADDRESS = "hugh@example.org"


def keygen(commands: CommandLine, *arguments: str | Path) -> Done:
    return commands.run("keygen", ADDRESS, "--output-dir", commands.folder / "out", *arguments)


@pytest.fixture(autouse=True)
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def shown_password(done: Done) -> str:
    (password,) = re.findall(r"^hint: the password, shown this once: (\S+)$", done.err, re.MULTILINE)
    return str(password)


@pytest.mark.parametrize("arguments", [("--bits", "2048"), ("--smime", "--ec", "P-256")])
def test_smime_gives_a_certificate_its_pkcs12_and_its_record(
    commands: CommandLine, out: Path, arguments: tuple[str, ...]
) -> None:
    done = keygen(commands, *arguments)
    assert done.code == 0, done.err
    assert modes(out) == {f"{ADDRESS}.p12": 0o600, f"{ADDRESS}.crt": 0o644}
    _, rdtype, rdata = zone_line.read(done.out.decode())
    raw = (out / f"{ADDRESS}.p12").read_bytes()
    assert (rdtype, rdata) == (53, b"\3\0\0" + pkcs12.certificates(raw, shown_password(done).encode())[0])
    assert "warning" not in done.err
    assert f"smilla publish {ADDRESS} --cert" in done.err
    assert commands.run("record", ADDRESS, "--cert", out / f"{ADDRESS}.crt").out == done.out


def test_openpgp_gives_the_key_its_public_half_and_its_revocation(commands: CommandLine, out: Path) -> None:
    done = keygen(commands, "--openpgp", "--name", "Hugh")
    assert done.code == 0, done.err
    assert modes(out) == {
        f"{ADDRESS}.secret.asc": 0o600,
        f"{ADDRESS}.revocation.asc": 0o600,
        f"{ADDRESS}.asc": 0o644,
    }
    _, rdtype, rdata = zone_line.read(done.out.decode())
    assert (rdtype, rdata) == (61, dearmour((out / f"{ADDRESS}.asc").read_bytes()).data)
    assert "warning" not in done.err
    assert commands.run("record", ADDRESS, "--key", out / f"{ADDRESS}.asc", "--minimal").out == done.out


def test_password_is_never_in_the_results_and_is_another_each_time(commands: CommandLine, out: Path) -> None:
    shown = set()
    for number in range(2):
        folder = out / str(number)
        folder.mkdir()
        done = commands.run("keygen", ADDRESS, "--ec", "P-256", "--output-dir", folder)
        shown.add(shown_password(done))
        assert shown_password(done).encode() not in done.out
    assert len(shown) == 2
    assert all(len(password) == 23 for password in shown)


def test_password_of_a_file_is_used_and_not_shown(commands: CommandLine, out: Path) -> None:
    path = commands.file("password", b"of my own \nrest")
    path.chmod(0o600)
    done = keygen(commands, "--ec", "P-256", "--password-file", path)
    assert done.code == 0
    assert "of my own" not in done.err
    assert pkcs12.certificates((out / f"{ADDRESS}.p12").read_bytes(), b"of my own ")


def test_password_file_that_everybody_can_read_is_told(commands: CommandLine) -> None:
    path = commands.file("password", b"secret")
    path.chmod(0o644)
    assert "everybody on this machine can read it" in keygen(commands, "--ec", "P-256", "--password-file", path).err


@pytest.mark.parametrize(("arguments", "suffix"), [(("--ec", "P-256"), ".p12"), (("--openpgp",), ".revocation.asc")])
def test_nothing_is_written_over(commands: CommandLine, out: Path, arguments: tuple[str, ...], suffix: str) -> None:
    (out / f"{ADDRESS}{suffix}").write_bytes(b"precious")
    done = keygen(commands, *arguments)
    assert (done.code, done.out) == (2, b"")
    assert "never written over" in done.err
    assert [path.read_bytes() for path in out.iterdir()] == [b"precious"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--openpgp", "--ec", "P-256"),
        ("--openpgp", "--smime"),
        ("--days", "0"),
        ("--days", "100000"),
        ("--name", "Hugh <else@example.org>"),
        ("--name", "Hugh\nelse"),
        ("--name", "x" * 201),
        ("--password-file", "/dev/null"),
        ("--bits", "1024"),
    ],
)
def test_wrong_arguments_make_nothing(commands: CommandLine, out: Path, arguments: tuple[str, ...]) -> None:
    done = keygen(commands, *arguments)
    assert (done.code, done.out, list(out.iterdir())) == (2, b"", [])


@pytest.mark.parametrize("address", ["hugh", "hugh@localhost", "hugh@[192.0.2.1]"])
def test_address_that_nobody_would_ask_for_gets_no_key(commands: CommandLine, address: str) -> None:
    assert commands.run("keygen", address).code == 2


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("hugh@example.org", "hugh@example.org"),
        ("a/../b@example.org", "a%2F..%2Fb@example.org"),
        ('"a b"@example.org', "%22a%20b%22@example.org"),
        ("dörte@bücher.example", "dörte@bücher.example"),
        ("$x`y@example.org", "%24x%60y@example.org"),
    ],
)
def test_file_is_named_after_the_address_without_what_a_folder_mistakes(address: str, name: str) -> None:
    assert file_name(parse(address)) == name


@pytest.mark.parametrize(("arguments", "last"), [(("--ec", "P-256"), ".crt"), (("--openpgp",), ".asc")])
def test_where_one_file_cannot_be_made_none_is_left(
    commands: CommandLine, out: Path, arguments: tuple[str, ...], last: str
) -> None:
    """A link to nothing is seen only when the file is made."""
    (out / f"{ADDRESS}{last}").symlink_to(out / "nowhere")
    done = keygen(commands, *arguments)
    assert (done.code, done.out) == (1, b"")
    assert "password" not in done.err
    assert [path.name for path in out.iterdir()] == [f"{ADDRESS}{last}"]


def test_key_that_senders_would_not_use_is_not_made(commands: CommandLine, out: Path) -> None:
    """Nobody finds an address with an angle bracket behind a name in a user ID."""
    done = commands.run("keygen", '"a<b"@example.org', "--openpgp", "--name", "A", "--output-dir", out)
    assert (done.code, done.out, list(out.iterdir())) == (2, b"", [])
    assert "senders would not use it" in done.err
