"""A new OpenPGP key: judged by our own gate, opened by pysequoia, and its secret parts encrypted as RFC 9580 says."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from smilla.address import parse
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import SECRET_KEY, SECRET_SUBKEY, packets
from smilla.records import openpgp_key
from smilla.records.record import assess, openpgpkey_record
from smilla.records.wanted import Wanted

NOW = datetime.now(UTC)
ADDRESS = parse("hugh@example.org")
PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def made() -> openpgp_key.OpenPGPKeyPair:
    return openpgp_key.make(Wanted(ADDRESS, "Hugh", NOW, 730), PASSWORD)


def test_gate_takes_the_key_and_knows_when_it_ends(made: openpgp_key.OpenPGPKeyPair) -> None:
    found = assess(openpgpkey_record(ADDRESS, made.public), ADDRESS, NOW)
    assert found.key is not None
    assert found.key.fingerprint == made.fingerprint
    assert found.key.expires_at == NOW.replace(microsecond=0) + timedelta(days=730)
    assert found.facts["user_ids"] == "Hugh <hugh@example.org>"


def test_it_announces_nothing_that_gpg_or_thunderbird_cannot_read(made: openpgp_key.OpenPGPKeyPair) -> None:
    found = assess(openpgpkey_record(ADDRESS, made.public), ADDRESS, NOW)
    assert "announces" not in found.facts
    assert found.key is not None
    assert found.key.is_common


def test_key_without_a_name_has_the_address_alone() -> None:
    made = openpgp_key.make(Wanted(ADDRESS, "", NOW, 1), PASSWORD)
    assert assess(openpgpkey_record(ADDRESS, made.public), ADDRESS, NOW).facts["user_ids"] == "<hugh@example.org>"


def test_address_with_letters_beyond_ascii_is_named() -> None:
    address = parse("dörte@bücher.example")
    made = openpgp_key.make(Wanted(address, "Dörte", NOW, 1), PASSWORD)
    assert assess(openpgpkey_record(address, made.public), address, NOW).key is not None


def test_public_file_is_the_public_key_and_no_secret_leaves(made: openpgp_key.OpenPGPKeyPair) -> None:
    assert dearmour(made.public_file).data == made.public
    assert not {SECRET_KEY, SECRET_SUBKEY} & {p.tag for p in packets(made.public)}
    assert "secret" not in repr(made)
    assert b"PRIVATE" not in made.public_file


def test_sequoia_decrypts_and_signs_with_the_password_only(made: openpgp_key.OpenPGPKeyPair) -> None:
    message = bytes(pysequoia.encrypt(b"hello", [pysequoia.Cert.from_bytes(made.public)]))
    secret = pysequoia.Tsk.from_bytes(made.secret)
    assert pysequoia.decrypt(message, secret.decryptor(PASSWORD.decode())).bytes == b"hello"
    with pytest.raises(Exception, match=r"(?i)password|decrypt"):
        pysequoia.decrypt(message, secret.decryptor("wrong"))


def test_secret_parts_are_encrypted_with_different_salts(made: openpgp_key.OpenPGPKeyPair) -> None:
    parts = [p.body for p in packets(dearmour(made.secret).data) if p.tag in (SECRET_KEY, SECRET_SUBKEY)]
    public = [p.body for p in packets(made.public) if p.tag in (6, 14)]
    rests = [part[len(start) :] for part, start in zip(parts, public, strict=True)]
    assert [rest[:4] for rest in rests] == [bytes([254, 9, 3, 8])] * 2
    assert rests[0][4:12] != rests[1][4:12]
    assert rests[0][13:29] != rests[1][13:29]


@pytest.mark.parametrize("password", [b"x", b"secret pw", b"p" * 1000])
def test_password_is_hashed_over_and_over_with_its_salt(password: bytes) -> None:
    """RFC 9580 section 3.7.1.3, written down once more in its plainest form."""
    salt = bytes(range(8))
    repeated = (salt + password) * (65_011_712 // (8 + len(password)) + 1)
    assert openpgp_key.derived(password, salt) == hashlib.sha256(repeated[:65_011_712]).digest()


def test_revocation_certificate_ends_the_key(made: openpgp_key.OpenPGPKeyPair) -> None:
    (revocation,) = packets(dearmour(made.revocation).data)
    first, *rest = packets(made.public)
    revoked = first.raw + revocation.raw + b"".join(p.raw for p in rest)
    found = assess(openpgpkey_record(ADDRESS, revoked), ADDRESS, NOW)
    assert [reason.code for reason in found.reasons] == ["revoked"]
