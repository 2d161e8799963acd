"""The filter as a child process, the MTA's side of its socket, keys, and a name server that misbehaves on demand.

What holds for every test stands here: no octet that a filter sent, and nothing that it logged, contains the canary
that stands in every body; no filter leaves a process behind.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.lab.keys import make_smime_key
from tests.lab.mail import inside
from tests.lab.processes import processes_in, wait_until
from tests.lab.programs import require
from tests.lab.smilla import Settings, Smilla
from tests.milter.client import Clients, Mail, MilterClient
from tests.milter.dns_stub import DNSStub
from tests.milter.material import (
    NOBODY,
    Keys,
    PGPPair,
    assert_without_canary,
    directory_settings,
    fill_directory,
    make_pgp_pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.keys import SMIMEKey


class Starter(Protocol):
    """Starts a filter that ends with the test."""

    def __call__(
        self, settings: Settings | None = None, *, resolver: str = NOBODY, environment: dict[str, str] | None = None
    ) -> Smilla:
        """The running filter, its keys from the directory source unless the settings say otherwise."""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A temporary folder that every user may enter: the filter gives up root's rights."""
    path = Path(tempfile.mkdtemp(prefix="smilla-milter-"))
    path.chmod(0o755)
    try:
        yield path
        assert processes_in(path) == []
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def keys(folder: Path) -> Keys:
    """The recipients' keys."""
    require("openssl")
    private, directory = folder / "private", folder / "keys"
    for place in (private, directory):
        place.mkdir()
        place.chmod(0o755)
    alice = make_smime_key(private, "alice@r.test")
    erin = make_smime_key(private, "erin@r.test", algorithm="p256")
    bob = make_pgp_pair("bob@r.test")
    fill_directory(directory, alice, erin, bob)
    return Keys(alice, erin, bob, directory)


@pytest.fixture(scope="session")
def shared(folder: Path, keys: Keys) -> Iterator[Smilla]:
    """One filter for all tests that change nothing about it; it must never meet an internal error."""
    with Smilla(folder / "shared", NOBODY, directory_settings(keys, smime={"separate": False})) as smilla:
        yield smilla
        smilla.stop()
        assert_without_canary(smilla.log.encode())
        assert "internal-error" not in smilla.log
        assert "Traceback" not in smilla.log


@contextlib.contextmanager
def _starter(folder: Path, keys: Keys) -> Iterator[Starter]:
    with contextlib.ExitStack() as stack:

        def make(
            settings: Settings | None = None, *, resolver: str = NOBODY, environment: dict[str, str] | None = None
        ) -> Smilla:
            place = Path(tempfile.mkdtemp(prefix="f-", dir=folder))
            smilla = Smilla(place, resolver, settings if settings is not None else directory_settings(keys))
            smilla.child.environment = {**(smilla.child.environment or {}), **(environment or {})}
            stack.callback(_ended, smilla)
            smilla.start()
            return smilla

        yield make


@pytest.fixture
def start(folder: Path, keys: Keys) -> Iterator[Starter]:
    """A factory for filters of the test's own; at its end each must be free of the canary and of processes."""
    with _starter(folder, keys) as make:
        yield make


@pytest.fixture(scope="module")
def start_once(folder: Path, keys: Keys) -> Iterator[Starter]:
    """The same for filters that the tests of a module share."""
    with _starter(folder, keys) as make:
        yield make


def _ended(smilla: Smilla) -> None:
    smilla.stop()
    # Where the parent was killed, its reporter ends by itself, a moment later.
    assert wait_until(lambda: processes_in(smilla.folder) == [], 30), processes_in(smilla.folder)
    assert_without_canary(smilla.log.encode())
    shutil.rmtree(smilla.folder)


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Opens connections; whatever a filter sent over them must be free of the canary."""
    opened = Clients()
    try:
        yield opened
        assert_without_canary(opened.received)
    finally:
        opened.close()


@pytest.fixture
def client(shared: Smilla, clients: Clients) -> MilterClient:
    """A connection to the shared filter, as Postfix would open it."""
    return clients.open(shared.milter)


@pytest.fixture
def stub() -> Iterator[DNSStub]:
    """A name server on loopback."""
    with DNSStub() as server:
        yield server


@pytest.fixture
def opened(folder: Path, keys: Keys) -> Callable[[Mail, Mail, str], None]:
    """Asserts that a result opens with a recipient's key to exactly what went inside of the original."""

    def check(result: Mail, original: Mail, name: str) -> None:
        pair: SMIMEKey | PGPPair = getattr(keys, name)
        file = folder / "message.eml"
        file.write_bytes(result.raw)
        assert pair.open(file) == inside(original.raw)

    return check
