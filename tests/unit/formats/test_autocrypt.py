"""The Autocrypt field: what is an offer, and that nothing but ParseError comes of any octets."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import autocrypt
from smilla.formats.autocrypt import Offer

KEY = bytes(range(200))
KEYDATA = base64.b64encode(KEY)


def field(*attributes: bytes) -> bytes:
    return b" " + b"; ".join(attributes)


def test_offer_is_read_whatever_its_folding_and_order() -> None:
    folded = KEYDATA[:76] + b"\r\n  " + KEYDATA[76:152] + b"\r\n\t" + KEYDATA[152:]
    for attributes in (
        (b"addr=a@x.test", b"prefer-encrypt=mutual", b"keydata=" + KEYDATA),
        (b"keydata=\r\n " + folded, b"prefer-encrypt=mutual", b"addr=a@x.test"),
        (b"addr = a@x.test", b"_other=x", b"prefer-encrypt = mutual", b"keydata = " + folded + b";"),
    ):
        assert autocrypt.read(field(*attributes)) == Offer("a@x.test", KEY, is_mutual=True)


@pytest.mark.parametrize("preference", [(), (b"prefer-encrypt=nopreference",), (b"prefer-encrypt=MUTUAL",)])
def test_only_mutual_asks_for_encryption(preference: tuple[bytes, ...]) -> None:
    assert not autocrypt.read(field(b"addr=a@x.test", *preference, b"keydata=" + KEYDATA)).is_mutual


@pytest.mark.parametrize(
    "attributes",
    [
        (b"addr=a@x.test",),
        (b"keydata=" + KEYDATA,),
        (b"addr=", b"keydata=" + KEYDATA),
        (b"addr=a@x.test", b"keydata="),
        (b"addr=a@x.test", b"keydata=%%%"),
        (b"addr=a@x.test", b"keydata=" + KEYDATA[:-1]),
        (b"addr=a@x.test", b"addr=b@x.test", b"keydata=" + KEYDATA),
        (b"addr=a@x.test", b"type=1", b"keydata=" + KEYDATA),
        (b"addr=a@x.test", b"nonsense", b"keydata=" + KEYDATA),
        (b"addr=\xff@x.test", b"keydata=" + KEYDATA),
        (b"addr=a@x.test", b"keydata=" + base64.b64encode(bytes(50_000))),
    ],
)
def test_field_that_breaks_a_rule_offers_nothing(attributes: tuple[bytes, ...]) -> None:
    with pytest.raises(ParseError):
        autocrypt.read(field(*attributes))


@given(st.binary(max_size=300) | st.text("adrkeyt=;_-. \t\r\n@", max_size=200).map(str.encode))
def test_any_octets_are_an_offer_or_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        assert autocrypt.read(raw).addr
