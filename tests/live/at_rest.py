"""Mailboxes that smilla protects at rest, as the live tests see them.

client -> smtpd "inbound" or "auto" -> smilla -> LMTP -> Dovecot (Sieve) -> Maildir -> IMAP
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.dovecot import Dovecot
from tests.lab.keys import OpenPGPKey
from tests.live.mta import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.lab.client import Reply
    from tests.lab.keys import SMIMEKey


@dataclass
class Mailboxes:
    """The chain, Dovecot behind it, and the folder of the users' public keys.  Each message is found by a header field
    of its own."""

    chain: Chain
    dovecot: Dovecot
    directory: Path

    def send(
        self, message: bytes, recipients: Sequence[str], *, sender: str = "sender@s.test", listener: str = "inbound"
    ) -> tuple[Reply, bytes]:
        """Sends a message, marked; returns the last reply and the message as it was sent."""
        marked = b"X-Mark: %d-\r\n" % next(numbers) + message
        with SMTPClient(self.chain.port(listener)) as client:
            return client.send(sender, recipients, marked)[-1], marked

    def read(self, user: str, sent: bytes, mailbox: str = "INBOX") -> bytes:
        """The message as IMAP gives it."""
        return self.dovecot.wait_for(user, b"\r\n" + sent[: sent.index(b"\r\n")] + b"\r\n", mailbox)


@contextlib.contextmanager
def mailboxes(
    folder: Path,
    resolver: str,
    keys: Mapping[str, SMIMEKey | OpenPGPKey],
    *,
    rules: str = "",
    filters: Mapping[str, Mapping[str, Any]] | None = None,
    bounces: str = "",
    order: Callable[[str, Sequence[str]], Sequence[str]] = lambda _, milters: milters,
    main: Mapping[str, str] = {},
) -> Iterator[Mailboxes]:
    """Postfix, smilla with ``keys`` by address, and Dovecot with ``rules``, below a folder.  Where ``filters`` does
    not say otherwise there is one, "inbound".  ``bounces`` names the one that also sees what Postfix itself sends.
    ``order`` gives the milters of a listener, from its name and those that it would have; ``main`` are further lines of
    main.cf."""
    place = Path(tempfile.mkdtemp(prefix="at-rest-", dir=folder))
    home = place / "keys"
    home.mkdir()
    for address, key in keys.items():
        if isinstance(key, OpenPGPKey):
            (home / f"{address}.pgp").write_bytes(key.raw)
        else:
            (home / f"{address}.crt").write_bytes(key.certificate_file.read_bytes())
    for path in (place, home):
        path.chmod(0o755)
    source = {"sources": ["directory"], "directory": str(home)}
    wanted: dict[str, Any] = {
        name: {"local_domains": ["home.test"], **settings, "keys": source | settings.get("keys", {})}
        for name, settings in (filters or {"inbound": {"mode": "inbound"}}).items()
    }
    with Dovecot(place / "dovecot", rules) as dovecot:
        parameters = {"virtual_transport": dovecot.transport, "recipient_delimiter": "+", **main}
        chain = Chain(place / "chain", resolver, wanted, parameters)
        for name, listener in chain.listeners.items():
            listener.milters = order(name, listener.milters)
        if bounces:
            parameters |= {
                "internal_mail_filter_classes": "bounce",
                "non_smtpd_milters": chain.filters[bounces].milter,
            }
        with chain:
            yield Mailboxes(chain, dovecot, home)
