"""The relay is killed by KILL, its next hop or its client is cut off, at each step of a message, and the client tries
again as an MTA does: in the end everybody has one copy, and no word of what all get encrypted was to be read anywhere.

client -> smilla relay, which dies -> sink

SMILLA_KILLS=300 makes it 300 runs of SMTP and of LMTP each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.client import SMTPClient, stuffed
from tests.lab.processes import session_members, wait_until
from tests.lab.programs import REPOSITORY
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.milter.material import CANARY, NOBODY, Keys
from tests.milter.mortal_relay import BETWEEN_ANSWERS, STEPS, WINDOW_STEPS

RUNS = int(os.environ.get("SMILLA_KILLS", "16"))
TO = ["alice@r.test", "bob@r.test", "erin@r.test"]
_ON_THE_WAY = STEPS[3:9]
PLACES = {
    "smtp": [
        *((step, "relay") for step in (*STEPS, *WINDOW_STEPS)),
        *((step, "next hop") for step in (*_ON_THE_WAY, *WINDOW_STEPS)),
        *((step, "client") for step in (*_ON_THE_WAY, "before-reply")),
    ],
    "lmtp": [
        *((step, "relay") for step in (*STEPS, *BETWEEN_ANSWERS, *WINDOW_STEPS)),
        *((step, "next hop") for step in (*_ON_THE_WAY, *WINDOW_STEPS)),
        *((step, "client") for step in (*_ON_THE_WAY, "before-reply", "told-1", "told-2")),
    ],
}
STRIDE = 11  # as few as there may be, they are from everywhere
PLAN = [
    (protocol, *places[number * STRIDE % len(places)]) for protocol, places in PLACES.items() for number in range(RUNS)
]


class Mortal:
    """The relay, the folder in which it takes orders, and the next hop.  A client is told by ``cut`` to end."""

    def __init__(self, folder: Path, keys: Keys, sink: Sink, protocol: str) -> None:
        self.folder, self.sink, self.protocol = folder, sink, protocol
        settings: dict[str, Any] = {
            "keys": {"sources": ["directory"], "directory": str(keys.directory)},
            "policy": {"no_key": "defer"},
            "relay": {"protocol": protocol, "timeout_s": 5},
        }
        self.relay = Relay(folder / protocol, NOBODY, sink.port, settings)
        child = self.relay.child
        child.argv[child.argv.index("smilla")] = "tests.milter.mortal_relay"
        child.environment = {**(child.environment or {}), "MORTAL": str(folder), "PYTHONPATH": str(REPOSITORY)}
        self.cut = threading.Event()
        self.numbers = 0

    def order(self, step: str, whom: str) -> None:
        for name in ("reached", "go", "order"):
            (self.folder / name).unlink(missing_ok=True)
        self.cut.clear()
        (self.folder / "order.new").write_text(f"{step} {'worker' if whom == 'relay' else whom}")
        (self.folder / "order.new").rename(self.folder / "order")

    def carry_out(self, whom: str) -> None:
        """Ends whom the step is waiting for, or starts the relay again."""
        if whom == "relay":
            assert wait_until(lambda: not self.relay.running, 20, 0.002)
            self.relay.stop()
            self.relay.start()
            return
        assert wait_until((self.folder / "reached").exists, 20, 0.002)
        if whom == "next hop":
            self.sink.cut_connections()
        else:
            self.cut.set()
            time.sleep(0.02)  # nothing depends on it; the client ends first, mostly
        (self.folder / "go").touch()

    def attempt(self, message: bytes, to: list[str]) -> list[str]:
        """One attempt of an MTA; who is still owed a copy afterwards."""
        try:
            with SMTPClient(self.relay.smtp_port, lmtp=self.protocol == "lmtp", timeout_s=20) as client:
                return self._attempt(client, message, to)
        except (OSError, EOFError):
            return to

    def _attempt(self, client: SMTPClient, message: bytes, to: list[str]) -> list[str]:
        assert client.command("MAIL FROM:<sender@s.test>").code == 250
        assert all(client.command(f"RCPT TO:<{address}>").code == 250 for address in to)
        assert client.command("DATA").code == 354
        client.send_raw(stuffed(message))
        left = list(to)
        for address, reply in zip(to, self._replies(client, len(to) if self.protocol == "lmtp" else 1), strict=False):
            assert reply[:1] in ("2", "4"), reply
            if reply.startswith("2"):
                left = [other for other in left if other != address] if self.protocol == "lmtp" else []
        return left

    def _replies(self, client: SMTPClient, count: int) -> Iterator[str]:
        """The replies to the end of the message, until all are there, or until the client is told to end, as the
        kernel ends one that was killed with something unread."""
        raw = b""
        client._socket.settimeout(0.05)
        for _ in range(400):
            if self.cut.is_set():
                self.cut.clear()
                client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client._stream.close()
                client._socket.close()
                return
            with contextlib.suppress(TimeoutError):
                block = client._socket.recv(4096)
                raw += block
                *lines, raw = raw.split(b"\r\n")
                yield from (line.decode() for line in lines)
                count -= len(lines)
                if not block or not count:
                    break
        client._socket.settimeout(20)

    def readable(self) -> list[Path]:
        """The files in which a word of the body stands."""
        found = []
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # a socket, or gone
                if path.is_file() and CANARY in path.read_bytes():
                    found.append(path)
        return found


@pytest.fixture(scope="module")
def all_mortals(folder: Path, keys: Keys) -> Iterator[dict[str, Mortal]]:
    place = Path(tempfile.mkdtemp(prefix="mortal-", dir=folder))
    place.chmod(0o777)
    found: dict[str, Mortal] = {}
    with contextlib.ExitStack() as stack:
        for protocol in PLACES:
            own = place / f"orders-{protocol}"
            own.mkdir()
            own.chmod(0o777)
            sink = stack.enter_context(Sink())
            found[protocol] = Mortal(own, keys, sink, protocol)
            stack.callback(found[protocol].relay.stop)
            found[protocol].relay.start()
        yield found
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def counts() -> Iterator[Counter[str]]:
    """What became of all runs; ``pytest -s`` shows it."""
    found: Counter[str] = Counter()
    yield found
    print("\n" + ", ".join(f"{name} {count}" for name, count in sorted(found.items())))


@pytest.mark.parametrize(("protocol", "step", "whom"), PLAN, ids=["-".join(run) for run in PLAN])
def test_whoever_is_ended_everybody_has_one_copy_and_nobody_reads_it(
    all_mortals: dict[str, Mortal], counts: Counter[str], protocol: str, step: str, whom: str
) -> None:
    mortal = all_mortals[protocol]
    mortal.numbers += 1
    mark = b"X-Mark: %d-\r\n" % mortal.numbers
    message = mark + b"From: s@s.test\r\nTo: " + ", ".join(TO).encode() + b"\r\n\r\n" + CANARY + b"\r\n"
    mortal.order(step, whom)
    killer = threading.Thread(target=mortal.carry_out, args=(whom,))
    killer.start()
    left, attempts = mortal.attempt(message, TO), 1
    killer.join()
    while left:
        attempts += 1
        assert attempts < 100, mortal.relay.log[-3000:]
        left = mortal.attempt(message, left)
    found = [mail for mail in mortal.sink.messages if mark in mail.raw]
    got = Counter(address for mail in found for address in mail.rcpt_to)
    doubles = sum(got.values()) - len(got)
    counts.update(messages=1, attempts=attempts, copies=len(got), doubles=doubles)
    assert not (mortal.folder / "order").exists(), "nobody has reached the step"
    assert set(got) == set(TO)
    assert doubles == 0 or step in WINDOW_STEPS
    if doubles:
        assert "copy-unknown" in mortal.relay.log
    assert not any(CANARY in mail.raw for mail in found)
    assert not any(CANARY in raw for raw in mortal.sink.cut_off)
    assert not mortal.readable()


def test_nothing_is_left_when_it_ends(all_mortals: dict[str, Mortal]) -> None:
    for mortal in all_mortals.values():
        pid = mortal.relay.child.pid
        mortal.relay.child.signal(signal.SIGTERM)
        assert wait_until(lambda pid=pid: not session_members(pid), 30)  # type: ignore[misc]
        assert "internal-error" not in mortal.relay.log
