"""Names in RDATA."""

from __future__ import annotations

import pytest

from smilla.errors import ParseError
from smilla.formats.domain_name import from_wire


def test_name_has_its_final_dot() -> None:
    assert from_wire(b"\2ns\4test\0") == "ns.test."
    assert from_wire(b"\0") == "."


@pytest.mark.parametrize("raw", [b"", b"\2ns", b"\2n", b"\2ns\0x", b"\xc0\x0c", b"\3a.b\0", b"\2\xff\xff\0", b"\1\n\0"])
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        from_wire(raw)
