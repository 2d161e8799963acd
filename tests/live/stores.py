"""What the tests of the stores in PostgreSQL share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from smilla import log_hops, log_learned
from smilla.adapters import hop_store, learned_store, postgres_database
from smilla.adapters.hop_store import HopStore
from smilla.adapters.learned_store import LearnedStore
from smilla.adapters.postgres_database import PostgresDatabase
from smilla.address import parse
from smilla.config.options import LearnedOptions
from smilla.model import Format, KeptPolicy, LearnedKey
from tests.lab.authority import Authority
from tests.lab.postgres import PASSWORD, USER, Postgres
from tests.lab.programs import require_servers

DAY, NOW = 86400.0, 1_800_000_000.0
ANN = parse("ann@x.test")
KEY = LearnedKey(ANN, Format.OPENPGP, bytes(range(256)), "F1", "autocrypt", NOW)
OTHER = replace(KEY, raw=b"other", fingerprint="F2")
POLICY = KeptPolicy("1", b"version: STSv1\n\0\xff", 1000.0)
FAILURE = KeptPolicy(tried_id="2", tried_at=2000.0, failure="refused 100 % of \N{SNOWMAN}", is_unclear=True)
_numbers = count()


class Databases:
    """A server, and an authority for it; and another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.stranger = Authority(folder, "stranger")
        self.server = Postgres(folder / "postgres", self.authority.issue("localhost"))

    def url(self) -> str:
        """An empty database."""
        return self.server.make_database(f"mail{next(_numbers)}")

    def over_tls(self, url: str, *, host: str = "localhost", password: str = PASSWORD, **others: str) -> str:
        """The same database over the network."""
        file = self.folder / "passwords"
        file.write_text(f"*:*:*:*:{password}\n")
        file.chmod(0o600)
        database = name_of(url)
        options = {"sslmode": "verify-full", "sslrootcert": self.authority.file, "passfile": file, **others}
        query = "&".join(f"{name}={value}" for name, value in options.items() if value)
        return f"postgresql://{USER}@{host}:{self.server.port}/{database}?{query}"


def learned(url: str, now: float = NOW, **options: Any) -> LearnedStore:
    return LearnedStore(PostgresDatabase(url, learned_store.SCHEMA), replace(LearnedOptions(), **options), lambda: now)


def hops(url: str, **options: Any) -> HopStore:
    return HopStore(PostgresDatabase(url, hop_store.SCHEMA), **options)


def database(url: str) -> PostgresDatabase:
    return PostgresDatabase(url, learned_store.SCHEMA)


def apart(*works: Callable[[], Any]) -> list[int]:
    """Runs each in a process of its own; their exit codes."""
    children = []
    for work in works:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                code = 0 if work() in (None, True) else 2
            finally:
                os._exit(code)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


@contextmanager
def running() -> Iterator[Databases]:
    """A server that runs."""
    require_servers("postgres")
    with tempfile.TemporaryDirectory(prefix="smilla-store-") as folder:
        Path(folder).chmod(0o755)
        one = Databases(Path(folder))
        with one.server:
            yield one


def forget_failures() -> None:
    """What was said in the log already is said again."""
    log_learned._failing.clear()
    log_hops._failing.clear()


def wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a database that stands still for a while, as on a busy machine."""
    begin = postgres_database._BEGIN.replace(f"statement_timeout = {postgres_database._STATEMENT_MS}",
                                             "statement_timeout = 60000")  # fmt: skip
    assert begin != postgres_database._BEGIN
    monkeypatch.setattr(postgres_database, "_BEGIN", begin)
    monkeypatch.setattr(postgres_database, "_PATIENCE_S", 60.0)
    monkeypatch.setitem(postgres_database._FIXED, "connect_timeout", "60")


def name_of(url: str) -> str:
    """Of the database."""
    return url.partition("///")[2].partition("?")[0]
