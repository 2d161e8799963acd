"""Seen with a person's eyes: what smilla delivered, in Thunderbird, with pictures in .cache/pictures.

client -> Postfix -> smilla (inbound) -> LMTP -> Dovecot -> IMAP -> Thunderbird

One person reads one mailbox under several addresses, and has a certificate (RSA), one more (P-256) and an OpenPGP key.
Controls: a message that nobody encrypted, and two for keys that the person does not have.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.lab.dovecot import PASSWORD
from tests.lab.keys import OpenPGPKey, SMIMEKey, make_openpgp_key, make_smime_key
from tests.lab.marionette import MarionetteError
from tests.lab.processes import ChildError
from tests.lab.programs import REPOSITORY, require_servers
from tests.lab.thunderbird import Shown, Thunderbird
from tests.live.at_rest import Mailboxes, mailboxes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live

PICTURES = REPOSITORY / ".cache/pictures"
TEXT = "Grüße: the eagle lands at dusk."


@dataclass(frozen=True)
class Expected:
    """What a person shall see of one message; ``text`` is a part of the message, or of what stands in its place."""

    subjects: tuple[str, ...]
    technology: str
    encrypted: str
    status: int
    text: str = TEXT

    def fits(self, shown: Shown) -> bool:
        """Whether all of it stands on the screen."""
        return (
            (shown.technology, shown.encrypted, shown.status) == (self.technology, self.encrypted, self.status)
            and shown.subject in self.subjects
            and self.text in f"{shown.text}\n{shown.notice}"
            and (TEXT in shown.text) is (self.text == TEXT)
        )


# By name, which is the part of the address behind the plus sign; the hidden ones have their Subject inside only.
MESSAGES = {
    "smime-rsa": Expected(("About smime-rsa",), "S/MIME", "ok", 0),
    "smime-p256": Expected(("About smime-p256",), "S/MIME", "ok", 0),
    "openpgp": Expected(("About openpgp",), "OpenPGP", "ok", -1),
    "hidden-openpgp": Expected(("About hidden-openpgp",), "OpenPGP", "ok", -1),
    # Thunderbird 153 does not look for it in S/MIME, and may learn to.
    "hidden-smime": Expected(("[...]", "About hidden-smime"), "S/MIME", "ok", 0),
    "plain": Expected(("About plain",), "", "", -1),
    "wrong-smime": Expected(("About wrong-smime",), "S/MIME", "notok", 1, "Thunderbird cannot decrypt this message"),
    "wrong-openpgp": Expected(
        ("About wrong-openpgp",), "OpenPGP", "notok", -1, "The secret key that is required to decrypt"
    ),
}


def letter(name: str) -> bytes:
    """The message to one of the person's addresses, with a text, the same in HTML, and a small attachment."""
    head = f"From: Sender <sender@s.test>\r\nTo: reader+{name}@home.test\r\nSubject: About {name}\r\n"
    return (
        f"{head}Message-ID: <{name}@s.test>\r\nDate: Thu, 26 Nov 2026 08:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="=_outer"\r\n\r\n'
        '--=_outer\r\nContent-Type: multipart/alternative; boundary="=_inner"\r\n\r\n'
        "--=_inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"{TEXT}\r\n"
        "--=_inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"<h2>{TEXT}</h2><p>This is the HTML part of the message to {name}.</p>\r\n"
        "--=_inner--\r\n--=_outer\r\nContent-Type: text/plain; name=figures.txt\r\n"
        "Content-Disposition: attachment; filename=figures.txt\r\n\r\n1 2 3\r\n--=_outer--\r\n"
    ).encode()


@pytest.fixture(scope="module")
def seen(folder: Path, lab: DNSLab) -> Iterator[dict[str, Shown]]:
    """What the person saw of each message."""
    require_servers("dovecot", "thunderbird", "certutil", "pk12util")
    place = folder / "reader"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        certificates = {
            "smime-rsa": make_smime_key(place, "reader+smime-rsa@home.test"),
            "smime-p256": make_smime_key(place, "reader+smime-p256@home.test", algorithm="p256"),
            "wrong-smime": make_smime_key(place, "reader+wrong-smime@home.test"),
        }
        openpgp = {
            name: stack.enter_context(make_openpgp_key(place, f"reader+{name}@home.test"))
            for name in ("openpgp", "wrong-openpgp")
        }
        keys: dict[str, SMIMEKey | OpenPGPKey] = {
            **certificates,
            **openpgp,
            "hidden-openpgp": openpgp["openpgp"],
            "hidden-smime": certificates["smime-rsa"],
        }
        hidden = {"recipient": "reader+hidden-*@home.test", "protect_headers": "hide"}
        boxes = stack.enter_context(
            mailboxes(
                folder,
                lab.resolver,
                {f"reader+{name}@home.test": key for name, key in keys.items()},
                filters={"inbound": {"mode": "inbound", "rule": [hidden]}},
            )
        )
        for name in MESSAGES:
            reply, sent = boxes.send(letter(name), [f"reader+{name}@home.test"])
            assert reply.code == 250, reply
            arrived = boxes.read("reader", sent)
            assert (TEXT.encode() in arrived) is (name == "plain")
            assert (b"About " in arrived) is not name.startswith("hidden")
        own: list[SMIMEKey | OpenPGPKey] = [certificates["smime-rsa"], certificates["smime-p256"], openpgp["openpgp"]]
        try:
            yield look(place / "first", boxes, own)
        except (ChildError, MarionetteError, OSError) as error:
            print(f"Thunderbird, once more: {error}")
            yield look(place / "second", boxes, own)


def look(place: Path, boxes: Mailboxes, keys: list[SMIMEKey | OpenPGPKey]) -> dict[str, Shown]:
    """One run of Thunderbird: each message is selected, awaited and pictured."""
    shown = {}
    with Thunderbird(place, boxes.dovecot, "reader", PASSWORD, keys) as thunderbird:
        thunderbird.fetch(len(MESSAGES))
        for name, expected in MESSAGES.items():
            shown[name] = thunderbird.show(f"{name}@s.test", expected.fits)
            keep(thunderbird, name)
    return shown


def keep(thunderbird: Thunderbird, name: str) -> None:
    """A picture, which belongs to whom the repository belongs to."""
    picture = PICTURES / f"thunderbird-{name}.png"
    picture.unlink(missing_ok=True)
    thunderbird.picture(picture)
    for path in (PICTURES, picture):
        os.chown(path, REPOSITORY.stat().st_uid, REPOSITORY.stat().st_gid)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_person_sees_in_thunderbird(seen: dict[str, Shown], name: str) -> None:
    shown = seen[name]
    assert shown.message_id == f"{name}@s.test"
    assert MESSAGES[name].fits(shown), shown
    assert (PICTURES / f"thunderbird-{name}.png").read_bytes().startswith(b"\x89PNG")
