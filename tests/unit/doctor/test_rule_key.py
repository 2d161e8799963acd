"""The key files of rules: the gate's verdict of today, and private keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from smilla import config
from smilla.doctor import rule_key
from smilla.doctor.finding import Finding
from tests.vectors.memory import KEYS, make_ports


def told(path: Path, more: str = "") -> list[Finding]:
    settings = config.parse(f'[[rule]]\nrecipient = "*"\n[[rule]]\nrecipient = "*"\nkey = "{path}"\n{more}')
    return list(rule_key.problems(settings, make_ports()))


def test_usable_key_is_in_order_and_said() -> None:
    (found,) = told(KEYS / "hugh.crt")
    assert (found.severity, found.kind, found.subject) == ("", "key-file", f"rule 2: key {KEYS}/hugh.crt")
    assert "RSA" in found.text


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("expired.crt", "", "unusable_key: "),
        ("pgp-revoked.pgp", "", "unusable_key: "),
        ("hugh.crt", 'formats = ["openpgp"]', "unusable_key: "),
    ],
)
def test_key_that_cannot_be_used_is_an_error(name: str, more: str, why: str) -> None:
    (found,) = told(KEYS / name, more)
    assert (found.severity, found.kind) == ("error", "key-file")
    assert found.text.startswith(why)


def test_private_key_is_an_error_with_the_line_that_leaves_its_public_part(tmp_path: Path) -> None:
    path = tmp_path / "partner.pem"
    path.write_bytes((KEYS / "hugh.key").read_bytes() + (KEYS / "hugh.crt").read_bytes())
    found, usable = told(path)
    assert (found.severity, found.kind) == ("error", "private-key")
    assert found.mend.startswith(f"mv {path} /root/ && ")
    assert found.why.endswith(f"openssl x509 -in /root/partner.pem -out {path}")
    assert usable.severity == ""


def test_file_that_is_too_large_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "partner.crt"
    path.write_bytes(b"x" * ((1 << 20) + 1))
    (found,) = told(path)
    assert (found.severity, "larger" in found.text) == ("error", True)


def test_rules_without_a_key_say_nothing() -> None:
    assert list(rule_key.problems(config.parse('[[rule]]\nrecipient = "*"\n'), make_ports())) == []
