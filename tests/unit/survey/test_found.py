"""A result as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from smilla.errors import ParseError
from smilla.hops.mx import State
from smilla.survey.found import Found, Result, from_line, to_line
from tests.unit.survey.samples import CLEAR, FOUND, SILENT, at


@pytest.mark.parametrize("found", [FOUND, at(CLEAR, SILENT), replace(FOUND, hosts=(), key=Result(State.BOGUS, "ß\n"))])
def test_line_is_read_back_as_it_was(found: Found) -> None:
    line = to_line(found)
    assert "\n" not in line
    assert line.isascii()
    assert line.startswith('{"asked":"')
    assert from_line(line) == found


@pytest.mark.parametrize(
    "change",
    [
        {"way": "carrier pigeon"},
        {"hosts": [{"name": "mx"}]},
        {"hosts": None},
        {"mx": None},
        {"asked": 5},
        {"more": "text"},
        {"key": {"state": "ok"}},
    ],
)
def test_anything_else_is_no_result(change: dict[str, object]) -> None:
    raw = json.loads(to_line(FOUND)) | change
    with pytest.raises(ParseError):
        from_line(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "root:x:0:0", to_line(FOUND)[:-1]])
def test_text_that_is_no_object_is_no_result(text: str) -> None:
    with pytest.raises(ParseError):
        from_line(text)
