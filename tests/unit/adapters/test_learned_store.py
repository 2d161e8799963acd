"""The store of learned keys: what is kept, for how long, and what a broken file does."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from smilla import log_learned
from smilla.adapters.learned_store import SCHEMA, LearnedStore
from smilla.adapters.sqlite_database import SQLiteDatabase
from smilla.address import EmailAddress, parse
from smilla.config.options import LearnedOptions
from smilla.errors import SmillaError
from smilla.model import Format, LearnedKey

DAY = 86400.0
NOW = 1_800_000_000.0
ANN = parse("ann@x.test")
KEY = LearnedKey(ANN, Format.OPENPGP, b"\x98packets\0", "F1", "autocrypt", NOW)
OTHER = replace(KEY, raw=b"other", fingerprint="F2")


@pytest.fixture
def path(tmp_path: Path) -> str:
    log_learned._failing.clear()
    return str(tmp_path / "spool" / "learned.sqlite")


def store(path: str, now: float = NOW, **options: int) -> LearnedStore:
    return LearnedStore(SQLiteDatabase(path, SCHEMA), replace(LearnedOptions(), **options), lambda: now)  # type: ignore[arg-type]


def test_key_is_there_again_after_a_restart(path: str) -> None:
    assert store(path).learn(KEY)
    assert list(store(path).recall(ANN)) == [KEY]
    assert list(store(path).recall(parse("ben@x.test"))) == []
    assert list(store(path).recall(parse("Ann@x.test"))) == []


def test_nothing_is_made_where_nothing_was_learned(path: str) -> None:
    assert list(store(path).recall(ANN)) == []
    assert list(store(path).all()) == []
    assert store(path).forget(ANN) == 0
    assert not Path(path).parent.exists()


def test_file_and_folder_are_for_the_owner_alone(path: str) -> None:
    store(path).learn(KEY)
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in Path(path).parent.iterdir()} == {0o600}


def test_message_that_was_sent_last_decides_whatever_comes_last(path: str) -> None:
    one = store(path)
    assert one.learn(KEY)
    assert not one.learn(replace(OTHER, sent_at=NOW - 1))
    assert not one.learn(replace(OTHER, sent_at=NOW))
    assert list(one.recall(ANN)) == [KEY]
    newer = replace(OTHER, sent_at=NOW + 1)
    assert one.learn(newer)
    assert list(one.recall(ANN)) == [newer]


def test_same_key_seen_again_is_no_news_and_lasts_longer(path: str) -> None:
    one = store(path)
    one.learn(KEY)
    assert not one.learn(replace(KEY, sent_at=NOW + 60))
    assert list(one.recall(ANN)) == [KEY]
    again = replace(KEY, sent_at=NOW + 2 * DAY)
    assert not one.learn(again)
    assert list(one.recall(ANN)) == [again]
    assert not one.learn(KEY)
    assert list(one.recall(ANN)) == [again]


def test_each_format_has_a_key_of_its_own(path: str) -> None:
    one = store(path)
    certificate = replace(KEY, format=Format.SMIME, raw=b"DER", fingerprint="C1")
    assert one.learn(KEY)
    assert one.learn(certificate)
    assert list(one.recall(ANN)) == [KEY, certificate]


def test_key_that_was_not_seen_for_long_is_not_used_and_goes(path: str) -> None:
    store(path, keep_days=10).learn(KEY)
    assert list(store(path, NOW + 10 * DAY, keep_days=10).recall(ANN)) == [KEY]
    late = store(path, NOW + 10 * DAY + 1, keep_days=10)
    assert list(late.recall(ANN)) == []
    assert list(late.all()) == []
    late.learn(replace(KEY, address=parse("ben@x.test"), sent_at=NOW + 10 * DAY + 1))
    assert len(list(store(path, NOW, keep_days=10).all())) == 1


def test_clock_that_is_far_ahead_forgets_no_key(path: str) -> None:
    """It may be that of one machine of many."""
    store(path, keep_days=10).learn(KEY)
    store(path, NOW + 1000 * DAY, keep_days=10).learn(replace(KEY, address=parse("ben@x.test"), sent_at=NOW + DAY))
    assert len(list(store(path, NOW + DAY, keep_days=10).all())) == 2


def test_what_was_not_seen_for_longest_goes_where_there_are_too_many(path: str) -> None:
    one = store(path, most=3)
    for number in (2, 0, 1, 3, 4):
        one.learn(replace(KEY, address=parse(f"a{number}@x.test"), sent_at=NOW + number))
    assert [key.address.local_part for key in one.all()] == ["a2", "a3", "a4"]


def test_stranger_with_thousands_of_addresses_pushes_out_nobody_elses_key(path: str) -> None:
    """Otherwise mail to whoever was pushed out would go plain."""
    one = store(path, most=100)
    known = [f"pal{number}@friend{number % 20}.test" for number in range(60)]
    for address in known:
        one.learn(replace(KEY, address=parse(address), sent_at=NOW - 99))
    for number in range(150):
        one.learn(replace(KEY, address=parse(f"x{number}@evil.test"), sent_at=NOW))
        one.learn(replace(KEY, address=parse(f"x@sub{number}.evil.test"), sent_at=NOW))
    kept = [str(key.address) for key in one.all()]
    assert len(kept) == 100
    assert set(known) <= set(kept)
    assert len([address for address in kept if address.endswith("@evil.test")]) == 10


def test_where_it_is_full_a_domain_that_has_a_key_may_have_another_instead_and_a_new_one_none(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = store(path, most=100), list[tuple[str, int]]()
    monkeypatch.setattr(log_learned, "store_full", lambda *words: told.append(words))
    for number in range(100):
        one.learn(replace(KEY, address=parse(f"a@d{number}.test"), sent_at=NOW - 9))
    assert one.learn(replace(KEY, address=parse("b@d7.test")))
    assert told == []
    assert not one.learn(replace(KEY, address=parse("a@new.test")))
    assert [len(one.recall(parse(address))) for address in ("a@d7.test", "b@d7.test", "a@new.test")] == [0, 1, 0]
    assert told == [(path, 100)]
    assert one.learn(replace(OTHER, address=parse("a@d8.test")))  # a new key of the same address needs no room
    assert [key.fingerprint for key in one.recall(parse("a@d8.test"))] == ["F2"]


def test_address_or_domain_is_forgotten(path: str) -> None:
    one = store(path)
    for name in ("ann@x.test", "ben@x.test", "ann@y.test"):
        one.learn(replace(KEY, address=parse(name)))
    assert one.forget(ANN) == 1
    assert one.forget(ANN) == 0
    assert one.forget_domain("x.test") == 1
    assert [str(key.address) for key in one.all()] == ["ann@y.test"]


def test_odd_local_parts_come_back_as_they_were(path: str) -> None:
    one = store(path)
    for local in ('"x"', "a b", "@a.example:x", "j\u00f6rg", "a'; DROP TABLE learned; --"):
        who = EmailAddress(local, "x.test", f"{local}@x.test")
        assert one.learn(replace(KEY, address=who))
        assert [key.address.local_part for key in one.recall(who)] == [local]


@pytest.mark.parametrize("kind", ["no database", "folder", "newer version"])
def test_broken_store_is_no_absence_and_stops_no_mail(
    path: str, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(log_learned, "_event", lambda *words, **_: logged.append(words[1]))
    place = Path(path)
    place.parent.mkdir(mode=0o700)
    if kind == "folder":
        place.mkdir()
    elif kind == "no database":
        place.write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
    broken = store(path)
    with pytest.raises(SmillaError):
        broken.recall(ANN)
    assert not broken.learn(KEY)
    assert not broken.learn(KEY)
    assert logged == ["learned-store-failed"]


def test_store_that_is_mended_works_again(path: str) -> None:
    place = Path(path)
    place.parent.mkdir(mode=0o700)
    place.write_bytes(b"no database" * 1000)
    one = store(path)
    with pytest.raises(SmillaError):
        one.recall(ANN)
    place.unlink()
    assert one.learn(KEY)
    assert list(one.recall(ANN)) == [KEY]


def test_processes_share_the_store(path: str) -> None:
    one = store(path)
    one.learn(KEY)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if one.learn(replace(OTHER, sent_at=NOW + 1)) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert [key.fingerprint for key in one.recall(ANN)] == ["F2"]
