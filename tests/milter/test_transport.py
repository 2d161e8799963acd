"""How a message came, over the socket: what the MTA's macros say stands in the header, and what was forged does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificates import make_certificate, to_pem
from tests.lab.sink import Sink
from tests.milter.client import SETSYMLIST, Answer, Mail, MilterClient, Offer
from tests.milter.material import CANARY, directory_settings, plain_mail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.smilla import Settings, Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

TLS = {"{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_256_GCM_SHA384", "{cipher_bits}": "256"}
STRANGER = {**TLS, "{cert_subject}": "x; x-tls=pass (\r\nBcc: eve@evil.test", "{cert_issuer}": "Our CA"}
FORGED = (
    b"Authentication-Results: mx.home.test; x-tls=pass smtp.cipher=FORGED\r\n"
    b"Authentication-Results: mx.home.test; dkim=pass header.d=s.test\r\n"
    b"x-smilla-transport : tls FORGED; e2e=smime\r\n"
    b'Authentication-Results: "MX.home.test" 1; spf=pass; X-TLS=pass (FORGED)\r\n'
    b"Authentication-Results: relay.test; x-tls=pass\r\n"
    b"X-Smilla-Transport: FORGED\r\n"
)
KEPT = (
    b"Authentication-Results: mx.home.test; dkim=pass header.d=s.test\r\n"
    b"Authentication-Results: relay.test; x-tls=pass\r\n"
)
PLAIN = b"Authentication-Results: mx.home.test;\r\n\tx-tls=none\r\nX-Smilla-Transport: plain; e2e=none\r\n"
ENCRYPTED = (
    b"Authentication-Results: mx.home.test;\r\n\tx-tls=pass smtp.version=TLSv1.3 "
    b"smtp.cipher=TLS_AES_256_GCM_SHA384 smtp.bits=256\r\n"
    b"X-Smilla-Transport: tls TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none\r\n"
)


def settings(keys: Keys, **more: Any) -> Settings:
    """Mail for r.test is inbound, and says how it came."""
    inbound: dict[str, Any] = {"mode": "inbound", "local_domains": ["r.test"]}
    return directory_settings(keys, **(inbound | {"transport": {"authserv_id": "mx.home.test"}} | more))


@pytest.fixture(scope="module")
def smilla(start_once: Starter, keys: Keys) -> Smilla:
    return start_once(settings(keys))


def mail() -> Mail:
    """An ordinary message with forged fields before its own."""
    return Mail.of(FORGED + plain_mail().raw)


def queued(answer: Answer, sent: Mail, *, postfix: bool = True) -> bytes:
    """The message in the MTA's queue, without the MTA's own Received field, which it counts and does not show."""
    edits = tuple(edit for edit in answer.edits if edit.command not in b"-e")  # the envelope is none of our business
    before = Mail.of(b"Received: by mta.test\r\n" + sent.raw)
    received, _, rest = replace(answer, edits=edits).applied(before, postfix=postfix).raw.partition(b"\r\n")
    assert received == b"Received: by mta.test"
    return rest


def applied(client: MilterClient, to: str, macros: dict[str, str], *, postfix: bool) -> bytes:
    """The message as the MTA would deliver it."""
    sent = mail()
    client.mail("<sender@s.test>", macros=macros)
    client.rcpt(to)
    client.data()
    answer = client.content(sent)
    assert answer.verdict == "accept"
    return queued(answer, sent, postfix=postfix)


@pytest.mark.parametrize("postfix", [True, False])
@pytest.mark.parametrize(("macros", "first"), [({}, PLAIN), (TLS, ENCRYPTED), (STRANGER, ENCRYPTED)])
def test_a_message_that_passes_keeps_every_other_octet(
    smilla: Smilla, clients: Clients, macros: dict[str, str], first: bytes, postfix: bool
) -> None:
    raw = applied(clients.open(smilla.milter), "<nobody@r.test>", macros, postfix=postfix)
    assert raw == first + KEPT + plain_mail().raw


@pytest.mark.parametrize("postfix", [True, False])
@pytest.mark.parametrize("to", ["alice", "bob"])
def test_an_encrypted_message_says_it_outside(smilla: Smilla, clients: Clients, to: str, postfix: bool) -> None:
    raw = applied(clients.open(smilla.milter), f"<{to}@r.test>", TLS, postfix=postfix)
    assert raw.startswith(ENCRYPTED + KEPT)
    assert CANARY not in raw
    assert b"FORGED" not in raw


def test_the_mta_is_asked_to_tell_it_at_each_mail(smilla: Smilla) -> None:
    """A client need not say EHLO again after STARTTLS, and then nothing but MAIL can tell."""
    with MilterClient(smilla.milter) as client:
        assert client.symbols[2].split()[-6:] == [
            "{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}", "{verify}"
        ]  # fmt: skip


def test_an_mta_that_cannot_be_asked_is_believed_only_where_it_tells_of_tls(smilla: Smilla, clients: Clients) -> None:
    old = Offer().without(actions=SETSYMLIST)
    assert applied(clients.open(smilla.milter, old), "<nobody@r.test>", TLS, postfix=True).startswith(ENCRYPTED)
    raw = applied(clients.open(smilla.milter, old), "<nobody@r.test>", {}, postfix=True)
    assert raw == KEPT + plain_mail().raw
    assert " transport=unknown " in smilla.log


def test_one_message_says_nothing_of_the_next(smilla: Smilla, clients: Clients) -> None:
    client = clients.open(smilla.milter)
    assert applied(client, "<nobody@r.test>", TLS, postfix=True).startswith(ENCRYPTED)
    assert applied(client, "<nobody@r.test>", {}, postfix=True).startswith(PLAIN)


def test_the_log_says_how_each_message_came(smilla: Smilla, clients: Clients) -> None:
    client = clients.open(smilla.milter)
    client.mail("<sender@s.test>", macros=TLS)
    client.rcpt("<nobody@r.test>")
    client.data("QTLS")
    client.content(plain_mail(), queue_id="QTLS")
    assert any(" message " in line and " transport=tls " in line for line in smilla.log_lines_of("QTLS"))


def test_while_observing_nothing_is_changed(start: Starter, clients: Clients, keys: Keys) -> None:
    client = clients.open(start(settings(keys, observe=True)).milter)
    for to in ("<alice@r.test>", "<nobody@r.test>"):
        assert client.send(mail(), [to]).edits == ()


def test_outbound_mail_and_mail_without_the_option_is_left_alone(start: Starter, clients: Clients, keys: Keys) -> None:
    outbound = start(settings(keys, mode="outbound", local_domains=[]))
    without = start(settings(keys, transport={}))
    for smilla in (outbound, without):
        client = clients.open(smilla.milter)
        assert client.send(mail(), ["<nobody@r.test>"]).edits == ()
    with MilterClient(without.milter) as client:
        assert client.symbols == {}


def test_a_client_of_a_circle_is_told(start: Starter, clients: Clients, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "circle.pem").write_bytes(to_pem(make_certificate("p256", common_name="Our CA")[1]))
    circle = {"name": "ours", "domains": ["s.test"], "ca_file": str(tmp_path / "circle.pem")}
    smilla = start(settings(keys, transport={"authserv_id": "mx.home.test", "circles": True}, circle=[circle]))
    client = clients.open(smilla.milter)
    told = b"X-Smilla-Transport: circle ours TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=none\r\n"
    assert told in applied(client, "<nobody@r.test>", STRANGER, postfix=True)
    other = {**STRANGER, "{cert_issuer}": "Their CA"}
    assert applied(client, "<nobody@r.test>", other, postfix=True).startswith(ENCRYPTED)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The MTA's listener without the filter."""
    with Sink() as listener:
        yield listener


def test_copies_that_are_handed_over_say_it_too(start: Starter, clients: Clients, keys: Keys, sink: Sink) -> None:
    reinject = {"policy": {"mixed": "reinject"}, "reinject": {"smtp": f"127.0.0.1:{sink.port}"}}
    smilla = start(settings(keys, **reinject))
    client = clients.open(smilla.milter)
    client.mail("<sender@s.test>", macros=TLS)
    for to in ("<alice@r.test>", "<bob@r.test>", "<nobody@r.test>"):
        client.rcpt(to)
    client.data()
    sent = mail()
    answer = client.content(sent)
    copies = [each.raw for each in sink.wait_for(2)]
    for raw in (queued(answer, sent), *copies):
        assert raw.count(ENCRYPTED) == 1
        assert raw.count(b"x-tls") == 2
        assert KEPT in raw
        assert b"FORGED" not in raw


def test_a_sealed_message_says_it_outside_and_hides_nothing_forged(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    stage = {"policy": {"mixed": "stage"}, "stage": {"check": False}, "milter": {"mta": "postfix"}}
    smilla = start(settings(keys, **stage))
    client = clients.open(smilla.milter)
    client.mail("<sender@s.test>", macros=TLS)
    for to in ("<alice@r.test>", "<bob@r.test>"):
        client.rcpt(to)
    client.data()
    sent = mail()
    answer = client.content(sent)
    raw = queued(answer, sent)
    assert b"X-Smilla-Stage: " in raw
    assert raw.startswith(ENCRYPTED + KEPT)
    assert b"FORGED" not in raw
