"""What to write instead of what is no TOML; further cases are in tests/bad_configs."""

from __future__ import annotations

import tomllib

import pytest

from smilla.config import parse
from smilla.config.toml_slips import advice
from smilla.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("observe = yes", "write observe = true"),
        ("observe = Flase", "write observe = false"),
        ("nameservers = [127.0.0.1]", 'texts in a list stand in quotes: write nameservers = ["127.0.0.1"]'),
        ("folder = 'x", 'the text has no closing quote: write folder = "x"'),
        ('mode "auto"', 'write mode = "auto"'),
        ('folder = a"b', 'a text stands in quotes: write folder = "a\\"b"'),
        ("timeout_s = ", "timeout_s has no value"),
        ("nameservers = [127.0.0.1,", ""),
        ("[milter", ""),
        ("[dns]\n[dns]", "write a table once, with all of its keys below it"),
    ],
)
def test_a_slip_is_told_with_the_line_that_was_meant(line: str, told: str) -> None:
    text = f"# a comment\n{line}\n"
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert advice(text, str(caught.value)) == told


def test_a_fault_without_a_place_has_no_advice() -> None:
    assert advice("", "something else") == ""
    assert advice("x", "no such line (at line 9, column 1)") == ""


@pytest.mark.parametrize("line", ["observe = yes", "folder = 'x", "mode = auto", "domains = [a.test, b.test]", 'a "b"'])
def test_what_is_advised_is_toml(line: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(line)
    assert tomllib.loads(advice(line, str(caught.value)).rpartition("write ")[2])


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("\ufeffobserve = true\n")
    assert "it begins with a byte order mark" in str(caught.value)
