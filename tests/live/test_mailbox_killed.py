"""smilla mailbox over IMAP, killed at every step and started again: Dovecot has every message once, changed."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.dovecot import Dovecot
from tests.lab.programs import require_servers
from tests.live.mailbox_user import LETTERS, User, check_done, check_whole, run_killed, wait_until_alone, without

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live

# Each step takes half a second, and there are 280: all of them with SMILLA_KILLS.
EVERY = 1 if os.environ.get("SMILLA_KILLS") else 9


@pytest.fixture(scope="module")
def dovecot(folder: Path) -> Iterator[Dovecot]:
    require_servers("dovecot")
    place = Path(tempfile.mkdtemp(prefix="mailbox-", dir=folder))
    place.chmod(0o755)
    with Dovecot(place / "dovecot") as running:
        yield running


@pytest.mark.parametrize(("keep", "missing"), [("", ""), ("Before", ""), ("", "MULTIAPPEND")])
def test_kill_at_every_step_loses_nothing_and_the_next_run_ends_it(
    dovecot: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, missing: str
) -> None:
    without(monkeypatch, missing)
    for at in itertools.count(1, EVERY):
        user = User(dovecot, tmp_path)
        user.put(*LETTERS)
        ended = run_killed(user, at, keep)
        wait_until_alone(user)
        check_whole(user, keep)
        user.work(keep)
        check_done(user, keep)
        if ended:
            break
    assert at > 100, "the last step was not reached"


def test_kill_of_the_run_that_resumes_loses_nothing_either(dovecot: Dovecot, tmp_path: Path) -> None:
    for first in range(20, 90, 8 * EVERY // 3 or 2):
        for second in range(10, 50, 8 * EVERY // 3 or 2):
            user = User(dovecot, tmp_path)
            user.put(*LETTERS)
            for at in (first, second):
                run_killed(user, at, "")
                wait_until_alone(user)
                check_whole(user)
            user.work()
            check_done(user)
