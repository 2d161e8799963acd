"""Several smillas behind HAProxy, with the lines of contrib/haproxy, while one of them is killed under load.

clients -> smtpd -> HAProxy -> own smilla, which re-injects            the MTA's own smilla first
                       +-TLS-> HAProxy -> spare smilla, mixed = defer

clients -> smtpd -> HAProxy -> own smilla, which seals           -> queue -> the stage of the MTA's own smilla
                       +-TLS-> HAProxy -> spare smilla, or a pool of them, which seal

clients -> smtpd -> queue -> smtp, one recipient at a time -> smtpd -> HAProxy -TLS-> two smillas, mixed = defer
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.client import SMTPClient
from tests.lab.haproxy import HAProxy, make_certificates
from tests.lab.postfix import Listener, Postfix, example_options
from tests.lab.processes import LOOPBACK, free_port, session_members, wait_until
from tests.lab.programs import REPOSITORY, MissingProgramError, find_program
from tests.lab.sink import Sink
from tests.lab.smilla import Settings, Smilla
from tests.live.conftest import cannot
from tests.live.mta import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

SENDERS = 6
EXAMPLE = "contrib/haproxy/master.cf.example"
# Who is written to: hidden recipients after the bar.
MIXED = ("alice bob", "alice|dora", "bob alice n1")
KINDS = ("alice", "alice bob", "alice anna arthur", "alice|dora", "bob", "bob alice n1", "erin")
_numbers = itertools.count(1)


class Letter:
    """A message to people at r.test; all but n1 have keys."""

    def __init__(self, people: str) -> None:
        shown, _, hidden = people.partition("|")
        self.recipients = [f"{name}@r.test" for name in (*shown.split(), *hidden.split())]
        self.mixed = people in MIXED
        self.mark = b"X-Mark: pool-%d-\r\n" % next(_numbers)
        to = ", ".join(f"{name}@r.test" for name in shown.split()).encode()
        head = self.mark + b"From: sender@s.test\r\nTo: " + to + b"\r\nSubject: a letter\r\n"
        self.raw = head + b"Message-ID: <%d@s.test>\r\n\r\n" % time.monotonic_ns() + CANARY + b"\r\n"
        self.attempts = 0

    def send(self, port: int) -> str:
        """One attempt: the last reply, "" where the connection was lost."""
        self.attempts += 1
        with contextlib.suppress(OSError, EOFError), SMTPClient(port) as client:
            return str(client.send("sender@s.test", self.recipients, self.raw)[-1])
        return ""


class Load:
    """Clients side by side, until they are told to end.  As an MTA does, each tries again what was deferred while it
    sends the next letters, and goes on to the last."""

    def __init__(self, port: int) -> None:
        self.letters: list[Letter] = []
        self.accepted: list[Letter] = []
        self._refused: list[str] = []
        self._port = port
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        waiting: deque[Letter] = deque()
        for kind in itertools.cycle(KINDS):
            if self._ending.is_set():
                break
            letter = Letter(kind)
            self.letters.append(letter)
            waiting.appendleft(letter)
            for _ in range(min(2, len(waiting))):
                self._attempt(waiting)
            time.sleep(0.02)
        until = time.monotonic() + 120
        while waiting and time.monotonic() < until and not self._given_up.is_set():
            self._attempt(waiting)
            time.sleep(0.02)

    def give_up(self) -> None:
        """Nothing more is sent, whatever waits."""
        self._given_up.set()
        self._ending.set()

    def _attempt(self, waiting: deque[Letter]) -> None:
        letter = waiting.popleft()
        reply = letter.send(self._port)
        if reply.startswith("250 "):
            self.accepted.append(letter)
            return
        waiting.append(letter)
        if reply[:1] not in ("", "4"):
            self._refused.append(reply)

    def wait_for_more(self, count: int) -> None:
        """Until this many more letters were accepted; raises TimeoutError."""
        enough = len(self.accepted) + count
        if not wait_until(lambda: len(self.accepted) >= enough, 60):
            raise TimeoutError(f"{len(self.accepted)} letters were accepted, {enough} were expected")

    def end(self) -> None:
        """All letters are accepted, and no more are written."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        assert self._refused == []
        assert len(self.accepted) == len(self.letters)


class Site:
    """The machines of one site; all end together."""

    def __init__(self, folder: Path, resolver: str) -> None:
        self.folder = folder
        self.sink = Sink()
        self._resolver = resolver
        self._stack = ExitStack()
        self._stack.callback(self.sink.close)
        make_certificates(folder / "certificates")

    def load(self, port: int) -> Load:
        """Starts to send to this port."""
        found = Load(port)
        self._stack.callback(found.give_up)
        return found

    def smilla(self, name: str, settings: Settings) -> Smilla:
        """Starts a smilla on a port of its own."""
        smilla = Smilla(self.folder / name, self._resolver, settings)
        smilla.port = free_port()
        return self._stack.enter_context(smilla)

    def haproxy(self, name: str, ports: dict[str, int]) -> HAProxy:
        """Starts a machine's HAProxy."""
        return self._stack.enter_context(HAProxy(self.folder / name, ports, self.folder / "certificates"))

    def postfix(self, *listeners: Listener, parameters: dict[str, str] | None = None) -> Postfix:
        """A Postfix, not started yet."""
        (self.folder / "postfix").mkdir()
        return Postfix(self.folder / "postfix", self.sink.port, listeners, parameters)

    def start(self, postfix: Postfix) -> None:
        """Starts it."""
        self._stack.enter_context(postfix)

    def close(self) -> None:
        """Ends all, the MTA first."""
        self._stack.close()


def kill(smilla: Smilla) -> None:
    """The whole instance at once, as when its machine loses power."""
    for pid in session_members(smilla.child.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    smilla.stop()


def delivered(site: Site, letter: Letter) -> Counter[str]:
    """How many copies each recipient of a letter got, none of them readable but where there is no key."""
    found = [mail for mail in site.sink.messages if letter.mark in mail.raw]
    readable = {address for mail in found if CANARY in mail.raw for address in mail.rcpt_to}
    assert readable <= {"n1@r.test"}
    return Counter(address for mail in found for address in mail.rcpt_to)


@pytest.fixture
def site(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Site]:
    try:
        find_program("haproxy")
    except MissingProgramError as error:
        cannot(str(error))
    place = Path(tempfile.mkdtemp(prefix="pool-", dir=folder))
    place.chmod(0o755)
    found = Site(place, lab.resolver)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(place)


def test_the_example_has_no_fault(site: Site) -> None:
    haproxy = HAProxy(site.folder / "check", {}, site.folder / "certificates").write()
    assert haproxy.check() == ""
    haproxy.config.write_text(haproxy.config.read_text().replace("option tcp-check", "option tcp-chekc"))
    assert "tcp-chekc" in haproxy.check()


@dataclass
class OwnFirst:
    """A Postfix with its own smilla, and a neighbour with a spare one."""

    own: Smilla
    spare: Smilla
    haproxy: HAProxy
    postfix: Postfix

    @property
    def port(self) -> int:
        """Where clients send to."""
        return self.postfix.listeners[0].port

    @property
    def plain(self) -> int:
        """Where further copies go."""
        return self.postfix.listeners[1].port

    def wait_for_own(self, *, up: bool) -> None:
        """Until HAProxy knows that the MTA's own smilla runs, or does not."""
        self.haproxy.wait_for("smilla-own-first", "own", up=up)


@pytest.fixture
def own_first(site: Site) -> OwnFirst:
    return start_own_first(site, "reinject", "defer")


def start_own_first(site: Site, mixed: str, spare_mixed: str) -> OwnFirst:
    plain = Listener(options={"smtpd_authorized_xforward_hosts": f"{LOOPBACK}/32"})
    own = site.smilla("own", {"policy": {"mixed": mixed}, "reinject": {"smtp": f"{LOOPBACK}:{plain.port}"}})
    spare = site.smilla("spare", {"policy": {"mixed": spare_mixed}})
    neighbour = site.haproxy("mx2", {"127.0.0.1:8896": spare.port})
    haproxy = site.haproxy("mx1", {"127.0.0.1:8895": own.port, "192.0.2.2:8897": neighbour.bind})
    haproxy.wait_for("smilla-own-first", "mx3", up=False)
    postfix = site.postfix(Listener([f"unix:{haproxy.folder}/haproxy.sock"]), plain)
    if mixed == "stage":
        with_stage_of(own, postfix)
    site.start(postfix)
    return OwnFirst(own, spare, haproxy, postfix)


def with_stage_of(own: Smilla, postfix: Postfix) -> None:
    """What is sealed goes to this smilla, by all listeners but the last, which is for the copies."""
    postfix.stages = {"own": own.folder / "stage.sock"}
    for listener in postfix.listeners[:-1]:
        listener.options["cleanup_service_name"] = "cleanup-own"
    postfix.listeners[-1].options["receive_override_options"] = "no_address_mappings,no_header_body_checks"


def copy_keys(source: Smilla, target: Smilla) -> None:
    """As contrib/haproxy says: all that are there, beside those that the target has, of its user, each as a whole."""
    for path in (source.folder / "seal").glob("*.key"):
        beside = target.folder / "seal" / f".{path.name}.part"
        shutil.copy(path, beside)
        owner = beside.parent.stat()
        os.chown(beside, owner.st_uid, owner.st_gid)
        beside.chmod(0o600)
        beside.rename(beside.with_name(path.name))


def test_while_its_own_smilla_is_dead_a_spare_one_serves_and_nothing_is_lost_or_repeated(
    site: Site, own_first: OwnFirst
) -> None:
    own, spare = own_first.own, own_first.spare
    load = site.load(own_first.port)
    load.wait_for_more(20)
    assert "encrypted rcpt=" not in spare.log
    kill(own)
    own_first.wait_for_own(up=False)
    load.wait_for_more(30)
    spare.wait_for_log("deferred rcpt=.* reason=mixed", 30)
    own.start()
    load.wait_for_more(10)
    load.end()
    own_first.postfix.wait_until_empty(300)
    assert max(letter.attempts for letter in load.letters) > 1
    repeated = 0
    for letter in load.letters:
        found = delivered(site, letter)
        assert set(found) == set(letter.recipients)
        assert letter.mixed or set(found.values()) == {1}
        repeated += found.total() - len(letter.recipients)
    assert repeated <= own.log.count(" copy-unknown ")


def test_a_retry_at_a_spare_smilla_repeats_no_copy_that_was_accepted(site: Site, own_first: OwnFirst) -> None:
    own, letter = own_first.own, Letter("alice bob|dora")

    def reinject_to(port: int) -> None:
        own.write_config({**own.settings, "reinject": {"smtp": f"{LOOPBACK}:{port}"}})

    reinject_to(site.sink.port)
    own.reload()
    site.sink.answer = lambda line: b"451 4.3.0 not now" if b"<dora@r.test>" in line else None
    assert letter.send(own_first.port).startswith("451 4.3.0 Not all copies")
    assert delivered(site, letter) == {"bob@r.test": 1}
    kill(own)
    own_first.wait_for_own(up=False)
    assert letter.send(own_first.port).startswith("451 4.3.0 The recipients need 3 different forms")
    own_first.spare.wait_for_log("deferred rcpt=bob@r.test .*reason=mixed")
    site.sink.answer = lambda line: None
    reinject_to(own_first.plain)
    own.start()
    own_first.wait_for_own(up=True)
    assert letter.send(own_first.port).startswith("250 ")
    own_first.postfix.wait_until_empty()
    assert delivered(site, letter) == Counter(letter.recipients)


def test_what_a_spare_smilla_sealed_waits_for_its_key_and_for_the_stage_of_the_mtas_own(site: Site) -> None:
    mta = start_own_first(site, "stage", "stage")
    own, spare, letter = mta.own, mta.spare, Letter("alice bob|dora")
    kill(own)
    mta.wait_for_own(up=False)
    assert letter.send(mta.port).startswith("250 ")
    spare.wait_for_log("sealed rcpt=bob@r.test")
    own.start()
    assert mta.postfix.tries_until(lambda: "seal-key-missing" in own.log)
    assert not delivered(site, letter)
    for path in mta.postfix.queued():
        with contextlib.suppress(FileNotFoundError):  # it moves on
            assert CANARY not in path.read_bytes()
    copy_keys(spare, own)
    mta.postfix.wait_until_empty()
    assert delivered(site, letter) == Counter(letter.recipients)


def test_a_pool_that_seals_for_the_stage_of_the_mtas_own_smilla_loses_and_repeats_nothing(site: Site) -> None:
    plain = Listener(options={"smtpd_authorized_xforward_hosts": f"{LOOPBACK}/32"})
    own = site.smilla("own", {"policy": {"mixed": "stage"}, "reinject": {"smtp": f"{LOOPBACK}:{plain.port}"}})
    smillas = [site.smilla(f"smilla-{name}", {"policy": {"mixed": "stage"}}) for name in ("crypt1", "crypt2")]
    for smilla in smillas:
        copy_keys(smilla, own)
    entries = [site.haproxy(f"crypt{n}", {"127.0.0.1:8896": smilla.port}).bind for n, smilla in enumerate(smillas, 1)]
    haproxy = site.haproxy("mx1", {"192.0.2.11:8897": entries[0], "192.0.2.12:8897": entries[1]})
    postfix = site.postfix(Listener([f"unix:{haproxy.folder}/pool.sock"]), plain)
    with_stage_of(own, postfix)
    site.start(postfix)
    load = site.load(postfix.listeners[0].port)
    for smilla in smillas:
        smilla.wait_for_log("sealed rcpt=", 30)
    kill(smillas[0])
    haproxy.wait_for("smilla-pool", "crypt1", up=False)
    load.wait_for_more(20)
    load.end()
    postfix.wait_until_empty(300)
    for letter in load.letters:
        assert delivered(site, letter) == Counter(letter.recipients)
    assert " via=stage" in own.log
    assert not any(" via=stage" in smilla.log for smilla in smillas)


def test_a_pool_that_loses_a_smilla_under_load_loses_and_repeats_nothing(site: Site) -> None:
    """Which of the two serves an attempt is left to HAProxy: neither knows, nor need know, of the other."""
    refused = Letter("expired alice")
    smillas = [site.smilla(f"smilla-{name}", {"policy": {"mixed": "defer"}}) for name in ("crypt1", "crypt2")]
    entries = [site.haproxy(f"crypt{n}", {"127.0.0.1:8896": smilla.port}).bind for n, smilla in enumerate(smillas, 1)]
    haproxy = site.haproxy("mx1", {"192.0.2.11:8897": entries[0], "192.0.2.12:8897": entries[1]})
    options = example_options(EXAMPLE, "10024")
    del options["smtpd_milters"]
    filtered = Listener([f"unix:{haproxy.folder}/pool.sock"], options)
    front = Listener(options={"content_filter": f"smilla:[{LOOPBACK}]:{filtered.port}"})
    lines = re.findall(r"^#     (\w+) = (\w+)$", (REPOSITORY / EXAMPLE).read_text(), re.MULTILINE)
    assert len(lines) == 2
    postfix = site.postfix(front, filtered, parameters=dict(lines))
    postfix.transports = {"smilla": example_options(EXAMPLE, "smilla", "unix")}
    site.start(postfix)
    assert refused.send(front.port).startswith("250 ")
    load = site.load(front.port)
    for smilla in smillas:
        smilla.wait_for_log("encrypted rcpt=", 30)
    kill(smillas[0])
    haproxy.wait_for("smilla-pool", "crypt1", up=False)
    load.wait_for_more(20)
    load.end()
    postfix.wait_until_empty(300)
    for letter in load.letters:
        assert letter.attempts == 1
        assert delivered(site, letter) == Counter(letter.recipients)
    assert delivered(site, refused) == {"alice@r.test": 1, "sender@s.test": 1}  # the latter is a bounce
    assert re.search(r"postfix/\w*smtp\[\d+\]: .* status=deferred .* 451 4", postfix.log)
    assert f"[{LOOPBACK}]:{filtered.port}, conn_use=" not in postfix.log  # a session that lost its smilla is not kept
    assert not any(" reason=mixed" in smilla.log for smilla in smillas)
