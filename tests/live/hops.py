"""The world of secure-hop, in a network of its own: a sender's Postfix with the lines of contrib/postfix, and mail
servers of many kinds on port 25 of addresses of their own.

    client -> smtpd (port 587, smilla) -> queue -> lmtp -> smilla, the stage -> smtpd 10027 -> queue -> smilla-secure
                                                              |                                              |
                         smtpd 10025 -> relayhost  <----------+ key, or plain by a rule                      v
                                        127.0.0.9                             MX of the domain, 127.0.1.N, STARTTLS

    smilla-secure -> smilla's socketmap -> unbound (127.0.0.1, port 53, validates) -> nsd (the zones of DOMAINS)
                                        -> web server 127.0.3.1, port 443 (policies of MTA-STS)

main.cf sends everything else to a relayhost, and transport_maps too names it for every domain: nothing bound may get
there.  A sniffer reads along all that travels to and from port 25.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.authority import Authority
from tests.lab.client import SMTPClient
from tests.lab.dns import DNSLab
from tests.lab.keys import SMIMEKey, make_smime_key
from tests.lab.network import asking, network
from tests.lab.policy_web import PolicyWeb
from tests.lab.postfix import Listener, Postfix, example_options, queue_id
from tests.lab.processes import LOOPBACK
from tests.lab.programs import REPOSITORY
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.lab.sniffer import Sniffer
from tests.live.examples import EXAMPLES, MASTER, beside_postfix
from tests.live.hop_sites import CIRCLE, WEB, Site, sites
from tests.live.mta import letter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tests.lab.client import Reply
    from tests.lab.sink import ReceivedMail
    from tests.lab.smilla import Settings

    Prepare = Callable[[Smilla], object]

CANARY = b"a-canary-for-the-hop-5521"
OPEN = b"this-may-travel-in-the-clear"
SENDER = "sender@s.test"
RELAY = "127.0.0.9"
_EXPORTED = {"export_environment": "MAIL_CONFIG LD_LIBRARY_PATH"}  # to postdrop, where it is unpacked only


@dataclass
class World:
    """All that runs.  A message is found by a field of its own."""

    place: Path
    dns: DNSLab
    web: PolicyWeb
    sites: dict[str, Site]
    receivers: dict[str, Sink]
    addresses: dict[str, str]
    relay: Sink
    sniffer: Sniffer
    postfix: Postfix
    other_postfix: Postfix | None
    smilla: Smilla
    alice: SMIMEKey
    sent: int = 0

    def send(
        self, to: Sequence[str], *fields: bytes, sender: str = SENDER, body: bytes = CANARY, port: int = 587
    ) -> tuple[Reply, str, bytes]:
        """A letter: the last reply, its queue ID, and its mark."""
        self.sent += 1
        mark = b"X-Mark: %d-\r\n" % self.sent
        raw = mark + letter(b"Message-ID: <%d@s.test>" % self.sent, *fields, body=body + b"\r\n", to=to[0].encode())
        with SMTPClient(port) as client:
            reply = client.send(sender, to, raw)[-1]
        return reply, queue_id(reply.text) or "", mark

    def at(self, domain: str, mark: bytes) -> list[ReceivedMail]:
        """What a domain's server has of a message until now."""
        return [mail for mail in self.receivers[domain].messages if mark in mail.raw]

    def at_relay(self, mark: bytes) -> list[ReceivedMail]:
        """What the relayhost has of it: what is encrypted, what may be plain, and bounces."""
        return [mail for mail in self.relay.messages if mark in mail.raw]

    def everywhere(self, mark: bytes) -> list[ReceivedMail]:
        """All of it that has come anywhere."""
        servers = [self.relay, *self.receivers.values()]
        return [mail for server in servers for mail in server.messages if mark in mail.raw]

    def delivered(self, domain: str, mark: bytes) -> ReceivedMail:
        """The one copy of a bound message, once nothing is queued any more: over TLS, with nothing of ours in it."""
        self.postfix.wait_until_empty()
        if domain == "postfix.test" and self.other_postfix is not None:
            self.other_postfix.wait_until_empty()
        (mail,) = self.everywhere(mark)
        assert self.at(domain, mark) == [mail], self.postfix.log[-3000:]
        assert mail.over_tls or (domain == "postfix.test" and b"with ESMTPS id" in mail.raw)
        assert CANARY in mail.raw
        assert b"x-smilla-hop" not in mail.raw.lower()
        assert b"x-smilla-stage" not in mail.raw.lower()
        return mail

    def bound(self, domain: str) -> list[str]:
        """The queue IDs of the bound copies for a domain that wait, as Postfix's log has named them."""
        found = dict.fromkeys(re.findall(rf"postfix/smilla-secure/smtp\[\d+\]: (\w+): to=<[^>]*@{domain}>", self.log))
        waiting = {path.name for path in self.postfix.queued()}
        return [name for name in found if name in waiting]

    @property
    def log(self) -> str:
        """Postfix's."""
        return self.postfix.log

    def waits(self, domain: str, why: str = "", timeout_s: float = 60) -> str:
        """Waits until a bound copy for a domain was put off, and the log says why; its queue ID."""
        pattern = rf"smilla-secure/smtp\[\d+\]: (\w+): to=<[^>]*@{domain}>.*status=deferred.*{why}"

        found: list[str] = []

        def is_put_off() -> bool:
            waiting = {path.name for path in self.postfix.queued()}
            found[:] = [name for name in re.findall(pattern, self.log) if name in waiting]
            return bool(found)

        assert self.postfix.tries_until(is_put_off, timeout_s), self.log[-4000:]
        return found[0]  # a moment later it may be between two folders

    def forget_policy(self, domain: str) -> None:
        """Takes the record away that announces an MTA-STS policy, once DNS is reloaded."""
        zone = self.dns.zone(domain)
        zone.records = [record for record in zone.records if record[1] != "TXT"]

    def announce_policy(self, domain: str, number: int = 1) -> None:
        """Adds such a record, once DNS is reloaded."""
        self.dns.zone(domain).add(f"_mta-sts.{domain}.", "TXT", _sts(number))

    @contextlib.contextmanager
    def busy(self, domain: str, reply: bytes = b"451 4.2.0 later") -> Iterator[None]:
        """A domain's server takes no mail meanwhile, once TLS has begun."""
        receiver = self.receivers[domain]
        receiver.answer = lambda line: reply if line[:4].upper() == b"RCPT" else None
        try:
            yield
        finally:
            receiver.answer = lambda line: None

    def told(self, what: str) -> str:
        """Waits for a line of Postfix's log."""
        assert self.postfix.tries_until(lambda: re.search(what, self.log) is not None, 60), self.log[-4000:]
        return next(line for line in self.log.splitlines() if re.search(what, line))

    def drop_all(self) -> None:
        """Deletes what is queued."""
        if self.postfix.queued():
            self.postfix.delete_all()

    def nothing_in_clear(self) -> None:
        """No octet of what must be protected has travelled to or from port 25."""
        for flow, raw in self.sniffer.streams().items():
            assert CANARY not in raw, flow

    def check(self, what: str = "--postfix") -> subprocess.CompletedProcess[str]:
        """smilla config check, beside this Postfix."""
        argv = [sys.executable, "-m", "smilla", "config", "check", what, "--config", str(self.smilla.config)]
        argv += ["--postfix-config", str(self.postfix.folder / "etc")]
        return subprocess.run(argv, env=beside_postfix(), capture_output=True, text=True, check=False)


def _zones(dns: DNSLab, found: dict[str, Site], addresses: dict[str, str], alice: SMIMEKey) -> None:
    for domain, place in found.items():
        zone = dns.zone(domain, place.kind).add(f"{domain}.", "MX", f"10 mx.{domain}.")
        if place.second_host:
            zone.add(f"{domain}.", "MX", f"5 {place.second_host}")
        if place.alias_of:
            zone.add(f"mx.{domain}.", "CNAME", place.alias_of)
        else:
            zone.add(f"mx.{domain}.", "A", addresses[domain])
        for raw in place.tlsa:
            zone.add(f"_25._tcp.mx.{domain}.", "TLSA", raw)
        if place.policy is not None:
            zone.add(f"_mta-sts.{domain}.", "TXT", _sts(1)).add(f"mta-sts.{domain}.", "A", place.web)
        if place.is_forged:
            zone.after_signing = _without_signature
    dns.zone("r.test").add_smimea(alice.address, alice.raw_certificate)
    dns.zone("s.test")


def _sts(number: int) -> str:
    return f'"v=STSv1; id={number}"'


def _without_signature(lines: list[str]) -> list[str]:
    return [line for line in lines if line.split()[3:5] != ["RRSIG", "TLSA"]]


def example_services(place: Path, ca_file: Path) -> str:
    """The services of master.cf.example after pickup, with the lines for the stage, and without chroot."""
    text = (REPOSITORY / MASTER).read_text()
    found = text[text.index("127.0.0.1:10024 inet") :]
    for line in ("-o receive_override_options=no_address_mappings,no_header_body_checks\n", "-o content_filter=\n"):
        assert f"#   {line}" in found
        found = found.replace(f"#   {line}", f"    {line}")
    found = re.sub(r"(?m)^(\S+ +(?:unix|inet) +\S+ +\S+ +)y", r"\1n", found)
    found = found.replace("/etc/ssl/certs/ca-certificates.crt", str(ca_file))
    return found.replace("/etc/postfix", str(place))


def example_parameters(place: Path) -> dict[str, str]:
    """What main.cf.example says about the stage, with the tables in ``place``."""
    names = r"milter_header_checks|smilla_destination_recipient_limit|(?:nested_|mime_)?header_checks"
    found = dict(re.findall(rf"^({names}) =(.*)$", (EXAMPLES / "main.cf.example").read_text(), re.MULTILINE))
    assert len(found) == 5
    return {name: value.strip().replace("/etc/postfix", str(place)) for name, value in found.items()}


def knows_tls_required(postfix: Postfix) -> bool:
    """Is it Postfix 3.10 or newer, where TLS-Required has an effect?"""
    return postfix.version >= (3, 10)


def _settings(ca_file: Path, circle: Authority, tls_socket: Path, *, checks: bool) -> Settings:
    return {
        "policy": {"mixed": "stage", "no_key": "secure-hop"},
        "stage": {"check": checks},
        "dns": {"timeout_s": 8, "cache_ttl_s": 0, "failure_ttl_s": 0},
        "hop": {"ca_file": str(ca_file), "socket": f"unix:{tls_socket}", "socket_mode": "0666"},
        "reinject": {"smtp": f"{LOOPBACK}:10025", "secure_smtp": f"{LOOPBACK}:10027"},
        "circle": [{"name": "red", "domains": list(CIRCLE), "ca_file": str(circle.file)}],
        "rule": [{"recipient": "open@*", "no_key": "plain"}],
    }


@contextlib.contextmanager
def world(folder: Path, *, checks: bool = False, prepare: Prepare = lambda _: None) -> Iterator[World]:
    """All of it.  ``checks``: nothing is sealed until smilla config check has found Postfix's lines.  ``prepare`` gets
    smilla before it starts."""
    place = Path(tempfile.mkdtemp(prefix="hops-", dir=folder))
    place.chmod(0o755)
    try:
        with network(), contextlib.ExitStack() as stack:
            yield begun(stack, place, checks=checks, prepare=prepare)
    finally:
        shutil.rmtree(place)


def begun(
    stack: contextlib.ExitStack,
    place: Path,
    *,
    checks: bool = False,
    domains: Collection[str] = (),
    prepare: Prepare = lambda _: None,
) -> World:
    """All of it, or these domains only, in this thread's network, until the stack is closed."""
    public, private, circle = (Authority(place, name) for name in ("public", "private", "circle"))
    found = {domain: one for domain, one in sites(public, private, circle).items() if domain in (domains or (domain,))}
    addresses = {domain: f"127.0.1.{number}" for number, domain in enumerate(found, 1)}
    alice = make_smime_key(place, "alice@r.test")
    dns = DNSLab(place / "dns")
    dns.port = 53
    _zones(dns, found, addresses, alice)
    stack.enter_context(dns)
    receivers = {domain: stack.enter_context(_receiver(domain, one, addresses)) for domain, one in found.items()}
    relay = stack.enter_context(Sink(address=RELAY, port=25))
    names = ["mta-sts.test", *(f"mta-sts.{domain}" for domain, one in found.items() if one.policy)]
    web = stack.enter_context(PolicyWeb(WEB, 443, public.issue(*names).server()))
    web.answers.update({domain: one.policy for domain, one in found.items() if one.policy})
    sniffer = stack.enter_context(Sniffer(lambda here, there: 25 in (here, there)))
    other = None
    if one := found.get("postfix.test"):
        other = _other_postfix(place, addresses["postfix.test"], receivers["postfix.test"], one)
        stack.enter_context(other)
    postfix = _postfix(place, public.file)
    home = postfix.queue / "smilla"
    settings = _settings(public.file, circle, home / "tls.sock", checks=checks)
    (postfix.queue).mkdir(parents=True)
    smilla = Smilla(home, f"{LOOPBACK}@53", settings, environment=beside_postfix())
    prepare(smilla)
    stack.enter_context(smilla)
    stack.enter_context(postfix)
    return World(place, dns, web, found, receivers, addresses, relay, sniffer, postfix, other, smilla, alice)


def _receiver(domain: str, one: Site, addresses: dict[str, str]) -> Sink:
    """Where the domain's mail comes to."""
    if one.alias_of or domain == "postfix.test":
        return Sink()  # an address of another domain, or Postfix goes before it
    return Sink(address=addresses[domain], port=25, tls=one.certificate.server() if one.certificate else None)


_RESTRICTIONS = ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
# What an administrator's main.cf may have, and bound copies must not meet.
_THEIRS = {
    **{f"smtpd_{name}_restrictions": "check_client_access inline:{nobody.test=REJECT}" for name in _RESTRICTIONS},
    "smtpd_relay_restrictions": "permit_mynetworks, check_client_access inline:{nobody.test=REJECT}, reject",
    "relayhost": f"[{RELAY}]:25",
    "smtp_fallback_relay": f"[{RELAY}]:25",
    "transport_maps": f"static:smtp:[{RELAY}]:25",
}


def _postfix(place: Path, ca_file: Path) -> Postfix:
    """The sender's, not started.  Its tables are in ``place``."""
    for table in EXAMPLES.glob("smilla_*"):
        (place / table.name).write_text(table.read_text())
    (place / "resolv.conf").write_text(f"nameserver {LOOPBACK}\noptions trust-ad\n")
    postfix = Postfix(place / "postfix", 25, [Listener(["unix:smilla/smilla.sock"], port=587)])
    postfix.before = asking(place / "resolv.conf")
    postfix.parameters = {
        **_THEIRS,
        "smtpd_milters": "unix:smilla/smilla.sock",
        "smtp_dns_support_level": "enabled",
        "sender_canonical_maps": "inline:{old@s.test=new@s.test}",
        "smtp_host_lookup": "native",
        "smtp_tls_loglevel": "1",
        **example_parameters(place),
        **_EXPORTED,
    }
    if knows_tls_required(postfix):
        postfix.parameters["tls_required_enable"] = "no"
    postfix.pickup_options = example_options(MASTER, "pickup", "unix")
    postfix.services = example_services(place, ca_file)
    return postfix


def _other_postfix(place: Path, address: str, behind: Sink, one: Site) -> Postfix:
    """A receiver's, not started; it hands on to ``behind``."""
    assert one.certificate is not None
    options = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(one.certificate.file)}
    options["smtpd_tls_received_header"] = "yes"
    (place / "other").mkdir()
    parameters = {"myhostname": "mx.postfix.test"}
    return Postfix(place / "other", behind.port, [Listener(options=options, port=25, address=address)], parameters)
