from __future__ import annotations

import os
import pwd
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smilla.adapters.as_user import User, Wish, answer, denials, denied_by_modes, files_in, name_of
from smilla.errors import SmillaError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = User("nobody")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="smilla-user-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
def test_the_kernel_says_what_another_user_may_do(place: Path) -> None:
    (place / "mine").touch(0o600)
    (place / "all").touch(0o644)
    wishes = [Wish(f"{place}/{name}", mode) for name in ("mine", "all", "none") for mode in (os.R_OK, os.W_OK)]
    mine, everybodys = f"{place}/mine", f"{place}/all"
    assert denials(NOBODY, wishes) == [mine, mine, "", everybodys, "", ""]
    assert denials(User("root"), wishes) == [""] * 6


@needs_root
def test_a_folder_on_the_way_is_named_and_so_is_one_behind_a_link(place: Path) -> None:
    (place / "shut/in").mkdir(parents=True)
    (place / "shut/in/file").touch()
    (place / "shut").chmod(0o700)
    (place / "link").symlink_to(place / "shut/in/file")
    for path in ("shut/in/file", "link"):
        assert denials(NOBODY, [Wish(f"{place}/{path}", os.R_OK)]) == [f"{place}/shut"]


@needs_root
def test_groups_that_the_service_manager_adds_count(place: Path) -> None:
    (place / "file").touch()
    (place / "file").chmod(0o640)
    os.chown(place / "file", 0, 4242)
    wish = [Wish(f"{place}/file", os.R_OK)]
    assert denials(NOBODY, wish) == [f"{place}/file"]
    assert denials(User("nobody", (4242,)), wish) == [""]


@needs_root
def test_who_cannot_become_that_user_says_so(place: Path) -> None:
    with pytest.raises(SmillaError, match="run it as root or as no-such-user"):
        denials(User("no-such-user"), [Wish(str(place), os.R_OK)])


def test_names_of_users_and_files(place: Path) -> None:
    assert name_of(os.geteuid()) == pwd.getpwuid(os.geteuid()).pw_name
    assert name_of(4242424) == "4242424"
    (place / "folder").mkdir()
    for name in ("b", "a", "c"):
        (place / name).touch()
    assert files_in(str(place), 2) == [f"{place}/a", f"{place}/b"]
    assert files_in("/nonexistent", 2) == []


@needs_root
def test_owner_group_and_mode_say_the_same_as_the_kernel(place: Path) -> None:
    (place / "in").mkdir()
    path = place / "in/file"
    path.touch()
    entry = pwd.getpwnam("nobody")
    for owner, group in ((entry.pw_uid, 0), (0, entry.pw_gid), (0, 0), (entry.pw_uid, entry.pw_gid)):
        for folder_mode in (0o700, 0o050, 0o001, 0o010, 0o755, 0o070):
            for mode in (0o600, 0o060, 0o006, 0o606, 0o066, 0o000):
                for one, bits in ((place / "in", folder_mode), (path, mode)):
                    os.chown(one, owner, group)
                    one.chmod(bits)
                for wanted in (os.R_OK, os.W_OK):
                    wish = Wish(str(path), wanted)
                    assert [denied_by_modes(NOBODY, wish)] == denials(NOBODY, [wish]), (owner, folder_mode, mode)


@needs_root
def test_what_owner_group_and_mode_do_not_say_is_not_guessed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert denied_by_modes(NOBODY, Wish(f"{place}/none", os.W_OK)) is None
    (place / "file").touch(0o600)
    monkeypatch.setattr("os.listxattr", lambda _: ["system.posix_acl_access"])
    assert denied_by_modes(NOBODY, Wish(f"{place}/file", os.W_OK)) is None


@needs_root
def test_another_user_answers_for_itself(place: Path) -> None:
    assert answer(NOBODY, lambda: [name_of(os.geteuid()), "a" * 200_000], 60) == ["nobody", "a" * 200_000]
    assert answer(User("root"), lambda: name_of(os.geteuid()), 60) == "root"


@needs_root
def test_an_answer_that_does_not_come_in_time_or_fails_is_said_and_nothing_is_left_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork, children = os.fork, list[int]()

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    with pytest.raises(SmillaError, match="nothing was heard within 1 s"):
        answer(NOBODY, lambda: time.sleep(600), 1)
    (child,) = children
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    with pytest.raises(SmillaError, match="cannot become nobody, or failed"):
        answer(NOBODY, lambda: 1 // 0, 60)
    with pytest.raises(SmillaError, match="cannot become no-such-user"):
        answer(User("no-such-user"), lambda: 1, 60)
