"""smilla survey against real servers, and the same servers as Postfix's own posttls-finger sees them.

smilla survey, posttls-finger -> unbound (validates) -> nsd (signed and unsigned zones)
                              -> smtpd, an address of loopback for each certificate and version of TLS
                              -> a web server (MTA-STS policies)

All of it is in a network of its own, so that the ports are the usual ones: posttls-finger knows no others for DNS.
"""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from smilla.hops.tlsa import association
from tests.certificates import key_usage, make_certificate, to_pem
from tests.lab.browser import PROGRAM, Browser
from tests.lab.dns import DNSLab, Kind
from tests.lab.machine import Machine
from tests.lab.postfix import Postfix
from tests.lab.processes import LOOPBACK
from tests.lab.programs import REPOSITORY, find_program, program_environment, require_servers
from tests.live.conftest import cannot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

pytestmark = pytest.mark.live
NOW = datetime.now(UTC)
FROM, TO = NOW - timedelta(days=60), NOW + timedelta(days=90)
PICTURES = REPOSITORY / ".cache" / "pictures"
ROOT = make_certificate(
    "p256",
    common_name="Root",
    ca=True,
    number=911,
    extensions=[(key_usage("key_cert_sign"), True)],
    not_before=FROM,
    not_after=TO,
)
# Each with the options of its smtpd; every domain DOMAIN.test has its MX host mx.DOMAIN.test at one of them.
SERVERS = {
    "good": {},
    "expired": {},
    "selfsigned": {},
    "only12": {"smtpd_tls_protocols": ">=TLSv1.2, <=TLSv1.2"},
    "only13": {"smtpd_tls_protocols": ">=TLSv1.3, <=TLSv1.3"},
    "old": {
        "smtpd_tls_protocols": ">=TLSv1, <=TLSv1",
        "smtpd_tls_ciphers": "low",
        "tls_low_cipherlist": "ALL:@SECLEVEL=0",
    },
    "clear": {"smtpd_tls_security_level": "none"},
}
ADDRESSES = {name: f"127.0.1.{number}" for number, name in enumerate(SERVERS, 1)}
AT = {  # domain: server
    "dane": "good",
    "wrong": "good",
    "anchor": "good",
    "roll": "good",
    "usage1": "good",
    "unsigned": "good",
    "nothing": "good",
    "expired": "expired",
    "daneexpired": "expired",
    "selfsigned": "selfsigned",
    "only12": "only12",
    "only13": "only13",
    "old": "old",
    "clear": "clear",
    "daneclear": "clear",
    "sts": "good",
    "ststesting": "good",
    "stsother": "good",
    "stsexpired": "expired",
    "stsgone": "good",
    "keys": "good",
    "wildcard": "good",
}
POLICIES = {
    "sts": "mode: enforce\r\nmx: *.sts.test",
    "ststesting": "mode: testing\r\nmx: mx.ststesting.test",
    "stsother": "mode: enforce\r\nmx: *.elsewhere.test",
    "stsexpired": "mode: enforce\r\nmx: mx.stsexpired.test",
}


def leaf(number: int, not_after: datetime = TO) -> tuple[PrivateKeyTypes, bytes]:
    names = [x509.DNSName(f"mx.{domain}.test") for domain in AT]
    names += [x509.DNSName(f"mta-sts.{domain}.test") for domain in POLICIES]
    return make_certificate(
        "p256", other_names=names, number=number, issuer=ROOT, ca=False, not_before=FROM, not_after=not_after
    )


GOOD, EXPIRED, OTHER = leaf(912), leaf(913, NOW - timedelta(days=2)), leaf(914)
SELF = make_certificate("p256", common_name="mx.selfsigned.test", number=915, not_before=FROM, not_after=TO)


def tlsa(usage: int, raw: bytes) -> bytes:
    return bytes([usage, 1, 1]) + association(raw, 1, 1)


TLSA = {
    "dane": [tlsa(3, GOOD[1])],
    "wrong": [tlsa(3, OTHER[1])],
    "anchor": [tlsa(2, ROOT[1])],
    "roll": [tlsa(3, GOOD[1]), tlsa(3, OTHER[1])],
    "usage1": [tlsa(1, GOOD[1])],
    "unsigned": [tlsa(3, GOOD[1])],
    "daneexpired": [tlsa(3, EXPIRED[1])],
    "daneclear": [tlsa(3, GOOD[1])],
}


@dataclass
class Lab:
    machine: Machine
    place: Path
    config: Path

    def survey(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, in the lab's network."""
        line = [sys.executable, "-m", "smilla", "survey", "--config", str(self.config), "--timeout", "20", *arguments]
        with self.machine.network():
            return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def found(self, *domains: str) -> list[dict[str, Any]]:
        """Its JSON, in the order of the domains."""
        done = self.survey("--json", *domains)
        assert done.stderr == ""
        by_name = {one["asked"]: one for one in map(json.loads, done.stdout.splitlines())}
        return [by_name[domain] for domain in domains]

    def finger(self, domain: str, level: str, *options: str) -> str:
        """What posttls-finger says, with the lab's resolver."""
        path = find_program("posttls-finger")
        environment = program_environment(path) | {"MAIL_CONFIG": str(self.place / "postfix" / "etc")}
        script = f'mount --bind "{self.place}/resolv.conf" /etc/resolv.conf && exec "$@"'
        line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "finger", str(path)]
        line += ["-c", "-L", "summary,untrusted", "-l", level, *options, domain]
        with self.machine.network():
            done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


class Handler(BaseHTTPRequestHandler):
    """The policy of the host that is asked for."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        name = self.headers["Host"].removeprefix("mta-sts.").removesuffix(".test")
        octets = f"version: STSv1\r\n{POLICIES[name]}\r\nmax_age: 86400\r\n".encode()
        self.send_response(200 if self.path == "/.well-known/mta-sts.txt" else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)


@contextmanager
def _web(pair: Path) -> Iterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server = ThreadingHTTPServer((LOOPBACK, 443), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _zones(dns: DNSLab) -> None:
    for name, server in AT.items():
        domain = f"{name}.test"
        zone = dns.zone(domain, Kind.INSECURE if name == "unsigned" else Kind.SECURE)
        zone.add(f"{domain}.", "MX", f"10 mx.{domain}.").add(f"mx.{domain}.", "A", ADDRESSES[server])
        for raw in TLSA.get(name, []):
            zone.add(f"_25._tcp.mx.{domain}.", "TLSA", raw)
        if name.startswith("sts"):
            zone.add(f"_mta-sts.{domain}.", "TXT", '"v=STSv1; id=20261129"')
            zone.add(f"mta-sts.{domain}.", "A", LOOPBACK if name in POLICIES else "127.0.0.77")
    dane = dns.zone("dane.test")
    dane.add("dane.test.", "TXT", '"v=spf1 mx -all"').add("dane.test.", "TXT", '"unrelated <b>text</b>"')
    dane.add("_dmarc.dane.test.", "TXT", '"v=DMARC1; p=reject; rua=mailto:d@dane.test"')
    dane.add("_smtp._tls.dane.test.", "TXT", '"v=TLSRPTv1; rua=mailto:tls@dane.test"')
    dns.zone("keys.test").add_smimea("alice@keys.test", b"a zone of keys has a name for this")
    wildcard = dns.zone("wildcard.test").add("*.wildcard.test.", "TXT", '"anything"')
    wildcard.add("wildcard.test.", "TXT", r'"v=spf1 <script>alert(1)</script> ~all"')
    dns.zone("null.test").add("null.test.", "MX", "0 .")
    dns.zone("gone.test").add("gone.test.", "MX", "10 mx.gone.test.")
    dns.zone("closed.test").add("closed.test.", "MX", "10 mx.closed.test.").add("mx.closed.test.", "A", "127.0.1.99")
    two = dns.zone("two.test").add("two.test.", "MX", "10 mx.dane.test.").add("two.test.", "MX", "20 mx.clear.test.")
    two.add("_dmarc.two.test.", "TXT", '"v=DMARC1; p=none"')
    for number, ip in enumerate(("192.0.2.1", "198.51.100.1", "203.0.113.1")):
        zone = dns.zone(f"silent{number}.test").add(f"silent{number}.test.", "MX", f"10 mx.silent{number}.test.")
        zone.add(f"mx.silent{number}.test.", "A", ip)
    dns.zone("bogus.test", Kind.WRONG_DS)
    dns.zone("dead.test", Kind.DEAD)


def _smtpd(place: Path, name: str, options: dict[str, str]) -> str:
    """The lines of master.cf for one server."""
    key, raw = {"expired": EXPIRED, "selfsigned": SELF}.get(name, GOOD)
    path = place / f"{name}.pem"
    chain = to_pem(raw) + (b"" if name == "selfsigned" else to_pem(ROOT[1]))
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    path.chmod(0o600)
    all_options = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(path), **options}
    lines = "".join(f"  -o {{ {option} = {text} }}\n" for option, text in all_options.items())
    return f"{ADDRESSES[name]}:25 inet n - n - - smtpd\n{lines}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require_servers("nsd", "unbound", "ldns-signzone", "postfix", "posttls-finger", "unshare")
    place = Path(tempfile.mkdtemp(prefix="smilla-"))
    place.chmod(0o755)
    dns = DNSLab(place / "dns")
    dns.port = 53
    _zones(dns)
    (place / "postfix").mkdir()
    (place / "machine").mkdir()
    postfix = Postfix(place / "postfix", 9, [])
    postfix.services = "".join(_smtpd(place, name, options) for name, options in SERVERS.items())
    (place / "ca.pem").write_bytes(to_pem(ROOT[1]))
    (place / "resolv.conf").write_text(f"nameserver {LOOPBACK}\noptions trust-ad edns0\n")
    config = place / "smilla.toml"
    config.write_text(f'[dns]\nnameservers = ["{dns.resolver}"]\nprobe = "test."\n[hop]\nca_file = "{place}/ca.pem"\n')
    try:
        with Machine(place / "machine") as machine, machine.network(), dns, postfix, _web(place / "good.pem"):
            yield Lab(machine, place, config)
    finally:
        shutil.rmtree(place)


WAYS = {
    "dane": "DANE",
    "wrong": "not now",
    "anchor": "DANE",
    "roll": "DANE",
    "usage1": "opportunistic",
    "unsigned": "opportunistic",
    "nothing": "opportunistic",
    "expired": "opportunistic",
    "daneexpired": "DANE",
    "selfsigned": "opportunistic",
    "only12": "opportunistic",
    "only13": "opportunistic",
    "old": "opportunistic",
    "clear": "plain",
    "daneclear": "not now",
    "sts": "MTA-STS",
    "ststesting": "opportunistic",
    "stsother": "not now",
    "stsexpired": "not now",
    "stsgone": "opportunistic",
    "keys": "S/MIME",
    "wildcard": "opportunistic",
    "null": "no mail",
    "gone": "no mail",
    "nobody": "no mail",
    "two": "DANE",
    "closed": "unknown",
    "bogus": "not now",
}


def test_way_of_each_domain(lab: Lab) -> None:
    done = lab.survey("-v", *(f"{name}.test" for name in WAYS))
    found = dict(re.findall(r"^(\w+)\.test: smilla would send: ([^:]+):", done.stdout, re.MULTILINE))
    assert found == WAYS
    assert done.returncode == 75


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if PROGRAM is None:
        cannot("chromium is not installed")
    with Browser() as found:
        yield found


ESTABLISHED = re.compile(r": (\w+) TLS connection established to \S+: (TLSv\S+) with cipher (\S+) ")


@pytest.mark.parametrize("name", AT)
def test_posttls_finger_says_the_same(lab: Lab, name: str) -> None:
    """Without authorities its level dane verifies by TLSA records alone; its level verify knows no TLSA records."""
    (found,) = lab.found(f"{name}.test")
    (server,) = found["hosts"][0]["servers"]
    if name == "old":  # it asks for an anonymous cipher first, as Postfix does where nothing is verified
        says = ESTABLISHED.search(lab.finger("old.test", "may"))
        assert says is not None
        assert says[2] == server["version"] == "TLSv1"
        return
    by_dane = ESTABLISHED.search(lab.finger(f"{name}.test", "dane"))
    by_authority = ESTABLISHED.search(lab.finger(f"{name}.test", "verify", "-F", str(lab.place / "ca.pem")))
    if AT[name] == "clear":
        assert (by_dane, by_authority, server["starttls"]["state"]) == (None, None, "missing")
        return
    assert by_dane is not None
    assert by_authority is not None
    assert (server["version"], server["cipher"]) == by_dane.groups()[1:] == by_authority.groups()[1:]
    assert (by_dane[1] == "Verified") is (server["tlsa"]["state"] == "ok")
    assert (by_authority[1] == "Verified") is (server["chain"]["state"] == "ok")


def test_what_is_published_is_told(lab: Lab) -> None:
    dane, two, roll, unsigned = lab.found("dane.test", "two.test", "roll.test", "unsigned.test")
    assert (dane["zone"], dane["mx_dnssec"], dane["spf_all"], dane["dmarc_policy"]) == ("secure",) * 2 + (
        "-all",
        "reject",
    )
    assert dane["tlsrpt"] == {"state": "ok", "text": "v=TLSRPTv1; rua=mailto:tls@dane.test"}
    assert (two["spf"]["state"], two["dmarc_policy"]) == ("absent", "none")
    assert two["why"].endswith(" at mx.dane.test (1 of 2 MX hosts)")
    assert [one["hosts"][0]["next_key"]["state"] for one in (dane, roll)] == ["absent", "ok"]
    assert unsigned["hosts"][0]["servers"][0]["tlsa"]["state"] == "insecure"
    server = dane["hosts"][0]["servers"][0]
    offers_requiretls = Postfix(lab.place / "postfix", 9, []).version >= (3, 11)
    assert (server["days_left"], server["requiretls"]) == (89, offers_requiretls)


def test_zone_of_keys_is_told_from_a_wildcard_and_from_none(lab: Lab) -> None:
    keys, wildcard, dane = lab.found("keys.test", "wildcard.test", "dane.test")
    assert (keys["smimea"], keys["openpgpkey"]) == ("has names", "none")
    assert (wildcard["smimea"], wildcard["openpgpkey"]) == ("answers for any name",) * 2
    assert (dane["smimea"], dane["openpgpkey"]) == ("none", "none")


def test_key_of_an_address_is_looked_up(lab: Lab) -> None:
    """alice's record is no certificate, so smilla would refuse; bob has none, and the domain's hop counts."""
    alice, bob = lab.found("alice@keys.test", "bob@keys.test")
    assert (alice["way"], alice["key"]["state"]) == ("not now", "unusable")
    assert (bob["way"], bob["key"]["state"]) == ("opportunistic", "absent")


def test_domain_without_an_answer_is_unknown_or_forged_and_never_plain(lab: Lab) -> None:
    done = lab.survey("dead.test", "bogus.test")
    ways = dict(re.findall(r"^(\w+)\.test: smilla would send: ([^:]+):", done.stdout, re.MULTILINE))
    assert ways["bogus"] == "not now"
    assert ways["dead"] in ("unknown", "not now")


def test_blocked_port_is_told_and_nothing_of_it_is_kept(lab: Lab) -> None:
    """No address is reachable from this network but loopback."""
    path = lab.place / "blocked.jsonl"
    done = lab.survey("--resume", str(path), *(f"silent{number}.test" for number in range(3)), "null.test")
    assert done.returncode == 75
    assert "error: outgoing port 25 seems to be blocked: none of 3 addresses answers\n" in done.stderr
    assert [json.loads(line)["asked"] for line in path.read_text().splitlines()] == ["null.test"]


def test_one_silent_domain_among_others_is_no_blocked_port(lab: Lab) -> None:
    done = lab.survey("silent0.test", "dane.test")
    assert (done.stderr, done.returncode) == ("", 75)
    done = lab.survey("silent0.test")
    assert done.stderr.startswith("hint: if other domains are silent, too, port 25 is blocked")


def test_every_dialogue_ends_with_quit(lab: Lab) -> None:
    before = len((lab.place / "postfix" / "maillog").read_text())
    lab.survey(*(f"{name}.test" for name in AT))
    lab.survey("dane.test")  # whatever the first one left in the log's way is there by now
    log = (lab.place / "postfix" / "maillog").read_text()[before:]
    ends = re.findall(r"disconnect from \S+ (.*)", log)
    assert ends
    assert all("quit=1" in end for end in ends)
    assert "lost connection" not in log


_CUT = """[...document.querySelectorAll('.wide')]
    .map(each => each.scrollWidth - each.clientWidth).filter(cut => cut > 0)"""


def test_report_says_the_same_and_runs_nothing(lab: Lab, browser: Browser) -> None:
    path = lab.place / "report.html"
    done = lab.survey("--quiet", "--html", str(path), *(f"{name}.test" for name in WAYS))
    assert (done.stdout, done.stderr) == ("", "")
    browser.go(path.as_uri())
    text = browser.text()
    assert "How mail to 28 domains would travel" in text
    rows = browser.run(
        "[...document.querySelectorAll('.wide tbody tr')].map(r => [...r.children].slice(0, 2).map(c => c.innerText))"
    )
    assert dict(rows) == {f"{name}.test": way for name, way in WAYS.items()}
    assert [name for name, _ in rows] == sorted(name for name, _ in rows)
    assert "<script>alert(1)</script>" in text
    assert browser.run("document.querySelectorAll('script, link, img, iframe, [src]').length") == 0
    assert browser.complaints == []
    for name, width, dark in (("light", 1100, False), ("dark", 1100, True), ("telephone", 375, False)):
        browser.look(width=width, dark=dark)
        browser.go(path.as_uri())
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert name == "telephone" or browser.run(_CUT) == []
        browser.picture(PICTURES / f"survey-{name}.png")
