"""What strangers may write is an error, with the line that mends it."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from smilla.adapters.as_user import User
from smilla.config import Config
from smilla.doctor import strangers
from smilla.doctor.finding import Finding
from smilla.doctor.rights import TELL, Service
from tests.unit.doctor.test_rights import config, place

__all__ = ["place"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SERVICE = Service(User("nobody"), drops_rights=False)


def found(place: Path, settings: Config) -> list[Finding]:
    return list(strangers.problems(settings, place / "smilla.toml", SERVICE))


def told(place: Path, settings: Config) -> list[tuple[str, str]]:
    return [(str(each.kind), each.mend) for each in found(place, settings)]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("smilla.toml", 0o666),
        ("", 0o777),
        ("keys", 0o777),
        ("keys", 0o1777),
        ("keys/a@x.test.pem", 0o666),
        ("run", 0o2777),
        ("run", 0o1777),
        ("spool", 0o777),
    ],
)
def test_what_everybody_may_write_is_named_once_with_the_line(place: Path, name: str, mode: int) -> None:
    settings = config(place)
    assert found(place, settings) == []
    path = place / name
    path.chmod(mode)
    assert told(place, settings) == [("rights-too-wide", f"chmod o-w {path}")]
    (only,) = found(place, settings)
    assert only.severity == "error"
    assert only.text == f"everybody may write {path}"
    assert "whoever writes it" in only.why


@pytest.mark.parametrize("name", ["smilla.toml", "", "keys", "keys/a@x.test.pem", "run"])
def test_what_belongs_to_a_stranger_is_named_with_its_owner(place: Path, name: str) -> None:
    settings = config(place)
    os.chown(place / name, pwd.getpwnam("daemon").pw_uid, -1)
    owner = "nobody" if name == "run" else "root"
    assert told(place, settings) == [("rights-too-wide", f"chown {owner} {place / name}")]
    assert "belongs to daemon, who may write it" in found(place, settings)[0].text


def test_a_folder_on_the_way_counts_unless_its_sticky_bit_keeps_what_is_there(place: Path) -> None:
    inner = place / "way/inner"
    inner.mkdir(parents=True)
    settings = config(inner)
    inner.parent.chmod(0o1777)
    assert found(inner, settings) == []
    inner.parent.chmod(0o777)
    assert told(inner, settings) == [("rights-too-wide", f"chmod o-w {inner.parent}")]


def test_the_file_behind_a_symbolic_link_and_its_folders_count(place: Path) -> None:
    settings = config(place)
    other = place / "other"
    other.mkdir(mode=0o755)
    (place / "smilla.toml").rename(other / "real.toml")
    (place / "smilla.toml").symlink_to(other / "real.toml")
    assert found(place, settings) == []
    other.chmod(0o777)
    assert told(place, settings) == [("rights-too-wide", f"chmod o-w {other}")]


def test_of_many_open_key_files_three_are_named(place: Path) -> None:
    settings = config(place)
    for number in range(9):
        (place / f"keys/{number}@x.test.pem").touch()
        (place / f"keys/{number}@x.test.pem").chmod(0o666)
    assert len(told(place, settings)) == 3


def grouped(monkeypatch: pytest.MonkeyPatch, *members: str) -> int:
    """A group with these members."""
    made = grp.struct_group(("pals", "x", 54321, list(members)))
    monkeypatch.setattr(
        "grp.getgrgid", lambda gid: made if gid == 54321 else grp.struct_group((str(gid), "x", gid, []))
    )
    return 54321


@pytest.mark.parametrize(("name", "mode"), [("smilla.toml", 0o664), ("keys", 0o775), ("keys/a@x.test.pem", 0o664)])
def test_what_a_strange_group_may_write_is_a_warning_with_its_members(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int
) -> None:
    settings, path = config(place), place / name
    gid = grouped(monkeypatch, "daemon", "bin", "root")
    path.chmod(mode)
    assert found(place, settings) == []  # the group is root's
    os.chown(path, -1, pwd.getpwnam("nobody").pw_gid)
    assert found(place, settings) == []  # or the filter's own
    os.chown(path, -1, gid)
    (told,) = found(place, settings)
    assert (told.severity, told.mend) == ("warning", f"chmod g-w {path}")
    assert told.text == f"the group pals (bin, daemon) may write {path}"
    grouped(monkeypatch, "root", "nobody")
    assert found(place, settings) == []
    grouped(monkeypatch)
    (told,) = found(place, settings)
    assert told.text == f"the group pals (nobody is in it now) may write {path}"


def test_a_group_that_may_write_a_folder_on_the_way_counts_if_it_has_members(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = place / "way/inner"
    inner.mkdir(parents=True)
    settings = config(inner)
    os.chown(inner.parent, -1, grouped(monkeypatch))
    inner.parent.chmod(0o2775)
    assert found(inner, settings) == []
    grouped(monkeypatch, "daemon")
    assert told(inner, settings) == [("rights-too-wide", f"chmod g-w {inner.parent}")]
    inner.parent.chmod(0o3775)
    assert found(inner, settings) == []


def test_the_group_of_the_mta_may_write_where_its_socket_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(place)
    os.chown(place / "run", -1, grouped(monkeypatch, "daemon"))
    (place / "run").chmod(0o2770)
    assert [each.severity for each in found(place, settings)] == ["warning"]
    monkeypatch.setattr("smilla.adapters.as_user.group_of", lambda _: "postfix")
    assert found(place, settings) == []


def test_if_nothing_tells_who_runs_the_filter_a_folder_of_its_state_is_given_to_nobody(place: Path) -> None:
    settings = config(place)
    os.chown(place / "spool", pwd.getpwnam("daemon").pw_uid, -1)
    unknown = Service(User("daemon"), drops_rights=False, is_known=False)
    told = list(strangers.problems(settings, place / "smilla.toml", unknown))
    ours = [each for each in told if str(place / "spool") in each.text]
    assert [(each.severity, each.mend) for each in ours] == [("warning", TELL)]
    assert not any("daemon" in each.mend for each in told)
