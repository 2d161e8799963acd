"""The crew keeps to its limits, and who waits keeps no thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial

from smilla.survey.crew import Crew

PATIENT = 60.0


def test_no_limit_is_ever_passed_and_every_job_runs_once() -> None:
    lock, there, most, ran = threading.Lock(), Counter[str](), Counter[str](), Counter[int]()
    done = threading.Semaphore(0)

    def job(number: int, names: list[str]) -> None:
        with lock:
            ran[number] += 1
            there.update(names)
            for name in names:
                most[name] = max(most[name], there[name])
        time.sleep(0.001)  # others have their turn meanwhile
        with lock:
            there.subtract(names)
        done.release()

    crew = Crew(16)
    for number in range(400):
        limits = {f"address {number % 20}": 1, f"provider {number % 3}": 4}
        crew.add(partial(job, number, [*limits]), limits)
    assert all(done.acquire(timeout=PATIENT) for _ in range(400))
    crew.end()
    assert ran == Counter(range(400))
    assert all(most[name] <= (1 if name.startswith("address") else 4) for name in most)


def test_job_that_must_wait_lets_those_behind_it_go_first() -> None:
    begun, go_on, other = threading.Event(), threading.Event(), threading.Event()
    crew = Crew(2)

    def slow() -> None:
        begun.set()
        go_on.wait()

    crew.add(slow, {"busy": 1})
    assert begun.wait(PATIENT)
    for _ in range(10):
        crew.add(lambda: None, {"busy": 1})
    crew.add(other.set, {"free": 1})
    assert other.wait(PATIENT)
    go_on.set()
    crew.end()


def broken() -> None:
    raise ValueError("a job must not")


def test_job_that_raises_ends_the_crew_and_says_so() -> None:
    told = threading.Event()
    hook, threading.excepthook = threading.excepthook, lambda _: told.set()
    try:
        crew = Crew(1)
        crew.add(broken)
        assert told.wait(PATIENT)
    finally:
        threading.excepthook = hook
    assert crew.has_failed


def test_nothing_is_begun_after_the_end() -> None:
    crew, ran = Crew(1), threading.Event()
    crew.end()
    crew.add(ran.set)
    for thread in threading.enumerate():
        if thread.name == "survey-0":
            thread.join(PATIENT)
    assert not ran.is_set()
