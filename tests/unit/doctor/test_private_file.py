"""Private keys in the folder of public keys: each is known for what it is, and its line takes it away."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from smilla.adapters.as_user import User
from smilla.adapters.folder import KeyDirectory
from smilla.config import parse
from smilla.doctor import private_file, rights
from smilla.doctor.rights import Service
from smilla.errors import SmillaError
from smilla.keys.discovery import directory
from tests.certificates import make_certificate, to_pem

KEYS = Path(__file__).parents[2] / "vectors/keys"
KEY, RAW_CERTIFICATE = make_certificate("p256", email="a@x.test")
PEM_KEY = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PEM_LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
DER_KEY = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PFX = pkcs12.serialize_key_and_certificates(
    b"a",
    KEY,  # type: ignore[arg-type]
    x509.load_der_x509_certificate(RAW_CERTIFICATE),
    None,
    BestAvailableEncryption(b"secret"),
)
SECRET = next(KEYS.glob("*.secret")).read_bytes()

FILES = {
    "a@x.test.p12": (PFX, "openssl pkcs12 -in"),
    "a.pfx": (PFX, "openssl pkcs12 -in"),
    "a@x.test.der": (PFX, "openssl pkcs12 -in"),
    "a@x.test.key": (PEM_KEY, ""),
    "locked.key": (PEM_LOCKED, ""),
    "a.key": (DER_KEY, ""),
    "a@x.test.pem": (PEM_KEY + to_pem(RAW_CERTIFICATE), "openssl x509 -in"),
    "a@x.test.asc": (SECRET, "gpg --show-keys"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_private_key_is_told_where_to_go_and_how_its_public_part_comes_back(tmp_path: Path, name: str) -> None:
    raw, public = FILES[name]
    (tmp_path / name).write_bytes(raw)
    ((told, text),) = directory.problems(KeyDirectory(str(tmp_path), directory.address_of))
    assert (told, "holds a private key, which smilla never needs: move it" in text) == (name, True)
    mend, why = private_file.mend(str(tmp_path), name)
    assert mend == f"mv {tmp_path}/{name} /root/ && chmod 600 /root/{name}"
    assert (public in why, "once moved, it gives its public part: " in why) == (True, bool(public))


def test_a_certificate_is_no_private_key(tmp_path: Path) -> None:
    (tmp_path / "a@x.test.crt").write_bytes(to_pem(RAW_CERTIFICATE))
    assert private_file.mend(str(tmp_path), "a@x.test.crt") == ("", "")


@pytest.mark.parametrize("name", ["a@x.test.p12", "a@x.test.pem"])
def test_the_lines_leave_the_certificate_that_smilla_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keys, away = tmp_path / "keys", tmp_path / "away"
    keys.mkdir()
    away.mkdir()
    monkeypatch.setattr(private_file, "_AWAY", str(away))
    (keys / name).write_bytes(FILES[name][0])
    moved, why = private_file.mend(str(keys), name)
    public = why.removeprefix("once moved, it gives its public part: ")
    asked = ["-passin", "pass:secret"] if name.endswith(".p12") else []
    subprocess.run(["sh", "-c", moved], check=True)
    subprocess.run([*public.replace("ADDRESS", "a@x.test").split(), *asked], check=True)
    assert {path.name for path in keys.iterdir()} == {"a@x.test.crt"}
    folder = KeyDirectory(str(keys), directory.address_of)
    address = directory.address_of("a@x.test.crt")
    assert address is not None
    (found,) = directory.candidates(address, folder)
    assert found.raw == RAW_CERTIFICATE
    assert list(directory.problems(folder)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", FILES)
def test_rights_never_ask_to_open_a_private_key_to_the_filter(name: str) -> None:
    service = Service(User("nobody"), drops_rights=False)
    with tempfile.TemporaryDirectory(prefix="smilla-private-") as place:
        Path(place).chmod(0o755)
        path = Path(place) / name
        path.write_bytes(FILES[name][0])
        path.chmod(0o600)
        settings = parse(f'[keys]\nsources = ["directory"]\ndirectory = "{place}"\n')
        found = [each for each in rights.problems(settings, Path(place) / "x", service) if str(path) in each.line]
    is_asked_for = directory.address_of(name) is not None
    assert [each.mend[: each.mend.index(" &&")] for each in found] == [f"mv {path} /root/"] * is_asked_for


def test_a_file_that_may_not_be_read_is_known_by_its_name() -> None:
    class Shut(KeyDirectory):
        def all_names(self) -> list[str]:
            return ["a@x.test.P12", "b@x.test.key", "README.txt"]

        def read(self, name: str) -> bytes | None:
            raise SmillaError(f"{name}: cannot be read")

    shut = Shut("", directory.address_of)
    found = dict(directory.problems(shut))
    assert set(found) == {"a@x.test.P12", "b@x.test.key"}
    assert all(text.startswith("by its name holds a private key") for text in found.values())
    assert directory.holds_private(shut, "a@x.test.P12")
