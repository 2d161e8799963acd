"""One message in Thunderbird, which stays connected: as it came in, once smilla mailbox has encrypted it, and decrypted
again; with pictures in .cache/pictures.

imapclient puts it in -> Dovecot <- smilla mailbox; Thunderbird looks on
"""

from __future__ import annotations

import contextlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.dovecot import PASSWORD, Dovecot
from tests.lab.keys import make_openpgp_key, make_smime_key
from tests.lab.programs import REPOSITORY, require_servers
from tests.lab.thunderbird import Shown, Thunderbird
from tests.live.mailbox_user import User
from tests.live.test_mailbox import command

if TYPE_CHECKING:
    from tests.lab.keys import OpenPGPKey, SMIMEKey

pytestmark = pytest.mark.live

PICTURES = REPOSITORY / ".cache/pictures"
TEXT = "Grüße: the eagle lands at dusk."
NAME = "moved@s.test"
LETTER = (
    f"From: Sender <sender@s.test>\r\nTo: reader@home.test\r\nSubject: About moved\r\nMessage-ID: <{NAME}>\r\n"
    "Date: Thu, 26 Nov 2026 08:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Transfer-Encoding: 8bit\r\n\r\n{TEXT}\r\n"
).encode()


@pytest.mark.parametrize("form", ["smime", "openpgp"])
def test_message_reads_the_same_before_and_after_and_the_lock_says_what_it_is(
    folder: Path, tmp_path: Path, form: str
) -> None:
    require_servers("dovecot", "thunderbird", "certutil", "pk12util")
    place = Path(tempfile.mkdtemp(prefix="moved-", dir=folder))
    place.chmod(0o755)
    with contextlib.ExitStack() as stack:
        key: SMIMEKey | OpenPGPKey
        if form == "smime":
            key = make_smime_key(place, "reader@home.test")
        else:
            key = stack.enter_context(make_openpgp_key(place, "reader@home.test"))
        dovecot = stack.enter_context(Dovecot(place / "dovecot"))
        user = User(dovecot, tmp_path, "reader")
        user.put((LETTER, (b"\\Flagged", b"$Label1"), datetime(2026, 11, 26, 8, tzinfo=UTC)))
        thunderbird = stack.enter_context(Thunderbird(place / "thunderbird", dovecot, "reader", PASSWORD, [key]))
        before = look(thunderbird, user, f"{form}-1-before", "")
        where = ("--imap", f"127.0.0.1:{dovecot.port}", "--tls", "none")
        done = command(user, key, *where)
        assert (done.returncode, done.stdout) == (0, "INBOX: 1 encrypted\n"), done.stderr
        assert TEXT.encode() not in user.messages()[0].raw
        encrypted = look(thunderbird, user, f"{form}-2-encrypted", "ok")
        done = command(user, key, *where, action="decrypt")
        assert (done.returncode, done.stdout) == (0, "INBOX: 1 decrypted\n"), done.stderr
        after = look(thunderbird, user, f"{form}-3-decrypted", "")
        assert user.messages()[0].flags >= {b"\\Flagged", b"$Label1"}
    for shown in (before, encrypted, after):
        assert (shown.subject, shown.message_id) == ("About moved", NAME)
        assert TEXT in shown.text
        assert shown.notice == ""
    assert [shown.encrypted for shown in (before, encrypted, after)] == ["", "ok", ""]
    assert encrypted.technology == ("S/MIME" if form == "smime" else "OpenPGP")


def look(thunderbird: Thunderbird, user: User, name: str, lock: str) -> Shown:
    """What it shows once it has heard of the change."""
    with user.client() as client:
        client.select_folder("INBOX", readonly=True)
        thunderbird.follow(list(client.search("ALL")))
    shown = thunderbird.show(NAME, lambda found: found.encrypted == lock and TEXT in found.text)
    picture = PICTURES / f"thunderbird-mailbox-{name}.png"
    picture.unlink(missing_ok=True)
    thunderbird.picture(picture)
    return shown
