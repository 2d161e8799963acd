"""The relay as Postfix's content filter, with the lines of smilla-relay(8).

client -> smtpd, or sendmail(1) -> cleanup -> queue -> lmtp or smtp -> smilla relay -> smtpd -> queue -> sink
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
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
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, wait_until
from tests.lab.programs import find_program, program_environment
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.live.conftest import cannot
from tests.live.mta import CANARY, letter, numbers

if TYPE_CHECKING:
    from tests.lab.client import Reply
    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

ALICE, BOB, N1 = "alice@r.test", "bob@r.test", "n1@r.test"
ALL = [ALICE, BOB, N1]


def lines_of(service: str) -> dict[str, str]:
    """The -o lines of a service in the manual."""
    [text] = [b.text for b in all_blocks() if b.page == "smilla-relay.8" and b.what == "master.cf"]
    found = re.search(rf"^{service} .*\n((?: +-o .*\n)+)", text, re.MULTILINE)
    assert found
    pairs = (line.split("-o ", 1)[1].partition("=") for line in found[1].splitlines())
    return {name: value for name, _, value in pairs}


@dataclass
class Site:
    """Postfix, its relay and the sink behind both."""

    postfix: Postfix
    relay: Relay
    sink: Sink

    def send(self, to: Sequence[str], message: bytes = b"", **options: Any) -> tuple[Reply, bytes]:
        mark = b"X-Mark: %d-\r\n" % next(numbers)
        raw = mark + (message or letter(to=", ".join(to).encode()))
        with SMTPClient(self.postfix.listeners[0].port) as client:
            return client.send("sender@s.test", to, raw, **options)[-1], raw

    def so_far(self, sent: bytes) -> list[ReceivedMail]:
        mark = sent[: sent.index(b"\r\n")] + b"\r\n"
        return [mail for mail in self.sink.messages if mark in mail.raw]

    def delivered(self, sent: bytes) -> list[ReceivedMail]:
        """What came of a message, once nothing is queued any more."""
        self.postfix.wait_until_empty()
        return self.so_far(sent)

    def copies(self, sent: bytes) -> Counter[tuple[str, bool]]:
        """Who got how many copies, and whether in plaintext."""
        return Counter((address, CANARY in mail.raw) for mail in self.delivered(sent) for address in mail.rcpt_to)


SPLIT = Counter({(ALICE, False): 1, (BOB, False): 1, (N1, True): 1})


@pytest.fixture(scope="module", params=["lmtp", "smtp"])
def site(request: pytest.FixtureRequest, folder: Path, lab: DNSLab) -> Iterator[Site]:
    protocol = str(request.param)
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="relay-", dir=folder))
    place.chmod(0o755)
    again = Listener(options=lines_of(f"{LOOPBACK}:10025"))
    settings: dict[str, Any] = {"dns": {"timeout_s": 10}, "relay": {"protocol": protocol}}
    relay = Relay(place / "relay", lab.resolver, again.port, settings)
    (place / "postfix").mkdir()
    with Sink() as sink, relay.start():
        hop = f"inet:{LOOPBACK}" if protocol == "lmtp" else f"[{LOOPBACK}]"
        lines = {"content_filter": f"smilla-relay:{hop}:{relay.smtp_port}"}
        lines["export_environment"] = "MAIL_CONFIG LD_LIBRARY_PATH"  # to postdrop, where it is unpacked only
        postfix = Postfix(place / "postfix", sink.port, [Listener(), again], lines)
        options = {name.replace("lmtp", protocol): value for name, value in lines_of("smilla-relay").items()}
        postfix.services = f"smilla-relay unix - - n - 20 {protocol}\n"
        postfix.services += "".join(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())
        with postfix:
            yield Site(postfix, relay, sink)
        assert CANARY not in relay.log.encode()
        assert "internal-error" not in relay.log
    shutil.rmtree(place)


def test_each_recipient_gets_one_copy_of_their_own_form(site: Site, keys: Keys) -> None:
    reply, sent = site.send(ALL)
    assert reply.code == 250
    assert site.copies(sent) == SPLIT
    for mail in site.so_far(sent):
        file = site.relay.folder / "copy.eml"
        file.write_bytes(mail.raw)
        if mail.rcpt_to == (ALICE,):
            assert keys.alice.open(file) == inside(sent)
        elif mail.rcpt_to == (BOB,):
            assert keys.bob.open(file) == inside(sent)
        else:
            assert mail.raw.endswith(sent)
        file.unlink()


def test_body_and_long_lines_arrive_octet_for_octet(site: Site, keys: Keys) -> None:
    body = b"\xff\xfe" + b"x" * 5000 + b"\r\n.\r\n..dots\r\n \r\n"
    fields = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n"
    _, sent = site.send([ALICE], b"From: s@s.test\r\nTo: alice@r.test\r\n" + fields + b"\r\n" + body)
    [mail] = site.delivered(sent)
    file = site.relay.folder / "copy.eml"
    file.write_bytes(mail.raw)
    assert keys.alice.open(file) == inside(sent)
    file.unlink()


def test_mail_of_sendmail_1_comes_by_here_too_and_its_client_is_this_machine(site: Site) -> None:
    raw = b"X-Mark: %d-\r\n" % next(numbers) + letter(to=b"alice@r.test, n1@r.test")
    site.postfix.sendmail(raw, "sender@s.test", ALICE, N1)
    assert wait_until(lambda: len(site.so_far(raw)) == 2, 30)
    assert site.copies(raw) == Counter({(ALICE, False): 1, (N1, True): 1})
    for mail in site.so_far(raw):
        assert re.search(rb"\[127\.0\.0\.1\]\)\r\n\tby \S+ \(smilla\)", mail.raw_header), mail.raw_header


def test_queue_id_of_postfix_is_that_of_the_log(site: Site) -> None:
    reply, sent = site.send([ALICE])
    site.delivered(sent)
    name = reply.text.rpartition(" ")[2]
    assert [line.split()[1] for line in site.relay.log_lines_of(name)] == ["encrypted", "message"]


@contextlib.contextmanager
def never_delivered(site: Site) -> Iterator[None]:
    """What is sent meanwhile is taken out of the queue at the end."""
    try:
        yield
    finally:
        site.postfix.delete_all()


def test_recipient_whose_key_fails_waits_and_holds_up_the_others_over_smtp_only(site: Site) -> None:
    settings: Any = site.relay.settings
    with never_delivered(site):
        _, sent = site.send([ALICE, "carol@bogus.test"])
        site.relay.wait_for_log(r"deferred rcpt=carol@bogus\.test .*reason=bogus")
        if settings["relay"]["protocol"] == "lmtp":
            assert wait_until(lambda: len(site.so_far(sent)) == 1, 30)
        assert [mail.rcpt_to for mail in site.so_far(sent)] == [(ALICE,)] * (settings["relay"]["protocol"] == "lmtp")


def test_unreachable_key_keeps_the_message_in_postfix_and_nothing_leaves(site: Site) -> None:
    with never_delivered(site):
        _, sent = site.send(["dora@bogus.test"])
        site.relay.wait_for_log(r"deferred rcpt=dora@bogus\.test .*reason=bogus")
        assert site.so_far(sent) == []


def test_while_the_relay_is_down_the_message_waits_and_afterwards_comes_once(site: Site) -> None:
    site.relay.stop()
    try:
        _, sent = site.send(ALL)
        assert wait_until(lambda: "Connection refused" in site.postfix.log, 30)
        assert site.so_far(sent) == []
    finally:
        site.relay.start()
    assert site.postfix.tries_until(lambda: len(site.so_far(sent)) == 3)
    assert site.copies(sent) == SPLIT


def of_postfix(site: Site) -> list[tuple[str, str]]:
    """What the doctor says of Postfix's lines to the relay and back: severity and text."""
    argv = [sys.executable, "-m", "smilla", "config", "check", "--probe", "--json", "--config", str(site.relay.config)]
    argv += ["--postfix-config", str(site.postfix.folder / "etc")]
    program = find_program("postconf")
    environment = program_environment(program)
    environment["PATH"] = f"{program.parent}:{environment.get('PATH', '')}"
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment)
    found = [each for each in json.loads(done.stdout)["findings"] if each["subject"] == "postfix"]
    kinds = ("next-hop", "not-attached", "not-running", "postfix-unseen")
    return [
        (each["severity"], each["text"]) for each in found if each["subject"] == "postfix" and each["kind"] in kinds
    ]


def test_doctor_finds_nothing_wrong_with_the_lines_of_the_manual_and_sees_a_loop(site: Site) -> None:
    assert of_postfix(site) == []
    path = site.postfix.folder / "etc" / "master.cf"
    before = path.read_text()
    assert "content_filter=" in re.sub(r"[ {}]", "", before)
    path.write_text(re.sub(r"\n +-o \{? ?content_filter ?= ?\}?", "", before))
    try:
        severity, text = of_postfix(site)[0]
        assert (severity, "a loop" in text) == ("error", True)
    finally:
        path.write_text(before)
