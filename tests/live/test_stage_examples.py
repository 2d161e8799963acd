"""The lines and tables of contrib/postfix for the stage, in a running Postfix (tests/live/examples.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smilla.answer.reply import NOT_READY
from tests.lab.processes import wait_until
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
    with site(folder, lab, {"out": "smilla", "held": "smilla", "in": ""}, {"held": held}, is_default=True) as running:
        assert running.told(MIXED).strip() == NOT_READY.line
        running.smilla.wait_for_log("stage-not-ready detail=.nobody has looked yet")
        done = running.check("--postfix")
        assert done.returncode == 0, done.stdout + done.stderr
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


def test_what_is_found_missing_is_named_in_the_log_and_not_to_the_client_until_it_is_mended(stage: Site) -> None:
    table = stage.smilla.folder.parent / "smilla_stage"
    right = table.read_text()
    table.write_text(right.replace("FILTER", "WARN"))
    try:
        done = stage.check("--postfix")
        assert done.returncode == 1
        assert "nothing sends a sealed message to the stage" in done.stderr
        assert stage.told(MIXED).strip() == NOT_READY.line
        told = stage.smilla.wait_for_log(f"milter_header_checks = regexp:{stage.postfix.folder}/etc/smilla_stage")
        assert "stage-not-ready" in told
        assert "more: smilla config check --postfix)" in told
        assert stage.told(["alice@r.test"]).startswith("250")
    finally:
        table.write_text(right)
    done = stage.check("--postfix")
    assert (done.returncode, "was not told to read " in done.stderr) == (1, True)
    stage.postfix.reload()
    assert wait_until(lambda: stage.check("--postfix").returncode == 0, 60)
    _, _, mark = stage.send("out", MIXED, letter(b"Message-ID: <3@s.test>", to=TO_BOTH))
    stage.has_split(mark)


def test_what_is_changed_after_somebody_has_looked_closes_the_stage_until_postfix_has_read_it(stage: Site) -> None:
    path = stage.postfix.folder / "etc/main.cf"
    with path.open("a") as file:
        file.write("# a comment\n")
    assert stage.told(MIXED).strip() == NOT_READY.line
    # If smilla looks by itself just now, it finds more.
    stage.smilla.wait_for_log(f"stage-not-ready .*({path} was changed|was not told to read {path})")
    assert stage.check("--postfix").returncode == 1
    assert stage.told(MIXED).strip() == NOT_READY.line
    stage.smilla.wait_for_log(f"stage-not-ready .*was not told to read {path}")
    stage.postfix.reload()
    assert wait_until(lambda: stage.check("--postfix").returncode == 0, 60)
    assert stage.told(MIXED).startswith("250")


def test_what_was_mended_counts_without_anybody_looking(stage: Site) -> None:
    path = stage.postfix.folder / "etc/main.cf"
    unread = f"was not told to read {path}"
    told_before = stage.smilla.log.count(unread)
    with path.open("a") as file:
        file.write("# another comment\n")
    assert stage.told(MIXED).startswith("451 4.3.5")
    assert wait_until(
        lambda: stage.told(MIXED).startswith("451") and stage.smilla.log.count(unread) > told_before, 120
    ), stage.smilla.log[-3000:]
    ready = stage.smilla.log.count(" stage-ready")
    stage.postfix.reload()
    assert wait_until(lambda: stage.told(MIXED).startswith("250"), 60), stage.smilla.log
    assert wait_until(lambda: stage.smilla.log.count(" stage-ready") > ready, 60), stage.smilla.log[-3000:]


def test_the_probe_finds_the_running_stage_and_nothing_amiss(stage: Site) -> None:
    done = stage.check()
    assert f"stage unix:{stage.smilla.folder}/stage.sock: answers" in done.stdout
    assert "seal keys" in done.stdout
    assert "postfix: has the lines for the stage" in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr
