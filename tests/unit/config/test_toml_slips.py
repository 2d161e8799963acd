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
        ("[milter", "the name of a table stands in brackets: write [milter]"),
        ("milter]", "the name of a table stands in brackets: write [milter]"),
        ("(milter)", "the name of a table stands in brackets: write [milter]"),
        ("[[rule]", "the name of a table stands in brackets: write [[rule]]"),
        ("[rule]]", "the name of a table stands in brackets: write [[rule]]"),
        (
            '[milter] user = "x"',
            'the name of a table stands alone in its line: write [milter], and user = "x" below it',
        ),
        ('sources = ["a" "b"]', 'commas stand between the texts of a list: write sources = ["a", "b"]'),
        ('sources = ["a"; "b"]', 'commas stand between the texts of a list: write sources = ["a", "b"]'),
        ("sources = [a b]", 'texts in a list stand in quotes: write sources = ["a", "b"]'),
        ('sources = ["a, "b"]', 'texts in a list stand in quotes: write sources = ["a", "b"]'),
        ('sources = ("a", "b")', 'a list stands in square brackets: write sources = ["a", "b"]'),
        ('sources = {"a"}', 'a list stands in square brackets: write sources = ["a"]'),
        ('sources = ["a", "b")', 'a list stands in square brackets: write sources = ["a", "b"]'),
        ('sources = "a", "b"', 'a list stands in square brackets: write sources = ["a", "b"]'),
        ('sources = "a"]', 'a list stands in square brackets: write sources = ["a"]'),
        ('sources = ["a", "b"', 'the list has no closing bracket: write sources = ["a", "b"]'),
        (
            'sources = ["a", "b"]]',
            'one comma stands between two texts, and one pair of brackets around all: write sources = ["a", "b"]',
        ),
        ('sources = [\n"a"\n"b",\n]', 'a comma is missing before "b"'),
        ('sources = [\n"a",\nb,\n]', 'texts in a list stand in quotes: write "b",'),
        ('sources = [\n"a",\nx = "+"', "the list of sources, which begins in line 2, has no closing ]"),
        ('sources = [\n"a"\n[dns]', "the list of sources, which begins in line 2, has no closing ]"),
        ('sources = [\n"a",\n', "the list of sources, which begins in line 2, has no closing ]"),
        ('mode = "auto",', 'nothing stands after a value: write mode = "auto"'),
        ("observe = true;", "nothing stands after a value: write observe = true"),
        ("observe: true", "write observe = true"),
        ("timeout_s = 5s", "timeout_s is a number of seconds, without a unit: write timeout_s = 5"),
        ("timeout_s = 2.5 sec", "timeout_s is a number of seconds, without a unit: write timeout_s = 2.5"),
        ("remember_s = 2h", "remember_s is a number of seconds, without a unit: write remember_s = 7200"),
        ("remember_s = 5 days", "remember_s is a number of seconds, without a unit: write remember_s = 432000"),
        ("key_days = 90d", "key_days is a number of days, without a unit: write key_days = 90"),
        ("workers = 5d", ""),
        ("; a comment", "a comment begins with #: write # a comment"),
        (";observe = true", "a comment begins with #: write # observe = true"),
        ("  // [milter]", "a comment begins with #: write # [milter]"),
        ("socket_mode = 0660", 'a text stands in quotes: write socket_mode = "0660"'),
        ('folder = "C:\\x"', 'a backslash is written twice: write folder = "C:\\\\x"'),
        ("[dns]\n[dns]", "write a table once, with all of its keys below it"),
    ],
)
def test_a_slip_is_told_with_the_line_that_was_meant(line: str, told: str) -> None:
    text = f"# a comment\n{line}\n"
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert advice(text, str(caught.value)) == told


@pytest.mark.parametrize(
    "line",
    [
        "timeout_s = 5,5",
        "timeout_s = 05",
        "observe = true false",
        'mode = "auto" "inbound"',
        'subject = "a "b" c"',
        "subject = 'it's'",
        'sources = [\n"a\',\n"b"]',
        "x = 1 y = 2",
        "this line lacks its sign",
        "[milter]x",
        'subject = """a',
        "= 3",
    ],
)
def test_what_may_have_been_meant_in_several_ways_is_not_guessed(line: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(line)
    assert advice(line, str(caught.value)) == ""


def test_a_fault_without_a_place_has_no_advice() -> None:
    assert advice("", "something else") == ""
    assert advice("x", "no such line (at line 9, column 1)") == ""


@pytest.mark.parametrize(
    "line",
    ["observe = yes", "folder = 'x", "mode = auto", "domains = [a.test, b.test]", 'a "b"', 'a = ["b" "c"]', "a = (b)"],
)
def test_what_is_advised_is_toml(line: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(line)
    assert tomllib.loads(advice(line, str(caught.value)).rpartition("write ")[2])


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("\ufeffobserve = true\n")
    assert "it begins with a byte order mark" in str(caught.value)
