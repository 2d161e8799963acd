"""The administrator's folder: which key of a file is taken, and what a file without one means."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from smilla import lookup
from smilla.address import parse
from smilla.config import Config, KeysOptions
from smilla.discovery import directory
from smilla.model import KeyLookup, KeyVerdict, X509Key
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
    ],
)
def test_file_that_is_of_no_use_is_named(name: str, raw: bytes, wrong: str) -> None:
    found = list(directory.problems(MemoryFolder({name: raw})))
    assert {file for file, _ in found} == ({name} if wrong else set())
    assert any(wrong in text for _, text in found) or not wrong


def test_two_files_that_differ_in_case_only_are_named() -> None:
    found = list(directory.problems(MemoryFolder({"Hugh@example.org.crt": PEM["hugh"], f"{HUGH}.crt": PEM["hugh"]})))
    assert [name for name, _ in found] == [f"{HUGH}.crt"]
