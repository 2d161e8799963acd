"""The way back from the stage: what was sealed before is served, whatever [policy] mixed says now.

client -> smtpd -> smilla: sealed -> queue (held) ... mixed = "defer" ... -> lmtp -> smilla: split
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.processes import wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.live.mta import CANARY, Mta, running
from tests.live.test_stage import BOTH, SPLIT, forms, letter, queued_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_STAGE: dict[str, Any] = {"policy": {"mixed": "stage"}, "dns": {"timeout_s": 10}}
_HELD = "check_sender_access inline:{held@s.test=HOLD}, permit"


@pytest.fixture
def mta(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    options = {"outbound": {"smtpd_sender_restrictions": _HELD}}
    filters = {"outbound": _STAGE}
    with running(folder, "stage-back", lambda place: Chain(place, lab.resolver, filters, options=options)) as mta:
        yield mta


def held(mta: Mta) -> tuple[str, bytes]:
    """The queue ID of a sealed message that is on hold, and what was sent."""
    reply, sent = mta.send(letter(), BOTH, sender="held@s.test")
    name = queued_as(mta, reply)
    assert wait_until((mta.chain.postfix.queue / "hold" / name).exists, 60)
    return name, sent


@pytest.mark.parametrize("mixed", ["defer", "reinject"])
def test_sealed_mail_is_served_after_a_reload_and_after_a_restart_and_nothing_new_is_sealed(
    mta: Mta, mixed: str
) -> None:
    smilla = mta.chain.filters["outbound"]
    (first, first_sent), (second, second_sent) = held(mta), held(mta)
    smilla.write_config({**smilla.settings, "policy": {"mixed": mixed}})
    smilla.reload()
    mta.chain.postfix.release(first)
    assert wait_until(lambda: not any(path.name == first for path in mta.chain.postfix.queued()), 60)
    smilla.stop()
    smilla.start()
    mta.chain.postfix.release(second)
    assert forms(mta, first_sent) == forms(mta, second_sent) == SPLIT
    before = smilla.log.count(" sealed rcpt=")
    reply, sent = mta.send(letter(), BOTH)
    assert reply.code == (250 if mixed == "reinject" else 451), reply
    assert forms(mta, sent) == (SPLIT if mixed == "reinject" else {})
    assert smilla.log.count(" sealed rcpt=") == before
    assert not mta.queued_with(CANARY)


def smilla_says(mta: Mta, *arguments: str) -> str:
    """What a command prints, with Postfix's programs in its PATH."""
    program = find_program("postqueue")
    environment = program_environment(program)
    environment["PATH"] = f"{program.parent}:{environment.get('PATH', '')}"
    argv = [sys.executable, "-m", "smilla", *arguments, "--config", str(mta.chain.filters["outbound"].config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_way_that_the_manual_tells_ends_without_a_stage(mta: Mta) -> None:
    smilla, etc = mta.chain.filters["outbound"], str(mta.chain.postfix.folder / "etc")
    name, sent = held(mta)
    smilla.write_config({**smilla.settings, "policy": {"mixed": "defer"}})
    smilla.reload()
    told = smilla_says(mta, "seal", "prune", "--postfix-config", etc)
    assert told.endswith("  kept: the newest; 1 queued message needs it\n")
    mta.chain.postfix.release(name)
    assert forms(mta, sent) == SPLIT
    told = smilla_says(mta, "seal", "prune", "--postfix-config", etc)
    assert told.endswith("  kept: the newest; no queued message needs it\n")
    (smilla.folder / "seal").rename(smilla.folder / "backup")
    smilla.stop()
    smilla.start()
    assert not (smilla.folder / "stage.sock").exists()
    assert not (smilla.folder / "seal").exists()
    assert mta.send(letter(), BOTH)[0].code == 451


def test_journal_has_nothing_unfinished_once_all_copies_are_out(mta: Mta) -> None:
    for _ in range(3):
        reply, sent = mta.send(letter(), BOTH)
        queued_as(mta, reply)
        assert forms(mta, sent) == SPLIT
    assert smilla_says(mta, "journal").startswith("unfinished: 0\nfinished and remembered: 3\n")
