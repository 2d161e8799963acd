"""Keys on the web: what a Web Key Directory says, and what every way of not saying it does to mail.

client -> Postfix -> smilla -> unbound (validates) -> nsd: where the web server is
                            -> KeyWeb, TLS with an authority of its own, port 443 of an address of its own
                    -> the sink
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla import config
from smilla.adapters.as_user import User
from smilla.doctor import web_check
from smilla.doctor.finding import Finding
from smilla.doctor.rights import Service
from smilla.keys.discovery.wkd import folder_of, hashed
from tests.lab.authority import Authority
from tests.lab.chain import Chain
from tests.lab.dns import DNSLab, Kind
from tests.lab.key_web import Habit, KeyWeb
from tests.lab.keys import OpenPGPKey, make_openpgp_key
from tests.lab.nginx import Nginx
from tests.lab.processes import LOOPBACK, free_port, wait_until
from tests.lab.programs import REPOSITORY, find_program, require_servers
from tests.lab.smilla import to_toml
from tests.live.mta import CANARY, Mta, check_logs, letter
from tests.milter.scraping import samples, scraped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="port 443 is root's, and so is Postfix"),
]
SOURCES = ["smimea", "openpgpkey", "wkd"]
ADVANCED = ("advanced", "absent", "broken", "page", "large", "cut", "silentweb", "slow", "stranger", "expired", "away")


@dataclass
class World:
    """All that runs.  ``key`` names pia@advanced.test, pia@direct.test and pia@moved.test."""

    dns: DNSLab
    web: KeyWeb
    chain: Chain
    mta: Mta
    key: OpenPGPKey
    settings: dict[str, Any]
    folder: Path
    public: Authority
    nginx_address: str
    metrics_port: int

    def look_up(self, address: str) -> tuple[int, dict[str, Any]]:
        """What smilla lookup says: exit code and document."""
        path = self.folder / "lookup.toml"
        table = {**self.settings, "dns": {"nameservers": [self.dns.resolver], "probe": "test."}}
        path.write_text(to_toml(table))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "smilla", "lookup", "--json", "--config", str(path), address]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


def _zones(dns: DNSLab, address: str) -> None:
    for name in ADVANCED:
        dns.zone(f"{name}.test").add(f"openpgpkey.{name}.test.", "A", address)
    dns.zone("direct.test", Kind.INSECURE).add("direct.test.", "A", address)
    dns.zone("moved.test").add("moved.test.", "A", address).add("www.moved.test.", "A", address)
    # A wildcard would make openpgpkey.DOMAIN exist; an empty name keeps it away.
    dns.zone("wild.test").add("*.wild.test.", "A", address).add("openpgpkey.wild.test.", "TXT", '""').add(
        "wild.test.", "A", address
    )
    dns.zone("nohost.test").add("nohost.test.", "MX", "10 mx.nohost.test.")
    dns.zone("closed.test").add("openpgpkey.closed.test.", "A", "127.99.99.99").add("closed.test.", "A", address)
    dns.zone("forged.test", Kind.FORGED).add("openpgpkey.forged.test.", "A", address)
    dns.zone("dead.test", Kind.DEAD)


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[World]:
    network = f"127.{secrets.randbelow(50) + 200}.{secrets.randbelow(250) + 1}"
    address, nginx_address = f"{network}.1", f"{network}.2"
    public = Authority(folder, "public")
    names = [f"openpgpkey.{name}.test" for name in ADVANCED if name not in ("stranger", "expired")]
    names += ["direct.test", "moved.test", "www.moved.test", "wild.test", "openpgpkey.forged.test", "closed.test"]
    tls = public.issue(*names).server()
    others = {
        "openpgpkey.stranger.test": Authority(folder, "private").issue("openpgpkey.stranger.test").server(),
        "openpgpkey.expired.test": public.issue("openpgpkey.expired.test", days=-1).server(),
    }

    def choose(connection: Any, name: str | None, _: object) -> None:
        connection.context = others.get(name or "", tls)

    tls.sni_callback = choose
    dns = DNSLab(folder / "dns")
    _zones(dns, address)
    dns.zone("own.test").add("openpgpkey.own.test.", "A", nginx_address)
    settings: dict[str, Any] = {
        "keys": {"sources": SOURCES, "wkd_ca_file": str(public.file)},
        "policy": {"mixed": "reinject"},
        "rule": [{"recipient": "trusted-*@broken.test", "trust": ["dnssec"]}],
    }
    (folder / "chain").mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dns)
        web = stack.enter_context(contextlib.closing(KeyWeb(address, tls)))
        port = free_port()
        measured = {**settings, "metrics": {"listen": f"{LOOPBACK}:{port}"}}
        chain = stack.enter_context(Chain(folder / "chain", dns.resolver, {"outbound": measured}))
        key = stack.enter_context(contextlib.closing(make_openpgp_key(folder, "pia@advanced.test")))
        _files(web, key, folder, stack)
        yield World(dns, web, chain, Mta(chain), key, settings, folder, public, nginx_address, port)
        check_logs(chain)


def _files(web: KeyWeb, key: OpenPGPKey, folder: Path, stack: contextlib.ExitStack) -> None:
    name = f"hu/{hashed('pia')}"
    for domain in ("direct.test", "moved.test", "wild.test"):
        other = stack.enter_context(contextlib.closing(make_openpgp_key(folder, f"pia@{domain}")))
        host = "www.moved.test" if domain == "moved.test" else domain
        web.files[host, f"{folder_of(domain, advanced=False)}/{name}"] = other.raw
    web.habits["moved.test"] = Habit(301, location=f"https://www.moved.test/.well-known/openpgpkey/{name}")
    for each in ("advanced", "stranger", "expired", "slow", "forged"):
        host = f"openpgpkey.{each}.test"
        web.files[host, f"{folder_of(f'{each}.test', advanced=True)}/{name}"] = key.raw
    web.habits["openpgpkey.broken.test"] = Habit(503)
    web.habits["openpgpkey.page.test"] = Habit(200, "text/html", b"<html>Welcome to our site</html>")
    web.habits["openpgpkey.large.test"] = Habit(raw=bytes(64 * 1024 + 1))
    web.habits["openpgpkey.cut.test"] = Habit(raw=key.raw, cut_off=True)
    web.habits["openpgpkey.away.test"] = Habit(302, location="https://direct.test/")
    web.files["closed.test", f"{folder_of('closed.test', advanced=False)}/{name}"] = key.raw
    web.held |= {"openpgpkey.slow.test", "openpgpkey.silentweb.test"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_servers("nsd", "unbound", "ldns-signzone", "postfix", "gpg", "nginx")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        Path(name).chmod(0o755)
        with _running(Path(name)) as found:
            yield found


@pytest.mark.parametrize(
    ("domain", "verdict", "reason", "proof", "code"),
    [
        ("advanced.test", "usable", "usable", "web", 0),
        ("direct.test", "usable", "usable", "web", 0),
        ("moved.test", "usable", "usable", "web", 0),
        ("wild.test", "usable", "usable", "web", 0),
        ("absent.test", "no_key", "no_key", "web", 1),
        ("nohost.test", "no_key", "no_key", "web", 1),
        ("broken.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("closed.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("stranger.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("expired.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("cut.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("large.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("silentweb.test", "unreachable", "web_unreachable", "unreachable", 75),
        ("forged.test", "bogus", "bogus", "bogus", 75),
        ("page.test", "unclear", "web_unclear", "web", 75),
        ("away.test", "unclear", "web_unclear", "web", 75),
    ],
)
def test_each_thing_that_a_web_server_does_has_one_verdict(
    world: World, *, domain: str, verdict: str, reason: str, proof: str, code: int
) -> None:
    exit_code, found = world.look_up(f"pia@{domain}")
    (finding,) = (one for one in found["findings"] if one["source"] == "wkd")
    assert (finding["verdict"], finding["reason"]["code"], finding["dnssec"]) == (verdict, reason, proof), finding
    assert exit_code == code


def test_mail_to_a_key_on_the_web_is_encrypted_and_the_log_says_what_that_rests_on(world: World) -> None:
    reply, sent = world.mta.send(letter(to=b"pia@advanced.test"), ["pia@advanced.test"])
    assert reply.code == 250, reply
    (mail,) = world.mta.delivered(sent)
    assert CANARY not in mail.raw
    path = world.folder / "arrived.eml"
    path.write_bytes(mail.raw)
    assert CANARY in world.key.open(path)
    line = world.chain.filters["outbound"].wait_for_log(r" encrypted .*rcpt=pia@advanced\.test")
    assert "source=wkd dnssec=web" in line


def test_mail_goes_plain_where_the_web_server_says_that_there_is_no_key(world: World) -> None:
    reply, sent = world.mta.send(letter(to=b"pia@absent.test"), ["pia@absent.test"])
    assert reply.code == 250, reply
    (mail,) = world.mta.delivered(sent)
    assert CANARY in mail.raw


@pytest.mark.parametrize("domain", ["broken.test", "closed.test", "stranger.test", "forged.test", "cut.test"])
def test_mail_is_deferred_where_nobody_can_tell(world: World, domain: str) -> None:
    reply, sent = world.mta.send(letter(to=f"pia@{domain}".encode()), [f"pia@{domain}"])
    assert (reply.code, str(reply).split()[1]) == (451, "4.7.5"), reply
    assert world.mta.delivered(sent) == []


def test_a_rule_that_trusts_dnssec_alone_keeps_a_broken_web_server_out_of_the_way(world: World) -> None:
    before = len(world.web.asked)
    reply, sent = world.mta.send(letter(to=b"trusted-pia@broken.test"), ["trusted-pia@broken.test"])
    assert reply.code == 250, reply
    assert CANARY in world.mta.delivered(sent)[0].raw
    assert world.web.asked[before:] == []


def test_a_slow_web_server_delays_its_own_mail_only(world: World) -> None:
    """So many messages wait for it that they would take every place, if it could have more than its own."""
    replies: list[int] = []

    def send(number: int) -> None:
        to = f"pia{number}@slow.test"
        replies.append(world.mta.send(letter(to=to.encode()), [to])[0].code)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for sender in senders:
        sender.start()
    slow = "openpgpkey.slow.test"
    assert wait_until(lambda: [host for host, _ in world.web.asked].count(slow) >= 8, 60)
    reply, sent = world.mta.send(letter(to=b"pia@direct.test"), ["pia@direct.test"])
    assert reply.code == 250, reply
    assert CANARY not in world.mta.arrived(sent).raw
    for sender in senders:
        sender.join()
    assert replies == [451] * 12
    world.web.release()
    # What the web server says in the end counts: here, a key that names somebody else.
    assert wait_until(lambda: world.mta.send(letter(to=b"pia@slow.test"), ["pia@slow.test"])[0].code == 550, 60)


def test_what_smilla_writes_nginx_serves_and_smilla_and_gpg_find(world: World) -> None:
    """The configuration of contrib/nginx, a folder that "smilla wkd" wrote, and keys that gpg made."""
    place = world.folder / "published"
    keys = place / "keys"
    keys.mkdir(parents=True)
    nginx = Nginx(place / "nginx", "own.test", world.nginx_address, world.public.issue("openpgpkey.own.test").file)
    folder = nginx.www / ".well-known/openpgpkey"
    with contextlib.closing(make_openpgp_key(place, "Hugh.Case@own.test")) as key, nginx:
        (keys / "hugh.pgp").write_bytes(key.raw)
        command = [sys.executable, "-m", "smilla", "wkd", str(folder), "--keys", str(keys), "--domain", "own.test"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        exit_code, found = world.look_up("hugh.case@own.test")
        assert (exit_code, found["source"], found["dnssec"]) == (0, "wkd", "web")
        exit_code, found = world.look_up("nobody@own.test")
        assert (exit_code, found["verdict"]) == (1, "no_key")
        (path,) = (folder / "own.test/hu").iterdir()
        gpg = [str(find_program("gpg")), "--homedir", str(key.home), "--batch", "--with-wkd-hash", "--show-keys"]
        shown = subprocess.run([*gpg, str(path)], capture_output=True, text=True, check=True).stdout
        assert f"{path.name}@own.test" in shown


def test_questions_to_web_servers_are_counted_by_result_and_without_a_domain(world: World) -> None:
    def counts() -> dict[str, float]:
        found = samples(world.metrics_port).items()
        return {labels[0]: n for (name, labels), n in found if name == "smilla_fetch_seconds_count"}

    before = counts()
    for domain in ("advanced", "absent", "broken", "page"):
        world.mta.send(letter(to=f"counted@{domain}.test".encode()), [f"counted@{domain}.test"])
    for result in ("absent", "unreachable", "unclear"):
        assert wait_until(lambda: counts().get(result, 0) > before.get(result, 0), 30), counts()  # noqa: B023
    text = scraped(world.metrics_port)[0].decode()
    assert 'smilla_fetch_seconds_count{result="absent",source="wkd"}' in text
    assert ".test" not in text


def _probed(world: World, **keys: Any) -> Finding:
    table = {**world.settings, "dns": {"nameservers": [world.dns.resolver], "probe": "test."}}
    table["keys"] = {**table["keys"], **keys}
    (found,) = web_check.problems(config.parse(to_toml(table)), Service(User("nobody"), drops_rights=False))
    return found


@pytest.mark.parametrize("domain", ["advanced.test", "broken.test", "page.test", "absent.test"])
def test_probe_says_that_https_goes_out_whatever_the_server_says(world: World, domain: str) -> None:
    found = _probed(world, wkd_probe=domain)
    assert (found.severity, found.text) == ("", f"HTTPS goes out ({domain} answers)")


def test_probe_names_what_holds_https_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in web_check._PROXIES:
        monkeypatch.delenv(name, raising=False)
    found = _probed(world, wkd_probe="closed.test")
    assert (found.severity, "refused" in found.text, "port 443" in found.mend) == ("error", True, True), found
    assert "proxy" not in found.why
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    assert "https_proxy is set, but smilla asks no proxy" in _probed(world, wkd_probe="closed.test").why
    found = _probed(world, wkd_probe="stranger.test")
    assert (found.severity, "certificate" in found.text, "wkd_ca_file" in found.mend) == ("error", True, True), found


@pytest.mark.parametrize("domain", ["dead.test", "nohost.test"])
def test_probe_blames_no_firewall_where_nobody_was_asked(world: World, domain: str) -> None:
    assert _probed(world, wkd_probe=domain).severity == "hint"


def test_probe_ends_in_time_though_the_server_says_nothing(world: World) -> None:
    world.web.hold()
    began = time.monotonic()
    found = _probed(world, wkd_probe="silentweb.test")
    assert (found.severity, "no whole answer within 6 s" in found.text) == ("error", True), found
    assert time.monotonic() - began < 120  # a bound, and far from any load
