"""The keys that [[decrypt_rule]] names are read, and every file that cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pysequoia
import pytest

from smilla import config
from smilla.decrypt.message import decrypted
from smilla.errors import ConfigError
from smilla.server.readers import readers
from tests.certificates import to_pem
from tests.unit.decrypt.material import TEXT, owner, pem, pgp_mime, smime, written


def put(folder: Path, name: str, raw: bytes) -> str:
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(raw)
    return str(path)


def rule(*files: str, more: str = "") -> str:
    return f'[[decrypt_rule]]\nrecipient = "hugh@example.org"\nkey_files = {list(files)}\n{more}\n'.replace("'", '"')


def test_each_kind_of_file_gives_its_keys(tmp_path: Path) -> None:
    secret = pysequoia.Tsk.generate("Hugh <hugh@example.org>")
    certificate = put(tmp_path, "hugh.pem", pem(owner().private) + to_pem(owner().raw))
    (reader,) = readers(config.parse(rule(certificate, put(tmp_path, "hugh.asc", str(secret).encode()))))
    assert reader.pattern == "hugh@example.org"
    assert decrypted(smime(written(TEXT, owner())), reader.keys).entity.raw == TEXT
    armour = bytes(pysequoia.encrypt(TEXT, [secret.extract_certificate()]))
    assert decrypted(pgp_mime(armour), (), reader.openpgp).entity.raw == TEXT


def test_binary_openpgp_key_is_known_by_its_octets(tmp_path: Path) -> None:
    secret = pysequoia.Tsk.generate("Hugh <hugh@example.org>")
    (reader,) = readers(config.parse(rule(put(tmp_path, "k", bytes(secret)))))
    assert (reader.keys, reader.openpgp is not None) == ((), True)


def test_every_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    public = bytes(pysequoia.Tsk.generate("Hugh <hugh@example.org>").extract_certificate())
    files = [
        put(tmp_path, "garbage", b"garbage"),
        put(tmp_path, "certificate", to_pem(owner().raw)),
        put(tmp_path, "public", public),
        str(tmp_path / "missing"),
    ]
    Path(files[0]).chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        readers(config.parse("".join(map(rule, files))))
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [f"decrypt_rule {n}" for n in (1, 2, 3, 4)]
    assert [name for name, fault in zip(files, caught.value.faults, strict=True) if name not in fault] == []


def test_password_opens_the_files_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    locked = owner().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    key = put(tmp_path, "key", locked + to_pem(owner().raw))
    for word, opens in ((b"secret\n", True), (b"other\n", False)):
        more = f'password_file = "{put(tmp_path, "password", word)}"'
        if opens:
            assert len(readers(config.parse(rule(key, more=more)))[0].keys) == 1
        else:
            with pytest.raises(ConfigError, match="password is wrong or missing"):
                readers(config.parse(rule(key, more=more)))


def test_without_a_rule_there_is_nothing_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no \[\[decrypt_rule\]\]"):
        readers(config.parse(""))
