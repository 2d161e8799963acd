"""The deploy hook for certbot: a new key is used only where its TLSA record is published."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.certificates import make_certificate

HOOK = Path(__file__).resolve().parents[2] / "contrib/acme/smilla-deploy-hook"
HEAD = ";; ->>HEADER<<- opcode: QUERY, status: %s, id: 1\n"
ANSWER = "_25._tcp.mx.example.\t300\tIN\tTLSA\t3 1 1 %s %s\n"
OLD = ANSWER % ("A" * 56, "A" * 8)


@pytest.fixture
def digest(tmp_path: Path) -> str:
    """Of the new key; the folder is as certbot leaves it."""
    now = datetime.now(UTC)
    _, raw = make_certificate("p256", email="a@b.test", not_before=now, not_after=now + timedelta(days=9))
    certificate = x509.load_der_x509_certificate(raw)
    pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
    for name, text in (("cert", pem), ("fullchain", pem), ("privkey", "PRIVATE\n")):
        (tmp_path / f"{name}.pem").write_text(text, "ascii")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def hook(
    place: Path, answer: str, domains: str = "mx.example", watch: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs it with a dig that answers so, "" as one that gets no answer, and a smilla that exits so; 127: none."""
    programs = place / "bin"
    programs.mkdir()
    (place / "answer").write_text(answer, "ascii")
    (programs / "dig").write_text(f"#!/bin/sh\ncat {place}/answer\n[ -s {place}/answer ]\n", "ascii")
    (programs / "reload").write_text(f"#!/bin/sh\ntouch {place}/reloaded\n", "ascii")
    if watch != 127:
        text = f'#!/bin/sh\n[ -e {place}/reloaded ] && echo "$*" >{place}/watched\necho "[]"\nexit {watch}\n'
        (programs / "smilla").write_text(text, "ascii")
    for program in programs.iterdir():
        program.chmod(0o755)
    given = {"RENEWED_LINEAGE": str(place), "RENEWED_DOMAINS": domains, "RELOAD": "reload", "LIVE": f"{place}/live"}
    # Without the folder of this Python, which may have a smilla.
    path = ":".join(folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "smilla").exists())
    environment = {**os.environ, **given, **more, "PATH": f"{programs}:{path}"}
    return subprocess.run(["sh", HOOK], check=False, capture_output=True, text=True, env=environment)


def test_it_is_a_shell_script_without_a_slip() -> None:
    assert subprocess.run(["sh", "-n", HOOK], check=False).returncode == 0
    assert os.access(HOOK, os.X_OK)


def test_postfix_gets_the_new_certificate_once_its_record_is_published(tmp_path: Path, digest: str) -> None:
    done = hook(tmp_path, HEAD % "NOERROR" + OLD + ANSWER % (digest[:56].upper(), digest[56:].upper()))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reloaded").exists()
    assert (tmp_path / "live/chain.pem").read_text("ascii").startswith("PRIVATE\n-----BEGIN CERTIFICATE")
    assert (tmp_path / "live/chain.pem").stat().st_mode & 0o777 == 0o600


def test_name_without_records_needs_none(tmp_path: Path, digest: str) -> None:
    done = hook(tmp_path, HEAD % "NXDOMAIN")
    assert done.returncode == 0, done.stderr
    assert f"_25._tcp.mx.example. IN TLSA 3 1 1 {digest}" in done.stdout
    assert (tmp_path / "reloaded").exists()


@pytest.mark.parametrize("answer", [HEAD % "NOERROR" + OLD, HEAD % "SERVFAIL", ""])
def test_old_certificate_stays_where_the_record_is_missing_or_nobody_can_tell(
    tmp_path: Path, digest: str, answer: str
) -> None:
    done = hook(tmp_path, answer)
    assert done.returncode == 1
    assert "the old certificate stays in use" in done.stderr
    assert ("nobody answers" in done.stderr) != (f"IN TLSA 3 1 1 {digest}" in done.stderr)
    assert not (tmp_path / "reloaded").exists()
    assert not (tmp_path / "live").exists()


def test_hook_that_is_told_no_host_reloads_nothing(tmp_path: Path, digest: str) -> None:
    assert digest
    assert hook(tmp_path, "", domains="").returncode == 1
    assert not (tmp_path / "reloaded").exists()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "senders find all well at mx.example"),
        (1, "senders meet what stands above"),
        (75, "cannot be told now"),
        (2, "nobody looked at it"),
        (127, "nobody looked at it"),
    ],
)
def test_what_senders_meet_after_the_reload_is_the_exit_code(tmp_path: Path, digest: str, code: int, text: str) -> None:
    assert digest
    done = hook(tmp_path, HEAD % "NXDOMAIN", watch=code)
    assert (tmp_path / "reloaded").exists()
    assert done.returncode == code
    assert text in (done.stderr if code else done.stdout)
    assert ("[]\n" in done.stderr) is (code in (1, 2, 75))
    if code != 127:
        asked = (tmp_path / "watched").read_text("ascii")
        assert asked == "watch --quiet --json --days 0 --port 25 --mx mx.example\n"


def test_domains_to_look_at_may_be_others_and_a_wildcard_is_none(tmp_path: Path, digest: str) -> None:
    assert digest
    done = hook(tmp_path, HEAD % "NXDOMAIN", WATCH_DOMAINS="example.org *.example.org example.net", PORT="2525")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "watched").read_text("ascii")
    assert asked.endswith("--port 2525 --mx example.org --mx example.net\n")


@pytest.mark.parametrize("more", [{"WATCH": ""}, {"WATCH_DOMAINS": "*.example"}])
def test_nobody_looks_where_nobody_shall(tmp_path: Path, digest: str, more: dict[str, str]) -> None:
    assert digest
    done = hook(tmp_path, HEAD % "NXDOMAIN", "mx.example", 1, **more)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reloaded").exists()
    assert not (tmp_path / "watched").exists()


def test_nobody_looks_at_a_certificate_that_is_not_in_use(tmp_path: Path, digest: str) -> None:
    assert digest
    assert hook(tmp_path, HEAD % "NOERROR" + OLD, watch=0).returncode == 1
    assert not (tmp_path / "watched").exists()
