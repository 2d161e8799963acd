"""The lines and tables of contrib/postfix for the stage, in a running Postfix (tests/live/examples.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.live.examples import MIXED, Site, site
from tests.live.mta import letter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live
FORGED = b"X-Smilla-Stage: 0123456789abcdef0123456789abcdef 0123456789abcdef\r\n"
TO_BOTH = b"alice@r.test, n1@r.test"


@pytest.fixture(scope="module")
def stage(folder: Path, lab: DNSLab) -> Iterator[Site]:
    held = {"smtpd_sender_restrictions": "static:HOLD"}
    with site(folder, lab, {"out": "smilla", "held": "smilla", "in": ""}, {"held": held}) as running:
        yield running


def test_mixed_message_is_sealed_and_split(stage: Site) -> None:
    code, found, mark = stage.send("out", MIXED, letter(b"Message-ID: <1@s.test>", to=TO_BOTH))
    assert code == 250
    stage.has_split(mark)
    for event in ("sealed rcpt=alice@r.test", "sealed rcpt=n1@r.test"):
        stage.smilla.wait_for_log(f"{found} {event}")
    for event in ("encrypted rcpt=alice@r.test", "plain rcpt=n1@r.test"):
        assert "via=stage" in stage.smilla.wait_for_log(f"{found} {event}")


def test_held_message_that_is_requeued_comes_to_the_stage(stage: Site) -> None:
    _, found, mark = stage.send("held", MIXED, letter(b"Message-ID: <2@s.test>", to=TO_BOTH))
    stage.postfix.postsuper("-r", found)
    stage.has_split(mark)


@pytest.mark.parametrize("listener", ["out", "in"])
def test_forged_mark_is_refused_on_every_listener(stage: Site, listener: str) -> None:
    assert stage.send(listener, ["n1@r.test"], FORGED + letter())[0] == 550


@pytest.mark.parametrize("listener", ["out", "in"])
def test_attached_message_may_have_a_mark(stage: Site, listener: str) -> None:
    raw = (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n"
        + FORGED
        + b"Subject: y\r\n\r\nhi\r\n"
    )
    code, _, mark = stage.send(listener, ["n1@r.test"], raw)
    assert code == 250
    (mail,) = stage.delivered(mark)
    assert FORGED in mail.raw


def test_the_probe_finds_the_running_stage_and_nothing_amiss(stage: Site) -> None:
    done = stage.check()
    assert f"stage unix:{stage.smilla.folder}/stage.sock: answers" in done.stdout
    assert "seal keys" in done.stdout
    assert "postfix: has the lines for the stage" in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr
