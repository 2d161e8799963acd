"""LDAP (RFC 4511) with ldap3: searches on a connection of their own, over TLS that is verified, bounded in time and
size.

Promises: nothing but the request for TLS leaves before the server has shown a certificate that is valid for its name;
in particular no password.  No referral is followed.  All that is asked on one connection, with the look-up of the
server's name before it, ends within ``timeout_s``.  ldap3 is imported only where a directory is asked, since it may be
missing elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ldap3

from smilla.adapters import new_file, smtp_tls
from smilla.adapters.host_name import HostName
from smilla.errors import DirectoryError, DirectoryStep, SmillaError, words_of

_MOST = 1 << 20  # octets of an answer
_MOST_TRIED = 3  # addresses of the server
_ENTRIES = 20
_PORTS = {"ldap": 389, "ldaps": 636}
_Entries = tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...]
Answer = tuple[int, str, _Entries, bool]


class Directory:
    """``attributes`` are asked for.  Raises DirectoryError where ``ca_file`` cannot be used."""

    def __init__(self, url: str, ca_file: str, attributes: tuple[str, ...], timeout_s: float) -> None:
        parts = urlsplit(url)
        self._url, self._scheme, self._host = url, parts.scheme, parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._name = HostName(self._host)
        self._attributes, self._timeout_s = attributes, timeout_s
        try:
            self._context = smtp_tls.verifying(ca_file)
        except SmillaError as error:
            raise DirectoryError(str(error)) from error

    def search(self, base: str, text: str, bind_dn: str, password_file: str) -> Answer:
        """Result code and what it says; the entries, each with its DN and its values by attribute; whether a part is
        elsewhere.  ``text`` is the filter.  Raises DirectoryError."""
        with self.bound(bind_dn, password_file) as bound:
            return bound.search(base, text)

    @contextmanager
    def bound(self, bind_dn: str, password_file: str) -> Iterator[Bound]:
        """A connection for searches, after a bind.  Raises DirectoryError."""
        password = self._password(password_file) if bind_dn else None
        deadline = time.monotonic() + self._timeout_s
        bound: Bound | None = None
        try:
            bound = self._reached(deadline, bind_dn, password)
            bound.begin_tls(is_needed=self._scheme != "ldaps")
            bound.bind()
            yield bound
        except DirectoryError as error:
            step = error.step or (bound.step if bound else DirectoryStep.NAME)
            raise DirectoryError(f"{self._url}: {error}", step=step, result=error.result) from error
        except Exception as error:  # what a server sends is read by a library that may raise anything
            failure, step = (bound.failure, bound.step) if bound else (None, DirectoryStep.NAME)
            raise DirectoryError(f"{self._url}: {_words(failure or error)}", step=step) from error
        finally:
            if bound is not None:
                bound.close()

    def _reached(self, deadline: float, bind_dn: str, password: str | None) -> Bound:
        """Connected to the first of the server's addresses that takes a connection, each with its share of the time.
        Raises DirectoryError."""
        addresses = self._name.addresses(deadline)[:_MOST_TRIED]
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            tls = _VerifiedTLS(self._context, self._host, deadline)
            share_s = max(0.001, tls.left_s / left)
            bound = Bound(self._connection(address, share_s, tls, bind_dn, password), tls, self._attributes)
            try:
                bound.connect()
            except Exception as error:  # as above
                bound.close()
                if left == 1 or tls.has_begun:
                    raise DirectoryError(_words(bound.failure or error), step=bound.step) from error
            else:
                return bound
        raise DirectoryError("has no address")

    def _connection(self, address: str, timeout_s: float, tls: _VerifiedTLS, bind_dn: str, password: str | None) -> Any:
        server = ldap3.Server(
            address,
            self._port,
            use_ssl=self._scheme == "ldaps",
            get_info=ldap3.NONE,
            connect_timeout=timeout_s,
            tls=tls,
        )
        return ldap3.Connection(
            server,
            bind_dn or None,
            password,
            authentication=ldap3.SIMPLE if bind_dn else ldap3.ANONYMOUS,
            auto_referrals=False,
            check_names=False,
            read_only=True,
            return_empty_attributes=False,
        )

    def _password(self, name: str) -> str:
        try:
            raw = new_file.read(Path(name)).split(b"\n", 1)[0].rstrip(b"\r")
            password = raw.decode("utf-8")
        except (SmillaError, UnicodeDecodeError) as error:
            raise DirectoryError(f"[ldap] password_file: {error}", step=DirectoryStep.FILE) from error
        if not password:  # a bind without one succeeds as nobody (RFC 4513 section 5.1.2)
            text = f"{name}: its first line, the password, is empty"
            raise DirectoryError(text, step=DirectoryStep.FILE)
        return password


class Bound:
    """A connection and how far it has come; what it raises but DirectoryError is the library's."""

    def __init__(self, connection: Any, tls: _VerifiedTLS, attributes: tuple[str, ...]) -> None:
        self._connection, self._tls, self._attributes = connection, tls, attributes
        self._step = DirectoryStep.CONNECTION

    @property
    def step(self) -> DirectoryStep:
        """The step that is under way, or failed."""
        return self._tls.failed_step or self._step

    @property
    def failure(self) -> Exception | None:
        """Why there is no TLS, in the words of TLS instead of the library's."""
        return self._tls.failure

    def connect(self) -> None:
        """Connects; for ldaps, with TLS."""
        self._connection.open(read_server_info=False)

    def begin_tls(self, *, is_needed: bool) -> None:
        """Asks for TLS, unless the connection began with it.  Raises DirectoryError if there is none then."""
        self._step = DirectoryStep.TLS
        if is_needed:
            self._connection.socket = self._tls.bounded(self._connection.socket)
            self._connection.start_tls(read_server_info=False)
        if not self._tls.is_verified:
            raise DirectoryError("no TLS")

    def bind(self) -> None:
        """Raises DirectoryError if the server refuses."""
        self._step = DirectoryStep.BIND
        if not self._connection.bind(read_server_info=False):
            result = self._connection.result
            raise DirectoryError(_told(result), result=int(result["result"]))
        self._step = DirectoryStep.SEARCH

    def search(self, base: str, text: str, *, only_base: bool = False) -> Answer:
        """See Directory.search; ``only_base``: of that one entry, without what is below."""
        self._connection.search(
            base,
            text,
            search_scope=ldap3.BASE if only_base else ldap3.SUBTREE,
            attributes=list(self._attributes),
            size_limit=_ENTRIES,
            time_limit=max(1, int(self._tls.left_s)),
        )
        response, result = self._connection.response or [], self._connection.result
        entries = tuple((one["dn"], tuple(_values(one))) for one in response if one["type"] == "searchResEntry")
        is_referred = any(one["type"] == "searchResRef" for one in response)
        return int(result["result"]), _told(result), entries, is_referred

    def close(self) -> None:
        """Ends it, without a word to the server."""
        self._connection.strategy.close()


def _values(entry: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, values in entry["raw_attributes"].items():
        yield from ((name, bytes(raw)) for raw in values)


def _words(failure: Exception) -> str:
    verdict = getattr(failure, "verify_message", "")
    return f"its certificate is not valid: {verdict}" if verdict else words_of(failure)


def _told(result: dict[str, Any]) -> str:
    return ": ".join(filter(None, (str(result.get("description", "")), str(result.get("message", "")))))


class _VerifiedTLS(ldap3.Tls):  # type: ignore[misc]
    """Verifies as Python does; ldap3 compares names itself."""

    def __init__(self, context: Any, host: str, deadline: float) -> None:
        super().__init__()
        self._context, self._host, self._deadline = context, host, deadline
        self.has_begun = self.is_verified = False
        self.failure: Exception | None = None

    @property
    def left_s(self) -> float:
        """What is left of the time."""
        return self._deadline - time.monotonic()

    @property
    def failed_step(self) -> DirectoryStep | None:
        """What of TLS failed, if anything did."""
        if self.failure is None:
            return None
        return DirectoryStep.CERTIFICATE if getattr(self.failure, "verify_message", "") else DirectoryStep.TLS

    def bounded(self, raw: Any) -> _Socket:
        """The socket, bounded in time and size."""
        return _Socket(raw, self._deadline)

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """See ldap3.Tls; the handshake is over when this returns."""
        self.has_begun = True
        raw = connection.socket.raw if isinstance(connection.socket, _Socket) else connection.socket
        raw.settimeout(max(0.001, self.left_s))
        try:
            connection.socket = self.bounded(self._context.wrap_socket(raw, server_hostname=self._host))
        except Exception as error:
            self.failure = error
            raise
        self.is_verified = True


class _Socket:
    """What ldap3 uses of a socket."""

    def __init__(self, raw: Any, deadline: float) -> None:
        self.raw, self._deadline, self._left = raw, deadline, _MOST

    def recv(self, size: int) -> bytes:
        """Raises OSError once the time or the size is used up."""
        self._wait()
        octets: bytes = self.raw.recv(min(size, self._left + 1))
        self._left -= len(octets)
        if self._left < 0:
            raise OSError(f"the answer has more than {_MOST} octets")
        return octets

    def sendall(self, octets: bytes) -> None:
        """The same."""
        self._wait()
        self.raw.sendall(octets)

    def _wait(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no whole answer in time")
        self.raw.settimeout(left_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)
