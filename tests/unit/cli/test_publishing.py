"""Which servers are watched where nobody names them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smilla.cli.publishing import name_servers
from smilla.errors import PublishError
from smilla.model import DNSAnswer, DNSSECStatus

SOA, NS = 6, 2
OWNER = "ab._smimecert.mail.example.org."
NAMES = (b"\2b2\7example\3net\0", b"\2a1\7example\3net\0")


def resolver(
    known: dict[tuple[str, int], tuple[bytes, ...]], silence: DNSSECStatus = DNSSECStatus.SECURE
) -> Callable[[str, int], DNSAnswer]:
    def ask(owner: str, rdtype: int) -> DNSAnswer:
        rdata = known.get((owner, rdtype), ())
        return DNSAnswer(owner, str(rdtype), DNSSECStatus.SECURE if rdata else silence, rdata, detail="none")

    return ask


def test_name_servers_are_those_of_the_zone() -> None:
    ask = resolver({("example.org.", NS): NAMES})
    assert name_servers(ask, "example.org.", OWNER) == ["a1.example.net.", "b2.example.net."]


def test_zone_that_nobody_names_is_the_nearest_with_a_soa_record() -> None:
    ask = resolver({("example.org.", SOA): (b"x",), ("org.", SOA): (b"x",), ("example.org.", NS): NAMES})
    assert len(name_servers(ask, "", OWNER)) == 2


@pytest.mark.parametrize("silence", [DNSSECStatus.UNREACHABLE, DNSSECStatus.BOGUS, DNSSECStatus.INDETERMINATE])
def test_resolver_that_cannot_tell_makes_nobody_guess_a_zone(silence: DNSSECStatus) -> None:
    """The next zone above has other servers."""
    with pytest.raises(PublishError) as failed:
        name_servers(resolver({("org.", SOA): (b"x",), ("org.", NS): NAMES}, silence), "", OWNER)
    assert failed.value.temporary


def test_no_servers_is_a_failure_that_says_what_to_do() -> None:
    with pytest.raises(PublishError, match="--authority"):
        name_servers(resolver({}), "example.org.", OWNER)
    with pytest.raises(PublishError, match="no zone"):
        name_servers(resolver({}), "", OWNER)


def test_name_that_is_none_is_not_asked() -> None:
    with pytest.raises(PublishError, match="its NS records"):
        name_servers(resolver({("example.org.", NS): (b"\3a",)}), "example.org.", OWNER)
