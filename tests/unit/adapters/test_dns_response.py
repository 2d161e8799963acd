"""Reading a response."""

from __future__ import annotations

import dns.message
import pytest

from smilla.adapters import dns_response


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (f"{'0' * 56}._smimecert.example.org.", "example.org."),
        (f"{'0' * 56}._openpgpkey.sub.example.org.", "sub.example.org."),
        ("_mta-sts.example.org.", "example.org."),
        ("_25._tcp.mx.example.org.", "mx.example.org."),
        ("mx.example.org.", "mx.example.org."),
        ("example.org.", "example.org."),
        ("org.", "org."),
    ],
)
def test_denial_that_names_no_zone_is_looked_into_from_the_domain_on(owner: str, expected: str) -> None:
    """From the zone above it, every unsigned domain would look signed."""
    response = dns.message.make_response(dns.message.make_query(owner, "A"))
    assert dns_response.above(response).to_text() == expected
