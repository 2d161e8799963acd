"""smilla seal prune and smilla open against a queue of a real Postfix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters.seal_keys import SealKeys
from smilla.handover import seal
from smilla.message import parse
from tests.lab.client import SMTPClient
from tests.lab.postfix import Listener, Postfix, queue_id
from tests.lab.processes import free_port, wait_until
from tests.lab.programs import find_program, program_environment
from tests.unit.handover.test_seal import CANARY, FACTS, RAW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smilla.ports import SealKey

pytestmark = pytest.mark.live
DAY = 86400


class Office:
    """A Postfix that can deliver nothing, three seal keys, the oldest first, and the command line."""

    def __init__(self, place: Path, postfix: Postfix) -> None:
        self.place, self.postfix = place, postfix
        folder = place / "seal"
        folder.mkdir(0o700)
        now = time.time()
        ages = (200, 100, 1)
        self.keys = [SealKeys(str(folder), lambda at=now - age * DAY: at).make() for age in ages]  # type: ignore[misc]
        self.config = place / "smilla.toml"
        self.config.write_text(f'[stage]\nkeys = "{folder}"\n')

    def queue(self, key: SealKey) -> str:
        """Puts a message into the queue that this key has sealed; returns its queue ID."""
        message = parse(RAW).message
        rewrite = seal.rewrite(message, FACTS, key)
        assert rewrite.body is not None
        kept = [h.raw for i, h in enumerate(message.headers) if i not in rewrite.removed]
        added = [f"{name}: {value}\r\n".encode() for name, value in rewrite.added]
        with SMTPClient(self.postfix.listeners[0].port) as client:
            raw = b"".join([*kept, *added, b"\r\n", *rewrite.body()])
            found = queue_id(client.send("sam@s.test", ["bob@r.test"], raw)[-1].text)
        assert found is not None
        return found

    def smilla(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command, with Postfix's programs in its PATH."""
        program = find_program("postqueue")
        environment = program_environment(program)
        environment["PATH"] = f"{program.parent}:{environment.get('PATH', '')}"
        argv = [sys.executable, "-m", "smilla", *arguments, "--config", str(self.config)]
        return subprocess.run(argv, input=stdin, env=environment, capture_output=True, check=False)

    def prune(self) -> tuple[int, str, str]:
        done = self.smilla("seal", "prune", "--postfix-config", str(self.postfix.folder / "etc"))
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def postfix_does(self, name: str, *arguments: str) -> bytes:
        program = find_program(name)
        argv = [str(program), "-c", str(self.postfix.folder / "etc"), *arguments]
        return subprocess.run(argv, env=program_environment(program), check=True, capture_output=True).stdout

    @property
    def left(self) -> list[bool]:
        """Which of the keys are there."""
        return [(self.place / "seal" / f"{key.raw_id.hex()}.key").exists() for key in self.keys]


@pytest.fixture
def office(folder: Path) -> Iterator[Office]:
    place = Path(tempfile.mkdtemp(prefix="seal-keys-", dir=folder))
    place.chmod(0o755)
    (place / "postfix").mkdir()
    parameters = {"minimal_backoff_time": "300s", "maximal_backoff_time": "300s", "queue_run_delay": "300s"}
    try:
        with Postfix(place / "postfix", free_port(), [Listener()], parameters) as postfix:
            yield Office(place, postfix)
    finally:
        shutil.rmtree(place)


def test_prune_keeps_the_keys_of_deferred_held_and_requeued_messages(office: Office) -> None:
    held, deferred = office.queue(office.keys[0]), office.queue(office.keys[1])
    office.postfix_does("postsuper", "-h", held)
    assert office.prune()[0] == 0
    assert office.left == [True, True, True]
    office.postfix_does("postsuper", "-r", deferred)
    office.postfix_does("postsuper", "-H", held)
    assert office.prune()[0] == 0
    assert office.left == [True, True, True]
    office.postfix_does("postsuper", "-d", held)
    # pickup may give the requeued one its new name while the queue is read, and then it counts twice.
    assert wait_until(lambda: ["maildrop" in one.parts for one in office.postfix.queued()] == [False], 60)
    code, out, err = office.prune()
    assert code == 0
    assert err == f"- seal-key-removed key={office.keys[0].raw_id.hex()} folder={office.place}/seal\n"
    assert "removed" in out and "kept: 1 queued message needs it" in out
    assert office.left == [False, True, True]


def test_prune_reads_the_queue_of_a_postfix_that_is_stopped(office: Office) -> None:
    office.queue(office.keys[1])
    assert wait_until(lambda: any(path.parents[1].name == "deferred" for path in office.postfix.queued()), 60)
    office.postfix.stop()
    assert office.prune()[0] == 0
    assert office.left == [False, True, True]


def test_prune_removes_nothing_where_postfix_cannot_be_asked(office: Office) -> None:
    corrupt = office.postfix.queue / "corrupt" / "4XyZ"
    corrupt.write_bytes(b"rubbish")
    code, out, err = office.prune()
    assert (code, out) == (75, "")
    assert f"{corrupt}: nobody can tell whether this message is sealed; move it away" in err
    corrupt.unlink()
    done = office.smilla("seal", "prune", "--postfix-config", str(office.place / "nowhere"))
    assert (done.returncode, done.stdout) == (75, b"")
    assert b"error: post" in done.stderr
    assert office.left == [True, True, True]


def test_prune_removes_nothing_without_postfix(office: Office) -> None:
    argv = [sys.executable, "-m", "smilla", "seal", "prune", "--config", str(office.config)]
    if shutil.which("postqueue"):
        pytest.skip("this machine has a Postfix of its own")
    done = subprocess.run(argv, capture_output=True, check=False, env={**os.environ, "PATH": "/nonexistent"})
    assert done.returncode == 75
    assert b"is not installed here" in done.stderr
    assert office.left == [True, True, True]


def test_what_postcat_prints_of_the_queue_is_opened(office: Office) -> None:
    found = office.queue(office.keys[0])
    printed = office.postfix_does("postcat", "-bhq", found)
    assert CANARY not in printed
    done = office.smilla("open", stdin=printed)
    assert done.returncode == 0, done.stderr
    assert done.stdout == RAW
