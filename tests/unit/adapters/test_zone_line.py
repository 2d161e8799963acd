"""Lines of a zone file, read by dnspython."""

from __future__ import annotations

import pytest

from smilla.adapters import zone_line
from smilla.errors import ParseError


def test_generic_and_usual_forms_are_one_record() -> None:
    usual, generic = "x.test. IN SMIMEA 3 0 0 30", "x.test. 60 IN TYPE53 \\# 4 03000030"
    assert zone_line.read(usual) == zone_line.read(generic) == ("x.test.", 53, b"\3\0\0\x30")


@pytest.mark.parametrize("line", ["", "x.test.", "x.test. IN SMIMEA 3 0 0 zz", "x. IN A 192.0.2.1\ny. IN A 192.0.2.2"])
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ParseError):
        zone_line.read(line)
