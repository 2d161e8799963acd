"""The key of a rule, in a filter that runs: its file may change, vanish or turn bad at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.milter.material import directory_settings, edits_of, plain_mail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

TO = ["<ann@partner.test>"]


@pytest.fixture(scope="module")
def partner(start_once: Starter, keys: Keys, folder: Path) -> tuple[Smilla, Path]:
    """A filter with a rule, and the key file that this names, which a private key shares."""
    place = folder / "partner"
    place.mkdir()
    place.chmod(0o755)
    file = place / "partner.pem"
    file.write_bytes(keys.alice.key_file.read_bytes() + keys.alice.certificate_file.read_bytes())
    rule = {"domain": ["partner.test"], "key": str(file)}
    return start_once(directory_settings(keys, rule=[rule], policy={"no_key": "plain", "unusable_key": "defer"})), file


def test_private_key_in_the_file_is_logged_at_the_start(partner: tuple[Smilla, Path]) -> None:
    smilla, file = partner
    smilla.wait_for_log(f"key-file file={file}")
    assert "PRIVATE KEY" not in smilla.log


@pytest.mark.parametrize("kind", ["empty", "garbage", "gone", "folder", "too-large", "private"])
def test_key_file_that_goes_bad_between_rcpt_and_the_end_never_lets_plaintext_out(
    partner: tuple[Smilla, Path], clients: Clients, keys: Keys, kind: str
) -> None:
    smilla, file = partner
    file.write_bytes(keys.alice.certificate_file.read_bytes())
    client = clients.open(smilla.milter)
    assert edits_of(client.send(plain_mail(), TO)).startswith("b")
    client.envelope(TO)
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind != "gone":
        private = keys.alice.key_file.read_bytes()
        contents = {"garbage": b"\0" * 99, "too-large": b"x" * ((1 << 20) + 1), "private": private}
        file.write_bytes(contents.get(kind, b""))
    answer = client.content(plain_mail())
    assert answer.reply.startswith("451 4.7.5 <ann@partner.test>: ")
    assert str(file) not in answer.reply
    assert answer.edits == ()
    if kind == "folder":
        file.rmdir()


def test_log_names_the_source(partner: tuple[Smilla, Path], clients: Clients, keys: Keys) -> None:
    smilla, file = partner
    file.write_bytes(keys.alice.certificate_file.read_bytes())
    assert edits_of(clients.open(smilla.milter).send(plain_mail(), ["<log@partner.test>"])).startswith("b")
    smilla.wait_for_log("encrypted rcpt=log@partner.test format=smime source=rule")
