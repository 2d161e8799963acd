"""A content_filter beside the stage, with the lines of contrib/postfix: FILTER wins over it, so that a sealed message
skips it, and the copies have to meet it on the listener of [reinject]; so has mail from sendmail(1) on its own.

client, sendmail(1) -> smilla, which seals -> queue -> the stage -> smtpd "plain" -> queue -> "scan" -> queue -> sink
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import wait_until
from tests.live.examples import MIXED, Site, site
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live

ALICE, N1 = ["alice@r.test"], ["n1@r.test"]
_SCAN = {"content_filter": "relay:[127.0.0.1]:{scan}"}
_SEEN = b"\r\nX-Suspicious: yes\r\n"  # the scanner adds it to what asks for it
_HELD = {"smtpd_sender_restrictions": "check_sender_access inline:{held@s.test=HOLD}"}


@contextlib.contextmanager
def started(folder: Path, lab: DNSLab, own: dict[str, str]) -> Iterator[Site]:
    """main.cf has the content_filter, and the two listeners of the example have ``own``."""
    options = {"out": _HELD, "scan": {"content_filter": ""}, "plain": own, "sendmail": {**_HELD, **own}}
    with site(folder, lab, {"out": "smilla", "scan": "scanner"}, options, _SCAN) as running:
        yield running


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab) -> Iterator[Site]:
    with started(folder, lab, _SCAN) as running:
        yield running


def send(mta: Site, way: str, to: list[str], sender: str = "sender@s.test") -> bytes:
    """By SMTP ("out") or sendmail(1); the mark of the message."""
    message = letter(b"X-Scan: suspicious", to=", ".join(to).encode())
    if way == "out":
        code, _, mark = mta.send(way, to, message, sender)
        assert code == 250
        return mark
    mark, raw = mta.marked(message)
    mta.postfix.sendmail(raw, sender, *to)
    return mark


def seen(mta: Site, mark: bytes) -> list[tuple[str, bool, bool]]:
    """Who got a copy, in plaintext, and past the content filter."""
    found = mta.delivered(mark)
    return [(address, CANARY in mail.raw, _SEEN in mail.raw) for mail in found for address in mail.rcpt_to]


@pytest.mark.parametrize("way", ["out", "sendmail"])
def test_content_filter_sees_every_message_and_each_copy(mta: Site, way: str) -> None:
    assert seen(mta, send(mta, way, ALICE)) == [("alice@r.test", False, True)]
    assert seen(mta, send(mta, way, N1)) == [("n1@r.test", True, True)]
    assert seen(mta, send(mta, way, MIXED)) == [("alice@r.test", False, True), ("n1@r.test", True, True)]


@pytest.mark.parametrize("way", ["out", "sendmail"])
@pytest.mark.parametrize("option", ["-H", "-r"])
def test_copies_of_what_was_held_meet_it_too_requeued_or_not(mta: Site, way: str, option: str) -> None:
    mark = send(mta, way, MIXED, "held@s.test")
    hold = mta.postfix.queue / "hold"
    assert wait_until(lambda: any(hold.iterdir()), 60)
    (path,) = hold.iterdir()
    if way == "sendmail":  # until it is written
        assert wait_until(lambda: f"queued as {path.name})" in mta.postfix.log, 60)
    assert CANARY not in path.read_bytes()
    mta.postfix.postsuper(option, path.name)
    assert seen(mta, mark) == [("alice@r.test", False, True), ("n1@r.test", True, True)]


def test_the_probe_has_nothing_to_say_of_it(mta: Site) -> None:
    assert "content_filter" not in mta.check().stderr


def test_without_it_on_the_two_listeners_it_is_skipped_and_the_probe_says_so(folder: Path, lab: DNSLab) -> None:
    with started(folder, lab, {}) as mta:
        skipped = [("alice@r.test", False, False), ("n1@r.test", True, False)]
        assert seen(mta, send(mta, "out", N1)) == [("n1@r.test", True, True)]
        assert seen(mta, send(mta, "out", MIXED)) == skipped
        assert seen(mta, send(mta, "sendmail", N1)) == skipped[1:]
        assert seen(mta, send(mta, "sendmail", MIXED)) == skipped
        told = re.findall(r"(?m)^warning: postfix: .* skips? content_filter = .*; on \S+:(\d+), -o", mta.check().stderr)
        assert told == [str(mta.listeners[name].port) for name in ("plain", "sendmail")]
