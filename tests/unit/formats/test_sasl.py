"""The name in a client's answers, and never what stands beside it."""

from __future__ import annotations

import base64

import pytest

from smilla.errors import ParseError
from smilla.formats import sasl


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("mechanism", "raw"),
    [
        ("PLAIN", b"\0me@s.test\0secret"),
        ("PLAIN", b"other\0me@s.test\0secret"),
        ("LOGIN", b"me@s.test"),
        ("XOAUTH2", b"user=me@s.test\x01auth=Bearer secret\x01\x01"),
        ("OAUTHBEARER", b"n,a=me@s.test,\x01host=x\x01auth=Bearer secret\x01\x01"),
    ],
)
def test_name_is_found(mechanism: str, raw: bytes) -> None:
    assert sasl.user(mechanism, b64(raw)) == "me@s.test"


@pytest.mark.parametrize(
    ("mechanism", "line"),
    [
        ("PLAIN", "secret!"),
        ("PLAIN", b64(b"secret")),
        ("PLAIN", b64(b"\0\0secret")),
        ("PLAIN", b64(b"\0a\0b\0secret")),
        ("PLAIN", b64(b"\0\xff\0secret")),
        ("PLAIN", b64(b"\0me\r\n\0secret")),
        ("LOGIN", ""),
        ("XOAUTH2", b64(b"auth=Bearer secret\x01\x01")),
        ("OAUTHBEARER", b64(b"n,,\x01auth=Bearer secret\x01\x01")),
    ],
)
def test_what_has_none_is_refused_and_not_shown(mechanism: str, line: str) -> None:
    with pytest.raises(ParseError) as caught:
        sasl.user(mechanism, line)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
