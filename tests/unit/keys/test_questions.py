"""One message has so many questions under way, the rest follows; whom it could not ask is unreachable."""

from __future__ import annotations

import threading
import time

from smilla.keys.questions import MOST, BoundedResolver, MessageQuestions
from smilla.model import DNSAnswer, DNSSECStatus


class Asked:
    def __init__(self, owner: str) -> None:
        self.owner, self.answered = owner, threading.Event()

    def done(self) -> bool:
        return self.answered.is_set()

    def result(self, deadline: float) -> DNSAnswer:
        self.answered.wait(max(0.0, deadline - time.monotonic()))
        status = DNSSECStatus.SECURE if self.done() else DNSSECStatus.UNREACHABLE
        return DNSAnswer(self.owner, "SMIMEA", status)


class Network:
    """Answers nothing until it is told to."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.count = threading.Semaphore(0)

    def ask(self, owner: str, rdtype: int) -> Asked:
        asked = Asked(owner)
        self.asked.append(asked)
        self.count.release()
        return asked


def test_a_message_has_so_many_questions_under_way_and_asks_on_as_answers_come() -> None:
    network, questions = Network(), MessageQuestions()
    resolver = BoundedResolver(network, questions)
    pending = [resolver.ask(f"a{number}.", 53) for number in range(MOST + 3)]
    assert len(network.asked) == MOST
    network.asked[7].answered.set()
    assert pending[7].result(time.monotonic() + 60).status is DNSSECStatus.SECURE
    assert len(network.asked) == MOST + 1
    for asked in network.asked:
        asked.answered.set()
    answers = [each.result(time.monotonic() + 0.2) for each in pending[:MOST]]
    assert {answer.status for answer in answers} == {DNSSECStatus.SECURE}
    assert len(network.asked) == MOST + 3


def test_others_are_asked_while_the_message_waits_for_one_that_does_not_answer() -> None:
    network, questions = Network(), MessageQuestions()
    resolver = BoundedResolver(network, questions)
    pending = [resolver.ask(f"a{number}.", 53) for number in range(MOST + 1)]
    threading.Timer(0.05, network.asked[5].answered.set).start()
    waiting = threading.Thread(target=pending[0].result, args=(time.monotonic() + 60,))
    waiting.start()
    assert all(network.count.acquire(timeout=50) for _ in range(MOST + 1))
    assert network.asked[MOST].owner == f"a{MOST}."
    network.asked[0].answered.set()
    waiting.join()


def test_who_could_not_be_asked_in_time_is_unreachable_and_never_absent() -> None:
    network, questions = Network(), MessageQuestions()
    resolver = BoundedResolver(network, questions)
    pending = [resolver.ask(f"a{number}.", 53) for number in range(MOST + 1)]
    answer = pending[-1].result(time.monotonic() + 0.05)
    assert (answer.status, answer.rdtype) == (DNSSECStatus.UNREACHABLE, "TYPE53")
    assert answer.detail == f"not asked, since {MOST} questions of this message were without an answer"
    assert len(network.asked) == MOST
