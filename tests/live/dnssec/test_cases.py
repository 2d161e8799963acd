"""Every case under both validators, and under a resolver that does not validate.

Within a way all look-ups begin at once, as they do in a filter under load; each has its own test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.keys import lookup
from smilla.model import DNSSECStatus, KeyLookup, KeyVerdict
from smilla.ports import PendingLookup, Ports
from smilla.server.runtime import make_ports
from tests.live.dnssec.bench import EXIT, Bench, Case
from tests.live.dnssec.conftest import CASES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

TIMEOUT_S = 20  # of all that are asked at once, beside whatever else the machine does
WAYS: dict[str, Callable[[Bench], Config]] = {
    "resolver": lambda b: b.config("resolver", b.lab.resolver, timeout_s=TIMEOUT_S),
    "validate-DS": lambda b: b.config("validate", b.lab.plain_resolver, timeout_s=TIMEOUT_S),
    "validate-DNSKEY": lambda b: b.config(
        "validate", b.lab.resolver, trust_anchor=b.lab.trust_anchor_key, timeout_s=TIMEOUT_S
    ),
}


@dataclass
class Round:
    """All cases' look-ups, begun together."""

    config: Config
    ports: Ports
    pending: dict[str, PendingLookup]

    def result(self, case: Case) -> KeyLookup:
        pending = self.pending[case.says]
        deadline = pending.asked_at + self.config.dns.timeout_s
        return lookup.finish(pending, deadline, self.ports.clock.now(), self.ports)


def _begun(config: Config) -> Round:
    ports = make_ports(config)
    return Round(config, ports, {case.says: lookup.begin(parse(case.address), ports, config) for case in CASES})


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest, bench: Bench) -> tuple[str, Round]:
    return request.param, _begun(WAYS[request.param](bench))


@pytest.fixture(scope="module")
def not_validating(bench: Bench) -> Round:
    return _begun(bench.config("resolver", bench.lab.plain_resolver))


def test_no_case_was_lost_and_all_differ() -> None:
    assert len(CASES) >= 165
    assert len({case.says for case in CASES}) == len({case.address for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_case_is_judged_as_it_must_be(way: tuple[str, Round], case: Case) -> None:
    name, all_of_them = way
    found = all_of_them.result(case)
    expected = case.expected if name == "resolver" else case.validate or case.expected
    assert (found.status, found.verdict) == (expected.status, expected.verdict), found
    assert (found.key is not None) == (found.verdict is KeyVerdict.USABLE)
    assert case.reason in found.reason.text or case.validate, found.reason


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_resolver_that_does_not_validate_yields_no_key_and_no_absence(not_validating: Round, case: Case) -> None:
    found = not_validating.result(case)
    assert found.key is None
    assert EXIT[found.verdict] == 75
    assert found.status in (DNSSECStatus.INDETERMINATE, DNSSECStatus.UNREACHABLE, *([] if case.is_asked else [None]))
