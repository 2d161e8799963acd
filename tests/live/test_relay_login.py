"""On one's own machine: Thunderbird sends through the relay, which logs in at the provider for it.

Thunderbird -> AUTH -> smilla relay -> AUTH over TLS -> Postfix with Dovecot's AUTH -> queue -> sink
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.loopback_tls import authorities, context
from tests.lab.marionette import MarionetteError
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, ChildError
from tests.lab.programs import require_servers
from tests.lab.relay import Relay
from tests.lab.sasl import DovecotAuth
from tests.lab.sink import Sink
from tests.lab.sniffer import Sniffer
from tests.lab.thunderbird import Thunderbird
from tests.live.conftest import cannot
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

USER, PASSWORD = "reader", "the-password-is-swordfish"
ALICE, BOB, N1 = "alice@r.test", "bob@r.test", "n1@r.test"
_SUBMISSION = {
    "smtpd_tls_security_level": "encrypt",
    "smtpd_tls_auth_only": "yes",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "dovecot",
    "smtpd_sasl_path": "private/auth",
    "smtpd_sasl_security_options": "noanonymous",
    "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
    "smtpd_client_restrictions": "permit_sasl_authenticated, reject",
}


@dataclass
class Site:
    """The provider's Postfix, the relay of this machine, and the sink; ``sniffer`` sees what goes to the provider."""

    postfix: Postfix
    relay: Relay
    sink: Sink
    sniffer: Sniffer


@pytest.fixture(scope="module")
def site(folder: Path, lab: DNSLab) -> Iterator[Site]:
    if os.geteuid() != 0:
        cannot("Postfix's master needs root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="login-", dir=folder))
    place.chmod(0o755)
    context(place)
    (place / "server.pem").chmod(0o600)
    submission = Listener(options={**_SUBMISSION, "smtpd_tls_chain_files": str(place / "server.pem")})
    relay_options = {"tls": "starttls", "auth": True, "ca_file": str(authorities(place))}
    settings: dict[str, Any] = {"dns": {"timeout_s": 10}, "relay": relay_options}
    relay = Relay(place / "relay", lab.resolver, submission.port, settings)
    (place / "postfix").mkdir()
    sniffer = Sniffer(lambda here, there: submission.port in (here, there))
    with sniffer, Sink() as sink, Postfix(place / "postfix", sink.port, [submission]) as postfix:
        with DovecotAuth(postfix.queue / "private/auth", {USER: PASSWORD}), relay.start():
            yield Site(postfix, relay, sink, sniffer)
        seen = b"".join(sniffer.streams().values())
        assert b"STARTTLS" in seen
        for word in (PASSWORD.encode(), base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()), CANARY):
            assert word not in seen
            assert word not in relay.log.encode()
        assert "internal-error" not in relay.log
    shutil.rmtree(place)


def test_thunderbird_sends_through_it(site: Site, folder: Path, keys: Keys) -> None:
    require_servers("thunderbird", "certutil")
    place = Path(tempfile.mkdtemp(prefix="thunderbird-", dir=folder))
    before = len(site.sink.messages)
    try:
        with Thunderbird(place, None, USER, PASSWORD, [], submission=site.relay.smtp_port) as person:
            person.send(f"{ALICE}, {BOB}, {N1}", "To three", f"Dear all, {CANARY.decode()}.")
            person.send(ALICE, "To one", f"Dear Alice, {CANARY.decode()}.")
    except (ChildError, MarionetteError) as error:
        pytest.fail(f"{error}\n{site.relay.log[-2000:]}")
    mails = site.sink.wait_for(before + 4, 60)[before:]
    found = sorted((mail.rcpt_to, CANARY in mail.raw) for mail in mails)
    assert found == [((ALICE,), False), ((ALICE,), False), ((BOB,), False), ((N1,), True)]
    for mail in mails:
        assert mail.mail_from == f"{USER}@home.test"
        if mail.rcpt_to == (ALICE,):
            file = site.relay.folder / "copy.eml"
            file.write_bytes(mail.raw)
            opened = keys.alice.open(file)
            assert CANARY in opened
            assert b"charset=UTF-8" in opened
            file.unlink()
    site.relay.wait_for_log(f"authenticated user={USER} mechanism=PLAIN")


def test_thunderbird_is_told_what_a_recipient_without_a_usable_key_means(site: Site) -> None:
    """By the same words in the dialogue; the message does not leave."""
    before = len(site.sink.messages)
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    with SMTPClient(site.relay.smtp_port) as client:
        assert client.command(f"AUTH PLAIN {plain}").code == 235
        reply = client.send(f"{USER}@home.test", [N1, "expired@r.test"], letter())[-1]
    assert (reply.code, "<expired@r.test>" in reply.text) == (550, True)
    assert len(site.sink.messages) == before


def test_wrong_password_is_the_provider_s_to_refuse(site: Site) -> None:
    plain = base64.b64encode(f"\0{USER}\0wrong".encode()).decode()
    with SMTPClient(site.relay.smtp_port) as client:
        assert client.command(f"AUTH PLAIN {plain}").code == 535
        assert client.command(f"MAIL FROM:<{USER}@home.test>").code == 530


def test_somebody_in_between_without_the_certificate_gets_nothing(site: Site, lab: DNSLab) -> None:
    """The same relay, where the authority is another one."""
    place = site.relay.folder.parent / "other"
    place.mkdir()
    options: dict[str, Any] = {"tls": "starttls", "auth": True, "ca_file": "/etc/ssl/certs/ca-certificates.crt"}
    next_hop = site.postfix.listeners[0].port
    with (
        Relay(place, lab.resolver, next_hop, {"relay": options}).start() as relay,
        pytest.raises((EOFError, OSError)),
        SMTPClient(relay.smtp_port) as client,
    ):
        assert client.ehlo.code == 421
        client.command("NOOP")
    assert LOOPBACK in relay.log
    assert "certificate verify failed" in relay.log
