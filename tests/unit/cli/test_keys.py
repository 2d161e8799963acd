"""smilla keys: what is written into a real folder, what is refused, and the exit codes that scripts rely on."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from smilla.adapters.folder import KeyDirectory
from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.keys import handed_in
from smilla.keys.discovery.directory import address_of
from smilla.model import KeyVerdict
from smilla.ports import Ports
from tests.certificates import make_certificate, to_pem
from tests.lab.processes import wait_until
from tests.unit.cli.conftest import CommandLine, Done
from tests.unit.test_log_recovery import Keeper
from tests.vectors.memory import KEYS, make_ports

HUGH, LOG = "hugh@example.org", Keeper()


@pytest.fixture
def office(commands: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with a real folder of keys."""
    (commands.folder / "keys").mkdir()

    def ports(settings: Config) -> Ports:
        folder = KeyDirectory(settings.keys.directory, address_of)
        made = make_ports(commands.resolver)
        return Ports(made.clock, made.resolver, folder, made.openpgp)

    monkeypatch.setattr("smilla.cli.keys.make_ports", ports)
    monkeypatch.setattr("smilla.cli.audit.log_target.opened", lambda _: LOG)
    LOG.lines.clear()
    return commands


def keys(office: CommandLine, *arguments: str | Path, stdin: bytes = b"", more: str = "") -> Done:
    action, *rest = arguments
    text = f'[keys]\nsources = ["directory"]\ndirectory = "{office.folder}/keys"\n{more}'
    return office.run("keys", action, "--config", office.config(text), *rest, stdin=stdin)


def logged() -> str:
    return b"".join(LOG.lines).decode()


def names(office: CommandLine) -> list[str]:
    return sorted(path.name for path in (office.folder / "keys").iterdir())


def test_key_is_added_listed_and_removed(office: CommandLine) -> None:
    done = keys(office, "add", HUGH, KEYS / "hugh.crt")
    assert (done.code, names(office)) == (0, ["hugh@example.org.crt"])
    assert f"{HUGH}: {office.folder}/keys/hugh@example.org.crt added" in done.out.decode()
    assert "until 2040-01-01" in done.out.decode()
    assert stat.S_IMODE((office.folder / "keys/hugh@example.org.crt").stat().st_mode) == 0o644
    assert keys(office, "list").out.decode().startswith(f"{HUGH}: smime: RSA-2048 key ")
    removed = keys(office, "remove", HUGH)
    assert (removed.code, names(office)) == (0, [])
    assert "[policy] no_key decide" in removed.err
    assert keys(office, "remove", HUGH).code == 1


def test_log_says_who_got_which_key(office: CommandLine) -> None:
    done = keys(office, "add", HUGH, KEYS / "hugh.crt")
    line = f"key-added rcpt={HUGH} file={office.folder}/keys/hugh@example.org.crt fingerprint="
    assert done.code == 0
    assert line in logged()
    assert "BEGIN" not in logged()
    keys(office, "remove", HUGH)
    assert f"key-removed rcpt={HUGH}" in logged()


@pytest.mark.parametrize("level", ["warning", "error"])
def test_level_of_the_log_does_not_hide_it(office: CommandLine, level: str) -> None:
    keys(office, "add", HUGH, KEYS / "hugh.crt", more=f'[log]\nlevel = "{level}"\n')
    assert "key-added" in logged()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("expired.crt", "--force"),
        ("dana.crt", "--any-address"),
        ("pia.secret", ""),
        ("pgp-revoked.pgp", "--any-address --force"),
    ],
)
def test_refused_key_is_not_written_and_the_way_out_is_told(office: CommandLine, name: str, hint: str) -> None:
    who = "pia@example.org" if name.endswith("secret") else "rita@example.org"
    who = HUGH if name == "expired.crt" else who
    done = keys(office, "add", who, KEYS / name)
    assert (done.code, done.out, names(office)) == (1, b"", [])
    assert done.err.startswith(f"error: {who}: ")
    assert (f"hint: smilla keys add {hint}" in done.err) is bool(hint)
    assert logged() == ""


def test_force_takes_what_cannot_be_used_but_never_a_private_key(office: CommandLine) -> None:
    done = keys(office, "add", "--force", HUGH, KEYS / "expired.crt")
    assert (done.code, names(office)) == (0, ["hugh@example.org.crt"])
    assert "warning: hugh@example.org: smilla cannot encrypt to it" in done.err
    assert "forced=" in logged()
    assert keys(office, "add", "--force", "--any-address", "pia@example.org", KEYS / "pia.secret").code == 1
    assert keys(office, "add", "--force", HUGH, office.file("x", b"nonsense")).code == 1
    assert names(office) == ["hugh@example.org.crt"]


def test_check_writes_nothing_and_says_what_add_would_do(office: CommandLine) -> None:
    assert keys(office, "check", HUGH, KEYS / "hugh.crt").code == 0
    done = keys(office, "check", HUGH, KEYS / "expired.crt")
    assert done.code == 1
    assert "candidate 1: smime" in done.out.decode()
    assert names(office) == []
    assert keys(office, "check", "--force", HUGH, KEYS / "hugh.crt").code == 2


def test_json_is_one_document(office: CommandLine) -> None:
    (office.folder / "keys/hugh@example.org.pem").write_bytes((KEYS / "hugh.crt").read_bytes())
    found = keys(office, "add", "--json", HUGH, KEYS / "hugh.crt").json
    assert (found["address"], found["taken"], found["written"], found["against"]) == (HUGH, True, True, [])
    assert found["files"] == [f"{office.folder}/keys/hugh@example.org.crt"]
    assert found["replaced"] == [f"{office.folder}/keys/hugh@example.org.pem"]
    assert (found["comes_first"], found["lookup"]["key"]["format"]) == (True, "smime")
    refused = keys(office, "add", "--json", HUGH, KEYS / "expired.crt")
    assert (refused.code, refused.json["taken"], refused.json["written"]) == (1, False, False)
    assert [reason["code"] for reason in refused.json["against"]] == ["expired"]
    (listed,) = keys(office, "list", "--json").json
    assert (listed["address"], listed["files"]) == (HUGH, ["hugh@example.org.crt"])
    assert keys(office, "remove", "--json", HUGH).json["removed"] == [f"{office.folder}/keys/hugh@example.org.crt"]


def test_standard_input_is_read_and_bounded(office: CommandLine) -> None:
    raw = (KEYS / "hugh.crt").read_bytes()
    assert keys(office, "add", HUGH, "-", stdin=raw).code == 0
    assert keys(office, "add", HUGH, "-", stdin=raw + b"\n" * (1 << 20)).code == 1
    assert keys(office, "add", HUGH, office.file("x", raw + b"\n" * (1 << 20))).code == 1
    assert keys(office, "add", HUGH, office.folder / "missing").code == 1


def test_new_file_takes_mode_of_the_one_that_it_replaces(office: CommandLine) -> None:
    old = office.folder / "keys/hugh@example.org.cer"
    old.write_bytes((KEYS / "hugh.crt").read_bytes())
    old.chmod(0o640)
    assert keys(office, "add", HUGH, KEYS / "hugh.crt").code == 0
    assert names(office) == ["hugh@example.org.crt"]
    assert stat.S_IMODE((office.folder / "keys/hugh@example.org.crt").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_new_file_takes_the_owner_too(office: CommandLine) -> None:
    old = office.folder / "keys/hugh@example.org.crt"
    old.write_bytes((KEYS / "hugh.crt").read_bytes())
    os.chown(old, 65534, 65534)
    assert keys(office, "add", HUGH, KEYS / "hugh.crt").code == 0
    assert (old.stat().st_uid, old.stat().st_gid) == (65534, 65534)


def test_link_out_of_the_folder_is_replaced_and_its_target_stays(office: CommandLine) -> None:
    target = office.file("precious", b"precious")
    (office.folder / "keys/hugh@example.org.crt").symlink_to(target)
    assert keys(office, "add", HUGH, KEYS / "hugh.crt").code == 0
    assert target.read_bytes() == b"precious"
    assert not (office.folder / "keys/hugh@example.org.crt").is_symlink()


@pytest.mark.parametrize(
    "who", ["a/b@example.org", '"../x"@example.org', "no address", "gro\u00df@stra\u00dfe.example"]
)
def test_address_that_can_have_no_file_is_a_usage_error(office: CommandLine, who: str) -> None:
    assert keys(office, "add", who, KEYS / "nobody.crt").code == 2
    assert names(office) == []


def test_address_that_begins_with_a_hyphen_is_taken_after_two_hyphens(office: CommandLine) -> None:
    assert keys(office, "add", "--", "-rf@example.org", KEYS / "nobody.crt").code == 0
    assert names(office) == ["-rf@example.org.crt"]


def test_without_a_folder_there_is_nothing_to_do(office: CommandLine) -> None:
    done = office.run("keys", "list", "--config", office.config())
    assert (done.code, "no folder of keys" in done.err) == (2, True)


def test_list_of_addresses_that_are_not_there_says_no(office: CommandLine) -> None:
    assert keys(office, "list").code == 0
    assert keys(office, "list", HUGH).code == 1
    keys(office, "add", HUGH, KEYS / "hugh.crt")
    assert keys(office, "list", "Hugh@Example.org").code == 0


def test_only_one_format_is_removed_where_that_is_asked(office: CommandLine) -> None:
    for name in ("hugh.crt", "pia.pgp"):
        assert keys(office, "add", "--any-address", HUGH, KEYS / name).code == 0
    assert keys(office, "remove", "--openpgp", HUGH).code == 0
    assert names(office) == ["hugh@example.org.crt"]
    assert keys(office, "remove", "--openpgp", HUGH).code == 1


def test_address_never_lacks_a_key_while_one_takes_the_place_of_another(office: CommandLine) -> None:
    """A filter that looks all the time sees one of the two, under whatever name it stands, or that they change."""
    files = [office.file(f"{n}.crt", to_pem(make_certificate(email=HUGH, number=n)[1])) for n in (1, 2)]
    (office.folder / "keys/hugh@example.org.pem").write_bytes(files[0].read_bytes())
    folder, over = office.folder / "keys", threading.Event()
    seen: set[KeyVerdict] = set()

    settings = Config(keys=KeysOptions(directory=str(folder)))
    ports = replace(make_ports(), folder=KeyDirectory(str(folder), address_of))

    def verdict() -> KeyVerdict:
        return handed_in.look_up(parse(HUGH), ports, settings).verdict

    def look() -> None:
        while not over.is_set():
            seen.add(verdict())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for turn in range(30):
            if turn % 3 == 0 and turn:
                os.link(folder / "hugh@example.org.crt", folder / "hugh@example.org.cer")
                (folder / "hugh@example.org.crt").unlink()
            assert keys(office, "add", HUGH, files[turn % 2]).code == 0
        assert wait_until(lambda: KeyVerdict.USABLE in seen, 30)
    finally:
        over.set()
        watcher.join()
    # A file that goes between the list of names and its reading, or was written just now, is temporary: no absence.
    assert KeyVerdict.USABLE in seen
    assert seen <= {KeyVerdict.USABLE, KeyVerdict.UNREACHABLE}
    assert verdict() is KeyVerdict.USABLE
