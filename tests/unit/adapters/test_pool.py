"""So much work of one domain at once, and so much in all; what waits is done in the end."""

from __future__ import annotations

import threading

import pytest

from smilla.adapters.pool import Pool


class Work:
    """Begins, and ends when it is told to."""

    def __init__(self, answered: bool = True) -> None:
        self.began, self.may_end, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._answered = answered

    def __call__(self) -> bool:
        self.began.set()
        assert self.may_end.wait(60)
        self.ended.set()
        return self._answered

    def end(self) -> None:
        self.may_end.set()
        assert self.ended.wait(60)


def started(pool: Pool, zone: str, count: int) -> list[Work]:
    works = [Work() for _ in range(count)]
    for work in works:
        pool.start(zone, work)
    return works


def test_a_slow_domain_has_so_many_threads_and_another_one_does_not_wait() -> None:
    pool = Pool(a_zone=2)
    slow = started(pool, "slow.test", 3)
    assert slow[0].began.wait(60) and slow[1].began.wait(60)
    (other,) = started(pool, "other.test", 1)
    assert other.began.wait(60)
    assert not slow[2].began.is_set()
    slow[0].end()
    assert slow[2].began.wait(60)
    for work in (*slow[1:], other):
        work.end()


def test_all_threads_together_are_bounded_and_what_waits_is_done_in_turn() -> None:
    pool = Pool(a_zone=8, most=2)
    works = [started(pool, f"{number}.test", 1)[0] for number in range(4)]
    assert works[0].began.wait(60) and works[1].began.wait(60)
    assert not works[2].began.is_set()
    works[0].end()
    assert works[2].began.wait(60)
    for work in works[1:]:
        work.may_end.set()
    assert all(work.ended.wait(60) for work in works)


def test_an_error_in_one_piece_of_work_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: caught.set())
    pool = Pool(a_zone=1, most=1)

    def broken() -> bool:
        assert gate.wait(60)
        raise ZeroDivisionError

    gate = threading.Event()
    pool.start("a.test", broken)
    other, waiting = started(pool, "b.test", 1)[0], started(pool, "a.test", 1)[0]
    gate.set()
    assert caught.wait(60)
    for work in (other, waiting):
        assert work.began.wait(60)
        work.end()


def test_an_error_leaves_a_thread_for_another_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    pool, gate = Pool(most=1), threading.Event()

    def broken() -> bool:
        assert gate.wait(60)
        raise ZeroDivisionError

    pool.start("a.test", broken)
    (other,) = started(pool, "b.test", 1)
    gate.set()
    assert other.began.wait(60)
    other.end()


def test_without_a_thread_the_work_waits_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        (early,) = started(pool, "a.test", 1)
    assert not early.began.is_set()
    (late,) = started(pool, "b.test", 1)
    assert early.began.wait(60)
    early.may_end.set()
    assert late.began.wait(60)
    late.end()


def test_there_is_no_thread_once_all_is_done() -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "source"]

    before = len(names())
    pool = Pool()
    works = started(pool, "a.test", 3)
    running = [thread for thread in threading.enumerate() if thread.name == "source"]
    for work in works:
        work.end()
    for thread in running:
        thread.join(60)
    assert len(names()) <= before
