"""A queue that moves while it is read, and programs that fail: nothing is told that might be wrong.

What a real Postfix says is in tests/live/test_seal_keys.py; here programs of the same names say what it rarely says.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from smilla.adapters.postfix import Postfix, behind_proxy
from smilla.errors import PostfixUnclear

_PROGRAM = """#!/bin/sh
cd {folder} || exit 9
{text}
"""
_LISTS = """n=$(cat calls 2>/dev/null || echo 0); echo $((n + 1)) >calls
for id in $(cat "list$n" 2>/dev/null || cat last); do echo "{\\"queue_id\\": \\"$id\\"}"; done"""
_PRINTS = """[ "$1" = -hq ] || exit 2
cat "$2" 2>/dev/null || { echo "postcat: fatal: open $2: No such file" >&2; exit 1; }"""


class Programs:
    """Programs of Postfix in a folder: ``lists`` are what postqueue says, one after the other, the last for ever."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self.program("postconf", f"echo {folder}")
        self.program("postqueue", _LISTS)
        self.program("postcat", _PRINTS)
        self.lists("")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(_PROGRAM.format(folder=self.folder, text=text))
        path.chmod(0o755)

    def lists(self, *lists: str) -> None:
        for number, text in enumerate(lists[:-1]):
            (self.folder / f"list{number}").write_text(text)
        (self.folder / "last").write_text(lists[-1])

    def message(self, queue_id: str) -> None:
        (self.folder / queue_id).write_text(f"Subject: {queue_id}\n")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Programs(tmp_path)


def read() -> dict[str, bytes]:
    return dict(Postfix(timeout_s=20).headers_in_queue())


def test_an_empty_queue_has_nothing(programs: Programs) -> None:
    assert read() == {}


def test_what_comes_under_another_id_meanwhile_is_read_too(programs: Programs) -> None:
    """As postsuper -r does: A is gone once it is asked for, and B is there."""
    programs.lists("A C", "B C")
    programs.message("B")
    programs.message("C")
    assert sorted(read()) == ["B", "C"]


def test_what_is_listed_and_cannot_be_read_is_unclear(programs: Programs) -> None:
    programs.lists("A")
    with pytest.raises(PostfixUnclear, match="postcat -hq A: fatal: open A"):
        read()


def test_a_queue_that_never_comes_to_rest_is_unclear(programs: Programs) -> None:
    programs.program("postqueue", _LISTS.replace('$(cat "list$n" 2>/dev/null || cat last)', "A$n"))
    programs.program("postcat", "echo Subject: x")
    with pytest.raises(PostfixUnclear, match="changes faster than it can be read"):
        read()


@pytest.mark.parametrize("line", ["rubbish", '{"queue": "A"}', "[]", '{"queue_id": "../A"}', '{"queue_id": "-d"}'])
def test_a_list_that_is_not_understood_is_unclear(programs: Programs, line: str) -> None:
    programs.program("postqueue", f"echo '{line}'")
    with pytest.raises(PostfixUnclear, match="postqueue -j"):
        read()


def test_a_program_that_fails_or_is_not_there_is_unclear(programs: Programs) -> None:
    programs.program("postqueue", "echo 'postqueue: fatal: no queue' >&2; exit 69")
    with pytest.raises(PostfixUnclear, match="postqueue: fatal: no queue"):
        read()
    programs.program("postconf", "exit 3")
    with pytest.raises(PostfixUnclear, match="postconf: exit code 3"):
        read()


def test_a_program_that_hangs_is_unclear_and_does_not_hang_us(programs: Programs) -> None:
    programs.program("postqueue", "exec sleep 60")
    began_at = time.monotonic()
    with pytest.raises(PostfixUnclear, match=r"(postconf|postqueue) did not answer in time"):
        list(Postfix(timeout_s=0.5).headers_in_queue())
    assert time.monotonic() - began_at < 30
    with pytest.raises(PostfixUnclear, match="asking Postfix took too long"):
        list(Postfix(timeout_s=0).headers_in_queue())


@pytest.mark.parametrize("name", ["corrupt", "saved"])
def test_mail_that_postqueue_does_not_list_is_unclear(programs: Programs, name: str) -> None:
    (programs.folder / name / "A").mkdir(parents=True)
    assert read() == {}
    (programs.folder / name / "A" / "A1").write_bytes(b"x")
    with pytest.raises(PostfixUnclear, match="A1: nobody can tell"):
        read()


@pytest.mark.parametrize(
    ("text", "found"),
    [("echo 'FILTER a:b'", "FILTER a:b"), ("exit 1", ""), ("echo 'postmap: warning: main.cf, line 2' >&2; exit 1", "")],
)
def test_a_table_has_something_or_nothing(programs: Programs, text: str, found: str) -> None:
    programs.program("postmap", text)
    assert Postfix().looked_up("regexp:/x", "X-Smilla-Stage: 1") == found


@pytest.mark.parametrize("text", ["postmap: fatal: open /x: No such file", "postmap: fatal: unsupported dictionary"])
def test_a_table_that_cannot_be_read_is_unclear(programs: Programs, text: str) -> None:
    programs.program("postmap", f"echo '{text}' >&2; exit 1")
    with pytest.raises(PostfixUnclear, match=text):
        Postfix().looked_up("regexp:/x", "X-Smilla-Stage: 1")


@pytest.mark.parametrize(
    ("table", "meant"),
    [
        ("proxy:regexp:/etc/postfix/x", "regexp:/etc/postfix/x"),
        ("proxywrite:hash:/x", "hash:/x"),
        ("pipemap:{proxy:hash:/a, hash:/b, proxy:hash:/c}", "pipemap:{hash:/a, hash:/b, hash:/c}"),
        ("hash:/etc/proxy:hash:/x", "hash:/etc/proxy:hash:/x"),
        ("static:{FILTER proxy:there:25}", "static:{FILTER proxy:there:25}"),
    ],
)
def test_a_table_is_followed_through_proxymap_to_what_is_behind(programs: Programs, table: str, meant: str) -> None:
    programs.program("postmap", 'echo "$3"')  # -q KEY TABLE
    assert behind_proxy(table) == meant
    assert Postfix(timeout_s=20).looked_up(table, "key") == meant


def test_an_answer_rests_on_the_file_behind_proxymap(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    programs.program("postmap", "exit 1")
    asked = Postfix(timeout_s=20)
    assert asked.looked_up(f"proxy:hash:{tmp_path}/x", "key") == ""
    assert list(asked.files) == [f"{tmp_path}/x"]
