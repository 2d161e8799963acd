"""The database of [store] url and its files; a real server is in tests/live/test_store_trouble.py."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from smilla.adapters import as_user
from smilla.adapters.as_user import User
from smilla.config import Config, parse
from smilla.doctor import idle, rights, store_check, strangers
from smilla.doctor.rights import Service

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


ME = Service(User(as_user.name_of(os.geteuid())), drops_rights=False)
NOBODY = Service(User("nobody"), drops_rights=False)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="smilla-store-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def config(place: Path, more: str = "") -> Config:
    for name in ("tmp", "run"):
        (place / name).mkdir()
        os.chown(place / name, pwd.getpwnam("nobody").pw_uid, -1)
    for name in ("ca.pem", "pass"):
        (place / name).touch(mode=0o600)
    verified = f"sslmode=verify-full&sslrootcert={place}/ca.pem&passfile={place}/pass"
    return parse(
        f'[milter]\nsocket = "unix:{place}/run/s.sock"\n[spool]\nfolder = "{place}/tmp"\n'
        f'[store]\nurl = "postgresql://db.example.org/mail?{verified}"\n{more}'
    )


def test_database_that_does_not_answer_is_an_error_with_the_place_to_read(tmp_path: Path) -> None:
    settings = parse(f'[store]\nurl = "postgresql:///mail?host={tmp_path}"\n')
    (found,) = store_check.problems(settings, ME)
    assert (found.kind, found.severity) == ("store", "error")
    assert found.line.startswith(f"store postgresql mail at {tmp_path}: does not serve {ME.user.name}: ")
    assert "smilla-store(7)" in found.mend
    assert list(store_check.problems(Config(), ME)) == []


@needs_root
def test_files_of_the_url_must_be_readable_and_the_password_is_given_to_the_user_alone(place: Path) -> None:
    settings = config(place)
    found = [each for each in rights.problems(settings, place / "smilla.toml", NOBODY) if each.severity]
    assert {each.mend for each in found if each.subject.startswith("file ")} == {
        f"chgrp nogroup {place}/ca.pem && chmod g+r {place}/ca.pem",
        f"chown nobody {place}/pass",
    }


@needs_root
def test_who_may_write_the_authority_is_named(place: Path) -> None:
    settings = config(place)
    (place / "ca.pem").chmod(0o666)
    told = {each.subject: each for each in strangers.problems(settings, place / "smilla.toml", NOBODY)}
    found = told[f"file {place}/ca.pem"]
    assert "which database smilla believes" in found.why


@needs_root
def test_folder_of_learned_keys_does_not_matter_with_a_database(place: Path) -> None:
    spool = place / "spool"
    spool.mkdir(mode=0o700)
    learned = f'[reinject]\nspool = "{spool}"\n[keys]\nsources = ["smimea", "learned"]\n[policy]\nmixed = "defer"\n'
    settings = config(place, learned)

    def subjects(options: Config) -> list[str]:
        return [each.subject for each in rights.problems(options, place / "smilla.toml", NOBODY) if each.severity]

    assert f"learned keys {spool}" not in subjects(settings)
    assert f"learned keys {spool}" in subjects(replace(settings, store=Config().store))


@pytest.mark.parametrize(
    ("more", "is_told"),
    [
        ("", True),
        ('[keys]\nsources = ["smimea", "learned"]\n', False),
        ('[policy]\nno_key = "secure-hop"\n', False),
        ("[hop]\npolicy_server = true\n", False),
    ],
)
def test_database_that_nothing_is_kept_in_is_told(more: str, *, is_told: bool) -> None:
    settings = parse(f'[store]\nurl = "postgresql:///mail?host=/run/postgresql"\n{more}')
    assert any("[store] url" in each.text for each in idle.problems(settings)) is is_told
