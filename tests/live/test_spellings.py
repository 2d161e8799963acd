"""However an address is spelled: nothing that an MTA reads as a recipient's who publishes a key gets plaintext, and
nothing that it reads as a sender's leads around a rule for that sender."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.live.mta import CANARY, Mta, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Settings
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

# What Postfix or Sendmail, asked in November 2026, made bob@r.test of, or of another domain's way to him.
SPELLINGS = (
    "<bob@r.test>", "bob@r.test", "< bob@r.test>", "<bob@r.test >", "<bob@r.test.>", "<bob@R.TEST>", '<"bob"@r.test>',
    r'<"b\ob"@r.test>', "<@q.test:bob@r.test>", "<bob @r.test>", "<bob@ r.test>", "<bob@r .test>", "<bob\t@r.test>",
    "<bob@r.test;>", "<bob@r.test,>", "<;bob@r.test>", "<x:bob@r.test;>", "<(x)bob@r.test>", "<((x))bob@r.test>",
    "<bob(x)@r.test>", "<bob@(x)r.test>", "<bob@r.(x)test>", "<bob@r.test(x)>", "(x)bob@r.test", r"<b\ob@r.test>",
    r"<bob@\r.test>", '<"bob" @r.test>', '<"bob"(x)@r.test>', '<bob@"r.test">', '<bob@r."test">', "<bob@[r.test]>",
    "<<bob@r.test>>", "<x <bob@r.test>>", "<bob@r.test>x", "<bob@r.test..>", "<bob%r.test@mta.test>", "<r.test!bob>",
)  # fmt: skip

# What Postfix or Sendmail may make boss@s.test or the null sender of.
SENDERS = (
    "<boss@s.test>", '<"boss"@s.test>', "<@a.test,@b.test:boss@s.test>", "<@a.test:@b.test:boss@s.test>",
    "(x)boss@s.test", "<boss(x)@s.test>", "Boss<boss@s.test>", '"Boss"<boss@s.test>', "<Boss<boss@s.test>>",
    "<<boss@s.test>>", "g:boss@s.test;", "<g:boss@s.test;>",
    "<boss @s.test>", r"<b\oss@s.test>", "<boss@s.test,>", "<boss@s.test..>",
    "<boss\t@s.test>", "<boss%s.test>", "<s.test!boss>", '<"boss@s.test">', '<boss@"s.test">', "<>", "< >", " <>",
    '<"">', '""', "()", "<(x)>", ";", "g:;", "<,>", "<@a.test:>", "<@>",
    '<"big\tboss"@s.test>', "<\"big\\\tboss\"@s.test>",
)  # fmt: skip
RULES = [
    {"sender": "boss@s.test", "no_key": "refuse"},
    {"sender": "big boss@s.test", "no_key": "refuse"},
    {"sender": "<>", "no_key": "refuse"},
    {"recipient": "big boss@r.test", "no_key": "refuse"},
]
SETTINGS: dict[str, Settings] = {"outbound": {"policy": {"mixed": "reinject"}, "rule": RULES}}


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    """An MTA whose filter splits messages."""
    place = Path(tempfile.mkdtemp(prefix="spellings-", dir=folder))
    place.chmod(0o755)
    try:
        with Chain(place, lab.resolver, SETTINGS, kind=request.param) as chain:
            yield Mta(chain)
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("beside", [(), ("<n1@r.test>",)], ids=["alone", "beside-another"])
def test_no_spelling_of_a_recipient_is_a_way_around_encryption(mta: Mta, beside: tuple[str, ...]) -> None:
    for number, spelling in enumerate(SPELLINGS):
        mark = b"X-Mark: %d-%d-\r\n" % (number, len(beside))
        message = mark + letter(b"Message-ID: <%d-%d@s.test>" % (number, len(beside)))
        with SMTPClient(mta.chain.port()) as client:
            client.command("MAIL FROM:<sender@s.test>")
            accepted = [client.command(f"RCPT TO:{recipient}").code == 250 for recipient in (spelling, *beside)]
            if not any(accepted) or client.command("DATA").code != 354:
                continue
            reply = client.command(message + b".")
        assert reply.code == 250 or str(reply).startswith("550 5.7.5"), (spelling, reply)
        found = mta.delivered(message)
        owed = sum(accepted)
        for mail in found:
            names = {
                address.strip('"').partition("@")[0].replace('"', "").replace("\\", "") for address in mail.rcpt_to
            }
            assert names == ({"n1"} if CANARY in mail.raw else {"bob"}), (spelling, mail.rcpt_to)
        assert len(found) == (owed if reply.code == 250 else 0), (spelling, reply)


@pytest.mark.parametrize("beside", [(), ("<bob@r.test>",)], ids=["alone", "beside-another"])
def test_no_spelling_of_a_sender_is_a_way_around_a_rule(mta: Mta, beside: tuple[str, ...]) -> None:
    for number, spelling in enumerate(SENDERS):
        mark = b"X-Mark: s%d-%d-\r\n" % (number, len(beside))
        message = mark + letter(b"Message-ID: <s%d-%d@s.test>" % (number, len(beside)))
        with SMTPClient(mta.chain.port()) as client:
            if client.command(f"MAIL FROM:{spelling}").code != 250:
                continue
            for recipient in ("<n1@r.test>", *beside):
                assert client.command(f"RCPT TO:{recipient}").code == 250
            assert client.command("DATA").code == 354
            reply = client.command(message + b".")
        assert str(reply).startswith("550 5.7.5"), (spelling, reply)
        assert not mta.delivered(message), spelling


@pytest.mark.parametrize("recipient", ['<"big boss"@r.test>', '<"big\tboss"@r.test>', '<"big\\\tboss"@r.test>'])
def test_tab_is_no_way_around_a_rule(mta: Mta, recipient: str) -> None:
    message = b"X-Mark: t%d-\r\n" % len(recipient) + letter(b"Message-ID: <t%d@s.test>" % len(recipient))
    with SMTPClient(mta.chain.port()) as client:
        client.command("MAIL FROM:<sender@s.test>")
        if client.command(f"RCPT TO:{recipient}").code != 250:
            return
        client.command("DATA")
        reply = client.command(message + b".")
    assert str(reply).startswith("550 5.7.5"), reply
    assert not mta.delivered(message)


def test_nothing_is_sealed_for_a_sender_whom_the_mta_reads_as_another(folder: Path, lab: DNSLab, keys: Keys) -> None:
    place = Path(tempfile.mkdtemp(prefix="spellings-stage-", dir=folder))
    place.chmod(0o755)
    try:
        with Chain(place, lab.resolver, {"outbound": {"policy": {"mixed": "stage"}}}) as chain:
            mta = Mta(chain)
            for number, spelling in enumerate(("<sender@s.test>", "<>", "< >", "<@r.test:>", "Boss<boss@s.test>")):
                message = b"X-Mark: g%d-\r\n" % number + letter(b"Message-ID: <g%d@s.test>" % number)
                with SMTPClient(chain.port()) as client:
                    client.command(f"MAIL FROM:{spelling}")
                    for recipient in ("<bob@r.test>", "<n1@r.test>"):
                        client.command(f"RCPT TO:{recipient}")
                    client.command("DATA")
                    reply = client.command(message + b".")
                assert str(reply)[:9] == ("550 5.7.5" if number > 1 else "250 2.0.0"), (spelling, reply)
                assert len(mta.delivered(message)) == (0 if number > 1 else 2), spelling
    finally:
        shutil.rmtree(place)
