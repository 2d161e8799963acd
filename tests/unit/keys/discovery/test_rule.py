"""The key file of a rule: what is in it, and what is wrong with it; that it cannot be read is no absence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smilla.address import parse
from smilla.config import Config
from smilla.keys import lookup
from smilla.keys.discovery import rule
from smilla.model import KeyLookup, KeyVerdict, PGPKey, X509Key
from smilla.ports import Ports
from tests.certificates import make_certificate, to_pem
from tests.vectors.memory import KEYS, NOW, TableResolver, make_ports, raw_key, smimea

ANN = parse("ann@partner.example")
HUGH = (KEYS / "hugh.crt").read_bytes()
SECRET = (KEYS / "pia.secret").read_bytes()


def look_up(path: Path, *formats: str) -> KeyLookup:
    ports = make_ports()
    pending = lookup.begin_of_rule(ANN, str(path), ports, Config())
    return lookup.finish(pending, 0.0, NOW, ports, formats)


def written(path: Path, octets: bytes) -> Path:
    path.write_bytes(octets)
    return path


def test_key_of_a_rule_need_not_name_the_recipient() -> None:
    for name, kind in (("hugh.crt", X509Key), ("pia.pgp", PGPKey)):
        found = look_up(KEYS / name)
        assert (found.verdict, found.source, found.status) == (KeyVerdict.USABLE, "rule", None)
        assert isinstance(found.key, kind)


def test_no_source_is_asked_where_a_rule_names_a_key(tmp_path: Path) -> None:
    resolver = TableResolver()
    resolver.publish(str(ANN), "smimea", "secure", smimea("hugh.crt"))
    ports = make_ports(resolver)
    pending = lookup.begin_of_rule(ANN, str(tmp_path / "gone.crt"), ports, Config())
    assert lookup.finish(pending, 0.0, NOW, ports).verdict is KeyVerdict.UNREACHABLE
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"", "malformed"),
        (b"no key", "malformed"),
        ((KEYS / "expired.crt").read_bytes(), "expired"),
        ((KEYS / "weak.crt").read_bytes(), "weak_key"),
        ((KEYS / "sign-only.crt").read_bytes(), "signing_only"),
        (raw_key("pgp-revoked.pgp"), "revoked"),
        (raw_key("pgp-sign-only.pgp"), "sign_only"),
        (SECRET, "secret_key"),
    ],
)
def test_file_without_a_usable_key_is_never_absence(tmp_path: Path, octets: bytes, code: str) -> None:
    found = look_up(written(tmp_path / "partner.crt", octets))
    assert (found.verdict, found.reason.code, found.key) == (KeyVerdict.UNUSABLE_KEY, code, None)


@pytest.mark.parametrize("kind", ["gone", "folder", "dangling", "too-large", "fifo", "device"])
def test_file_that_cannot_be_read_is_unreachable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "partner.crt"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "too-large":
        path.write_bytes(HUGH + b"\n" * (1 << 20))
    found = look_up(path)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNREACHABLE, "key_folder")
    assert str(path) in found.reason.text
    assert next(rule.problems(str(path), make_ports().read_key_file))


def test_file_with_too_many_keys_is_unclear(tmp_path: Path) -> None:
    path = written(tmp_path / "partner.crt", HUGH * 201)
    found = look_up(path)
    assert (found.verdict, found.reason.code) == (KeyVerdict.UNCLEAR, "too_many_candidates")
    assert "200" in next(rule.problems(str(path), make_ports().read_key_file))


def test_private_key_is_a_problem_and_the_certificate_beside_it_is_still_one(tmp_path: Path) -> None:
    private = (KEYS / "hugh.key").read_bytes()
    path = written(tmp_path / "partner.pem", private + HUGH)
    assert look_up(path).verdict is KeyVerdict.USABLE
    assert "private key" in next(rule.problems(str(path), make_ports().read_key_file))
    assert list(rule.problems(str(KEYS / "hugh.crt"), make_ports().read_key_file)) == []


@pytest.mark.parametrize("gateway", ["gateway@partner.example", ""])
def test_of_several_keys_the_one_that_names_the_recipient_comes_first(tmp_path: Path, gateway: str) -> None:
    _, raw_gateway = make_certificate("rsa3072", email=gateway or ())
    _, raw_ann = make_certificate("rsa2048", email="ann@partner.example")
    path = written(tmp_path / "partner.pem", to_pem(raw_gateway) + to_pem(raw_ann))
    found = look_up(path)
    assert isinstance(found.key, X509Key)
    assert found.key.raw == raw_ann
    other = lookup.begin_of_rule(parse("ben@partner.example"), str(path), make_ports(), Config())
    key = lookup.finish(other, 0.0, NOW, make_ports()).key
    assert isinstance(key, X509Key)
    assert key.raw == raw_gateway


def test_changed_file_counts_at_once(tmp_path: Path) -> None:
    path, ports = tmp_path / "partner.crt", make_ports()
    for octets, verdict in ((HUGH, KeyVerdict.USABLE), (b"", KeyVerdict.UNUSABLE_KEY), (HUGH, KeyVerdict.USABLE)):
        path.write_bytes(octets)
        pending = lookup.begin_of_rule(ANN, str(path), ports, Config())
        assert lookup.finish(pending, 0.0, NOW, ports).verdict is verdict


def test_ports_that_read_no_file_find_none() -> None:
    ports = make_ports()
    bare = Ports(ports.clock, ports.resolver, ports.folder, ports.openpgp)
    pending = lookup.begin_of_rule(ANN, str(KEYS / "hugh.crt"), bare, Config())
    assert lookup.finish(pending, 0.0, NOW, bare).verdict is KeyVerdict.UNREACHABLE


def test_name_alone_says_whether_the_file_may_hold_an_openpgp_key() -> None:
    names = {"a.crt": False, "a.PEM": False, "a.asc": True, "a.gpg": True, "a": True, "a.key": True}
    assert {name: rule.may_be_openpgp(f"/etc/smilla/{name}") for name in names} == names
