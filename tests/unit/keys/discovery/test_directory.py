"""The administrator's folder: which key of a file is taken, and what a file without one means."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from smilla.adapters.folder import KeyDirectory
from smilla.address import parse
from smilla.config import Config
from smilla.config.options import KeysOptions
from smilla.errors import SmillaError
from smilla.formats import key_file
from smilla.keys import lookup
from smilla.keys.discovery import directory
from smilla.keys.validity import pgp
from smilla.model import Candidate, Format, KeyLookup, KeyVerdict, X509Key
from tests.certificates import make_certificate
from tests.openpgp_maker import armoured
from tests.vectors.memory import KEYS, NOW, MemoryFolder, TableResolver, make_ports, raw_key

HUGH, PIA = "hugh@example.org", "pia@example.org"
PEM = {
    name: (KEYS / f"{name}.crt").read_bytes()
    for name in ("hugh", "dana", "expired", "sign-only", "ca", "other-address")
}
GOOD, OLD, SIGN_ONLY = raw_key("pia.pgp"), raw_key("pgp-expired.pgp"), raw_key("pgp-sign-only.pgp")
PRIVATE = b"-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n"
BLOCK = "PGP PUBLIC KEY BLOCK"


def look_up(mailbox: str, files: Mapping[str, bytes | None], **more: bool | str) -> KeyLookup:
    keys = KeysOptions(sources=("directory",), **more)  # type: ignore[arg-type]
    ports = make_ports(TableResolver(), files, NOW)
    pending = lookup.begin(parse(mailbox), ports, Config(keys=keys))
    return lookup.finish(pending, 0.0, NOW, ports)


@pytest.mark.parametrize(
    "others",
    [("expired",), ("sign-only",), ("ca",), ("other-address",), ("ca", "sign-only", "other-address", "expired")],
    ids="-".join,
)
def test_certificate_that_fits_is_taken_wherever_it_stands_in_the_file(others: tuple[str, ...]) -> None:
    blocks = [PEM[name] for name in others]
    for raw in (
        b"".join([*blocks, PEM["hugh"]]),
        b"".join([PEM["hugh"], *blocks]),
        b"text\n".join([*blocks, PEM["hugh"]]),
    ):
        found = look_up(HUGH, {f"{HUGH}.pem": raw})
        assert found.verdict is KeyVerdict.USABLE
        assert isinstance(found.key, X509Key)
        assert found.key.raw == raw_key("hugh.crt")


@pytest.mark.parametrize(
    "raw",
    [
        OLD + GOOD,
        GOOD + OLD,
        SIGN_ONLY + GOOD,
        armoured(OLD + GOOD, BLOCK),
        b"pub  ed25519 2026-01-01\n\n" + armoured(GOOD, BLOCK) + b"\n-- \nBob\n",
        armoured(OLD, BLOCK) + b"\n" + armoured(GOOD, BLOCK),
        b"\xef\xbb\xbf" + armoured(GOOD, BLOCK),
        raw_key("quinn.pgp") + GOOD,
    ],
)
def test_openpgp_key_that_fits_is_taken_wherever_it_stands_in_the_file(raw: bytes) -> None:
    for suffix in (".asc", ".gpg", ".pem"):
        found = look_up(PIA, {f"{PIA}{suffix}": raw})
        assert found.verdict is KeyVerdict.USABLE
        assert found.key is not None
        assert found.key.fingerprint == look_up(PIA, {f"{PIA}.pgp": GOOD}).key.fingerprint  # type: ignore[union-attr]


def test_another_persons_key_alone_is_the_administrators_word() -> None:
    assert look_up(PIA, {f"{PIA}.crt": PEM["hugh"]}).verdict is KeyVerdict.USABLE


@pytest.mark.parametrize(
    "raw",
    [
        PEM["sign-only"],
        PEM["expired"],
        SIGN_ONLY,
        OLD,
        b"",
        b"hello\n",
        PRIVATE,
        PEM["hugh"][:300],
        PEM["sign-only"] + OLD,
    ],
)
@pytest.mark.parametrize("suffix", [".crt", ".cer", ".der", ".pem", ".asc", ".pgp", ".gpg"])
def test_file_without_a_usable_key_is_unusable_and_never_absence(raw: bytes, suffix: str) -> None:
    class Folder(MemoryFolder):
        def read(self, name: str) -> bytes | None:
            return self.files.get(name)

    ports = make_ports(TableResolver(), {}, NOW)
    object.__setattr__(ports, "folder", Folder({f"{HUGH}{suffix}": raw}))
    settings = Config(keys=KeysOptions(sources=("directory",)))
    found = lookup.finish(lookup.begin(parse(HUGH), ports, settings), 0.0, NOW, ports)
    assert (found.verdict, found.key) == (KeyVerdict.UNUSABLE_KEY, None)
    assert found.reason.text


def test_folder_without_a_file_for_the_address_is_absence() -> None:
    assert look_up(HUGH, {f"x{HUGH}.crt": PEM["hugh"]}).verdict is KeyVerdict.NO_KEY


@pytest.mark.parametrize(
    ("mailbox", "more", "verdict"),
    [
        ("hugh+tag@example.org", {}, KeyVerdict.USABLE),
        ("hugh+tag+more@example.org", {}, KeyVerdict.USABLE),
        ("hugh+tag@example.org", {"subaddress": ""}, KeyVerdict.NO_KEY),
        ("hugh-tag@example.org", {"subaddress": "-"}, KeyVerdict.USABLE),
        ("+tag@example.org", {}, KeyVerdict.NO_KEY),
        ("Hugh@example.org", {"try_lowercase": True}, KeyVerdict.USABLE),
        ("Hugh@example.org", {}, KeyVerdict.UNCLEAR),
        ("Hugh+tag@example.org", {"try_lowercase": True}, KeyVerdict.USABLE),
    ],
)
def test_tag_and_case_of_the_local_part_are_as_the_options_say(
    mailbox: str, more: dict[str, bool | str], verdict: KeyVerdict
) -> None:
    assert look_up(mailbox, {f"{HUGH}.crt": PEM["hugh"]}, **more).verdict is verdict


def test_tagged_address_of_ours_has_the_key_that_dns_has_for_its_mailbox() -> None:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", b"\3\0\0" + raw_key("hugh.crt"))
    for domains, verdict in ((("example.org",), KeyVerdict.USABLE), ((), KeyVerdict.NO_KEY)):
        ports = make_ports(resolver, {}, NOW)
        pending = lookup.begin(parse("hugh+tag@example.org"), ports, Config(local_domains=domains))
        assert lookup.finish(pending, 0.0, NOW, ports).verdict is verdict


@pytest.mark.parametrize(
    ("name", "raw", "wrong"),
    [
        ("hugh@example.org.crt", PEM["hugh"], ""),
        ("hugh@example.org.pem", PRIVATE + PEM["hugh"], "private key"),
        ("hugh.crt", PEM["hugh"], "no address"),
        ("hugh@example.org.txt", PEM["hugh"], "no address"),
        ("hugh@example..org.crt", PEM["hugh"], "no address"),
        ("hugh@example.org.key", PRIVATE, "private key"),
        ("README", b"These are our keys.\n", ""),
        (".hugh@example.org.crt", PEM["hugh"], "no address"),
        ("hugh", raw_key("hugh.crt"), "no address"),
        ("hugh.P12", b"\0", "no address"),
        ("hugh", b"\0", ""),
    ],
)
def test_file_that_is_of_no_use_is_named(name: str, raw: bytes, wrong: str) -> None:
    found = list(directory.problems(MemoryFolder({name: raw})))
    assert {file for file, _ in found} == ({name} if wrong else set())
    assert any(wrong in text for _, text in found) or not wrong


def test_every_file_of_no_use_is_named_whatever_stands_before_it() -> None:
    class Folder(MemoryFolder):
        def read(self, name: str) -> bytes | None:
            return None if name.startswith("b") else super().read(name)

    names = ("a@x.test.crt", "b@x.test.crt", "c.crt", "d.crt")
    found = directory.problems(Folder({"a@x.test.crt": None, **dict.fromkeys(names[1:], PEM["hugh"])}))
    assert [name for name, _ in found] == [*names]


def test_file_that_cannot_be_read_is_not_said_to_hold_a_private_key() -> None:
    folder = MemoryFolder({f"{HUGH}.crt": None, f"{HUGH}.pem": PRIVATE + PEM["hugh"]})
    with pytest.raises(SmillaError):
        folder.read(f"{HUGH}.crt")
    assert not directory.holds_private(folder, f"{HUGH}.crt")
    assert not directory.holds_private(folder, f"{ALICE}.crt")
    assert directory.holds_private(folder, f"{HUGH}.pem")


def test_tag_without_a_mailbox_before_it_is_none() -> None:
    assert directory.local_parts("alice+tag", "+") == ("alice+tag", "alice")
    for local in ("alice", "+tag", "+"):
        assert directory.local_parts(local, "+") == (local,)
    assert directory.local_parts("alice+tag", "") == ("alice+tag",)


def test_name_without_a_local_part_is_nobodys() -> None:
    for name in ("@example.org.crt", "example.org.crt", "@.crt", ".crt"):
        assert directory.address_of(name) is None


def test_file_that_was_removed_meanwhile_is_no_absence() -> None:
    class Folder(MemoryFolder):
        def read(self, name: str) -> bytes | None:
            return None

    ports = replace(make_ports(), folder=Folder({f"{ALICE}.crt": b""}))
    settings = Config(keys=KeysOptions(sources=("directory",)))
    assert lookup.finish(lookup.begin(parse(ALICE), ports, settings), 0.0, NOW, ports).verdict is KeyVerdict.UNREACHABLE


def test_two_files_that_differ_in_case_only_are_named() -> None:
    found = list(directory.problems(MemoryFolder({"Hugh@example.org.crt": PEM["hugh"], f"{HUGH}.crt": PEM["hugh"]})))
    assert [name for name, _ in found] == [f"{HUGH}.crt"]


@pytest.mark.parametrize("raw", [PEM["hugh"], b"hello"])
def test_file_of_a_format_that_a_rule_leaves_out_is_no_absence(raw: bytes) -> None:
    settings = Config(keys=KeysOptions(sources=("directory",)))
    for files, verdict in (({f"{HUGH}.crt": raw}, KeyVerdict.UNUSABLE_KEY), ({}, KeyVerdict.NO_KEY)):
        ports = make_ports(TableResolver(), files)
        found = lookup.finish(lookup.begin(parse(HUGH), ports, settings), 0.0, NOW, ports, ("openpgp",))
        assert found.verdict is verdict


# --- whose key it is ---------------------------------------------------------------------------------------

ALICE = "alice@x.test"
AUTHORITY = make_certificate(common_name="CA", ca=True, number=1)


def pem_of(raw: bytes) -> bytes:
    return load_der_x509_certificate(raw).public_bytes(Encoding.PEM)


def certificate_of(mailbox: str, *, days: int = 30, usages: tuple[str, ...] | None = None, number: int = 2) -> bytes:
    """PEM, issued by AUTHORITY, for so many days from now."""
    until = NOW + timedelta(days=days)
    made = make_certificate(email=mailbox, usages=usages, number=number, issuer=AUTHORITY, not_after=until)
    return pem_of(made[1])


UNFIT = {
    "expired": certificate_of(ALICE, days=-1),
    "for signatures only": certificate_of(ALICE, usages=("digital_signature",)),
    "too weak": pem_of(make_certificate("rsa1024", email=ALICE, issuer=AUTHORITY)[1]),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("other", [pem_of(AUTHORITY[1]), certificate_of("eve@x.test", number=3)], ids=["CA", "eve"])
def test_whoever_stands_beside_a_key_that_cannot_be_used_does_not_take_its_place(unfit: bytes, other: bytes) -> None:
    for raw in (unfit + other, other + unfit):
        assert look_up(ALICE, {f"{ALICE}.pem": raw}).verdict is KeyVerdict.UNUSABLE_KEY


def test_another_persons_openpgp_key_does_not_take_the_place_of_an_expired_one() -> None:
    expired = raw_key("pgp-expired.pgp")
    assert look_up("pia@example.org", {"pia@example.org.asc": raw_key("quinn.pgp")}).verdict is KeyVerdict.USABLE
    named = str(pgp.addresses(Candidate("directory", "", Format.OPENPGP, expired))[0])
    found = look_up(named, {f"{named}.asc": expired + raw_key("quinn.pgp")})
    assert (found.verdict, found.key) == (KeyVerdict.UNUSABLE_KEY, None)


def test_certificate_renewed_under_its_own_name_is_no_ca_of_the_old_one() -> None:
    old = make_certificate(email=ALICE, ca=True, number=4, not_after=NOW - timedelta(days=1))
    new = make_certificate(email=ALICE, ca=True, number=5)
    found = look_up(ALICE, {f"{ALICE}.pem": pem_of(old[1]) + pem_of(new[1])})
    assert isinstance(found.key, X509Key)
    assert found.key.raw == new[1]


def test_ca_published_beside_the_certificate_that_it_issued_is_never_encrypted_to() -> None:
    authority = make_certificate("rsa4096", common_name="Strong CA", ca=True)
    for days, verdict in ((30, KeyVerdict.USABLE), (-1, KeyVerdict.UNUSABLE_KEY)):
        leaf = make_certificate(email=ALICE, issuer=authority, not_after=NOW + timedelta(days=days))
        records = (b"\3\0\0" + leaf[1], b"\3\0\0" + authority[1])
        ports = make_ports(TableResolver().publish(ALICE, "smimea", "secure", *records))
        found = lookup.finish(lookup.begin(parse(ALICE), ports, Config()), 0.0, NOW, ports)
        assert found.verdict is verdict
        assert not isinstance(found.key, X509Key) or found.key.raw == leaf[1]


def test_file_with_more_keys_than_are_read_is_unclear_and_nobody_elses_key_is_taken() -> None:
    others = certificate_of("eve@x.test", number=3) * (key_file.MOST - 1)
    mine = certificate_of(ALICE)
    assert look_up(ALICE, {f"{ALICE}.pem": others + mine}).verdict is KeyVerdict.USABLE
    assert look_up(ALICE, {f"{ALICE}.pem": others + others + mine}).verdict is KeyVerdict.UNCLEAR


def test_folder_named_as_a_file_of_keys_is_no_absence_and_is_named(tmp_path: Path) -> None:
    (tmp_path / f"{ALICE}.crt").mkdir()
    (tmp_path / "old.d").mkdir()
    ports = replace(make_ports(), folder=KeyDirectory(str(tmp_path), directory.address_of))
    settings = Config(keys=KeysOptions(sources=("directory",)))
    assert lookup.finish(lookup.begin(parse(ALICE), ports, settings), 0.0, NOW, ports).verdict is KeyVerdict.UNREACHABLE
    assert [file for file, _ in directory.problems(ports.folder)] == [f"{ALICE}.crt"]


def test_beginnings_without_an_end_cost_one_reading() -> None:
    """Were each looked at up to the end of the file, this would take minutes."""
    begin = b"-----BEGIN CERTIFICATE-----\n"
    mine = certificate_of(ALICE)
    other = b"-----BEGIN PUBLIC KEY-----\n" * 30_000
    assert look_up(ALICE, {f"{ALICE}.pem": other + mine}).verdict is KeyVerdict.USABLE
    assert look_up(ALICE, {f"{ALICE}.pem": mine + begin * 30_000}).verdict is KeyVerdict.USABLE


@pytest.mark.parametrize("target", ["/nonexistent/alice.crt", "/etc/passwd/alice.crt", "y/" + "x" * 300, "itself"])
def test_link_that_leads_nowhere_is_no_absence(tmp_path: Path, target: str) -> None:
    name = f"{ALICE}.crt"
    (tmp_path / name).symlink_to(name if target == "itself" else target)
    ports = replace(make_ports(), folder=KeyDirectory(str(tmp_path), directory.address_of))
    settings = Config(keys=KeysOptions(sources=("directory",)))
    found = lookup.finish(lookup.begin(parse(ALICE), ports, settings), 0.0, NOW, ports)
    assert found.verdict is KeyVerdict.UNREACHABLE
    assert [file for file, _ in directory.problems(ports.folder)] == [name]


def test_what_was_found_out_about_a_file_holds_no_longer_than_its_octets(tmp_path: Path) -> None:
    file = tmp_path / f"{HUGH}.crt"
    ports = replace(make_ports(), folder=KeyDirectory(str(tmp_path), directory.address_of))
    settings = Config(keys=KeysOptions(sources=("directory",)))

    def verdict() -> KeyVerdict:
        return lookup.finish(lookup.begin(parse(HUGH), ports, settings), 0.0, NOW, ports).verdict

    for name, expected in (("hugh", KeyVerdict.USABLE), ("expired", KeyVerdict.UNUSABLE_KEY)) * 2:
        file.write_bytes(PEM[name])
        time.sleep(0.15)
        assert [verdict() for _ in range(3)] == [expected] * 3
    file.write_bytes(b"")
    assert verdict() is KeyVerdict.UNUSABLE_KEY
