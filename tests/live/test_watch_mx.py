"""smilla watch --mx against a real Postfix and real zones.

smilla watch -> unbound (validates) -> nsd (signed and unsigned zones)
             -> smtpd (TLS, certificates of a private authority), one listener a certificate
             -> a web server (MTA-STS policies, of the same authority)
"""

from __future__ import annotations

import json
import os
import shlex
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client.parser import text_string_to_metric_families

from smilla.hops.tlsa import association
from tests.certificates import key_usage, make_certificate, to_pem
from tests.lab.dns import DNSLab, Kind
from tests.lab.postfix import Listener, Postfix
from tests.lab.processes import LOOPBACK
from tests.lab.programs import require_servers
from tests.lab.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's master insists on root"),
]
CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
UNIT, HOOK = CONTRIB / "systemd" / "smilla-watch-mx.service", CONTRIB / "acme" / "smilla-deploy-hook"
NOW = datetime.now(UTC)
FROM, TO = NOW - timedelta(days=60), NOW + timedelta(days=90)
SIGNS = [(key_usage("key_cert_sign"), True)]
ROOT = make_certificate(
    "p256", common_name="Root", ca=True, number=901, extensions=SIGNS, not_before=FROM, not_after=TO
)
DOMAINS = ("right.test", "wrong.test", "next.test", "none.test", "anchor.test", "unsigned.test", "plain.test")


ALIASES = {  # the MX host is an alias of
    "alias.test": "mx.right.test",
    "stale.test": "mx.wrong.test",
    "own.test": "mx.none.test",
    "leaves.test": "mx.plain.test",
    "lost.test": "mx.unsigned.test",
}
MX_OF_POLICY = {
    "sts.test": (200, "mode: enforce\r\nmx: *.sts.test"),
    "testing.test": (200, "mode: testing\r\nmx: mx.testing.test"),
    "other.test": (200, "mode: enforce\r\nmx: *.elsewhere.test"),
    "none-mode.test": (200, "mode: none"),
    "moved.test": (301, ""),
    "garbage.test": (200, "mode: perhaps"),
    "foreign.test": (200, "mode: enforce\r\nmx: mx.foreign.test"),
}
OF_POLICY = (*MX_OF_POLICY, "closed.test", "noweb.test", "noid.test", "badname.test")


def leaf(number: int, not_after: datetime = TO) -> tuple[PrivateKeyTypes, bytes]:
    names = [x509.DNSName(f"mx.{domain}") for domain in (*DOMAINS, *OF_POLICY) if domain != "foreign.test"]
    names += [x509.DNSName(f"mta-sts.{domain}") for domain in OF_POLICY if domain != "badname.test"]
    return make_certificate(
        "p256", other_names=names, number=number, issuer=ROOT, ca=False, not_before=FROM, not_after=not_after
    )


LIVE, OLD, OTHER = leaf(902), leaf(903, NOW - timedelta(days=2)), leaf(904)


def tlsa(usage: int, raw: bytes) -> bytes:
    return bytes([usage, 1, 1]) + association(raw, 1, 1)


@dataclass
class Lab:
    config: Path
    live: int  # ports
    expired: int
    no_tls: int
    https_port: int
    ca_file: Path

    def watch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "smilla", "watch", "--config", str(self.config), *arguments]
        line += ["--ca-file", str(self.ca_file)] * ("--ca-file" not in arguments)
        return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def at_https(self) -> list[str]:
        return ["--https-port", str(self.https_port)]

    def states(self, domain: str, port: int = 0, *arguments: str) -> tuple[dict[str, str], int]:
        """The state of each part, and the exit code."""
        done = self.watch("--mx", domain, "--port", str(port or self.live), *self.at_https(), *arguments)
        assert not done.stderr
        parts = [line.split(": ")[1].split(" ", 1) for line in done.stdout.splitlines()]
        return dict(parts), done.returncode


def _listener(folder: Path, name: str, certificate: tuple[PrivateKeyTypes, bytes]) -> Listener:
    key = certificate[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(key + to_pem(certificate[1]) + to_pem(ROOT[1]))
    path.chmod(0o600)
    return Listener(options={"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(path)})


class Handler(BaseHTTPRequestHandler):
    """The policy of the host that is asked for."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        domain = self.headers["Host"].partition(":")[0].removeprefix("mta-sts.")
        status, fields = MX_OF_POLICY[domain]
        octets = f"version: STSv1\r\n{fields}\r\nmax_age: 86400\r\n".encode()
        self.send_response(status if self.path == "/.well-known/mta-sts.txt" else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Location", f"https://{LOOPBACK}{self.path}")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)


@contextmanager
def _web(pair: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _zones(dns: DNSLab, ports: list[int]) -> None:
    published = {
        "right.test": [tlsa(3, LIVE[1])],
        "wrong.test": [tlsa(3, OTHER[1])],
        "next.test": [tlsa(3, LIVE[1]), tlsa(3, OTHER[1])],
        "anchor.test": [tlsa(2, ROOT[1])],
        "unsigned.test": [tlsa(3, LIVE[1])],
    }
    for domain in DOMAINS:
        zone = dns.zone(domain, Kind.INSECURE if domain in ("unsigned.test", "plain.test") else Kind.SECURE)
        zone.add(f"{domain}.", "MX", f"10 mx.{domain}.").add(f"mx.{domain}.", "A", LOOPBACK)
        for port in ports:
            for raw in published.get(domain, []):
                zone.add(f"_{port}._tcp.mx.{domain}.", "TLSA", raw)
    for domain in OF_POLICY:
        zone = dns.zone(domain).add(f"{domain}.", "MX", f"10 mx.{domain}.").add(f"mx.{domain}.", "A", LOOPBACK)
        zone.add(f"_mta-sts.{domain}.", "TXT", '"v=STSv1; id=20261129"' if domain != "noid.test" else '"v=STSv1;"')
        if domain != "noweb.test":
            zone.add(f"mta-sts.{domain}.", "A", LOOPBACK if domain != "closed.test" else "127.0.0.77")
    for domain, end in ALIASES.items():
        zone = dns.zone(domain).add(f"{domain}.", "MX", f"10 mx.{domain}.").add(f"mx.{domain}.", "CNAME", f"{end}.")
        if domain in ("own.test", "leaves.test"):
            zone.add(f"_{ports[0]}._tcp.mx.{domain}.", "TLSA", tlsa(3, LIVE[1]))
    dns.zone("null.test").add("null.test.", "MX", "0 .")
    dns.zone("dead.test", Kind.DEAD)
    dns.zone("gone.test").add("gone.test.", "MX", "10 mx.gone.test.")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require_servers("nsd", "unbound", "ldns-signzone", "postfix")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        place = Path(name)
        place.chmod(0o755)
        listeners = [_listener(place, "live", LIVE), _listener(place, "expired", OLD), Listener()]
        ports = [one.port for one in listeners]
        dns = DNSLab(place / "dns")
        _zones(dns, ports)
        (place / "postfix").mkdir()
        config = place / "smilla.toml"
        ca_file = place / "ca.pem"
        ca_file.write_bytes(to_pem(ROOT[1]))
        with dns, Postfix(place / "postfix", 9, listeners), _web(place / "live.pem") as https_port:
            config.write_text(f'[dns]\nnameservers = ["{dns.resolver}"]\nprobe = "test."\n')
            yield Lab(config, ports[0], ports[1], ports[2], https_port, ca_file)


@pytest.mark.parametrize(
    ("domain", "tlsa_state", "next_state", "code"),
    [
        ("right.test", "ok", "absent", 0),
        ("wrong.test", "mismatch", None, 1),
        ("next.test", "ok", "ok", 0),
        ("anchor.test", "ok", "absent", 0),
        ("none.test", "absent", None, 0),
        ("unsigned.test", "insecure", None, 1),
        ("plain.test", "unsigned", None, 0),
    ],
)
def test_tlsa_records_against_the_live_certificate(
    lab: Lab, domain: str, tlsa_state: str, next_state: str | None, code: int
) -> None:
    found, returned = lab.states(domain)
    assert (found["mx"], found["starttls"], found["certificate"]) == ("ok", "ok", "ok")
    assert (found["tlsa"], found.get("next_key"), returned) == (tlsa_state, next_state, code)


@pytest.mark.parametrize(
    ("domain", "tlsa_state", "code"),
    [
        ("alias.test", "ok", 0),
        ("stale.test", "mismatch", 1),
        ("own.test", "ok", 0),
        ("leaves.test", "ok", 0),
        ("lost.test", "absent", 0),
    ],
)
def test_mx_host_that_is_an_alias_has_the_records_of_its_base_domain(
    lab: Lab, domain: str, tlsa_state: str, code: int
) -> None:
    found, returned = lab.states(domain)
    assert (found["starttls"], found["tlsa"], returned) == ("ok", tlsa_state, code)


def test_line_says_whose_records_they_are(lab: Lab) -> None:
    done = lab.watch("--port", str(lab.live), "--mx", "alias.test", "--mx", "right.test")
    lines = [line for line in done.stdout.splitlines() if ": tlsa ok: " in line]
    assert [": mx.alias.test is an alias of mx.right.test: TLSA 3 1 1 " in line for line in lines] == [True, False]


def test_days_left_of_the_certificate_are_judged(lab: Lab) -> None:
    found, code = lab.states("right.test", 0, "--days", "100")
    assert (found["certificate"], found["tlsa"], code) == ("expiring", "ok", 1)


def test_expired_certificate_is_told_and_an_authority_in_dns_no_longer_vouches_for_it(lab: Lab) -> None:
    found, code = lab.states("anchor.test", lab.expired)
    assert (found["certificate"], found["tlsa"], code) == ("expired", "mismatch", 1)


def test_server_without_starttls_is_told(lab: Lab) -> None:
    found, code = lab.states("right.test", lab.no_tls)
    assert (found["starttls"], code) == ("missing", 1)
    assert "tlsa" not in found


def test_domain_without_mail_or_without_an_answer(lab: Lab) -> None:
    assert lab.states("null.test") == ({"mx": "absent", "mta_sts": "absent"}, 0)
    assert lab.states("gone.test") == ({"mx": "ok", "mta_sts": "absent", "address": "missing"}, 1)
    # unbound answers SERVFAIL both for a forged zone and for one that nobody serves.
    found, code = lab.states("dead.test")
    assert set(found.values()) <= {"unreachable", "bogus"}
    assert code == (1 if "bogus" in found.values() else 75)


def test_server_that_cannot_be_reached_is_no_verdict(lab: Lab) -> None:
    assert lab.states("right.test", 1) == ({"mx": "ok", "mta_sts": "absent", "starttls": "unreachable"}, 75)


def test_quiet_prints_only_what_needs_doing(lab: Lab) -> None:
    done = lab.watch("--quiet", "--port", str(lab.live), "--mx", "right.test", "--mx", "wrong.test")
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"mx.wrong.test[{LOOPBACK}]: tlsa mismatch: ")


@pytest.mark.parametrize(
    ("domain", "policy_state", "certificate_state", "code"),
    [
        ("sts.test", "ok", "ok", 0),
        ("testing.test", "ok", "ok", 0),
        ("other.test", "mismatch", "ok", 1),
        ("none-mode.test", "ok", None, 0),
        ("moved.test", "unusable", None, 1),
        ("garbage.test", "unusable", None, 1),
        ("badname.test", "unusable", None, 1),
        ("noid.test", "unusable", None, 1),
        ("noweb.test", "unusable", None, 1),
        ("closed.test", "unreachable", None, 75),
        ("foreign.test", "ok", "untrusted", 1),
    ],
)
def test_mta_sts_policy_against_the_servers(
    lab: Lab, domain: str, policy_state: str, certificate_state: str | None, code: int
) -> None:
    found, returned = lab.states(domain)
    assert (found["mta_sts"], found.get("mta_sts_certificate"), returned) == (policy_state, certificate_state, code)


def test_policy_and_server_need_a_certificate_of_an_authority_that_is_known(lab: Lab, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(to_pem(make_certificate("p256", common_name="Foreign", ca=True, number=905)[1]))
    assert lab.states("sts.test", 0, "--ca-file", str(foreign))[0]["mta_sts"] == "unusable"


def test_expired_certificate_is_untrusted_by_a_sender_with_the_policy(lab: Lab) -> None:
    found, code = lab.states("sts.test", lab.expired)
    assert (found["mta_sts"], found["mta_sts_certificate"], code) == ("ok", "untrusted", 1)


def test_json_has_every_finding_with_the_records_of_the_next_key_in_full(lab: Lab) -> None:
    done = lab.watch("--json", "--port", str(lab.live), "--mx", "next.test")
    found = {one["part"]: one for one in json.loads(done.stdout)}
    following = tlsa(3, OTHER[1])[3:].hex()
    assert found["next_key"]["records"] == [f"3 1 1 {following}"]
    assert len(found["tlsa"]["records"]) == 2
    assert found["tlsa"]["subject"] == f"mx.next.test[{LOOPBACK}]"
    assert found["certificate"]["ends_at"] == TO.replace(microsecond=0).isoformat()
    assert set(found["mx"]) == {"domain", "subject", "part", "state", "text", "ends_at", "records"}


def test_metrics_count_and_name_nobody(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "mx.prom"
    line = ["--metrics", str(path), "--port", str(lab.live), *lab.at_https(), "--mx", "wrong.test", "--mx", "sts.test"]
    assert lab.watch("--quiet", *line).returncode == 1
    families = {one.name: one for one in text_string_to_metric_families(path.read_text())}
    counts = {(s.labels["part"], s.labels["state"]): s.value for s in families["smilla_watch_mx_findings"].samples}
    assert counts["tlsa", "mismatch"] == counts["mta_sts", "ok"] == counts["mta_sts", "absent"] == 1
    assert counts["certificate", "ok"] == 2
    (end,) = families["smilla_watch_mx_certificate_end_timestamp_seconds"].samples
    assert end.value == int(TO.timestamp())
    assert ".test" not in path.read_text()


def test_metrics_without_a_certificate_have_no_end(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "mx.prom"
    assert lab.watch("--metrics", str(path), "--mx", "null.test").returncode == 0
    families = {one.name: one.samples for one in text_string_to_metric_families(path.read_text())}
    assert families["smilla_watch_mx_certificate_end_timestamp_seconds"] == []


def test_wrong_arguments_are_told(lab: Lab, tmp_path: Path) -> None:
    nowhere = ["--ca-file", str(tmp_path / "none")]
    for wrong in (["--port", "0"], ["--https-port", "65536"], ["a@r.test"], ["-f", "-"], nowhere):
        done = lab.watch("--mx", "right.test", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
    assert lab.watch("--mx", "right.test", "--mail", "nobody").returncode == 2


def test_domains_of_the_configuration_are_looked_at_if_none_is_named(lab: Lab, tmp_path: Path) -> None:
    done = lab.watch("--mx")
    assert (done.returncode, done.stdout) == (2, "")
    assert "local_domains names no domain" in done.stderr
    config = tmp_path / "smilla.toml"
    config.write_text(f'local_domains = ["null.test", "*.none.test", "none.test"]\n{lab.config.read_text()}')
    done = replace(lab, config=config).watch("--json", "--port", str(lab.live), "--mx")
    assert [one["domain"] for one in json.loads(done.stdout) if one["part"] == "mx"] == ["null.test", "none.test"]
    assert done.returncode == 0


def test_service_looks_at_the_domains_of_the_configuration_and_is_skipped_without_any(lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "smilla.toml"
    lines = dict(line.partition("=")[::2] for line in UNIT.read_text("utf-8").splitlines() if line.startswith("Exec"))
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    codes = {}
    for domains in ('["null.test"]', '["gone.test", "*.none.test"]', "[]", "7"):
        config.write_text(f"local_domains = {domains}\n{lab.config.read_text()}")
        for name, line in lines.items():
            command = shlex.split(line.replace("/etc/smilla/smilla.toml", str(config)))
            codes[domains, name] = subprocess.run(command, env=path, check=False, capture_output=True).returncode
    # A condition of 1 to 254 skips the service, which then has not failed (systemd.service(5)).
    assert [codes[domains, "ExecCondition"] for domains in ('["null.test"]', "[]", "7")] == [0, 1, 0]
    assert [codes[domains, "ExecStart"] for domains in ('["null.test"]', '["gone.test", "*.none.test"]', "7")] == [
        0,
        1,
        78,
    ]


def test_deploy_hook_exits_as_what_senders_meet(lab: Lab, tmp_path: Path) -> None:
    """dig says that nothing is published, so the hook goes on; wrong.test has a record, of another certificate."""
    (tmp_path / "dig").write_text("#!/bin/sh\necho ';; ->>HEADER<<- opcode: QUERY, status: NXDOMAIN, id: 1'\n")
    (tmp_path / "dig").chmod(0o755)
    for name in ("cert", "fullchain", "privkey"):
        (tmp_path / f"{name}.pem").write_bytes(to_pem(LIVE[1]))
    watch = f"{sys.executable} -m smilla watch --config {lab.config} --quiet --json --days 0"
    given = {"RENEWED_LINEAGE": str(tmp_path), "RELOAD": "true", "LIVE": str(tmp_path / "live"), "WATCH": watch}
    for domain, code in (("right.test", 0), ("wrong.test", 1)):
        more = {"RENEWED_DOMAINS": f"mx.{domain}", "WATCH_DOMAINS": domain, "PORT": str(lab.live)}
        environment = {**os.environ, **given, **more, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", HOOK], env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ('"state": "mismatch"' in done.stderr) is bool(code)


def test_mail_tells_once_what_is_to_be_done_and_once_that_all_is_well(lab: Lab, tmp_path: Path) -> None:
    mail = ["--quiet", "--mail", "root@right.test", "--state", str(tmp_path / "state.json")]
    with Sink() as sink:
        mail += ["--smtp", f"{LOOPBACK}:{sink.port}"]
        sent = []
        for domain, days in (("right", 9), ("wrong", 9), ("wrong", 10), ("right", 9), ("right", 9)):
            done = lab.watch("--port", str(lab.live), *mail, "--days", str(days), "--mx", f"{domain}.test")
            assert done.returncode == (1 if domain == "wrong" else 0), done.stderr
            sent.append(len(sink.messages))
    assert sent == [0, 1, 1, 2, 2]
    assert b"Subject: smilla watch --mx: 1 to look at" in sink.messages[0].raw_header
    assert f"mx.wrong.test[{LOOPBACK}]: tlsa mismatch: ".encode() in sink.messages[0].raw
    assert b"all is well again" in sink.messages[1].raw_header


def test_mail_that_nobody_takes_makes_the_exit_code_temporary(lab: Lab, tmp_path: Path) -> None:
    mail = ["--mail", "root@right.test", "--state", str(tmp_path / "state.json"), "--smtp", f"{LOOPBACK}:1"]
    assert lab.watch("--port", str(lab.live), *mail, "--mx", "wrong.test").returncode == 75
