"""Mail that is also for others: with the lines of smilla-decrypt(8), Postfix gives each recipient a copy, and smilla
decrypt opens the reader's.

client -> smtpd "outside" -> queue -> smilla-decrypt, each recipient alone
       -> smtpd -> smilla decrypt -> queue -> Maildir
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.keys import SMIMEKey, make_smime_key
from tests.lab.mail import header_fields
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import free_port, session_members, wait_until
from tests.lab.programs import REPOSITORY, require_servers
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.conftest import cannot
from tests.live.examples import beside_postfix
from tests.live.test_decrypt import CANARY, TEXT, body_of, by_openssl, rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live
PAGE = REPOSITORY / "man/smilla-decrypt.8"
TABLE = REPOSITORY / "contrib/postfix/smilla_decrypt"
_KILLS = int(os.environ.get("SMILLA_KILLS", "6"))


@dataclass
class Site:
    """The first listener takes mail from outside."""

    postfix: Postfix
    smilla: Smilla
    alice: SMIMEKey
    count: int = 0

    def send(self, message: bytes, *to: str) -> bytes:
        """The message as it was sent, with a Subject of its own."""
        self.count += 1
        head = f"From: sue@s.test\r\nTo: {to[0]}\r\nSubject: number {self.count}\r\nMIME-Version: 1.0\r\n"
        raw = head.encode() + message
        with SMTPClient(self.postfix.listeners[0].port) as client:
            assert client.send("sue@s.test", to, raw)[-1].code == 250
        return raw

    def copies(self, name: str, raw: bytes) -> list[bytes]:
        """What lies in a mailbox under the Subject of ``raw``, with CRLF."""
        [subject] = header_fields(raw, "subject")
        folder = self.postfix.maildir(name)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        found = [re.sub(rb"\r?\n", b"\r\n", path.read_bytes()) for path in files]
        return [one for one in found if header_fields(one, "subject") == [subject]]

    def arrived(self, name: str, raw: bytes, timeout_s: float = 60) -> bytes:
        assert wait_until(lambda: bool(self.copies(name, raw)), timeout_s), self.postfix.log
        [found] = self.copies(name, raw)
        return found


def block(name: str) -> str:
    """The lines of the manual for a file."""
    [found] = re.findall(rf"^# {re.escape(name)}\n(smilla-decrypt.*?)\.Ed$", PAGE.read_text(), re.M | re.S)
    return str(found)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    require_servers("postfix")
    place = folder / "mixed"
    place.mkdir(mode=0o755)
    alice = make_smime_key(place, "alice@home.test")
    smilla = Smilla(place / "milter", "127.0.0.1@9", {}, command="decrypt")
    smilla.folder.mkdir()
    settings: dict[str, Any] = {"decrypt": {"authserv_id": "mx.home.test"}, "decrypt_rule": [rule(smilla, alice)]}
    smilla.write_config(settings)
    if smilla.user:
        shutil.chown(smilla.folder, smilla.user)
        for path in smilla.folder.iterdir():
            shutil.chown(path, smilla.user)
    port, table = free_port(), place / "smilla_decrypt"
    table.write_text(TABLE.read_text().replace("10028", str(port)))
    with Sink() as sink, smilla:
        outside = Listener(options={"cleanup_service_name": "smilla-decrypt-in"})
        name, _, limit = block("main.cf").strip().partition(" = ")
        parameters = {name: limit, "virtual_alias_maps": "inline:{tickets@home.test=alice@home.test}"}
        postfix = Postfix(place / "postfix", sink.port, [outside], parameters)
        lines = block("master.cf").replace("10028", str(port)).replace("/etc/postfix/smilla_decrypt", str(table))
        lines = lines.replace("unix:smilla-decrypt/decrypt.sock", smilla.milter)
        postfix.services = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y ", r"\1n ", lines, flags=re.M)
        with postfix:
            yield Site(postfix, smilla, alice)
            assert CANARY.decode() not in postfix.log
    assert CANARY.decode() not in smilla.log
    assert "Traceback" not in smilla.log


def test_reader_gets_what_was_inside_and_all_others_what_was_sent(site: Site) -> None:
    raw = site.send(by_openssl(TEXT, site.alice), "alice@home.test", "carol@home.test", "dave@home.test")
    arrived = site.arrived("alice", raw)
    assert body_of(arrived) == body_of(TEXT)
    assert header_fields(arrived, "x-smilla") == [b"X-Smilla: decrypted; format=smime"]
    assert len(header_fields(arrived, "received")) == 2
    assert [b"x-decrypt=pass" in one for one in header_fields(arrived, "authentication-results")] == [True]
    for name in ("carol", "dave"):
        copy = site.arrived(name, raw)
        assert body_of(copy) == body_of(raw)
        assert CANARY not in copy
    assert "reason=other_recipients" not in site.smilla.log


def test_virtual_alias_leads_to_the_reader_of_the_rule(site: Site) -> None:
    raw = site.send(by_openssl(TEXT, site.alice), "tickets@home.test", "carol@home.test")
    assert body_of(site.arrived("alice", raw)) == body_of(TEXT)
    assert CANARY not in site.arrived("carol", raw)


def test_ciphertext_copied_on_its_way_is_not_decrypted_for_who_copied_it(site: Site) -> None:
    raw = site.send(by_openssl(TEXT, site.alice), "erin@home.test", "alice@home.test")
    assert CANARY not in site.arrived("erin", raw)
    assert CANARY in site.arrived("alice", raw)


def test_folded_content_type_is_seen_too(site: Site) -> None:
    folded = by_openssl(TEXT, site.alice).replace(b"Content-Type: ", b"Content-Type:\r\n\t")
    raw = site.send(folded, "alice@home.test", "carol@home.test")
    assert body_of(site.arrived("alice", raw)) == body_of(TEXT)


@pytest.mark.parametrize(
    ("field", "is_sent_through"),
    [
        ('Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"', True),
        ("content-type:\n application/pgp-encrypted", True),  # a part, after Exchange
        ("Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data", True),
        ("Content-Type: (c) APPLICATION/PKCS7-MIME", True),
        ('Content-Type: application/octet-stream;\n name="smime.p7m"', True),
        ("Authentication-Results: x; (y) x-openpgp=pass", True),
        ("Content-Type: multipart/signed; protocol=application/pkcs7-signature", False),
        ("Content-Type: text/plain; charset=utf-8", False),
        ("Authentication-Results: mx.home.test; dkim=pass", False),
        ("X-Smilla: pending", False),
        ("Subject: multipart/encrypted", False),
    ],
)
def test_table_knows_what_may_be_encrypted(site: Site, field: str, is_sent_through: bool) -> None:
    try:
        found = site.postfix.run("postmap", "-q", field, f"regexp:{TABLE}")
    except subprocess.CalledProcessError:
        found = ""
    assert found.startswith("FILTER smilla-decrypt:") is is_sent_through


def test_plain_mail_goes_its_own_way_and_forged_claims_are_removed_all_the_same(site: Site) -> None:
    raw = site.send(TEXT, "alice@home.test")
    assert site.arrived("alice", raw).endswith(raw)
    assert len(header_fields(site.arrived("alice", raw), "received")) == 1
    for claim in (
        b"Authentication-Results: mx.home.test;\r\n x-decrypt=pass\r\n",
        b"authentication-results: MX.home.test; (x) smime=pass\r\n",
        b"X-Smilla: decrypted; format=smime\r\n",
    ):
        forged = site.send(claim + TEXT, "alice@home.test")
        assert header_fields(site.arrived("alice", forged), "authentication-results", "x-smilla") == []


def test_killed_at_any_moment_it_loses_nothing_and_no_copy_comes_twice(site: Site) -> None:
    sent = []
    for number in range(_KILLS):
        raw = site.send(by_openssl(TEXT, site.alice), "alice@home.test", "carol@home.test")
        sent.append(raw)
        if number % 2:
            wait_until(lambda: bool(site.copies("carol", raw)), 30)  # noqa: B023
        for pid in set(session_members(site.smilla.child.pid)) - {site.smilla.child.pid}:
            os.kill(pid, signal.SIGKILL)
    site.postfix.wait_until_empty()
    for raw in sent:
        assert body_of(site.arrived("alice", raw)) == body_of(TEXT)
        assert CANARY not in site.arrived("carol", raw)


def test_while_it_is_away_the_ciphertext_waits_in_the_queue(site: Site) -> None:
    site.smilla.stop()
    before = site.postfix.log.count("status=deferred")
    try:
        raw = site.send(by_openssl(TEXT, site.alice), "alice@home.test", "carol@home.test")
        assert wait_until(lambda: site.postfix.log.count("status=deferred") > before, 60)
        assert site.copies("alice", raw) == []
        queued: list[bytes] = []

        def is_read() -> bool:
            for path in site.postfix.queued():
                with contextlib.suppress(FileNotFoundError):  # it moves on
                    queued.append(path.read_bytes())
            return bool(queued)

        assert wait_until(is_read, 30)
        assert not any(CANARY in one for one in queued)
    finally:
        site.smilla.start()
    assert site.postfix.tries_until(lambda: bool(site.copies("alice", raw)))
    assert body_of(site.arrived("alice", raw)) == body_of(TEXT)


def told(site: Site, etc: Path) -> list[str]:
    """What the doctor says of smilla decrypt."""
    argv = [sys.executable, "-c", _ASK, str(site.smilla.config), str(etc)]
    done = subprocess.run(argv, env=beside_postfix(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_ASK = """
import sys
from pathlib import Path
from smilla import config
from smilla.adapters.postfix import Postfix
from smilla.doctor import decrypt_check
for each in decrypt_check.problems(config.load(Path(sys.argv[1])), Postfix(sys.argv[2])):
    print(each.severity, each.line)
"""


def test_doctor_says_what_is_missing(site: Site, folder: Path) -> None:
    etc = folder / "mixed" / "etc"
    shutil.copytree(site.postfix.folder / "etc", etc)
    assert told(site, etc) == []
    main, master = etc / "main.cf", etc / "master.cf"
    whole = master.read_text()
    main.write_text(main.read_text().replace("recipient_limit = 1", "recipient_limit = 50"))
    [line] = told(site, etc)
    assert line.startswith("warning postfix: smilla-decrypt_destination_recipient_limit is not 1")
    master.write_text(re.sub(r"^smilla-decrypt unix", "other unix", whole, flags=re.M))
    [line] = told(site, etc)
    assert line.startswith("hint postfix: mail that is also for somebody without a [[decrypt_rule]] stays encrypted")
    master.write_text(whole.replace(site.smilla.milter, "unix:/other.sock"))
    [line] = told(site, etc)
    assert "nothing is decrypted" in line
