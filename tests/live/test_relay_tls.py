"""Real MTAs on the network of the relay, which verify its certificate before they send.

client -> Postfix or Exim -> STARTTLS -> smilla relay, at this machine's address on the network -> sink
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.lab.client import send_mail
from tests.lab.exim import Exim
from tests.lab.loopback_tls import OTHER, ROOT, authorities, pem
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.live.conftest import cannot
from tests.live.mta import CANARY, letter, numbers

if TYPE_CHECKING:
    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail

pytestmark = pytest.mark.live

ALICE, N1, NAME = "alice@r.test", "n1@r.test", "relay.example.org"
_EXIM_ROUTER = """
smilla:
  driver = manualroute
  transport = smilla
  route_list = * {host}
  self = send
  no_more
"""
_EXIM_TRANSPORT = """
smilla:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates = {ca}
  tls_verify_hosts = *
  tls_verify_cert_hostnames =
  message_linelength_limit = 2147483647
"""


@pytest.fixture(scope="module")
def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            cannot("the relay needs an address that is not on loopback")
        return str(asked.getsockname()[0])


class Site:
    """The relay, the sink behind it, and the MTA in front, once it is there."""

    def __init__(self, place: Path, relay: Relay, sink: Sink, host: str) -> None:
        self.place, self.relay, self.sink, self.host = place, relay, sink, host
        self.ca = authorities(place)

    def got(self, mark: bytes) -> list[ReceivedMail]:
        return [mail for mail in self.sink.messages if mark in mail.raw]

    def copies(self, mark: bytes, count: int) -> Counter[tuple[str, bool]]:
        """Who got how many copies, and whether in plaintext."""
        assert wait_until(lambda: len(self.got(mark)) >= count, 150), self.relay.log
        return Counter((address, CANARY in mail.raw) for mail in self.got(mark) for address in mail.rcpt_to)

    @contextmanager
    def postfix(self) -> Iterator[tuple[int, Callable[[], str]]]:
        folder = self.place / "postfix"
        folder.mkdir()
        lines = {
            "content_filter": f"smilla-relay:[{self.host}]:{self.relay.smtp_port}",
            "smtp_tls_CAfile": str(self.ca),
            "smtp_tls_secure_cert_match": NAME,
            "smtp_tls_loglevel": "1",
            "smtp_tls_security_level": "secure",
            "minimal_backoff_time": "2s",
            "queue_run_delay": "2s",
        }
        postfix = Postfix(folder, self.sink.port, [Listener()], lines)
        postfix.services = "smilla-relay unix - - n - 20 smtp\n"
        with postfix:
            yield postfix.listeners[0].port, lambda: postfix.log

    @contextmanager
    def exim(self) -> Iterator[tuple[int, Callable[[], str]]]:
        folder = self.place / "exim"
        folder.mkdir()
        folder.chmod(0o755)
        exim = Exim(folder, self.sink.port)
        exim.take_lines(
            "10025",
            "# 10025" + _EXIM_ROUTER.format(host=self.host),
            "# 10026" + _EXIM_TRANSPORT.format(port=self.relay.smtp_port, ca=self.ca),
            self.relay.smtp_port,
        )
        with exim:
            yield exim.port, lambda: exim.log


@pytest.fixture
def site(folder: Path, lab: DNSLab, own_address: str) -> Iterator[Site]:
    if os.geteuid() != 0:
        cannot("the MTAs need root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="relay-tls-", dir=folder))
    place.chmod(0o755)
    certificate = place / "relay.pem"
    certificate.write_bytes(pem([x509.DNSName(NAME)]))
    settings: dict[str, Any] = {
        "dns": {"timeout_s": 10},
        "relay": {"clients": [f"{own_address}/32"], "tls_certificate": str(certificate)},
    }
    with Sink() as sink:
        relay = Relay(place / "relay", lab.resolver, sink.port, settings, own_address)
        with relay.start():
            yield Site(place, relay, sink, own_address)
        assert CANARY not in relay.log.encode()
        assert "internal-error" not in relay.log
    shutil.rmtree(place)


@pytest.mark.parametrize("mta", ["postfix", "exim"])
def test_mta_sends_over_tls_that_it_has_verified_and_not_to_another_certificate(site: Site, mta: str) -> None:
    require_servers("exim4" if mta == "exim" else "postfix")
    with getattr(site, mta)() as (port, log):
        marks = []
        for _ in range(2):
            marks.append(b"X-Mark: %d-\r\n" % next(numbers))
            assert (
                send_mail(port, "s@s.test", [ALICE, N1], marks[-1] + letter(to=b"alice@r.test, n1@r.test")).code == 250
            )
        for mark in marks:
            assert site.copies(mark, 2) == Counter({(ALICE, False): 1, (N1, True): 1})
            assert f"[{site.host}]".encode() in site.got(mark)[0].raw_header
        word = "Verified TLS connection established" if mta == "postfix" else "CV=yes"
        assert wait_until(lambda: word in log(), 60), log()[-2000:]
        # Somebody in the relay's place, whom another authority vouches for.
        (site.place / "relay.pem").write_bytes(pem([x509.DNSName(NAME)], issuer=OTHER, number=4))
        site.relay.reload()
        mark = b"X-Mark: %d-\r\n" % next(numbers)
        assert send_mail(port, "s@s.test", [N1], mark + letter(to=b"n1@r.test")).code == 250
        said = "not verified|untrusted|certificate verif"
        assert wait_until(lambda: any(word in log().lower() for word in said.split("|")), 60), log()[-2000:]
        assert site.got(mark) == []
        (site.place / "relay.pem").write_bytes(pem([x509.DNSName(NAME)], issuer=ROOT))
        site.relay.reload()
        assert site.copies(mark, 1) == Counter({(N1, True): 1})
