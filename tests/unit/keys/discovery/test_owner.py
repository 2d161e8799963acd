"""Owner names: the vectors of RFC 7929 and RFC 8162, and what is never asked."""

from __future__ import annotations

import dns.name
import pytest

from smilla.address import parse
from smilla.keys.discovery.owner import OPENPGPKEY, SMIMEA, not_asked, owner_name, unproven_silence

HUGH = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6"


@pytest.mark.parametrize(
    ("mailbox", "digest"),
    [
        ("hugh@example.com", HUGH),
        ('"hugh"@example.com', HUGH),
        ('"hu\\gh"@example.com', HUGH),
        ("Hugh@example.com", "7063a398942ba5c6125429518d0608563f3974bb48013ddf58fb01d4"),
        ('"john smith"@example.com', "32ddaf65cc3aa8d3e6eda3ca2da7c18b71e169e9aa444cccb479c9ca"),
        ("dörte@example.com", "7145ff3b5d1d440d5da25c27bb0e19663f14ae3f9eecb3b50eec6515"),
        ("do\u0308rte@example.com", "7145ff3b5d1d440d5da25c27bb0e19663f14ae3f9eecb3b50eec6515"),
    ],
)
def test_owner_name_is_the_rfcs(mailbox: str, digest: str) -> None:
    parsed = parse(mailbox)
    assert owner_name(parsed.local_part, parsed.domain, OPENPGPKEY) == f"{digest}._openpgpkey.example.com."
    assert owner_name(parsed.local_part, parsed.domain, SMIMEA) == f"{digest}._smimecert.example.com."


def test_tags_and_dots_are_not_mapped_away() -> None:
    names = {owner_name(local, "example.com", SMIMEA) for local in ("hugh", "hugh+tag", "h.ugh", "HUGH")}
    assert len(names) == 4


def test_idn_domain_is_in_a_labels() -> None:
    parsed = parse("hugh@Bücher.example")
    assert owner_name(parsed.local_part, parsed.domain, SMIMEA) == f"{HUGH}._smimecert.xn--bcher-kva.example."


@pytest.mark.parametrize(
    "domain",
    [
        *("[192.0.2.1]", "[ipv6:::1]", "localhost", "example", "a.localhost", "a.invalid", "a.onion"),
    ],
)
def test_names_that_are_not_in_dns_are_not_asked(domain: str) -> None:
    assert not_asked(domain)


@pytest.mark.parametrize("domain", ["example.org", "lab.test", "notlocal.org", "local.org", "arpa.home.org"])
def test_other_names_are_asked(domain: str) -> None:
    assert not_asked(domain) is None
    assert unproven_silence(domain) is None


@pytest.mark.parametrize("domain", ["printer.local", "a.home.arpa", "home.arpa", "x.internal"])
def test_private_names_are_asked_and_only_a_signed_silence_proves_something(domain: str) -> None:
    assert not_asked(domain) is None
    assert unproven_silence(domain)


def test_domain_below_which_no_owner_name_fits_is_not_asked() -> None:
    def domain_of(length: int) -> str:
        return ("a" * 49 + ".") * 3 + "a" * (length - 150 - 10) + "." + "b" * 9

    longest = max(length for length in range(165, 220) if not not_asked(domain_of(length)))
    for rdtype in (SMIMEA, OPENPGPKEY):
        dns.name.from_text(owner_name("hugh", domain_of(longest), rdtype))
    with pytest.raises(dns.name.NameTooLong):
        dns.name.from_text(owner_name("hugh", domain_of(longest + 1), OPENPGPKEY))
