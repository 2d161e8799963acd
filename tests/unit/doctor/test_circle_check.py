"""The files of authorities of the circles, as a newcomer makes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.config.options import Circle
from smilla.doctor import circle_check
from tests.certificates import make_certificate, to_pem

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def pem(days: int, *, ca: bool = True, key: bool = False) -> bytes:
    made = make_certificate(
        "p256", common_name="ours", ca=ca, not_before=NOW - timedelta(days=900), not_after=NOW + timedelta(days=days)
    )
    raw = made[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) if key else b""
    return raw + to_pem(made[1])


@pytest.fixture
def path() -> Iterator[Path]:
    """A file in a folder that everybody may enter, which pytest's own is not."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve() / "circle.pem"


def told(path: Path) -> list[str]:
    circle = Circle("ours", ("example.org",), str(path))
    return [f"{found.severity}: {found.text}" for found in circle_check.problems((circle,), NOW)]


def test_file_with_authorities_that_last_is_in_order(path: Path) -> None:
    path.write_bytes(pem(900))
    assert told(path) == []
    path.write_bytes(pem(-1) + pem(900))  # both, while the members change over
    assert told(path) == []


@pytest.mark.parametrize(
    "raw", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"]
)
def test_file_without_an_authority_is_an_error(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    (found,) = told(path)
    assert found.startswith("error: no authority can be read: ")


def test_missing_file_is_an_error(path: Path) -> None:
    assert told(path)[0].startswith("error: no authority can be read: ")


@pytest.mark.parametrize(("days", "begin"), [(-1, "error: the authority in "), (29, "warning: the authority in ")])
def test_authority_that_ends_is_told(path: Path, days: int, begin: str) -> None:
    path.write_bytes(pem(days))
    (found,) = told(path)
    assert found.startswith(begin)
    assert f"{NOW + timedelta(days=days):%Y-%m-%d}" in found


def test_certificate_of_a_server_in_place_of_the_authority_is_told(path: Path) -> None:
    path.write_bytes(pem(900, ca=False))
    (found,) = told(path)
    assert found.startswith("warning: CN=ours in ")
    assert "is no authority" in found


@pytest.mark.parametrize("ca", [True, False])
def test_private_key_in_a_file_that_everybody_reads_is_an_error(path: Path, ca: bool) -> None:
    path.write_bytes(pem(900, ca=ca, key=True))
    assert any(found.startswith(f"error: {path} has a private key") for found in told(path))


def test_file_or_folder_that_postfix_may_not_read_is_told(path: Path) -> None:
    path.write_bytes(pem(900))
    path.chmod(0o600)
    why = "cannot be read by everybody, so perhaps not by Postfix's client either"
    assert told(path) == [f"warning: {path} {why}"]
    path.chmod(0o644)
    path.parent.chmod(0o750)
    assert told(path) == [f"warning: {path.parent} {why}"]
