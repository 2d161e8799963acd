"""The web server of an MTA-STS policy: its addresses, one after the other."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from smilla.errors import FetchError
from smilla.hops import policy_server
from smilla.hops.mx import State
from smilla.hops.policies import Fetched
from smilla.model import DNSAnswer, DNSSECStatus

GOOD = Fetched(200, "text/plain", b"version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n")
DOWN, WRONG = FetchError("refused", temporary=True), FetchError("its certificate is not valid", temporary=False)


def answer(*addresses: str, status: DNSSECStatus = DNSSECStatus.INSECURE) -> DNSAnswer:
    return DNSAnswer("mta-sts.example.org.", "A", status, tuple(ip_address(one).packed for one in addresses))


def test_addresses_of_both_kinds_are_asked_and_not_more_than_four() -> None:
    fault, found = policy_server.located("example.org", [answer("192.0.2.1"), answer("2001:db8::1")])
    assert (fault, found) == (None, ("192.0.2.1", "2001:db8::1"))
    fault, found = policy_server.located("example.org", [answer(*(f"192.0.2.{n}" for n in range(9))), answer()])
    assert len(found) == 4


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([answer(), answer()], State.UNUSABLE),
        ([answer(status=DNSSECStatus.BOGUS), answer()], State.UNREACHABLE),
        ([answer(status=DNSSECStatus.UNREACHABLE), answer()], State.UNREACHABLE),
    ],
)
def test_server_without_an_address_gives_no_policy(answers: list[DNSAnswer], state: State) -> None:
    fault, found = policy_server.located("example.org", answers)
    assert fault is not None
    assert (fault.state, found) == (state, ())
    assert fault.text.startswith("mta-sts.example.org: ")


@pytest.mark.parametrize(
    ("web", "state", "asked"),
    [
        ([GOOD], State.OK, 1),
        ([DOWN, GOOD], State.OK, 2),
        ([DOWN, DOWN, DOWN], State.UNREACHABLE, 3),
        ([WRONG, GOOD], State.UNUSABLE, 1),
        ([DOWN, WRONG, GOOD], State.UNUSABLE, 2),
        ([Fetched(404, "text/html", b""), GOOD], State.UNUSABLE, 1),
    ],
)
def test_next_address_is_asked_only_after_one_that_may_change(
    web: list[Fetched | FetchError], state: State, asked: int
) -> None:
    seen: list[tuple[str, str]] = []

    def fetch(host: str, address: str) -> Fetched:
        found = web[len(seen)]
        seen.append((host, address))
        if isinstance(found, FetchError):
            raise found
        return found

    addresses = [f"192.0.2.{number}" for number in range(len(web))]
    finding, policy = policy_server.fetched("example.org", addresses, fetch, ["mx.example.org"])
    assert (finding.state, policy is not None) == (state, state is State.OK)
    assert seen == [("mta-sts.example.org", address) for address in addresses[:asked]]
