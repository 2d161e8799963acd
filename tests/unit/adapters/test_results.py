"""Results are kept a line each: whole or not at all, and never over something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.adapters.results import Results
from smilla.errors import FileProblem, ParseError

BEGINNING = '{"n":'


def read(line: str) -> int:
    if not (line.startswith(BEGINNING) and line.endswith("}")):
        raise ParseError("no result")
    return int(line[len(BEGINNING) : -1])


def opened(path: Path) -> Results[int]:
    return Results(path, read, BEGINNING)


def test_results_are_known_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "results"
    with opened(path) as results:
        assert results.known == []
        results.add('{"n":1}')
        results.add('{"n":2}')
        assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'
    with opened(path) as results:
        assert results.known == [1, 2]
        results.add('{"n":3}')
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n'


@pytest.mark.parametrize("half", [b'{"n":2}'[:length] for length in range(1, 8)])
def test_half_a_line_is_cut_off_and_written_anew(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "results"
    path.write_bytes(b'{"n":1}\n' + half)
    with opened(path) as results:
        assert results.known == [1]
        results.add('{"n":2}')
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'


@pytest.mark.parametrize("raw", [b"root:x:0:0\n", b'{"n":1}\nDear Hugh,\n{"n":2}\n', b"Dear Hugh", b"\xff\n", b"\n"])
def test_file_that_is_something_else_stays_as_it_is(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "letter"
    path.write_bytes(raw)
    with pytest.raises(FileProblem, match="give another file"):
        opened(path)
    assert path.read_bytes() == raw


def test_second_process_is_refused_as_long_as_the_first_has_it(tmp_path: Path) -> None:
    path = tmp_path / "results"
    with opened(path), pytest.raises(FileProblem, match="another process"):
        opened(path)
    opened(path).__exit__()


def test_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="nowhere/results"):
        opened(tmp_path / "nowhere" / "results")
