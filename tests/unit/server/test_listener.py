"""What lies at the socket's path already is not destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla import config
from smilla.adapters import openpgp
from smilla.config.values import is_local
from smilla.errors import EngineMissing, SmillaError
from smilla.server import runtime
from smilla.server.listener import UnixPath


def test_regular_file_at_the_path_of_the_socket_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    with pytest.raises(SmillaError, match="not a socket"):
        UnixPath(f"unix:{file}").prepare()
    assert file.read_text() == "precious"


def test_link_at_the_path_of_the_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SmillaError, match="not a socket"):
        UnixPath(f"unix:{tmp_path}/link").prepare()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmillaError, match="no such folder"):
        UnixPath(f"unix:{tmp_path}/missing/smilla.sock").prepare()


def test_openpgp_engine_is_needed_only_where_a_source_has_openpgp_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str, hides: bool, sources: tuple[str, ...]) -> None:
        raise EngineMissing("none is installed")

    monkeypatch.setattr(openpgp, "engine", missing)
    assert runtime.make_ports(config.parse('[keys]\nsources = ["smimea"]\n')).openpgp.name == "none"
    for sources in ('"smimea", "openpgpkey"', '"openpgpkey"'):
        with pytest.raises(EngineMissing):
            runtime.make_ports(config.parse(f"[keys]\nsources = [{sources}]\n"))


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("", False),
        ("[openpgp]\nhidden_recipients = true\n", True),
        ("[[rule]]\nuser = '*'\nhidden_recipients = true", True),
    ],
)
def test_engine_is_asked_for_hidden_recipients_where_anything_wants_them(
    text: str, hides: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, bool]] = []

    def engine(name: str, folder: str, *, hides: bool, sources: tuple[str, ...]) -> openpgp.NoEngine:
        asked.append((name, folder, hides))
        return openpgp.NoEngine()

    monkeypatch.setattr(openpgp, "engine", engine)
    runtime.make_ports(config.parse(f"{text}\n[spool]\nfolder = '{tmp_path}'\n"))
    assert asked == [("auto", str(tmp_path), hides)]


@pytest.mark.parametrize(
    ("socket", "local"),
    [
        ("unix:/run/s", True), ("local:/run/s", True), ("inet:8895@127.0.0.1", True), ("inet6:8895@[::1]", True),
        ("inet:8895@localhost", True), ("inet:8895", False), ("inet:8895@0.0.0.0", False), ("inet6:8895@::", False),
        ("inet:8895@192.0.2.1", False), ("inet:8895@mx1.example.org", False),
    ],
)  # fmt: skip
def test_a_socket_that_other_machines_reach_is_known(socket: str, local: bool) -> None:
    assert is_local(socket) is local
