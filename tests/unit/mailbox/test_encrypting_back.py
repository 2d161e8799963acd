"""Whatever ``smilla mailbox encrypt`` takes, ``decrypt`` gives back octet for octet; it tells what it does not take."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smilla import config
from smilla.cli import mailbox_keys
from smilla.errors import SmillaError
from smilla.mailbox.change import Change, Fate
from smilla.mailbox.encrypting import Encryptor, settings_for
from smilla.server.runtime import make_ports
from tests.vectors.memory import KEYS

if TYPE_CHECKING:
    from smilla.mailbox.change import Changer

INBOUND = "mode = 'inbound'\nlocal_domains = ['example.org']\n[keys]\nsources = ['directory']\ndirectory = '%s'\n"
OWNERS = {"smime": "hugh@example.org", "openpgp": "pia@example.org"}
HIDING = "[[rule]]\nrecipient = '*'\nprotect_headers = 'hide'\n"


class Turns:
    """Both ways for one owner."""

    def __init__(self, folder: Path, owner: str, more: str = "") -> None:
        directory = folder / "keys"
        directory.mkdir()
        for name in ("hugh.crt", "pia.pgp"):
            person, _, ending = name.partition(".")
            (directory / f"{person}@example.org.{ending}").write_bytes((KEYS / name).read_bytes())
        (folder / "smilla.toml").write_text(INBOUND % directory + more)
        found = settings_for(config.load(folder / "smilla.toml").behind("postfix"))
        self.encrypt: Changer = Encryptor(owner, make_ports(found), found)
        pair = folder / "pair.pem"
        pair.write_bytes((KEYS / "hugh.key").read_bytes() + (KEYS / "hugh.crt").read_bytes())
        keys = [str(pair), str(KEYS / "pia.secret")]
        self.decrypt: Changer = mailbox_keys.decryptor(
            argparse.Namespace(key=keys, key_password_file="", gpg=False, gpg_home="")
        )

    def there(self, raw: bytes) -> Change | None:
        """None if it cannot be encrypted at all."""
        try:
            change = self.encrypt(raw, dry=False)
            foreseen = self.encrypt(raw, dry=True)
        except SmillaError:
            return None
        assert (foreseen.fate, foreseen.code) == (change.fate, change.code), "a dry run tells something else"
        return change

    def check(self, raw: bytes) -> str:
        """What became of it."""
        change = self.there(raw)
        if change is None or change.fate is not Fate.CHANGED:
            return change.code if change else "not encrypted"
        back = self.decrypt(change.raw, dry=False)
        assert (back.fate, back.raw) == (Fate.CHANGED, raw)
        return "there and back"


@pytest.fixture(scope="module", params=sorted(OWNERS))
def turns(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Turns:
    return Turns(tmp_path_factory.mktemp("turns"), OWNERS[request.param])


NAMES = ("From", "Subject", "Content-Type", "Content-Transfer-Encoding", "content-x", "MIME-Version", "Bcc", "X-Smilla")
VALUES = (
    " a",
    "",
    " text/plain; charset=x",
    " multipart/mixed; boundary=b",
    " 8bit",
    " \xff\xe4",
    "\t\r\n x",
    " \0",
    " base64",
)
LINES = ("", "hi", "--b", "--b--", "Content-Type: text/html", "\xff\xfe", "\0", "\r", " ", "no empty line")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """With whatever lies in mailboxes."""
    end = draw(st.sampled_from(("\r\n", "\n")))
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), min_size=1, max_size=6))
    head = "".join(f"{name}:{value}{end}" for name, value in fields)
    body = end.join(draw(st.lists(st.sampled_from(LINES), max_size=6)))
    return (head + draw(st.sampled_from((end, "", end + "\n"))) + body).encode("latin-1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(messages())
def test_whatever_is_encrypted_comes_back_octet_for_octet(turns: Turns, raw: bytes) -> None:
    turns.check(raw)


MALFORMED = (
    b"Subject: x\nContent-Type: text/plain\nContent-Type: text/html\n\nthe canary\n",
    b"Subject: x\nContent-Type: text/plain; name=\xe4\xf6\nX: y\n\nthe canary\n",
    b"Subject: x\nContent-Transfer-Encoding: 8bit\n\nthe canary\n",
    b"Subject: x\nContent-Transfer-Encoding: base64\nContent-Type: text/plain\n\n\xff\xff the canary\n",
    b"Subject: x\nContent-Type: multipart/mixed\n\n--b\nthe canary\n",
    b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nthe canary\n",
    b"Subject: x\nContent-Type: text/plain; charset=utf-8\nX: y\n\n\xe4 the canary\n",
    b"Subject: x\nX-Smilla: decrypted; format=smime\nX-Smilla-Places: none; proof=no\nX: y\n\nthe canary\n",
    b"Subject: x\nthe canary: no empty line\n",
    b"Subject: x\nthe canary, which is no field\nthe end\n",
)


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed_message_is_encrypted_and_comes_back(turns: Turns, raw: bytes) -> None:
    for octets in (raw, raw.replace(b"\n", b"\r\n")):
        change = turns.there(octets)
        assert change is not None
        assert change.fate is Fate.CHANGED
        assert b"the canary," not in change.raw.replace(b"\n", b",") or b": no empty" in raw
        assert turns.check(octets) == "there and back"


@pytest.mark.parametrize("raw", [b"Subject: x", b"Subject: x\n\none\r\ntwo\n"])
def test_message_that_would_not_come_back_stays_and_is_told(turns: Turns, raw: bytes) -> None:
    assert turns.check(raw) == "not_exact"


@pytest.mark.parametrize("raw", MALFORMED[:2])
def test_malformed_message_whose_ciphertext_was_changed_stays_ciphertext(tmp_path: Path, raw: bytes) -> None:
    """CBC has no tag: each octet that is changed in one block changes the next block as the attacker likes."""
    turns = Turns(tmp_path, OWNERS["smime"])
    change = turns.there(raw)
    assert change is not None
    head, _, body = change.raw.partition(b"\n\n")
    der = base64.b64decode(body)
    for at in range(len(der) - 96, len(der), 3):
        forged = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
        back = turns.decrypt(head + b"\n\n" + base64.encodebytes(forged), dry=False)
        assert (back.fate, back.code, back.raw) == (Fate.LEFT, "undecryptable", b"")


@pytest.mark.parametrize("owner", sorted(OWNERS))
def test_where_the_header_is_protected_what_decrypt_would_not_take_stays(tmp_path: Path, owner: str) -> None:
    turns = Turns(tmp_path, OWNERS[owner], HIDING)
    codes = set()
    for raw in MALFORMED:
        change = turns.there(raw)
        assert change is not None
        if change.fate is Fate.CHANGED:
            back = turns.decrypt(change.raw, dry=False)
            assert back.fate is Fate.CHANGED
            assert b"Content-Smilla-Proof" not in back.raw
        codes.add(change.code)
    assert codes == {"encrypted", "not_exact"}
