"""The stage in the life of the filter: there as long as there are seal keys, with a new key when the old one ages."""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from smilla.adapters import smtp
from smilla.adapters.seal_keys import SealKeys
from tests.lab.processes import session_members, wait_until
from tests.milter.material import directory_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Settings, Smilla
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

DAY = 86400


def settings(keys: Keys, mixed: str, **stage: Any) -> Settings:
    return directory_settings(keys, policy={"no_key": "plain", "mixed": mixed}, stage=stage)


def listens(smilla: Smilla) -> bool:
    path = smilla.folder / "stage.sock"
    return path.is_socket() and smtp.stage_problem(f"unix:{path}", 20) == ""


def seal_keys(smilla: Smilla) -> list[Path]:
    return sorted((smilla.folder / "seal").glob("*.key"))


def aged(key: Path, days: int) -> None:
    """The key says that it was made so long ago."""
    text = key.read_text()
    changed = re.sub("made at [0-9]+", f"made at {int(time.time()) - days * DAY}", text)
    owner = key.stat()
    # The key must never be missing: a filter that has just started may look, and would make a new one.
    beside = key.with_suffix(".aged")
    beside.write_text(changed)
    beside.chmod(stat.S_IMODE(owner.st_mode))
    os.chown(beside, owner.st_uid, owner.st_gid)
    beside.rename(key)


@pytest.mark.parametrize("mixed", ["defer", "refuse", "reinject"])
def test_where_nothing_was_ever_sealed_nothing_is_made_and_nothing_listens(
    start: Starter, keys: Keys, mixed: str
) -> None:
    smilla = start(settings(keys, mixed))
    assert not (smilla.folder / "seal").exists()
    assert not (smilla.folder / "stage.sock").exists()


@pytest.mark.parametrize("mixed", ["defer", "refuse", "reinject"])
def test_stage_goes_on_after_a_reload_and_after_a_restart(start: Starter, keys: Keys, mixed: str) -> None:
    smilla = start(settings(keys, "stage"))
    assert listens(smilla)
    (key,) = seal_keys(smilla)
    smilla.write_config(settings(keys, mixed))
    smilla.reload()
    assert listens(smilla)
    smilla.stop()
    aged(key, 400)
    smilla.start()
    assert listens(smilla)
    assert seal_keys(smilla) == [key]  # nothing is sealed, so no new one is made
    smilla.stop()
    key.unlink()
    smilla.start()
    assert not (smilla.folder / "stage.sock").exists()
    assert seal_keys(smilla) == []


def test_new_key_is_made_by_age_while_the_filter_runs(start: Starter, keys: Keys) -> None:
    smilla = start(settings(keys, "stage", key_days=30))
    (first,) = seal_keys(smilla)
    assert smilla.log.count("seal-key-made") == 1
    aged(first, 29)
    smilla.reload()
    assert seal_keys(smilla) == [first]
    aged(first, 31)
    # Whatever wakes the parent will do, such as a worker's end; it need not be a reload.
    os.kill(min(set(session_members(smilla.child.pid)) - {smilla.child.pid}), signal.SIGKILL)
    assert wait_until(lambda: len(seal_keys(smilla)) == 2, 20)
    store = SealKeys(str(smilla.folder / "seal"))
    made = store.current().raw_id.hex()
    assert made != first.stem
    smilla.wait_for_log(f"- seal-key-made key={made} folder={smilla.folder}/seal$")
    assert {path.stat().st_uid for path in seal_keys(smilla)} == {(smilla.folder / "seal").stat().st_uid}


def test_no_new_key_can_be_made_and_the_filter_goes_on(start: Starter, keys: Keys) -> None:
    smilla = start(settings(keys, "stage"))
    (key,) = seal_keys(smilla)
    key.write_text("rubbish")
    (smilla.folder / "seal" / "x").touch()  # so that the folder has changed
    smilla.reload()
    smilla.wait_for_log("- seal-key-missing detail=.*is no seal key")
    assert smilla.child.running
    assert listens(smilla)


def test_stage_that_cannot_listen_holds_up_nothing_where_nothing_is_sealed(start: Starter, keys: Keys) -> None:
    smilla = start(settings(keys, "stage"))
    smilla.stop()
    socket = smilla.folder / "stage.sock"
    socket.write_text("something else")
    with pytest.raises(Exception, match="is not a socket"):
        smilla.start()
    smilla.write_config(settings(keys, "defer"))
    smilla.start()
    smilla.wait_for_log("- stage-closed detail=.*is not a socket")
    assert smilla.socket.is_socket()
