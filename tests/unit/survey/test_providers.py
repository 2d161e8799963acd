"""Who is behind a mail server."""

from __future__ import annotations

import pytest

from smilla.survey.providers import block, limits, registered


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx1.mail.example.org", "example.org"),
        ("EXAMPLE.org.", "example.org"),
        ("mx.example.co.uk", "example.co.uk"),
        ("mx.example.com.br", "example.com.br"),
        ("mx.example.de", "example.de"),
        ("mx.web.de", "mx.web.de"),
        ("localhost", "localhost"),
    ],
)
def test_registered_domain_is_guessed(host: str, name: str) -> None:
    assert registered(host) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("::ffff:192.0.2.1", "::/48")],
)
def test_block_of_an_address(address: str, name: str) -> None:
    assert block(address) == name


def test_address_has_one_connection_and_its_provider_four() -> None:
    assert limits("mx.example.org", "192.0.2.1") == {
        "192.0.2.1": 1,
        "host example.org": 4,
        "block 192.0.2.0/24": 4,
    }
