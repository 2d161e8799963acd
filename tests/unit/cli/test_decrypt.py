"""smilla decrypt --check names what the milter would not start with."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla.cli import EX_CONFIG, EX_OK, main
from tests.certificates import to_pem
from tests.unit.decrypt.material import owner, pem


def checked(folder: Path, text: str) -> int:
    path = folder / "smilla.toml"
    path.write_text(text)
    return main(["decrypt", "--check", "--config", str(path)])


def rule(key: Path, *more: str) -> str:
    return "\n".join(["[[decrypt_rule]]", 'recipient = "tickets@example.org"', f'key_files = ["{key}"]', *more])


def test_rules_with_usable_keys_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key.pem"
    key.touch(mode=0o600)
    key.write_bytes(pem(owner().private) + to_pem(owner().raw))
    assert checked(tmp_path, rule(key)) == EX_OK
    assert capsys.readouterr() == (f"tickets@example.org: {key}\n", "")


def test_every_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(pem(owner().private))
    key.chmod(0o604)
    for text, told in (
        (rule(key), f"error: decrypt_rule 1: {key}: everybody on this machine may read it"),
        (rule(tmp_path / "none"), "cannot be read by this user"),
        ("", "there is no [[decrypt_rule]]"),
        (rule(key, 'password = "x"'), "password is unknown"),
        ("[smime]\nca_file = " + f'"{key}"\n' + rule(key), "ca_file"),
    ):
        assert checked(tmp_path, text) == EX_CONFIG
        assert told in capsys.readouterr().err


def test_without_the_sanitizer_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nh3", None)
    assert checked(tmp_path, rule(tmp_path / "none")) == EX_CONFIG
    assert "pip install smilla[decrypt]" in capsys.readouterr().err
