"""The relay's own certificate, as an administrator may leave it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smilla.config.options import RelayOptions
from smilla.doctor import relay_certificate
from tests.lab.loopback_tls import pem

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.pem"


def written(path: Path, ends_days: int, begins_days: int = -900) -> Path:
    path.write_bytes(pem(not_before=NOW + timedelta(days=begins_days), not_after=NOW + timedelta(days=ends_days)))
    path.chmod(0o600)
    return path


def told(path: Path, key: Path | None = None) -> list[tuple[str, str, str]]:
    options = RelayOptions(tls_certificate=str(path), tls_key=str(key or ""))
    return [(found.kind.value, found.severity, found.text) for found in relay_certificate.problems(options, NOW)]


def test_without_one_there_is_nothing_to_say() -> None:
    assert list(relay_certificate.problems(RelayOptions(), NOW)) == []


@pytest.mark.parametrize(
    ("ends_days", "begins_days", "severity", "text"),
    [
        (100, -900, "", "is in order until 2027-02-28"),
        (13, -900, "warning", "ends on 2026-12-03"),
        (-1, -900, "error", "ended on 2026-11-19"),
        (100, 1, "error", "begins on 2026-11-21"),
    ],
)
def test_its_time_is_told(path: Path, ends_days: int, begins_days: int, severity: str, text: str) -> None:
    assert told(written(path, ends_days, begins_days)) == [("certificate", severity, text)]


def test_key_that_everybody_may_read_is_an_error_and_the_line_that_mends_it_names_it(path: Path) -> None:
    key = written(path.with_name("relay.key"), 100)
    key.chmod(0o604)
    [(kind, severity, text), (_, fine, _)] = told(written(path, 100), key)
    assert (kind, severity, fine) == ("rights-too-wide", "error", "")
    assert text == f"everybody on this machine may read its private key {key}"
    [found, _] = relay_certificate.problems(RelayOptions(tls_certificate=str(path), tls_key=str(key)), NOW)
    assert found.mend == f"chmod o= {key}"
    key.chmod(0o640)
    path.chmod(0o644)
    assert [severity for _, severity, _ in told(path, key)] == [""]


def test_key_in_the_certificate_s_own_file_counts_too(path: Path) -> None:
    written(path, 100).chmod(0o644)
    assert [kind for kind, _, _ in told(path)] == ["rights-too-wide", "certificate"]


@pytest.mark.parametrize("raw", [b"", b"nonsense", pem()[:200], pem()[: pem().index(b"-----BEGIN CERT")]])
def test_file_that_is_no_certificate_with_its_key_is_an_error(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    path.chmod(0o600)
    [(kind, severity, text)] = told(path)
    assert (kind, severity) == ("certificate", "error")
    assert text.startswith("cannot be used: ")
    path.unlink()
    assert told(path) == [("certificate", "error", "cannot be read: No such file or directory")]


def test_socket_that_others_reach_in_the_clear_is_worth_a_warning(path: Path) -> None:
    certificate = str(written(path, 100))
    for socket, kinds in (("inet:10026@192.0.2.1", ["open-socket", "certificate"]), ("unix:/x", ["certificate"])):
        options = RelayOptions(socket=socket, tls_certificate=certificate, tls_required=False)
        assert [found.kind.value for found in relay_certificate.problems(options, NOW)] == kinds


def test_key_of_another_certificate_is_an_error(path: Path) -> None:
    key = path.with_name("relay.key")
    key.write_bytes(pem(number=4))
    key.chmod(0o600)
    [(kind, severity, text)] = told(written(path, 100), key)
    assert (kind, severity) == ("certificate", "error")
    assert "mismatch" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_this_user_may_not_read_was_not_tried(path: Path) -> None:
    written(path, 100).chmod(0)
    assert [(kind, severity) for kind, severity, _ in told(path)] == [("asks", "hint")]
