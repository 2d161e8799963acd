"""The laboratory judges smilla, so it is judged first: without smilla, against dnspython and plain SMTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.lab.client import SMTPClient, send_mail
from tests.lab.dns import openpgpkey_owner, smimea_owner
from tests.lab.keys import NotOpenedError
from tests.lab.mail import added_by_mta, inside
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, processes_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.dns import DNSLab
    from tests.live.conftest import ChainFactory, Keys

pytestmark = pytest.mark.live

MESSAGE = (
    b"From: Sender <sender@s.test>\r\nTo: alice@r.test\r\nSubject: =?utf-8?q?K=C3=A4se?=\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".a line with a dot\r\nK\xc3\xa4se, not UTF-8: \xe4, a NUL: \x00\r\n..\r\n" + b"x" * 900 + b"\r\n\r\n"
)


def ask(lab: DNSLab, owner: str, rdtype: str, timeout_s: float = 60) -> dns.message.Message:
    query = dns.message.make_query(owner, rdtype, use_edns=True)
    query.flags |= dns.flags.AD
    return dns.query.tcp(query, LOOPBACK, port=lab.port, timeout=timeout_s)


@pytest.mark.parametrize(
    ("zone", "rcode", "authenticated", "answers"),
    [
        ("r.test", dns.rcode.NOERROR, True, 1),
        ("unsigned.test", dns.rcode.NOERROR, False, 1),
        ("forged.test", dns.rcode.SERVFAIL, False, 0),
        ("bogus.test", dns.rcode.SERVFAIL, False, 0),
        ("dead.test", dns.rcode.SERVFAIL, False, 0),
    ],
)
def test_each_zone_answers_as_its_name_says(
    lab: DNSLab, zone: str, rcode: dns.rcode.Rcode, authenticated: bool, answers: int
) -> None:
    for owner, rdtype in ((smimea_owner(f"alice@{zone}"), "TYPE53"), (openpgpkey_owner(f"bob@{zone}"), "TYPE61")):
        answer = ask(lab, owner, rdtype)
        assert answer.rcode() == rcode
        assert bool(answer.flags & dns.flags.AD) is authenticated
        assert len(answer.answer) == answers


def test_absence_is_proven_in_a_signed_zone_only(lab: DNSLab) -> None:
    signed = ask(lab, smimea_owner("nobody@r.test"), "TYPE53")
    unsigned = ask(lab, smimea_owner("nobody@unsigned.test"), "TYPE53")
    assert (signed.rcode(), bool(signed.flags & dns.flags.AD)) == (dns.rcode.NXDOMAIN, True)
    assert (unsigned.rcode(), bool(unsigned.flags & dns.flags.AD)) == (dns.rcode.NXDOMAIN, False)


def test_a_silent_zone_keeps_waiting_and_troubles_no_other(lab: DNSLab) -> None:
    with pytest.raises(dns.exception.Timeout):
        ask(lab, smimea_owner("alice@silent.test"), "TYPE53", timeout_s=1)
    assert ask(lab, smimea_owner("erin@r.test"), "TYPE53").rcode() == dns.rcode.NOERROR


def test_owner_names_are_those_of_the_rfcs() -> None:
    assert openpgpkey_owner("hugh@example.com") == (
        "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com."
    )


def test_the_wrong_key_opens_nothing(folder: Path, keys: Keys) -> None:
    message = folder / "garbage.eml"
    message.write_bytes(MESSAGE)
    for key in (keys.alice, keys.impostor, keys.bob):
        with pytest.raises(NotOpenedError):
            key.open(message)


def test_postfix_without_a_filter_delivers_octet_for_octet(chain: ChainFactory) -> None:
    mta = chain()
    assert send_mail(mta.port("plain"), "sender@s.test", ["alice@r.test"], MESSAGE).code == 250
    assert send_mail(mta.port("plain"), "", ["carol@home.test"], MESSAGE).code == 250

    (mail,) = mta.sink.wait_for(1)
    assert (mail.mail_from, mail.rcpt_to) == ("sender@s.test", ("alice@r.test",))
    added = added_by_mta(mail.raw, MESSAGE)
    assert added is not None
    assert added.startswith(b"Received: ")
    assert added.count(b"\r\n") == added.count(b"\r\n\t") + 1
    (file,) = mta.postfix.wait_for_mail("carol")
    assert file.read_bytes().endswith(MESSAGE.replace(b"\r\n", b"\n"))
    mta.postfix.wait_until_empty()


def test_postfix_defers_where_its_filter_is_gone(chain: ChainFactory) -> None:
    mta = chain()
    listener = Listener(["unix:/nonexistent"])
    place = mta.folder / "second"
    place.mkdir()
    with Postfix(place, mta.sink.port, [listener]), SMTPClient(listener.port) as client:
        assert client.send("sender@s.test", ["alice@r.test"], MESSAGE)[0].code == 451
    assert mta.sink.messages == []


def test_nothing_of_a_chain_is_left_when_it_ends(chain: ChainFactory) -> None:
    mta = chain()
    assert processes_in(mta.folder)
    mta.stop()
    assert processes_in(mta.folder) == []


def test_the_judge_knows_what_goes_inside() -> None:
    assert inside(MESSAGE).startswith(b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\nContent-Transfer-")
    assert inside(b"Subject: x\r\n\r\nbody\r\n") == b"Content-Type: text/plain\r\n\r\nbody\r\n"
