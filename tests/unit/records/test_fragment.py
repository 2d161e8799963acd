"""A zone-file fragment: the records of one owner and type change, and nothing else."""

from __future__ import annotations

import pytest

from smilla.address import parse
from smilla.errors import ParseError
from smilla.records.fragment import with_record, without
from smilla.records.record import openpgpkey_record, smimea_record

HUGH, PIA = parse("hugh@example.org"), parse("pia@example.org")
FIRST, SECOND = smimea_record(HUGH, b"first", 3), smimea_record(HUGH, b"second", 3)
KEY, OTHER = openpgpkey_record(HUGH, b"key"), smimea_record(PIA, b"other", 3)


def test_new_fragment_says_what_to_do_and_has_the_record() -> None:
    text = with_record("", FIRST, 60)
    assert text.startswith("; ")
    assert "serial" in text
    assert text.endswith(FIRST.line(ttl_s=60) + "\n")


def test_record_takes_the_place_of_an_older_one_and_of_no_other() -> None:
    text = ""
    for record in (FIRST, KEY, OTHER, SECOND):
        text = with_record(text, record, 60)
    lines = text.splitlines()[1:]
    assert lines == [record.line(ttl_s=60) for record in (KEY, OTHER, SECOND)]


def test_older_record_may_have_been_written_in_another_form() -> None:
    for line in (FIRST.line(generic=True), FIRST.line().upper(), FIRST.line(ttl_s=5)):
        assert without(line + "\n" + KEY.line() + "\n", FIRST.owner, FIRST.rdtype) == KEY.line() + "\n"


def test_comments_directives_and_other_records_stay() -> None:
    text = "; hello\n$TTL 60\n\nwww IN A 192.0.2.1 ; (in brackets)\n"
    assert without(text, FIRST.owner, FIRST.rdtype) == text
    assert with_record(text, FIRST, 60) == text + FIRST.line(ttl_s=60) + "\n"


@pytest.mark.parametrize("line", ["a IN SOA b c ( 1\n 2 3 4 5 )\n", "  IN A 192.0.2.1\n"])
def test_lines_that_cannot_be_told_apart_are_not_touched(line: str) -> None:
    with pytest.raises(ParseError, match="did not write"):
        with_record(line, FIRST, 60)


def test_record_of_another_type_at_the_same_name_stays() -> None:
    text = f'{FIRST.owner} IN TXT "about it"\n'
    assert with_record(text, FIRST, 60) == text + FIRST.line(ttl_s=60) + "\n"


def test_what_ends_no_line_of_a_zone_file_breaks_none() -> None:
    text = "; one\x0cpage, \u2028 and \x85\r\nwww IN A 192.0.2.1\n"
    assert without(text, FIRST.owner, FIRST.rdtype) == text


@pytest.mark.parametrize("name", ["@", FIRST.owner.partition(".")[0], FIRST.owner.removesuffix(".").upper()])
def test_record_under_a_relative_name_is_not_called_absent(name: str) -> None:
    with pytest.raises(ParseError, match="relative name"):
        without(f"{name} IN SMIMEA 3 0 0 00\n", FIRST.owner, FIRST.rdtype)
