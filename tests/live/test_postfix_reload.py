"""smilla config check --postfix beside a Postfix that runs: what it has not read yet does not count.

The check's own part in that (smilla/doctor/postfix_read.py), with the processes of a real master.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters import stamps
from smilla.adapters.postfix import File
from smilla.adapters.postfix_running import processes
from smilla.doctor import postfix_read
from tests.lab.client import SMTPClient
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import free_port, wait_until
from tests.lab.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live


@pytest.fixture
def postfix(folder: Path) -> Iterator[Postfix]:
    place = Path(tempfile.mkdtemp(prefix="reload-", dir=folder))
    place.chmod(0o755)
    try:
        with Postfix(place, free_port(), [Listener()]) as running:
            yield running
    finally:
        shutil.rmtree(place)


def found(postfix: Postfix, wait_s: float = 2) -> list[str]:
    """The findings about main.cf."""
    path = str(postfix.folder / "etc/main.cf")
    files = {path: File(stamps.stamp(path), stamps.changed_at(path))}
    told = postfix_read.problems(str(postfix.queue), "/x", files, wait_s=wait_s)
    return [f"{each.severity}: {each.text}" for each in told]


def test_what_was_written_after_the_start_counts_from_a_reload_on(postfix: Postfix) -> None:
    assert found(postfix, 60) == []
    time.sleep(0.05)
    (postfix.folder / "etc/main.cf").touch()
    (told,) = found(postfix)
    assert told.startswith("error: was not told to read ")
    postfix.reload()
    assert found(postfix, 60) == []
    postfix.stop()
    assert found(postfix) == ["hint: Postfix does not run; it reads its files as it starts"]


def test_a_session_that_a_reload_left_alone_is_named_until_it_ends(postfix: Postfix) -> None:
    with SMTPClient(postfix.listeners[0].port):
        time.sleep(0.05)
        (postfix.folder / "etc/main.cf").touch()
        postfix.reload()
        assert wait_until(lambda: [told[:22] for told in found(postfix)] == ["error: smtpd (process "], 60)
    assert found(postfix, 60) == []


def test_a_session_that_began_between_a_change_and_the_reload_is_named_too(postfix: Postfix) -> None:
    time.sleep(1)  # or else this is still the start
    (postfix.folder / "etc/main.cf").touch()
    time.sleep(0.05)
    with SMTPClient(postfix.listeners[0].port):
        postfix.reload()
        assert wait_until(lambda: [told[:22] for told in found(postfix)] == ["error: smtpd (process "], 60)


def test_smillas_own_user_sees_the_processes_too(postfix: Postfix) -> None:
    """The systemd unit's ExecStartPre does not run as root."""
    assert wait_until(lambda: any(each.name == "qmgr" for each in processes(str(postfix.queue)) or ()), 60)
    nobody = pwd.getpwnam("nobody")
    code = "import sys; from smilla.adapters.postfix_running import processes; print(len(processes(sys.argv[1])))"
    told: list[tuple[str, str]] = []

    def sees_all() -> bool:
        done = subprocess.run(
            [sys.executable, "-c", code, str(postfix.queue)],
            cwd=REPOSITORY,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        expected = processes(str(postfix.queue))
        assert expected
        told.append((done.stdout.strip(), done.stderr))
        return told[-1] == (str(len(expected)), "")

    assert wait_until(sees_all, 60), told  # master may have started another one in between
