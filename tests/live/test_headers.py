"""Protected header fields (RFC 9788) behind both MTAs: what everybody sees, and what openssl and gpg find inside.

client -> MTA -> smilla (off, copy, hide) -> MTA -> sink -> openssl, gpg -> Python's parser
                       \\-> the listener without a filter (further copies)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.headers import check_inside, check_outside, fields_of
from tests.lab.mail import inside
from tests.lab.programs import find_program
from tests.live.mta import CANARY, Mta, check_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_USUAL: dict[str, Any] = {"policy": {"mixed": "reinject", "one_fails": "bounce"}, "dns": {"timeout_s": 20}}
_FILTERS: dict[str, Any] = {
    "copy": _USUAL | {"headers": {"protect": "copy"}},
    "hide": _USUAL | {"headers": {"protect": "hide"}},
    "rules": _USUAL
    | {
        "policy": {"mixed": "reinject", "wish_subject": "[encrypt]"},
        "rule": [
            {"recipient": "alice@*", "protect_headers": "hide"},
            {"recipient": "anna@*", "protect_headers": "copy"},
        ],
    },
}
SECRET = b"the-subject-nobody-sees"


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, folder: Path, lab: DNSLab) -> Iterator[Mta]:
    """An MTA with a listener for each of the filters."""
    place = Path(tempfile.mkdtemp(prefix="headers-", dir=folder))
    place.chmod(0o755)
    try:
        with Chain(place, lab.resolver, _FILTERS, kind=request.param) as chain:
            yield Mta(chain)
            for smilla in chain.filters.values():
                assert SECRET not in smilla.log.encode()
            check_logs(chain)
    finally:
        shutil.rmtree(place)


def compose(
    *names: str, subject: bytes = SECRET, content: bytes = b"text/plain; charset=utf-8", body: bytes = b""
) -> bytes:
    """A letter with all kinds of fields, Subject and References folded, and one that names a blind recipient."""
    to = b", ".join(name.encode() + b"@r.test" for name in names)
    return b"\r\n".join(
        [
            b"From: =?utf-8?q?S=C3=A4m?= <sender@s.test>",
            b"To: " + to,
            b"Subject: " + subject + b"\r\n and the rest of it",
            b"Comments: " + SECRET,
            b"Keywords: " + SECRET,
            b"Bcc: dora@r.test",
            b"Date: Tue, 24 Nov 2026 10:00:00 +0000",
            b"References: <a@s.test>\r\n\t<b@s.test>",
            b"MIME-Version: 1.0",
            b"Content-Type: " + content,
            b"Content-Transfer-Encoding: 8bit",
            b"Message-ID: <%s@s.test>" % uuid.uuid4().hex.encode(),
            b"",
            body or b"K\xc3\xa4se " + CANARY + b"\r\n.\r\n--x\r\n",
        ]
    )


def delivered(mta: Mta, sent: bytes) -> dict[str, ReceivedMail]:
    """What came of a message, by recipient; each got one."""
    found = [(address.partition("@")[0], mail) for mail in mta.delivered(sent) for address in mail.rcpt_to]
    assert len(dict(found)) == len(found)
    return dict(found)


def opened(keys: Keys, name: str, mail: ReceivedMail, place: Path) -> bytes:
    file = place / f"{name}.eml"
    file.write_bytes(mail.raw)
    return keys.people[name].open(file)


@pytest.mark.parametrize("how", ["copy", "hide"])
@pytest.mark.parametrize("names", [("alice",), ("erin",), ("bob",), ("alice", "bob"), ("alice", "erin", "bob", "brit")])
def test_each_reader_finds_the_fields_inside(
    mta: Mta, keys: Keys, tmp_path: Path, names: tuple[str, ...], how: str
) -> None:
    reply, sent = mta.send(compose(*names), [f"{name}@r.test" for name in names], listener=how)
    assert reply.code == 250, reply
    found = delivered(mta, sent)
    assert set(found) == set(names)
    for name, mail in found.items():
        assert CANARY not in mail.raw
        assert (SECRET in mail.raw) is (how == "copy")
        assert b"dora@" not in mail.raw
        check_outside(mail.raw, sent, hide=how == "hide")
        check_inside(opened(keys, name, mail, tmp_path), sent, hide=how == "hide")


@pytest.mark.parametrize("names", [("alice",), ("alice", "erin")])
def test_hidden_fields_are_hidden_however_oddly_and_often_they_are_written(
    mta: Mta, keys: Keys, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """With blanks before the colon, in capitals, twice, empty, folded at once; so is who stands in Bcc, and the first
    type of the body."""
    odd = (
        *(b"Subject : " + SECRET, b"SUBJECT:" + SECRET, b"subject:", b"Comments \t: " + SECRET),
        *(b"Thread-Topic:\r\n " + SECRET, b"Keywords:a", b"Bcc : dora@r.test", b"BCC:dora@r.test", b"X-Kept: 1"),
        b"Content-Language : x-" + SECRET,
    )
    raw = compose(*names).replace(b"Date: ", b"\r\n".join(odd) + b"\r\nDate: ", 1)
    reply, sent = mta.send(raw, [f"{name}@r.test" for name in names], listener="hide")
    assert reply.code == 250, reply
    found = delivered(mta, sent)
    assert set(found) == set(names)
    for name, mail in found.items():
        head = mail.raw.partition(b"\r\n\r\n")[0]
        assert (SECRET in mail.raw, b"dora@" in mail.raw, CANARY in mail.raw) == (False, False, False), head
        assert b"\r\nX-Kept: 1\r\n" in head
        assert len(re.findall(rb"(?mi)^content-type\s*:", head)) == 1
        assert opened(keys, name, mail, tmp_path).count(SECRET) >= 7


def test_who_gets_no_ciphertext_gets_the_subject(mta: Mta, keys: Keys, tmp_path: Path) -> None:
    reply, sent = mta.send(compose("alice", "n1"), ["alice@r.test", "n1@r.test"], listener="hide")
    assert reply.code == 250, reply
    found = delivered(mta, sent)
    check_outside(found["alice"].raw, sent, hide=True)
    check_inside(opened(keys, "alice", found["alice"], tmp_path), sent, hide=True)
    check_outside(found["n1"].raw, sent, hide=False)
    assert found["n1"].raw_body == sent.partition(b"\r\n\r\n")[2]


def test_rules_keep_those_apart_for_whom_it_is_hidden_and_the_wish_stands_nowhere(
    mta: Mta, keys: Keys, tmp_path: Path
) -> None:
    names = ("alice", "anna", "arthur")
    message = compose(*names, subject=b"[encrypt] " + SECRET)
    reply, sent = mta.send(message, [f"{name}@r.test" for name in names], listener="rules")
    assert reply.code == 250, reply
    found, clean = delivered(mta, sent), sent.replace(b"[encrypt] ", b"")
    assert len({mail.raw_body for mail in found.values()}) == 3
    for name, how in (("alice", "hide"), ("anna", "copy")):
        check_outside(found[name].raw, clean, hide=how == "hide")
        check_inside(opened(keys, name, found[name], tmp_path), clean, hide=how == "hide")
    check_outside(found["arthur"].raw, clean, hide=False)
    assert opened(keys, "arthur", found["arthur"], tmp_path) == inside(clean)


def test_notification_about_who_failed_does_not_tell_the_subject(mta: Mta) -> None:
    reply, sent = mta.send(compose("alice", "expired"), ["alice@r.test", "expired@r.test"], listener="hide")
    assert reply.code == 250, reply
    found = delivered(mta, sent)
    assert set(found) == {"alice", "sender"}
    assert found["sender"].mail_from == ""
    assert SECRET not in found["sender"].raw
    assert b"\r\nSubject: [...]\r\n" in found["sender"].raw


def test_signed_message_verifies_and_keeps_its_subject_outside(mta: Mta, keys: Keys, tmp_path: Path) -> None:
    """The sender protected the fields by hp="clear"; that stays so."""
    part = (
        b'Content-Type: text/plain; charset=utf-8; hp="clear"\r\nFrom: sender@s.test\r\nSubject: '
        + SECRET + b"\r\n\r\n" + CANARY + b"\r\n"
    )  # fmt: skip
    openssl, certificate = str(find_program("openssl")), keys.alice.certificate_file
    command = [openssl, "cms", "-sign", "-binary", "-signer", str(certificate), "-inkey", str(keys.alice.key_file)]
    whole = subprocess.run([*command, "-crlfeol"], input=part, capture_output=True, check=True).stdout
    head, _, body = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    (kind,) = [value for _, value in fields_of(head + b"\r\n\r\n", "Content-Type")]
    message = compose("alice", content=kind.encode(), body=body).replace(b"Content-Transfer-Encoding: 8bit\r\n", b"")
    reply, sent = mta.send(message, ["alice@r.test"], listener="hide")
    assert reply.code == 250, reply
    mail = delivered(mta, sent)["alice"]
    check_outside(mail.raw, sent, hide=False)
    found = opened(keys, "alice", mail, tmp_path)
    assert found == inside(sent)
    verify = [openssl, "cms", "-verify", "-CAfile", str(certificate), "-purpose", "any"]
    assert subprocess.run(verify, input=found, capture_output=True, check=True).stdout == part
    assert "protect=hide reason=signed" in mta.chain.filters["hide"].wait_for_log("headers-bare rcpt=alice@r.test")
