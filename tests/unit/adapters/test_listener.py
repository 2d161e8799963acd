"""What lies at the socket's path already is not destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla import config, runtime
from smilla.adapters import openpgp
from smilla.adapters.listener import UnixPath
from smilla.errors import EngineMissing, SmillaError


def test_regular_file_at_the_path_of_the_socket_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    with pytest.raises(SmillaError, match="no socket"):
        UnixPath(f"unix:{file}").prepare()
    assert file.read_text() == "precious"


def test_link_at_the_path_of_the_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SmillaError, match="no socket"):
        UnixPath(f"unix:{tmp_path}/link").prepare()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmillaError, match="no such folder"):
        UnixPath(f"unix:{tmp_path}/missing/smilla.sock").prepare()


def test_openpgp_engine_is_needed_only_where_a_source_has_openpgp_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str) -> None:
        raise EngineMissing("none is installed")

    monkeypatch.setattr(openpgp, "engine", missing)
    assert runtime.make_ports(config.parse('[keys]\nsources = ["smimea"]\n')).openpgp.name == "none"
    for sources in ('"smimea", "openpgpkey"', '"openpgpkey"'):
        with pytest.raises(EngineMissing):
            runtime.make_ports(config.parse(f"[keys]\nsources = [{sources}]\n"))
