"""RDATA of the records that lead to a mail server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smilla.errors import ParseError
from smilla.hops import rdata

if TYPE_CHECKING:
    from collections.abc import Callable


def test_records_are_read() -> None:
    assert rdata.exchange(b"\0\x0a\2mx\4test\0") == (10, "mx.test.")
    assert rdata.address(bytes([192, 0, 2, 1])) == "192.0.2.1"
    assert rdata.address(bytes(15) + b"\1") == "::1"
    assert rdata.text(b"\3v=S\0\4TSv1") == "v=STSv1"
    assert rdata.text(b"\1\xe4") == "\ufffd"


@pytest.mark.parametrize(
    ("read", "raw"),
    [(rdata.exchange, b"\0"), (rdata.exchange, b"\0\1\5mx"), (rdata.address, b"abc"), (rdata.text, b"\4abc")],
)
def test_malformed_record_is_no_empty_one(read: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(ParseError):
        read(raw)
