"""A mailbox over IMAP (RFC 3501), with UIDPLUS (RFC 4315) and, where old messages are kept, MOVE (RFC 6851).

imapclient speaks the protocol: names of folders in modified UTF-7, literals and nested answers are its business, where
imaplib leaves them to its caller.

Promises: nothing is marked as seen.  No message is expunged but the one that was asked for, since UID EXPUNGE names it;
a server without that is refused.  A password goes over TLS, or to this machine.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from smilla.adapters.imap_folder import Appends, IMAPFolder, problems
from smilla.errors import MailboxError, MailboxLost

INBOX = "INBOX"
_CONNECT_S, _ANSWER_S = 30.0, 300.0
# Folders that hold nothing of their own (RFC 3501 section 7.2.2, RFC 5258 section 3, RFC 6154 section 2).
_NO_FOLDERS = frozenset({"\\noselect", "\\nonexistent", "\\all", "\\flagged"})


@dataclass(frozen=True)
class Server:
    """Where the mailbox is.  ``tls``: implicit, starttls or none.  ``token``: an OAuth 2 access token in place of a
    password."""

    host: str
    port: int
    user: str
    password: str = ""
    token: str = ""
    tls: str = "implicit"
    ca_file: str = ""


class _Client(IMAPClient):  # type: ignore[misc]
    """Sends no message before the server asks for it, and the server asks once it has the one before.  So whenever we
    are killed, nothing that is still on its way makes a whole command, but the last message of it."""

    def has_capability(self, capability: str) -> bool:
        """What the server can do, and we let it do."""
        return capability != "LITERAL+" and bool(super().has_capability(capability))


class IMAPMailbox:
    """The folders of one user.  It connects when it is first used, and anew once a connection was lost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Any = None
        self._appends = Appends()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Logs out; a folder is not closed, since that would expunge."""
        if self._client is not None:
            with suppress(IMAPClientError, OSError):
                self._client.logout()
            self._client = None

    def folder_names(self) -> list[str]:
        """All folders that hold messages of their own, INBOX first.  Raises MailboxError."""
        with problems("LIST"):
            listed = self.client().list_folders()
        names = {
            str(name)
            for flags, _, name in listed
            if not _NO_FOLDERS & {flag.decode("ascii", "replace").lower() for flag in flags}
        }
        inbox = [name for name in names if name.upper() == INBOX] or [INBOX]
        return inbox + sorted(names - set(inbox))

    def folder(self, name: str, *, is_read_only: bool = False) -> IMAPFolder:
        """Selects a folder; only the last one may be used.  Raises MailboxError."""
        return IMAPFolder(name, self.client(), self._appends, is_read_only=is_read_only)

    def make(self, name: str) -> None:
        """Makes the folder for old messages, if it is not there.  Raises MailboxError."""
        client = self.client()
        if not client.has_capability("MOVE"):
            raise MailboxError("the server cannot move messages (MOVE), so old ones cannot be kept in another folder")
        if name not in self.folder_names():
            with problems(f"folder {name}"):
                client.create_folder(name)

    def client(self) -> Any:
        """The connection, logged in.  Raises MailboxError, MailboxLost if it can be tried again."""
        if self._client is None:
            self._client = self._connected()
        return self._client

    def forget(self) -> None:
        """Drops a connection that was lost."""
        if self._client is not None:
            with suppress(IMAPClientError, OSError):
                self._client.shutdown()
            self._client = None

    def _connected(self) -> Any:
        server = self._server
        where = f"{server.host}:{server.port}"
        try:
            context = ssl.create_default_context(cafile=server.ca_file or None)
        except OSError as error:  # ssl.SSLError is one
            raise MailboxError(f"{server.ca_file}: cannot be used: {error}") from error
        with problems(where):
            client = _Client(
                server.host,
                server.port,
                ssl=server.tls == "implicit",
                ssl_context=context,
                timeout=SocketTimeout(_CONNECT_S, _ANSWER_S),
            )
            # The end of a message goes in a packet of its own, which would wait until the one before is acknowledged.
            client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Whatever ends us, the system sends nothing on: a message that arrived later would be there twice.
            client.socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if server.tls == "starttls":
                client.starttls(context)
        try:
            if server.token:
                client.oauth2_login(server.user, server.token)
            elif client.has_capability("AUTH=PLAIN"):  # LOGIN takes ASCII only
                client.plain_login(server.user, server.password)
            else:
                client.login(server.user, server.password)
        except (IMAPClientAbortError, OSError) as error:
            raise MailboxLost(f"{where}: {error}") from error
        except (IMAPClientError, ValueError) as error:
            raise MailboxError(f"{where}: the login failed: {error}") from error
        client.normalise_times = False
        if not client.has_capability("UIDPLUS"):
            client.logout()
            raise MailboxError(f"{where}: the server cannot expunge one message alone (UIDPLUS), so it is not used")
        return client
