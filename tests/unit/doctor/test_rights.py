"""May another user read what the filter needs?  Asked as that user, which needs root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smilla.adapters.as_user import User
from smilla.config import Config, parse
from smilla.doctor import rights
from smilla.doctor.finding import Finding
from smilla.doctor.rights import Service

ROOT = os.geteuid() == 0
NOBODY = Service(User("nobody"), drops_rights=False)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="smilla-rights-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def config(place: Path) -> Config:
    """A configuration whose files are all in the folder."""
    for name in ("keys", "spool", "seal", "run", "tmp"):
        (place / name).mkdir(exist_ok=True)
    for name in ("spool", "seal", "run", "tmp"):
        os.chown(place / name, pwd.getpwnam("nobody").pw_uid, -1)
    (place / "keys/a@x.test.pem").touch()
    (place / "smilla.toml").write_text(
        f'[milter]\nsocket = "unix:{place}/run/s.sock"\n[keys]\nsources = ["directory"]\ndirectory = "{place}/keys"\n'
        f'[reinject]\nspool = "{place}/spool"\n[spool]\nfolder = "{place}/tmp"\n'
        f'[stage]\nkeys = "{place}/seal"\nsocket = "unix:{place}/run/t.sock"\n'
    )
    return parse((place / "smilla.toml").read_text())


def found(place: Path, settings: Config, service: Service = NOBODY) -> list[Finding]:
    return [each for each in rights.problems(settings, place / "smilla.toml", service) if each.severity]


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("smilla.toml", 0o600, "chgrp nogroup {} && chmod g+r {}"),
        ("keys", 0o700, "chgrp nogroup {} && chmod g+rx {}"),
        ("keys/a@x.test.pem", 0o600, "chgrp nogroup {} && chmod g+r {}"),
        ("spool", 0o500, "chown -R nobody {}"),
        ("seal", 0o500, "chown -R nobody {}"),
        ("tmp", 0o500, "chown -R nobody {}"),
        ("run", 0o500, "install -d -o nobody -g postfix -m 2750 {}"),
    ],
)
def test_what_the_user_may_not_do_is_named_with_the_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int, told: str
) -> None:
    monkeypatch.setattr(rights, "_is_group", lambda name: name == "postfix")
    settings = config(place)
    assert found(place, settings) == []
    (place / name).chmod(mode)
    first = found(place, settings)[0]
    assert (first.kind, first.severity, first.mend) == ("rights", "error", told.format(*[place / name] * 2))
    assert f"{place / name} (" in first.text
    assert first.why


def test_folder_of_sockets_belongs_to_a_group_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    service = rights.Service(User("nobody"), drops_rights=True)
    for is_there, group in ((True, "postfix"), (False, "nobody")):
        monkeypatch.setattr(rights, "_is_group", lambda _, is_there=is_there: is_there)
        line, why = rights.folder_of_sockets(Path("/run/x"), service)
        assert (line, "Postfix" in why) == (f"install -d -o nobody -g {group} -m 2750 /run/x", is_there)
    monkeypatch.undo()
    assert not rights._is_group("no-such-group")
    assert rights._is_group("root")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_key_file_that_smilla_may_not_read_is_told_to_whoever_looks_its_address_up(place: Path) -> None:
    settings, path = config(place), place / "keys/a@x.test.pem"
    os.chown(place / "spool", pwd.getpwnam("nobody").pw_uid, -1)
    assert list(rights.of_key_files(settings, place / "smilla.toml", [str(path)])) == []
    path.chmod(0o600)
    (told,) = rights.of_key_files(settings, place / "smilla.toml", [str(path)])
    assert f"nobody may not read {path} (" in told.text
    assert told.mend == f"chgrp nogroup {path} && chmod g+r {path}"


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_folder_on_the_way_is_the_one_at_fault(place: Path) -> None:
    inner = place / "shut/inner"
    inner.mkdir(parents=True)
    settings = config(inner)
    inner.parent.chmod(0o700)
    (told,) = found(inner, settings)
    assert told.mend == f"chmod o+x {inner.parent}"
    assert f"because {inner.parent} (root:root 0700) keeps it out" in told.text


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_who_starts_as_root_opens_its_sockets_as_root(place: Path) -> None:
    settings = config(place)
    (place / "run").chmod(0o500)
    assert found(place, settings, Service(User("nobody"), drops_rights=True)) == []


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_many_keys_that_cannot_be_read_are_counted(place: Path) -> None:
    settings = config(place)
    for number in range(9):
        (place / f"keys/{number}@x.test.pem").touch(0o600)
        (place / f"keys/{number}@x.test.pem").chmod(0o600)
    told = found(place, settings)
    assert len(told) == 3
    assert "(and 6 more)" in told[0].text


def test_nothing_is_tested_for_root_or_for_a_user_who_is_not_there(place: Path) -> None:
    settings = parse("")
    assert found(place, settings, Service(User("root"), drops_rights=False)) == []
    (told,) = found(place, settings, Service(User("no-such-user"), drops_rights=False))
    assert told.mend == "useradd --system no-such-user"


def test_who_runs_the_filter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "smilla.toml"
    unit = place / "smilla.service"
    monkeypatch.setattr("smilla.adapters.unit_file.FOLDERS", (str(place),))
    settings = parse(f'[reinject]\nspool = "{place}"\n')
    assert rights.service_of(settings, path).user.name == pwd.getpwuid(os.geteuid()).pw_name
    unit.write_text(f"[Service]\nUser=nobody\nRuntimeDirectory=smilla\nExecStart=smilla milter --config {path}\n")
    assert rights.service_of(settings, path) == Service(User("nobody"), False, ("/run/smilla",), str(unit))
    assert rights.service_of(settings, place / "other.toml").unit == ""
    named = rights.service_of(parse('[milter]\nuser = "daemon"\n'), path)
    assert (named.user.name, named.drops_rights) == ("daemon", True)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_folder_of_state_on_the_way_is_given_to_the_user(place: Path) -> None:
    config(place)
    text = (place / "smilla.toml").read_text()
    (place / "spool/seal").mkdir()
    os.chown(place / "spool", 0, 0)
    (place / "spool").chmod(0o700)
    settings = parse(text.replace(f'keys = "{place}/seal"', f'keys = "{place}/spool/seal"'))
    assert {each.mend for each in found(place, settings)} == {f"chown -R nobody {place}/spool"}


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_the_key_file_of_a_rule_must_be_readable(place: Path) -> None:
    config(place)
    key = place / "partner.crt"
    key.touch()
    text = (place / "smilla.toml").read_text() + f'[[rule]]\nrecipient = "*"\nkey = "{key}"\n'
    assert found(place, parse(text)) == []
    key.chmod(0o600)
    (told,) = found(place, parse(text))
    assert (told.subject, told.mend) == (f"rule 1: key {key}", f"chgrp nogroup {key} && chmod g+r {key}")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_without_a_unit_the_socket_tells_who_runs_the_filter_then_the_journal_and_the_keys(place: Path) -> None:
    settings, path = config(place), place / "smilla.toml"
    shutil.chown(place / "spool", "daemon")
    assert rights.service_of(settings, path) == Service(User("daemon"), drops_rights=False, is_known=False)
    (place / "spool/journal.sqlite3").touch()
    (place / "seal/0.key").touch()
    for owner in ("nobody", "daemon"):
        shutil.chown(place / "spool/journal.sqlite3", "nobody")
        shutil.chown(place / "seal/0.key", owner)
        service = rights.service_of(settings, path)
        assert (service.is_known, service.user.name) == (owner == "nobody", owner)
    (place / "run/s.sock").touch()  # no socket
    assert not rights.service_of(settings, path).is_known
    (place / "run/s.sock").unlink()
    os.mknod(place / "run/s.sock", stat.S_IFSOCK | 0o600)
    shutil.chown(place / "run/s.sock", "nobody")
    assert rights.service_of(settings, path) == NOBODY


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_who_owns_a_folder_alone_is_given_nothing(place: Path) -> None:
    settings = config(place)
    (place / "smilla.toml").chmod(0o600)
    (place / "tmp").chmod(0o500)
    unknown = Service(User("daemon"), drops_rights=False, is_known=False)
    told = found(place, settings, unknown)
    assert len(told) > 1
    assert {each.mend for each in told} == {rights.TELL}
    (hint,) = rights.as_whom(place / "smilla.toml", unknown)
    assert "nothing tells as whom smilla runs; all was tried as daemon" in hint.text
