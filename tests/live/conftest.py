"""The laboratory as fixtures: one DNS and one set of keys a session, Postfix and smilla for each test that asks.

Without the programs, or without root, the tests are skipped; with CI set, they fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import pytest

from tests.lab.chain import Chain
from tests.lab.dns import DNSLab
from tests.lab.keys import OpenPGPKey, SMIMEKey, make_openpgp_key, make_smime_key
from tests.lab.programs import MissingProgramError, find_program, postfix_daemons
from tests.live import stores
from tests.live.hops import World, world
from tests.live.stores import Databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.smilla import Settings

# The modules that take longest: they begin first, so that no worker is left alone with one at the end.
_FIRST = ("test_documents", "test_killed", "test_pool", "test_recipients", "test_stage_queue", "test_postfix_check")
_PROGRAMS = ("nsd", "unbound", "ldns-keygen", "ldns-signzone", "openssl", "gpg", "gpgconf")


@dataclass(frozen=True)
class Keys:
    """alice has a certificate (RSA), erin one (P-256), bob an OpenPGP key, all in r.test; ``impostor`` is a forger's
    certificate for alice.  ``people`` are all who publish one in r.test, by name: anna, arthur and dora have RSA, emil
    P-256, brit, ben and dirk OpenPGP; ``gina`` has a certificate and publishes dirk's kind beside it."""

    alice: SMIMEKey
    erin: SMIMEKey
    bob: OpenPGPKey
    impostor: SMIMEKey
    people: dict[str, SMIMEKey | OpenPGPKey]
    gina_openpgp: OpenPGPKey
    expired: SMIMEKey


class ChainFactory(Protocol):
    """Starts Postfix with a filter for each settings given by name ("outbound" for the usual one)."""

    def __call__(self, settings: Settings | None = None, **filters: Settings) -> Chain:
        """The running chain; it ends with the test."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first; and 'make test' looks for live tests nowhere else."""
    here = Path(__file__).parent
    if lost := [item.nodeid for item in items if item.get_closest_marker("live") and here not in item.path.parents]:
        raise pytest.UsageError(f"live, but not in {here}: {lost[0]}")
    items.sort(key=lambda item: _FIRST.index(item.path.stem) if item.path.stem in _FIRST else len(_FIRST))


def cannot(reason: str) -> NoReturn:
    """Skips the test, or fails it where nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, removed at the end."""
    try:
        postfix_daemons()
        for program in _PROGRAMS:
            find_program(program)
    except MissingProgramError as error:
        cannot(str(error))
    path = Path(tempfile.mkdtemp(prefix="smilla-live-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def keys(folder: Path) -> Iterator[Keys]:
    """The recipients' keys."""
    place = folder / "keys"
    other = folder / "impostor"
    place.mkdir()
    other.mkdir()
    with contextlib.ExitStack() as stack:
        people: dict[str, SMIMEKey | OpenPGPKey] = {}
        for name in ("alice", "anna", "arthur", "dora", "gina"):
            people[name] = make_smime_key(place, f"{name}@r.test")
        for name in ("erin", "emil"):
            people[name] = make_smime_key(place, f"{name}@r.test", algorithm="p256")
        for name in ("bob", "brit", "ben", "dirk"):
            people[name] = stack.enter_context(make_openpgp_key(place, f"{name}@r.test"))
        alice, erin, bob = people["alice"], people["erin"], people["bob"]
        assert isinstance(alice, SMIMEKey)
        assert isinstance(erin, SMIMEKey)
        assert isinstance(bob, OpenPGPKey)
        now = datetime.now(UTC)
        yield Keys(
            alice=alice,
            erin=erin,
            bob=bob,
            impostor=make_smime_key(other, "alice@r.test"),
            people=people,
            gina_openpgp=stack.enter_context(make_openpgp_key(place, "gina@r.test")),
            expired=make_smime_key(
                place, "expired@r.test", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
            ),
        )


@pytest.fixture(scope="session")
def lab(folder: Path, keys: Keys) -> Iterator[DNSLab]:
    """The DNS, with the keys in r.test and the same records for the same local parts in each other zone."""
    dns = DNSLab(folder / "dns").add_usual_zones()
    for zone in [zone for zone in dns.zones.values() if zone.name != "test"]:
        zone.add_smimea(f"alice@{zone.name}", keys.alice.raw_certificate)
        zone.add_smimea(f"erin@{zone.name}", keys.erin.raw_certificate)
        zone.add_openpgpkey(f"bob@{zone.name}", keys.bob.raw)
    signed = dns.zones["r.test"]
    for name, key in keys.people.items():
        if name in ("alice", "erin", "bob"):
            continue
        if isinstance(key, OpenPGPKey):
            signed.add_openpgpkey(f"{name}@r.test", key.raw)
        else:
            signed.add_smimea(f"{name}@r.test", key.raw_certificate)
    signed.add_openpgpkey("gina@r.test", keys.gina_openpgp.raw)
    signed.add_smimea("expired@r.test", keys.expired.raw_certificate)
    with dns:
        yield dns


@pytest.fixture
def chain(folder: Path, lab: DNSLab) -> Iterator[ChainFactory]:
    """A factory for Postfix with smilla; what it made ends with the test."""
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    with contextlib.ExitStack() as stack:

        def make(settings: Settings | None = None, **filters: Settings) -> Chain:
            wanted = {"outbound": settings, **filters} if settings is not None else filters
            place = Path(tempfile.mkdtemp(prefix="chain-", dir=folder))
            stack.callback(shutil.rmtree, place)
            return stack.enter_context(Chain(place, lab.resolver, wanted))

        yield make


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    """A PostgreSQL for the stores."""
    with stores.running() as one:
        yield one


@pytest.fixture(scope="module")
def hop_world(folder: Path) -> Iterator[World]:
    """The world of secure-hop, in a network of its own."""
    if os.geteuid() != 0:
        cannot("a network of its own needs root: run 'make test'")
    with world(folder) as running:
        yield running


@pytest.fixture
def hops(hop_world: World) -> Iterator[World]:
    """The same; nothing that must be protected may have travelled in the clear, and nothing stays queued."""
    yield hop_world
    hop_world.drop_all()
    hop_world.nothing_in_clear()
