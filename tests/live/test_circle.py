"""A circle of two, built from nothing with the lines of smilla-hops(7), A CIRCLE, as they stand there.

    users of org1 -> Postfix, smilla, the stage -> smilla-secure -> mx.org2: 127.0.2.2, or whoever DNS says it is
    org1's Postfix, 127.0.2.1  <-  org2's Postfix (127.0.2.2), which shows its certificate; strangers (127.0.2.9)

Only the names end differently: DNS here knows org1.test and org2.test, which nobody has signed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import smtplib
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.authority import Authority, Certificate
from tests.lab.client import SMTPClient
from tests.lab.dns import DNSLab
from tests.lab.documents import all_blocks
from tests.lab.network import asking, network
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK, wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.conftest import cannot
from tests.live.examples import EXAMPLES, beside_postfix
from tests.live.hops import CANARY, RELAY, example_parameters, example_services
from tests.live.mta import letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.client import Reply
    from tests.lab.sink import ReceivedMail
    from tests.lab.smilla import Settings

pytestmark = pytest.mark.live
BLOCKS = [block.text for block in all_blocks() if block.page == "smilla-hops.7"]
STRANGER, FORGER, OTHER = "127.0.2.9", "127.0.2.8", "127.0.2.7"


def block(word: str) -> str:
    """The one block of the page that has this word, after the heading A CIRCLE."""
    first = next(number for number, text in enumerate(BLOCKS) if "openssl req -x509" in text)
    (found,) = [text for text in BLOCKS[first:] if word in text]
    return found


def done(text: str, folder: Path) -> str:
    """Runs the lines of a block; what they say."""
    ran = subprocess.run(["sh", "-ec", text], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (text, ran.stderr)
    return ran.stdout


@dataclass
class Member:
    """An organisation: ``folder`` stands for /etc/postfix and /etc/smilla, and is where its administrator works."""

    number: int
    folder: Path
    postfix: Postfix = field(init=False)

    def __post_init__(self) -> None:
        for name in ("postfix", "smilla"):
            (self.folder / "etc" / name).mkdir(parents=True)
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755)

    @property
    def domain(self) -> str:
        return f"org{self.number}.test"

    @property
    def address(self) -> str:
        return f"127.0.2.{self.number}"

    def own(self, text: str) -> str:
        """The same lines for this member and its files: the page is written for org1."""
        if self.number != 1:
            text = (
                text.replace("org1", "org0").replace(f"org{self.number}", "org1").replace("org0", f"org{self.number}")
            )
        return text.replace(".example", ".test").replace("/etc/", f"{self.folder}/etc/")

    def main_cf(self, word: str) -> dict[str, str]:
        """What the page has postconf -e write."""
        command = self.own(block(word)).replace("\\\n", " ").splitlines()[0]
        postconf, option, *lines = shlex.split(command)
        assert (postconf, option) == ("postconf", "-e")
        found = [line.partition("=") for line in lines]
        return {name.strip(): value.strip() for name, _, value in found}


def signed(authority: Path, member: Member, evil: str = "") -> None:
    """The member asks for a certificate, and the authority gives it; ``evil`` is what the request asks for besides."""
    asked = member.own(block("openssl req -new")).replace(" -keyout", f"{evil} -keyout")
    theirs = done(asked, member.folder)
    shutil.copy(member.folder / "server.csr", authority)
    shown = block("openssl req -new").splitlines()[-1]
    assert done(shown, authority) == theirs
    assert len(theirs.split()[-1]) == 64
    assert "server.crt: OK" in done(member.own(block("subjectAltName=DNS:")), authority)
    for name in ("server.crt", "circle.pem"):
        shutil.copy(authority / name, member.folder)
    done(member.own(block("install -m 644")), member.folder)


@dataclass
class World:
    """Both members, and whoever else there is."""

    place: Path
    authority: Path
    dns: DNSLab
    org1: Member
    org2: Member
    org3: Member
    smilla: Smilla
    relay: Sink
    forger: Sink
    sent: int = 0

    def send(self, member: Member, to: str, sender: str = "") -> bytes:
        """A letter of a user, again while the resolver that was started anew has proven nothing yet; its mark."""
        self.sent += 1
        mark = b"X-Mark: %d-\r\n" % self.sent
        raw = mark + letter(body=CANARY + b"\r\n", to=to.encode())
        replies: list[Reply] = []

        def is_answered() -> bool:
            with SMTPClient(member.postfix.listeners[0].port) as client:
                replies.append(client.send(sender or f"user@{member.domain}", [to], raw)[-1])
            return "no resolver could prove" not in replies[-1].text

        assert wait_until(is_answered, 60, step_s=1)
        assert replies[-1].code == 250, replies
        return mark

    def passes(self, member: Member, to: str, sender: str = "") -> ReceivedMail:
        """The one copy of a letter of a user, once it has arrived."""
        mark = self.send(member, to, sender)
        assert member.postfix.tries_until(lambda: len(self.arrived(mark)) == 1), member.postfix.log[-3000:]
        return self.arrived(mark)[0]

    def arrived(self, mark: bytes) -> list[ReceivedMail]:
        return [mail for mail in self.relay.messages if mark in mail.raw]

    def mx(self, host: str, address: str, *further: tuple[str, str]) -> None:
        """Changes who takes the mail of org2, as whoever forges DNS may do."""
        zone = self.dns.zone("org2.test")
        zone.records.clear()
        for number, (name, at) in enumerate([(host, address), *further]):
            zone.add("org2.test.", "MX", f"{number} {name}.").add(f"{name}.", "A", at)
        self.dns.reload()

    def stranger(self, sender: str) -> str:
        """What org1 answers somebody elsewhere who sends with this envelope sender."""
        client = smtplib.SMTP(self.org1.address, 25, source_address=(STRANGER, 0), timeout=60)
        with contextlib.closing(client):
            client.ehlo("stranger.test")
            client.docmd(f"MAIL FROM:<{sender}>")
            code, text = client.docmd("RCPT TO:<user@org1.test>")
            client.quit()
        return f"{code} {text.decode()}"


@pytest.fixture(scope="module")
def circle(folder: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        cannot("a network of its own needs root: run 'make test'")
    place = Path(tempfile.mkdtemp(prefix="circle-", dir=folder))
    place.chmod(0o755)
    try:
        with network(), contextlib.ExitStack() as stack:
            yield _begun(stack, place)
    finally:
        shutil.rmtree(place)


def _begun(stack: contextlib.ExitStack, place: Path) -> World:
    authority = place / "authority"
    authority.mkdir()
    done(block("openssl req -x509"), authority)
    assert "sha256 Fingerprint=" in done(block("-fingerprint"), authority)
    org1, org2, org3 = (Member(number, place / f"org{number}") for number in (1, 2, 3))
    dns = DNSLab(place / "dns")
    dns.port = 53
    for member in (org1, org2):
        signed(authority, member)
    for member in (org1, org2, org3):
        zone = dns.zone(member.domain, signed=False).add(f"{member.domain}.", "MX", f"10 mx.{member.domain}.")
        zone.add(f"mx.{member.domain}.", "A", member.address)
    stack.enter_context(dns)
    relay = stack.enter_context(Sink(address=RELAY, port=25))
    other = Authority(place, "another")
    forger = stack.enter_context(Sink(address=FORGER, port=25, tls=other.issue("mx.org2.test").server()))
    (place / "resolv.conf").write_text(f"nameserver {LOOPBACK}\noptions trust-ad\n")
    _of_org1(org1, other.file)
    _of_org2(org2)
    home = org1.postfix.queue / "smilla"
    home.parent.mkdir(parents=True)
    smilla = stack.enter_context(Smilla(home, f"{LOOPBACK}@53", _settings(org1, home), environment=beside_postfix()))
    for member in (org1, org2):
        member.postfix.before = asking(place / "resolv.conf")
        stack.enter_context(member.postfix)
    return World(place, authority, dns, org1, org2, org3, smilla, relay, forger)


def _settings(org1: Member, home: Path) -> Settings:
    return {
        "policy": {"mixed": "stage"},
        "stage": {"check": False},
        "dns": {"timeout_s": 8, "cache_ttl_s": 0, "failure_ttl_s": 0},
        "hop": {"socket": f"unix:{home}/tls.sock", "socket_mode": "0666"},
        "reinject": {"smtp": f"{LOOPBACK}:10025", "secure_smtp": f"{LOOPBACK}:10027"},
        **tomllib.loads(org1.own(block("[[circle]]"))),
    }


def _of_org1(org1: Member, ca_file: Path) -> None:
    """Has the lines of contrib/postfix; whatever else it sends goes to RELAY, as does what it takes."""
    for table in EXAMPLES.glob("smilla_*"):
        (org1.folder / table.name).write_text(table.read_text())
    listeners = [Listener(["unix:smilla/smilla.sock"], port=587), Listener(port=25, address=org1.address)]
    parameters = {
        "myhostname": f"mx.{org1.domain}",
        "relayhost": f"[{RELAY}]:25",
        "transport_maps": f"static:smtp:[{RELAY}]:25",
        "relay_domains": org1.domain,
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtp_dns_support_level": "enabled",
        "smtp_host_lookup": "dns, native",
        "smtpd_tls_loglevel": "1",
        **example_parameters(org1.folder),
        **org1.main_cf("smtp_tls_chain_files"),
        **org1.main_cf("smtpd_tls_ask_ccert"),
    }
    org1.postfix = Postfix(org1.folder / "running", 25, listeners, parameters)
    org1.postfix.services = example_services(org1.folder, ca_file)


def _of_org2(org2: Member) -> None:
    """Knows nothing of smilla."""
    parameters = {
        "myhostname": f"mx.{org2.domain}",
        "relayhost": "",
        "transport_maps": f"inline:{{{org2.domain}=smtp:[{RELAY}]:25}}",
        "relay_domains": org2.domain,
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtp_dns_support_level": "enabled",
        "smtp_host_lookup": "dns, native",
        "smtp_tls_security_level": "may",
        "smtp_bind_address": org2.address,
        "smtpd_tls_received_header": "yes",
        **org2.main_cf("smtp_tls_chain_files"),
        **org2.main_cf("smtpd_tls_ask_ccert"),
    }
    listeners = [Listener(port=1587), Listener(port=25, address=org2.address)]
    org2.postfix = Postfix(org2.folder / "running", 25, listeners, parameters)


@pytest.fixture(autouse=True)
def quiet(circle: World) -> Iterator[None]:
    yield
    for member in (circle.org1, circle.org2):
        if member.postfix.queued():
            member.postfix.delete_all()
    circle.mx("mx.org2.test", circle.org2.address)


def is_kept(circle: World, host: str) -> bytes:
    """Sends a letter to org2, and waits until it was put off because of this host's certificate; its mark."""
    postfix = circle.org1.postfix
    before = len(postfix.log)
    mark = circle.send(circle.org1, "bob@org2.test")
    pattern = rf"smilla-secure/smtp.*relay={re.escape(host)}\[.*status=deferred \(Server certificate not verified"
    assert postfix.tries_until(lambda: re.search(pattern, postfix.log[before:]) is not None, 60), postfix.log[-3000:]
    return mark


def test_mail_to_the_other_member_goes_over_a_verified_connection(circle: World) -> None:
    mail = circle.passes(circle.org1, "bob@org2.test")
    received = b" ".join(mail.raw.split())
    assert CANARY in mail.raw
    assert b"by mx.org2.test (Postfix) with ESMTPS id" in received
    said = "Verified TLS connection established to mx.org2.test"
    assert wait_until(lambda: said in circle.org1.postfix.log, 60)  # postlogd may write it after the mail is there


def test_what_the_page_has_one_look_at_says_so(circle: World) -> None:
    circle_block = block("smilla hop org2.example")
    assert circle_block.splitlines()[0] == "smilla hop org2.example"
    asks = f"{sys.executable} -m smilla hop org2.test --config {circle.smilla.config}"
    text = done(asks, REPOSITORY)
    assert text.splitlines()[0].startswith("org2.test: verified by circle; ")
    _, _, asked = circle_block.splitlines()[1].partition("socketmap:unix:")
    assert asked == "/var/spool/postfix/smilla/tls.sock:secure"
    table = f"socketmap:unix:{circle.org1.postfix.queue}/smilla/tls.sock:secure"
    said = circle.org1.postfix.run("postmap", "-q", "org2.test", table)
    assert said == f"secure match=nexthop:dot-nexthop tafile={circle.org1.folder}/etc/smilla/circle.pem\n"


def looks(circle: World) -> str:
    """What the page's look at the other member's server says last."""
    (line,) = [text for text in BLOCKS if "posttls-finger -c -l secure" in text]
    _, *arguments = shlex.split(circle.org1.own(line))
    program = find_program("posttls-finger")
    environment = program_environment(program) | {"MAIL_CONFIG": str(circle.org1.postfix.folder / "etc")}
    argv = [*circle.org1.postfix.before, str(program), *arguments]
    ran = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return ran.stdout.splitlines()[-1].removeprefix("posttls-finger: ")


def surveyed(circle: World) -> str:
    """What smilla survey says of the other member, whom no public authority knows."""
    public = circle.place / "another.pem"
    command = f"{sys.executable} -m smilla survey org2.test --config {circle.smilla.config} --ca-file {public}"
    return done(command, REPOSITORY).strip()


def test_look_at_the_servers_certificate_says_which_one_it_is(circle: World) -> None:
    assert looks(circle).startswith("Verified TLS connection established to mx.org2.test[")
    assert surveyed(circle).startswith("org2.test: smilla would send: circle: org2.test is in the circle ours; ")
    circle.mx("mx.org2.test", FORGER)
    assert looks(circle).startswith("Untrusted TLS connection established to mx.org2.test[")
    assert surveyed(circle).startswith("org2.test: smilla would send: not now: org2.test is in the circle ours, and ")
    of_org1 = Certificate(b"", circle.org1.folder / "etc/postfix/server.pem").server()
    with Sink(address=OTHER, port=25, tls=of_org1):
        circle.mx("other.org2.test", OTHER)
        word = "Trusted" if circle.org1.postfix.version >= (3, 10) else "Untrusted"
        assert looks(circle).startswith(f"{word} TLS connection established to other.org2.test[")
        assert surveyed(circle).endswith("the certificate is for mx.org1.test, not for org2.test or .org2.test")


def test_further_member_joins_and_its_mail_waits_until_its_server_has_the_certificate(circle: World) -> None:
    """And once it has left, its mail goes as anybody's."""
    org3 = circle.org3
    signed(circle.authority, org3)
    before = circle.smilla.settings
    settings = tomllib.loads(circle.org1.own(block("[[circle]]")).replace('"org2.test"', '"org2.test", "org3.test"'))
    assert [one["domains"] for one in settings["circle"]] == [["org1.test", "org2.test", "org3.test"]]
    try:
        circle.smilla.write_config({**before, **settings})
        circle.smilla.reload()
        postfix, log_begins = circle.org1.postfix, len(circle.org1.postfix.log)
        mark = circle.send(circle.org1, "bob@org3.test")
        assert wait_until(lambda: "status=deferred" in postfix.log[log_begins:], 60), postfix.log[-3000:]
        theirs = Certificate(b"", org3.folder / "etc/postfix/server.pem").server()
        with Sink(address=org3.address, port=25, tls=theirs) as server:
            assert postfix.tries_until(lambda: any(mark in mail.raw for mail in server.messages)), postfix.log[-3000:]
        assert not circle.arrived(mark)
    finally:
        circle.smilla.write_config(before)
        circle.smilla.reload()
    circle.passes(circle.org1, "bob@org3.test")


def test_mail_to_others_goes_as_before(circle: World) -> None:
    circle.passes(circle.org1, "bob@elsewhere.test")


def test_whoever_forges_dns_gets_nothing(circle: World) -> None:
    circle.mx("mx.org2.test", FORGER)
    mark = is_kept(circle, "mx.org2.test")
    circle.org1.postfix.delete_all()
    of_org1 = Certificate(b"", circle.org1.folder / "etc/postfix/server.pem").server()
    with Sink(address=OTHER, port=25, tls=of_org1) as other:  # of the circle, and not org2's
        circle.mx("other.org2.test", OTHER)
        assert not circle.arrived(mark) + circle.arrived(is_kept(circle, "other.org2.test"))
        assert not other.messages
    assert not circle.forger.messages


def test_further_mx_host_for_the_circle_is_found_where_the_first_shows_another_certificate(circle: World) -> None:
    circle.mx("public.org2.test", FORGER, ("mx.org2.test", circle.org2.address))
    circle.passes(circle.org1, "bob@org2.test")
    assert not circle.forger.messages


def test_member_sends_and_a_stranger_with_a_members_sender_is_refused(circle: World) -> None:
    circle.passes(circle.org2, "user@org1.test")
    assert circle.stranger("user@org2.test").startswith("554 5.7.1 <user@org2.test>: Sender address rejected")
    assert circle.stranger("user@elsewhere.test").startswith("250 ")


def test_what_a_member_has_sent_is_forwarded_over_the_stage(circle: World) -> None:
    """The stage's own listeners must not ask for a certificate."""
    circle.passes(circle.org1, "bob@org2.test", sender="bob@org2.test")


def test_member_that_asks_to_be_an_authority_becomes_none(circle: World) -> None:
    evil = Member(2, circle.place / "evil")
    asks = " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign,digitalSignature"
    signed(circle.authority, evil, f"{asks} -addext subjectAltName=DNS:mx.org1.test")
    text = done("openssl x509 -in server.crt -noout -text", evil.folder)
    assert "CA:TRUE" not in text
    assert "DNS:mx.org2.test" in text
    assert "org1" not in text
    # Were it one all the same, what it signs would not count: the authority says pathlen:0.
    sign = "openssl x509 -req -in server.csr -CA circle.pem -CAkey circle.key -CAcreateserial -days 9 -out sub.crt"
    done(f"{sign} -copy_extensions copy", circle.authority)
    done(f"cp {circle.authority}/sub.crt .", evil.folder)
    made = "openssl req -new -nodes -newkey rsa:2048 -keyout f.key -out f.csr -subj /CN=mx.org1.test 2>/dev/null"
    done(f"{made}; openssl x509 -req -in f.csr -CA sub.crt -CAkey server.key -days 9 -out f.crt", evil.folder)
    verify = "openssl verify -CAfile circle.pem -untrusted sub.crt f.crt 2>&1 || true"
    assert "path length constraint exceeded" in done(verify, evil.folder)


def test_authority_is_changed_and_mail_never_stops(circle: World) -> None:
    new = circle.place / "new"
    new.mkdir()
    done(block("openssl req -x509").replace("Our circle", "Our circle 2"), new)
    old_file, members = circle.authority / "circle.pem", (circle.org1, circle.org2)

    def passes() -> None:
        for member in members:
            member.postfix.reload()
        for sender, to in ((circle.org1, "bob@org2.test"), (circle.org2, "user@org1.test")):
            circle.passes(sender, to)

    def trusts(source: Path) -> None:
        for member in members:
            for name in ("postfix", "smilla"):
                shutil.copy(source, member.folder / "etc" / name / "circle.pem")

    shutil.copy(new / "circle.pem", circle.authority / "circle-new.pem")
    done(block("both.pem"), circle.authority)
    trusts(circle.authority / "both.pem")
    passes()
    for member in members:
        signed(new, member)
        trusts(circle.authority / "both.pem")
        passes()
    trusts(new / "circle.pem")
    passes()
    trusts(old_file)
    circle.org1.postfix.reload()
    assert not circle.arrived(is_kept(circle, "mx.org2.test"))
