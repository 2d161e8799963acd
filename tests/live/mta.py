"""An MTA as the live tests see it: messages that are sent to it, marked, and found again behind it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.client import SMTPClient
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab.chain import Chain
    from tests.lab.client import Reply
    from tests.lab.sink import ReceivedMail

CANARY = b"the-canary-sings-at-dusk-1147"
numbers = itertools.count(1)


def check_logs(chain: Chain) -> None:
    """No filter of the chain logged a word of a body, and none failed inside."""
    for smilla in chain.filters.values():
        assert CANARY not in smilla.log.encode()
        assert "internal-error" not in smilla.log


@contextlib.contextmanager
def running(folder: Path, name: str, make: Callable[[Path], Chain]) -> Iterator[Mta]:
    """A chain in a folder of its own, for as long as it is needed; its logs are looked at where all went well."""
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    place.chmod(0o755)
    try:
        with make(place) as chain:
            yield Mta(chain)
            check_logs(chain)
    finally:
        shutil.rmtree(place)


class Mta:
    """The chain that all tests of this module share; each message is found by a header field of its own."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def send(
        self, message: bytes, recipients: Sequence[str], *, sender: str = "sender@s.test", **options: Any
    ) -> tuple[Reply, bytes]:
        """Sends a message, marked; returns the last reply and the message as it was sent."""
        mark = b"X-Mark: %d-\r\n" % next(numbers)
        listener = options.pop("listener", "outbound")
        with SMTPClient(self.chain.port(listener)) as client:
            try:
                reply = client.send(sender, recipients, mark + message, **options)[-1]
            except EOFError as error:
                raise EOFError(f"{error}\n{self.chain.mta.log[-3000:]}") from error
        sent = mark + message
        return reply, sent if sent.endswith(b"\r\n") else sent + b"\r\n"

    def arrived(self, sent: bytes) -> ReceivedMail:
        """The message at the sink."""
        mark = b"\r\n" + sent[: sent.index(b"\r\n")] + b"\r\n"
        found: list[ReceivedMail] = []

        def is_there() -> bool:
            found[:] = [mail for mail in self.chain.sink.messages if mark in mail.raw]
            return bool(found)

        assert wait_until(is_there, 60), self.chain.mta.log[-3000:]
        assert len(found) == 1
        return found[0]

    def delivered(self, sent: bytes) -> list[ReceivedMail]:
        """All that came of a message, once nothing is queued any more."""
        self.chain.mta.wait_until_empty()
        return self.so_far(sent)

    def in_mailbox(self, name: str, sent: bytes) -> bytes:
        """The message as it is in a mailbox of home.test, with CRLF line ends; Sendmail hands it to the sink."""
        if self.chain.kind == "sendmail":
            return self.arrived(sent).raw
        mark = sent[: sent.index(b"\r\n")]
        found: list[bytes] = []

        def is_there() -> bool:
            files = self.chain.postfix.maildir(name).glob("*")
            found[:] = [raw for raw in (file.read_bytes() for file in files) if mark in raw]
            return bool(found)

        assert wait_until(is_there, 60), self.chain.mta.log[-3000:]
        return found[0].replace(b"\n", b"\r\n")

    def nothing_arrived(self, sent: bytes) -> None:
        """Neither the sink nor the queue has it."""
        mark = sent[: sent.index(b"\r\n")] + b"\r\n"
        assert not [mail for mail in self.chain.sink.messages if mark in mail.raw]
        assert not self.queued_with(mark.rstrip())

    def so_far(self, sent: bytes) -> list[ReceivedMail]:
        """What came of a message, whether or not more is to come."""
        mark = sent[: sent.index(b"\r\n")] + b"\r\n"
        return [mail for mail in self.chain.sink.messages if mark in mail.raw]

    def queued_with(self, word: bytes) -> list[Path]:
        """The files below Postfix's queue directory, or of Sendmail's queue, in which a word stands."""
        return list(self._queued_with(word))

    def octets_queued_with(self, word: bytes) -> list[bytes]:
        """What stands in them."""
        return list(self._queued_with(word).values())

    def _queued_with(self, word: bytes) -> dict[Path, bytes]:
        mta = self.chain.mta
        found = {}
        for path in self.chain.postfix.queue.rglob("*") if self.chain.kind == "postfix" else mta.queued():
            with contextlib.suppress(FileNotFoundError):  # it moves on
                if path.is_file() and word in (raw := path.read_bytes()):
                    found[path] = raw
        return found


def letter(*fields: bytes, body: bytes = CANARY + b"\r\n", to: bytes = b"alice@r.test") -> bytes:
    """An ordinary message."""
    head = (b"From: Sender <sender@s.test>", b"To: " + to, b"Subject: a letter", *fields)
    return b"\r\n".join(head) + b"\r\n\r\n" + body
