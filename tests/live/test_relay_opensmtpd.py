"""The relay behind OpenSMTPD, with the lines of smilla-relay(8).

client -> OpenSMTPD -> smtp -> smilla relay -> OpenSMTPD, another port -> sink
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.documents import all_blocks
from tests.lab.mail import inside
from tests.lab.opensmtpd import OpenSMTPD
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.live.mta import CANARY, letter, numbers

if TYPE_CHECKING:
    from tests.lab.client import Reply
    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

ALICE, BOB, N1 = "alice@r.test", "bob@r.test", "n1@r.test"


@dataclass
class Site:
    """OpenSMTPD, its relay and the sink behind both."""

    mta: OpenSMTPD
    relay: Relay
    sink: Sink

    def send(self, to: Sequence[str], message: bytes = b"") -> tuple[Reply, bytes]:
        mark = b"X-Mark: %d-\r\n" % next(numbers)
        raw = mark + (message or letter(b"Date: Thu, 26 Nov 2026 08:00:00 +0000", to=", ".join(to).encode()))
        with SMTPClient(self.mta.port) as client:
            return client.send("sender@s.test", to, raw, mail_parameters="")[-1], raw

    def so_far(self, sent: bytes) -> list[ReceivedMail]:
        mark = sent[: sent.index(b"\r\n")] + b"\r\n"
        return [mail for mail in self.sink.messages if mark in mail.raw]

    def copies(self, sent: bytes, count: int) -> Counter[tuple[str, bool]]:
        """Who got how many copies, and whether in plaintext, once nothing is queued any more."""
        assert wait_until(lambda: len(self.so_far(sent)) >= count, 60), self.mta.log[-3000:]
        self.mta.wait_until_empty()
        return Counter((address, CANARY in mail.raw) for mail in self.so_far(sent) for address in mail.rcpt_to)


@pytest.fixture(scope="module")
def site(folder: Path, lab: DNSLab) -> Iterator[Site]:
    require_servers("smtpd", "smtpctl")
    place = Path(tempfile.mkdtemp(prefix="opensmtpd-", dir=folder))
    place.chmod(0o755)
    [lines] = [block.text for block in all_blocks() if block.what == "smtpd.conf"]
    with Sink() as sink:
        mta = OpenSMTPD(place, sink.port)
        settings: dict[str, Any] = {"dns": {"timeout_s": 10}, "relay": {"protocol": "smtp"}}
        relay = Relay(place / "relay", lab.resolver, mta.back, settings)
        mta.take_lines(lines, relay.smtp_port)
        with relay.start(), mta:
            yield Site(mta, relay, sink)
        assert CANARY not in relay.log.encode()
        assert "internal-error" not in relay.log
    shutil.rmtree(place)


def test_each_recipient_gets_one_copy_of_their_own_form(site: Site, keys: Keys) -> None:
    reply, sent = site.send([ALICE, BOB, N1])
    assert reply.code == 250
    assert site.copies(sent, 3) == Counter({(ALICE, False): 1, (BOB, False): 1, (N1, True): 1})
    for mail in site.so_far(sent):
        file = site.relay.folder / "copy.eml"
        file.write_bytes(mail.raw)
        if mail.rcpt_to == (ALICE,):
            assert keys.alice.open(file) == inside(sent)
        elif mail.rcpt_to == (BOB,):
            assert keys.bob.open(file) == inside(sent)
        else:
            assert mail.raw_body == sent.partition(b"\r\n\r\n")[2]
        file.unlink()


def test_who_fails_holds_up_the_message_in_the_queue_and_nothing_leaves(site: Site) -> None:
    _, sent = site.send([ALICE, "carol@bogus.test"])
    site.relay.wait_for_log(r"deferred rcpt=carol@bogus\.test .*reason=bogus")

    def was_tried_again() -> bool:
        site.mta.control("schedule", "all")
        return site.relay.log.count("deferred rcpt=carol@bogus.test") >= 2

    try:
        assert wait_until(was_tried_again, 30, step_s=0.5)
        assert site.so_far(sent) == []
    finally:
        for path in site.mta.queued():
            if "." not in path.name and path.name != "message":
                site.mta.control("remove", path.name)
    site.mta.wait_until_empty()


def test_while_the_relay_is_down_the_message_waits_and_afterwards_comes_once(site: Site) -> None:
    site.relay.stop()
    try:
        before = len(site.mta.log)
        _, sent = site.send([ALICE, N1])
        assert wait_until(lambda: re.search("Connection refused|TempFail", site.mta.log[before:]) is not None, 30)
        assert site.so_far(sent) == []
    finally:
        site.relay.start()

    def has_come() -> bool:
        site.mta.control("schedule", "all")
        site.mta.control("resume", "route", "1")
        return len(site.so_far(sent)) == 2

    assert wait_until(has_come, 120, step_s=1), site.mta.log[-3000:]
    assert site.copies(sent, 2) == Counter({(ALICE, False): 1, (N1, True): 1})
