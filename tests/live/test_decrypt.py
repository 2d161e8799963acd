"""smilla decrypt behind a real Postfix: who has a rule gets what was inside, everybody else what was sent.

client -> smtpd -> smilla decrypt -> queue -> virtual -> Maildir
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.certificates import make_certificate, to_pem
from tests.lab.client import SMTPClient
from tests.lab.keys import OpenPGPKey, SMIMEKey, encrypt_openpgp, make_openpgp_key, make_smime_key
from tests.lab.mail import header_fields
from tests.lab.marionette import MarionetteError
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import ChildError
from tests.lab.programs import REPOSITORY, require_servers
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla, to_toml
from tests.lab.thunderbird import Thunderbird
from tests.live.conftest import cannot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.live

CANARY = b"the-canary-sings-at-dawn-4711"
TEXT = "Content-Type: text/plain; charset=utf-8\r\n\r\nGrüße ".encode() + CANARY + b"\r\n.\r\n"
HTML = b"Content-Type: text/html\r\n\r\n<p>" + CANARY + b'<img src="http://efail.test/">\r\n'
PGP = (
    b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n--b--\r\n"
)


@dataclass(frozen=True)
class Person:
    """Somebody at Thunderbird, reader@home.test, whose mail is read centrally too; ``authority`` made the
    certificate."""

    smime: SMIMEKey
    openpgp: OpenPGPKey
    authority: Path


@dataclass
class Site:
    postfix: Postfix
    smilla: Smilla
    alice: SMIMEKey
    erin: SMIMEKey
    bob: OpenPGPKey
    reader: Person
    count: int = 0

    @property
    def signers(self) -> Path:
        """Where sue's and eve's files are."""
        return self.reader.authority.parent

    def send(self, message: bytes, *to: str) -> tuple[int, bytes]:
        """The code, and the message with its own Subject, as it was sent."""
        self.count += 1
        raw = b"From: sue@s.test\r\nTo: %s\r\nSubject: number %d\r\nMIME-Version: 1.0\r\n" % (
            to[0].encode(),
            self.count,
        )
        raw += message
        client = SMTPClient(self.postfix.listeners[0].port)
        try:
            return client.send("sue@s.test", to, raw)[-1].code, raw
        finally:
            client.close()

    def arrived(self, local_part: str, raw: bytes) -> bytes:
        """What lies in the mailbox under the Subject of ``raw``, with CRLF."""
        [subject] = header_fields(raw, "subject")
        known: list[bytes] = []
        for count in range(1, 100):
            files = self.postfix.wait_for_mail(local_part, count)
            known = [re.sub(rb"\r?\n", b"\r\n", path.read_bytes()) for path in files]
            found = [one for one in known if header_fields(one, "subject") == [subject]]
            if found:
                return found[0]
        raise AssertionError(known)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    place = folder / "decrypt"
    place.mkdir()
    place.chmod(0o755)
    alice, erin = make_smime_key(place, "alice@home.test"), make_smime_key(place, "erin@home.test", algorithm="p256")
    bob = make_openpgp_key(place, "bob@home.test")
    bob.close()  # the agent that gpg started for root
    smilla = Smilla(place / "milter", "127.0.0.1@9", {}, command="decrypt")
    smilla.folder.mkdir()
    rules = [rule(smilla, alice), rule(smilla, erin), {"recipient": "bob@home.test", "gnupg_home": str(bob.home)}]
    reader = make_signers(place)
    (place / "keys").mkdir()
    (place / "keys" / "reader@home.test.pgp").write_bytes(reader.openpgp.raw)
    secret = smilla.folder / "reader.asc"
    secret.touch(mode=0o600)
    secret.write_text(reader.openpgp.armoured_secret_key())
    both = [str(secret), *rule(smilla, reader.smime)["key_files"]]  # type: ignore[misc]
    rules.append({"recipient": "reader@home.test", "key_files": both})
    settings = {
        "decrypt": {"authserv_id": "mx.home.test"},
        "smime": {"ca_file": str(place / "ca.pem")},
        "keys": {"sources": ["directory"], "directory": str(place / "keys")},
        "decrypt_rule": rules,
    }
    smilla.write_config(settings)  # type: ignore[arg-type]
    if smilla.user:
        shutil.chown(smilla.folder, smilla.user)
        for path in (*smilla.folder.iterdir(), bob.home, *bob.home.rglob("*")):
            shutil.chown(path, smilla.user)
    with Sink() as sink, smilla:
        listener = Listener([smilla.milter], {"milter_default_action": "tempfail"})
        with Postfix(place / "postfix", sink.port, [listener]) as postfix:
            try:
                yield Site(postfix, smilla, alice, erin, bob, reader)
            finally:
                stop_agent(bob, smilla.user)
                reader.openpgp.close()
            assert CANARY.decode() not in postfix.log
    assert CANARY.decode() not in smilla.log
    assert "Traceback" not in smilla.log


def make_signers(place: Path) -> Person:
    """An authority, and the certificates that it gave to sue and eve (NAME.pem, with the key) and to the reader."""
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=9)}
    ca = make_certificate("p256", common_name="A CA", ca=True, number=70, **dates)  # type: ignore[arg-type]
    (place / "ca.pem").write_bytes(to_pem(ca[1]))
    for number, name in enumerate(("sue", "eve"), 71):
        words = {"email": f"{name}@s.test", "usages": ("digital_signature",), "number": number, "common_name": name}
        key, raw = make_certificate("p256", issuer=ca, **words, **dates)  # type: ignore[arg-type]
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (place / f"{name}.pem").write_bytes(pem + to_pem(raw))
    uses = {"usages": ("digital_signature", "key_encipherment"), "extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}
    key, raw = make_certificate("rsa2048", email="reader@home.test", number=80, issuer=ca, **uses, **dates)  # type: ignore[arg-type]
    certificate_file, key_file = place / "reader.crt", place / "reader.key"
    certificate_file.write_bytes(to_pem(raw))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    smime = SMIMEKey("reader@home.test", raw, certificate_file, key_file)
    return Person(smime, make_openpgp_key(place, "reader@home.test"), place / "ca.pem")


def rule(smilla: Smilla, key: SMIMEKey) -> dict[str, object]:
    private = smilla.folder / f"{key.address}.pem"
    private.write_bytes(key.key_file.read_bytes() + key.certificate_file.read_bytes())
    private.chmod(0o600)
    return {"recipient": key.address, "key_files": [str(private)]}


def stop_agent(key: OpenPGPKey, user: str) -> None:
    """The agent belongs to smilla's user, and so must whoever speaks to it."""
    account = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    command = ["gpgconf", "--homedir", str(key.home), "--kill", "all"]
    subprocess.run(command, check=False, capture_output=True, user=account.pw_uid, group=account.pw_gid)


def by_openssl(content: bytes, *keys: SMIMEKey, options: Sequence[str] = ("-aes256",)) -> bytes:
    command = ["openssl", "cms", "-encrypt", "-binary", "-stream", "-outform", "SMIME", *options]
    done = subprocess.run(
        [*command, *(str(key.certificate_file) for key in keys)], input=content, capture_output=True, check=True
    )
    return re.sub(rb"\r?\n", b"\r\n", done.stdout).removeprefix(b"MIME-Version: 1.0\r\n")


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def is_as_sent(arrived: bytes, sent: bytes) -> bool:
    return arrived.endswith(sent)


def test_ciphertext_of_openssl_arrives_as_what_was_inside(site: Site) -> None:
    for name, key, options in (("alice", site.alice, ("-aes256",)), ("erin", site.erin, ("-des3",))):
        code, raw = site.send(by_openssl(TEXT, key, options=options), f"{name}@home.test")
        assert code == 250
        arrived = site.arrived(name, raw)
        assert body_of(arrived) == body_of(TEXT)
        assert header_fields(arrived, "content-type", "x-smilla") == [
            b"Content-Type: text/plain; charset=utf-8",
            b"X-Smilla: decrypted; format=smime",
        ]
        [told] = header_fields(arrived, "authentication-results")
        assert told.endswith(b"mx.home.test;\r\n\tx-decrypt=pass body.format=smime body.authenticated=no")
        assert site.smilla.wait_for_log(rf" decrypted rcpt={name}@home.test ")


def test_ciphertext_of_gpg_is_opened_by_the_agent_of_the_milters_user(site: Site) -> None:
    code, raw = site.send(PGP % encrypt_openpgp(site.bob, TEXT).replace(b"\n", b"\r\n"), "bob@home.test")
    stop_agent(site.bob, "")
    assert code == 250
    arrived = site.arrived("bob", raw)
    assert body_of(arrived) == body_of(TEXT)
    assert b"body.format=openpgp body.authenticated=yes" in header_fields(arrived, "authentication-results")[0]


def test_html_that_nothing_authenticates_arrives_without_what_it_would_load(site: Site) -> None:
    _, raw = site.send(by_openssl(HTML, site.alice), "alice@home.test")
    assert b"body.html=strip" in header_fields(site.arrived("alice", raw), "authentication-results")[0]
    assert b"efail" not in site.arrived("alice", raw)
    _, raw = site.send(by_openssl(HTML, site.alice, options=["-aes-256-gcm"]), "alice@home.test")
    assert body_of(site.arrived("alice", raw)) == body_of(HTML)


@pytest.mark.parametrize("options", [(), ("-nodetach",)], ids=["beside", "around"])
@pytest.mark.parametrize(("name", "result"), [("sue", b"pass"), ("eve", b"policy")])
def test_signature_inside_is_checked_and_html_that_the_sender_signed_stays(
    site: Site, options: tuple[str, ...], name: str, result: bytes
) -> None:
    command = ["openssl", "cms", "-sign", "-outform", "SMIME", "-signer", str(site.signers / f"{name}.pem"), *options]
    signed = subprocess.run(command, input=HTML, capture_output=True, check=True).stdout
    inside = re.sub(rb"\r?\n", b"\r\n", signed).removeprefix(b"MIME-Version: 1.0\r\n")
    _, raw = site.send(by_openssl(inside, site.alice), "alice@home.test")
    arrived = site.arrived("alice", raw)
    _, told = header_fields(arrived, "authentication-results")
    assert b"mx.home.test;\r\n\tsmime=" + result in told
    assert (b"smime-identifier=sue@s.test" in told, HTML.partition(b"\r\n\r\n")[2] in arrived) == (name == "sue",) * 2
    assert (b"efail" in arrived) == (name == "sue")
    assert site.smilla.wait_for_log(rf" signature={result.decode()}")


def test_message_for_both_readers_is_decrypted_and_with_a_third_for_nobody(site: Site) -> None:
    both = by_openssl(TEXT, site.alice, site.erin)
    _, raw = site.send(both, "alice@home.test", "erin@home.test")
    for name in ("alice", "erin"):
        assert body_of(site.arrived(name, raw)) == body_of(TEXT)
    _, raw = site.send(both, "alice@home.test", "erin@home.test", "carol@home.test")
    for name in ("alice", "erin", "carol"):
        assert is_as_sent(site.arrived(name, raw), raw)
    assert site.smilla.wait_for_log("not-decrypted rcpt=alice@home.test reason=other_recipients")


def test_ciphertext_copied_on_its_way_is_not_decrypted_for_who_copied_it(site: Site) -> None:
    sealed = by_openssl(TEXT, site.alice)
    for to in (["erin@home.test"], ["alice@home.test", "erin@home.test"]):
        _, raw = site.send(sealed, *to)
        assert is_as_sent(site.arrived("erin", raw), raw)


def test_mail_for_others_and_plain_mail_arrive_octet_for_octet(site: Site) -> None:
    forged = b"Authentication-Results: mx.home.test; x-decrypt=pass\r\nX-Smilla: decrypted\r\n"
    for message, name in ((by_openssl(TEXT, site.alice), "carol"), (forged + TEXT, "carol"), (TEXT, "alice")):
        _, raw = site.send(message, f"{name}@home.test")
        assert is_as_sent(site.arrived(name, raw), raw)
    _, raw = site.send(forged + TEXT, "alice@home.test")
    assert header_fields(site.arrived("alice", raw), "authentication-results", "x-smilla") == []


def test_what_smilla_encrypted_with_a_hidden_subject_comes_back_whole(site: Site, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(site.alice.certificate_file, keys / "alice@home.test.pem")
    config = tmp_path / "smilla.toml"
    config.write_text(
        to_toml({"keys": {"sources": ["directory"], "directory": str(keys)}, "headers": {"protect": "hide"}})
    )
    original = b"From: sue@s.test\r\nTo: alice@home.test\r\nSubject: a secret plan\r\nMIME-Version: 1.0\r\n" + TEXT
    ends = ["--config", str(config), "--from", "sue@s.test", "--to", "alice@home.test"]
    done = subprocess.run(
        [sys.executable, "-m", "smilla", "encrypt", *ends],
        input=original,
        capture_output=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert b"secret" not in done.stdout
    client = SMTPClient(site.postfix.listeners[0].port)
    client.send("sue@s.test", ["alice@home.test"], done.stdout)
    client.close()
    arrived = site.arrived("alice", original)
    assert body_of(arrived) == body_of(original)
    assert header_fields(arrived, "x-smilla") == [b"X-Smilla: decrypted; format=smime"]


def test_while_the_milter_is_down_postfix_keeps_the_mail_with_its_sender(site: Site) -> None:
    sealed = by_openssl(TEXT, site.alice)
    site.smilla.stop()
    try:
        assert site.send(sealed, "alice@home.test")[0] // 100 == 4
    finally:
        site.smilla.start()
    code, raw = site.send(sealed, "alice@home.test")
    assert code == 250
    assert body_of(site.arrived("alice", raw)) == body_of(TEXT)


def test_what_thunderbird_signs_and_encrypts_arrives_readable_and_its_signer_is_named(
    site: Site, tmp_path: Path
) -> None:
    require_servers("thunderbird", "certutil")
    keys: list[SMIMEKey | OpenPGPKey] = [site.reader.smime, site.reader.openpgp]
    port = site.postfix.listeners[0].port
    no_login = {"mail.smtpserver.smtp1.authMethod": 1}
    ca = site.reader.authority
    place = tmp_path / "t"
    writer = Thunderbird(place, None, "reader", "x", keys, submission=port, preferences=no_login, authority=ca)
    subjects = {"S/MIME": b"smime=pass body.smime-identifier=", "OpenPGP": b"x-openpgp=pass body.signer="}
    try:
        with writer as thunderbird:
            thunderbird.choose_keys()
            for technology in subjects:
                text = f"Grüße: {CANARY.decode()}"
                thunderbird.send("reader@home.test", f"About {technology}", text, technology=technology)
    except (ChildError, MarionetteError) as error:
        cannot(f"Thunderbird does not write: {error}")
    for technology, named in subjects.items():
        arrived = site.arrived("reader", b"Subject: About " + technology.encode() + b"\r\n\r\n")
        assert CANARY in arrived
        told, signed = header_fields(arrived, "authentication-results")
        assert b"x-decrypt=pass" in told
        assert named + b"reader@home.test" in signed
