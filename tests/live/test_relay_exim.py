"""The relay behind Exim, with the lines of smilla-relay(8).

client -> Exim -> lmtp -> smilla relay -> Exim, another port -> sink
"""

from __future__ import annotations

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
from tests.lab.exim import Exim
from tests.lab.mail import inside
from tests.lab.processes import LOOPBACK, wait_until
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


def blocks() -> tuple[str, str, str]:
    """The lines of the guide for the main section, the routers and the transports."""
    [main, routers, transports] = [b.text for b in all_blocks() if b.what == "exim4.conf"]
    return main, routers, transports


@dataclass
class Site:
    """Exim, its relay and the sink behind both."""

    exim: Exim
    relay: Relay
    sink: Sink

    def send(self, to: Sequence[str], message: bytes = b"") -> tuple[Reply, bytes]:
        mark = b"X-Mark: %d-\r\n" % next(numbers)
        raw = mark + (message or letter(to=", ".join(to).encode()))
        with SMTPClient(self.exim.port) as client:
            return client.send("sender@s.test", to, raw)[-1], raw

    def so_far(self, sent: bytes) -> list[ReceivedMail]:
        mark = sent[: sent.index(b"\r\n")] + b"\r\n"
        return [mail for mail in self.sink.messages if mark in mail.raw]

    def copies(self, sent: bytes, count: int) -> Counter[tuple[str, bool]]:
        """Who got how many copies, and whether in plaintext, once nothing is queued any more."""
        assert wait_until(lambda: len(self.so_far(sent)) >= count, 60), self.exim.log[-3000:]
        self.exim.wait_until_empty()
        return Counter((address, CANARY in mail.raw) for mail in self.so_far(sent) for address in mail.rcpt_to)


@pytest.fixture(scope="module")
def site(folder: Path, lab: DNSLab) -> Iterator[Site]:
    require_servers("exim4")
    place = Path(tempfile.mkdtemp(prefix="exim-", dir=folder))
    place.chmod(0o755)
    with Sink() as sink:
        exim = Exim(place, sink.port)
        settings: dict[str, Any] = {"dns": {"timeout_s": 10}, "relay": {"protocol": "lmtp"}}
        relay = Relay(place / "relay", lab.resolver, exim.back, settings)
        exim.take_lines(*blocks(), relay.smtp_port)
        with relay.start(), exim:
            yield Site(exim, relay, sink)
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


def test_long_lines_and_dots_arrive_octet_for_octet(site: Site, keys: Keys) -> None:
    body = b"x" * 5000 + b"\r\n.\r\n..dots\r\n \r\n"
    _, sent = site.send([ALICE], b"From: s@s.test\r\nTo: alice@r.test\r\n\r\n" + body)
    site.copies(sent, 1)
    [mail] = site.so_far(sent)
    file = site.relay.folder / "copy.eml"
    file.write_bytes(mail.raw)
    assert keys.alice.open(file) == inside(sent)
    file.unlink()


def test_who_fails_waits_in_exim_and_the_others_have_their_copy_once(site: Site) -> None:
    _, sent = site.send([ALICE, "carol@bogus.test"])
    try:
        site.relay.wait_for_log(r"deferred rcpt=carol@bogus\.test .*reason=bogus")
        assert wait_until(lambda: len(site.so_far(sent)) == 1, 30)
        assert wait_until(lambda: site.exim.log.count("carol@bogus.test") >= 2, 30)  # tried again
        assert [(mail.rcpt_to, CANARY in mail.raw) for mail in site.so_far(sent)] == [((ALICE,), False)]
    finally:
        site.exim.drop_all()


def test_while_the_relay_is_down_the_message_waits_and_afterwards_comes_once(site: Site) -> None:
    site.relay.stop()
    try:
        _, sent = site.send([ALICE, N1])
        assert wait_until(lambda: "Connection refused" in site.exim.log, 30)
        assert site.so_far(sent) == []
    finally:
        site.relay.start()
    assert site.copies(sent, 2) == Counter({(ALICE, False): 1, (N1, True): 1})


def test_mail_for_this_machine_does_not_come_by_the_relay(site: Site) -> None:
    """The next router, in the place of a local one, has it."""
    _, sent = site.send(["alice@home.test"])
    assert site.copies(sent, 1) == Counter({("alice@home.test", True): 1})
    assert "rcpt=alice@home.test" not in site.relay.log


def test_client_s_address_is_that_of_this_machine(site: Site) -> None:
    _, sent = site.send([N1])
    site.copies(sent, 1)
    [mail] = site.so_far(sent)
    assert f"[{LOOPBACK}]".encode() in mail.raw_header
