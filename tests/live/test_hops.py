"""A verified hop: what smilla finds out about a domain, what it tells a real Postfix, and what Postfix makes of it.

smilla hop, smilla policyd, smilla milter -> unbound -> nsd; -> a web server with policies of MTA-STS
Postfix -> smilla (socketmap) -> Postfix of each domain, with TLS
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.formats import netstring
from tests.lab.client import send_mail
from tests.lab.hops import HopLab
from tests.lab.postfix import Listener, Postfix, log_lines_of, queue_id
from tests.lab.processes import Child, session_members, wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment, require_servers
from tests.lab.smilla import Smilla, to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's master insists on root"),
]
MESSAGE = b"From: a@home.test\r\nSubject: x\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[HopLab]:
    require_servers("nsd", "unbound", "ldns-signzone", "postfix")
    with tempfile.TemporaryDirectory(prefix="smilla-") as name:
        Path(name).chmod(0o755)
        with HopLab(Path(name) / "lab") as found:
            yield found


def settings(lab: HopLab, place: Path, **hop: Any) -> dict[str, Any]:
    return {
        "dns": {"nameservers": [lab.dns.resolver], "probe": "test."},
        "reinject": {"spool": str(place / "spool")},
        "hop": {
            "ca_file": str(lab.ca_file),
            "socket": f"unix:{place}/tls.sock",
            "socket_mode": "0666",
            **hop,
        },
        "circle": [
            {
                "name": "ours",
                "domains": ["inside.test", "intruder.test"],
                "ca_file": str(lab.circle_file),
                "match": [".inside.test"],
            }
        ],
    }


def write(place: Path, table: dict[str, Any]) -> Path:
    path = place / "smilla.toml"
    path.write_text(to_toml(table))
    return path


@contextmanager
def policyd(lab: HopLab, place: Path, **hop: Any) -> Iterator[Child]:
    """smilla policyd with a configuration in ``place``; its socket is tls.sock there."""
    place.mkdir(exist_ok=True)
    path = write(place, settings(lab, place, **hop))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    child = Child(
        "policyd",
        [sys.executable, "-m", "smilla", "policyd", "--config", path],
        place / "log",
        environment=environment,
        folder=place,
        stop_timeout_s=35,  # killed, it would leave its socket behind
    )
    child.start(ready=(place / "tls.sock").exists)
    try:
        yield child
    finally:
        child.stop()


class Asking:
    """A connection to the socketmap server, as Postfix has it."""

    def __init__(self, place: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(place / "tls.sock"))
        self._reader = netstring.Reader()

    def send(self, request: str) -> None:
        self.socket.sendall(netstring.written(request.encode()))

    def read(self) -> str:
        while (found := self._reader.next()) is None:
            if not (raw := self.socket.recv(65536)):
                raise EOFError("the server closed first")
            self._reader.feed(raw)
        return found.decode()

    def ask(self, request: str) -> str:
        self.send(request)
        return self.read()


def ask(place: Path, request: str) -> str:
    connection = Asking(place)
    try:
        return connection.ask(request)
    finally:
        connection.socket.close()


@pytest.fixture(scope="module")
def server(lab: HopLab) -> Iterator[Path]:
    place = lab.folder / "policyd"
    with policyd(lab, place):
        yield place


SITUATIONS = [
    ("dane.test", "OK dane-only", "OK dane-only"),
    ("rolling.test", "OK dane-only", "OK dane-only"),
    ("wrongkey.test", "OK dane-only", "OK dane-only"),
    ("alias.test", "OK dane-only", "OK dane-only"),
    ("nomx.test", "OK dane-only", "OK dane-only"),
    ("both.test", "OK dane-only", "OK dane-only"),
    ("wrongusage.test", "TEMP unusable_tlsa", "OK dane"),
    ("unsignedmx.test", "TEMP no_secure_hop", "NOTFOUND"),
    ("away.test", "TEMP tlsa_", "TEMP tlsa_"),
    ("plain.test", "TEMP no_secure_hop", "NOTFOUND"),
    ("null.test", "TEMP null_mx", "NOTFOUND"),
    ("dead.test", "TEMP mx_", "TEMP mx_"),
    ("sts.test", "OK secure match=mx.sts.test servername=hostname", "OK secure match=mx.sts.test servername=hostname"),
    ("testing.test", "TEMP mta_sts_testing", "NOTFOUND"),
    ("other.test", "TEMP mta_sts_mismatch", "TEMP mta_sts_mismatch"),
    ("moved.test", "TEMP mta_sts_unclear", "TEMP mta_sts_unclear"),
    ("garbage.test", "TEMP mta_sts_unclear", "TEMP mta_sts_unclear"),
    ("closed.test", "TEMP mta_sts_unreachable", "TEMP mta_sts_unreachable"),
    ("inside.test", "OK secure match=.inside.test tafile=", "OK secure match=.inside.test tafile="),
]


@pytest.mark.parametrize(("domain", "secure", "policy"), SITUATIONS)
def test_situation_has_its_answer(server: Path, domain: str, secure: str, policy: str) -> None:
    assert ask(server, f"secure {domain}").startswith(secure)
    assert ask(server, f"policy {domain}").startswith(policy)


@pytest.mark.parametrize("key", [".dane.test", "[dane.test]", "[dane.test]:587", "[192.0.2.1]"])
def test_next_hop_that_is_no_domain_is_left_to_postfix(server: Path, key: str) -> None:
    assert ask(server, f"secure {key}") == ask(server, f"policy {key}") == "NOTFOUND "


def postmap(lab: HopLab, place: Path, name: str, key: str) -> subprocess.CompletedProcess[str]:
    program = find_program("postmap")
    environment = program_environment(program) | {"MAIL_CONFIG": str(lab.received.folder / "etc")}
    command = [str(program), "-q", key, f"socketmap:unix:{place}/tls.sock:{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_postmap_understands_every_kind_of_answer(lab: HopLab, server: Path) -> None:
    assert postmap(lab, server, "secure", "dane.test").stdout == "dane-only\n"
    assert postmap(lab, server, "policy", "sts.test").stdout == "secure match=mx.sts.test servername=hostname\n"
    nothing = postmap(lab, server, "policy", "plain.test")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "")
    for name, key in (("secure", "plain.test"), ("other", "dane.test")):
        failed = postmap(lab, server, name, key)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "socketmap" in failed.stderr


class Sender:
    """Postfix with a listener for each map; all mail goes through a transport that asks it."""

    def __init__(self, lab: HopLab, place: Path, sock: Path) -> None:
        place.mkdir()
        maps = {name: f"socketmap:unix:{sock}:{name}" for name in ("secure", "policy")}
        self.listeners = {name: Listener(options={"content_filter": f"{name}-out:"}) for name in maps}
        parameters = {
            "relayhost": "",
            "smtp_host_lookup": "dns",
            "smtp_dns_support_level": "dnssec",
            "smtp_tls_CAfile": str(lab.ca_file),
            "smtp_tls_loglevel": "1",
            "minimal_backoff_time": "300s",
            "maximal_backoff_time": "300s",
            "queue_run_delay": "300s",
        }
        self.postfix = Postfix(place, 9, list(self.listeners.values()), parameters)
        self.postfix.before = lab.with_nameserver()
        levels = {"secure": "dane-only", "policy": "may"}
        self.postfix.transports = {
            f"{name}-out": {"smtp_tls_policy_maps": table, "smtp_tls_security_level": levels[name]}
            for name, table in maps.items()
        }

    def delivers(self, name: str, domain: str) -> tuple[str, str]:
        """The status, and the log lines about one message to the domain and its connection."""
        reply = send_mail(self.listeners[name].port, "a@home.test", [f"b@{domain}"], MESSAGE)
        number = queue_id(str(reply))
        assert number, reply
        pattern = rf"{number}: .*\bstatus=(\w+)"
        assert wait_until(lambda: re.search(pattern, self.postfix.log) is not None, 60), self.postfix.log[-3000:]
        lines = log_lines_of(self.postfix.log, number)
        return re.findall(pattern, "\n".join(lines))[-1], "\n".join(lines)


@pytest.fixture(scope="module")
def sender(lab: HopLab, server: Path) -> Iterator[Sender]:
    found = Sender(lab, lab.folder / "sender", server / "tls.sock")
    with found.postfix:
        yield found


@pytest.mark.parametrize(
    ("name", "domain", "status"),
    [
        ("secure", "dane.test", "sent"),
        ("secure", "rolling.test", "sent"),
        ("secure", "both.test", "sent"),
        ("secure", "nomx.test", "sent"),
        ("secure", "sts.test", "sent"),
        ("secure", "inside.test", "sent"),
        ("secure", "wrongkey.test", "deferred"),
        ("secure", "wrongusage.test", "deferred"),
        ("secure", "plain.test", "deferred"),
        ("secure", "testing.test", "deferred"),
        ("secure", "other.test", "deferred"),
        ("secure", "closed.test", "deferred"),
        ("secure", "intruder.test", "deferred"),  # a good certificate, and of no authority of the circle
        ("policy", "dane.test", "sent"),
        ("policy", "sts.test", "sent"),
        ("policy", "plain.test", "sent"),
        ("policy", "testing.test", "sent"),
        ("policy", "wrongusage.test", "sent"),
        ("policy", "wrongkey.test", "deferred"),
        ("policy", "other.test", "deferred"),
        ("policy", "closed.test", "deferred"),
        ("policy", "intruder.test", "deferred"),
    ],
)
def test_postfix_delivers_where_the_answer_lets_it(sender: Sender, name: str, domain: str, status: str) -> None:
    found, lines = sender.delivers(name, domain)
    assert found == status, lines


def test_connection_that_is_enforced_is_verified_in_postfixs_own_words(sender: Sender) -> None:
    for domain in ("dane.test", "sts.test", "inside.test"):
        sender.delivers("secure", domain)
        host = re.escape(f"mx.{domain}")
        assert re.search(rf"Verified TLS connection established to {host}", sender.postfix.log), domain


def hop(lab: HopLab, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smilla", "hop", "--config", str(place / "smilla.toml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_command_shows_the_hop_with_its_steps(lab: HopLab, server: Path) -> None:
    done = hop(lab, server, "b@dane.test")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "dane.test: verified by dane; dane: TLSA records of mx.dane.test"
    assert lines[-2:] == ["  Postfix, map secure: OK dane-only", "  Postfix, map policy: OK dane-only"]
    assert any("TLSA of mx.dane.test: 3 1 1 " in line for line in lines)


@pytest.mark.parametrize(
    ("domains", "code"),
    [
        (["dane.test", "sts.test", "inside.test"], 0),
        (["dane.test", "plain.test"], 1),
        (["dane.test", "closed.test"], 75),
        (["closed.test", "plain.test"], 1),
        (["a@b@c"], 2),
    ],
)
def test_command_has_an_exit_code_for_scripts(lab: HopLab, server: Path, domains: list[str], code: int) -> None:
    assert hop(lab, server, *domains).returncode == code


def test_command_gives_json(lab: HopLab, server: Path) -> None:
    [found] = json.loads(hop(lab, server, "--json", "sts.test").stdout)
    assert found["verdict"] == "verified"
    assert (found["way"], found["mode"], found["policy_id"]) == ("mta-sts", "enforce", "1")
    assert found["names"] == ["mx.sts.test"]
    assert found["postfix"]["policy"] == "OK secure match=mx.sts.test servername=hostname"


def test_slow_domain_delays_nobody_else_on_two_hundred_connections(server: Path) -> None:
    slow = [Asking(server) for _ in range(100)]
    quick = [Asking(server) for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.send(f"secure d{number % 50}.silent.test" if number else "secure silent.test")
        answers = [connection.ask("secure dane.test") for connection in quick]
        assert set(answers) == {"OK dane-only"}
        slow[0].socket.setblocking(False)
        with pytest.raises(BlockingIOError):  # it waits still, and nobody has waited for it
            slow[0].socket.recv(1)
        slow[0].socket.settimeout(60)
        assert slow[0].read().startswith("TEMP mx_unreachable")
    finally:
        for connection in (*slow, *quick):
            connection.socket.close()


def test_server_does_not_close_a_connection_that_is_idle_for_longer_than_postfix_keeps_it(server: Path) -> None:
    connection = Asking(server)
    assert connection.ask("secure dane.test") == "OK dane-only"
    connection.socket.settimeout(11)
    with pytest.raises(TimeoutError):
        connection.socket.recv(1)
    connection.socket.settimeout(60)
    assert connection.ask("secure sts.test").startswith("OK secure")
    connection.socket.close()


def test_several_requests_at_once_are_answered_in_their_order(server: Path) -> None:
    connection = Asking(server)
    for domain in ("dane.test", "plain.test", ".x.test"):
        connection.send(f"secure {domain}")
    assert [connection.read().split(" ")[0] for _ in range(3)] == ["OK", "TEMP", "NOTFOUND"]
    connection.socket.close()


def test_what_is_no_netstring_ends_the_connection_and_harms_no_other(server: Path) -> None:
    connection = Asking(server)
    connection.socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert connection.socket.recv(100) == b""
    assert ask(server, "secure dane.test") == "OK dane-only"


def test_restart_is_no_downgrade(lab: HopLab) -> None:
    place = lab.folder / "restart"
    with policyd(lab, place):
        assert ask(place, "policy sts.test").startswith("OK secure")
    lab.policies.pop("sts.test")  # the web server now gives no policy, and the record has another id
    zone = lab.dns.zones["sts.test"]
    before = list(zone.records)
    zone.records[:] = [(o, t, d.replace("id=1", "id=2") if t == "TXT" else d) for o, t, d in before]
    lab.dns.reload()
    asked = len(lab.requests)
    try:
        with policyd(lab, place) as child:
            assert ask(place, "policy sts.test").startswith("OK secure match=mx.sts.test")
            assert len(lab.requests) == asked + 1
            assert " sts-policy-failed domain=sts.test " in child.log_tail()
        zone.records[:] = [record for record in before if record[1] != "TXT"]  # then somebody withholds the record
        lab.dns.reload()
        with policyd(lab, place):
            assert ask(place, "policy sts.test").startswith("OK secure match=mx.sts.test")
    finally:
        lab.policies["sts.test"] = "mode: enforce\r\nmx: *.sts.test"
        zone.records[:] = before
        lab.dns.reload()


def test_first_contact_without_the_web_server_is_no_absence(lab: HopLab) -> None:
    place = lab.folder / "opportunistic"
    with policyd(lab, place, unknown="opportunistic"):
        assert ask(place, "policy closed.test") == "NOTFOUND "
        assert ask(place, "secure closed.test").startswith("TEMP mta_sts_unreachable")


def test_reload_takes_a_configuration_as_a_whole_or_not_at_all(lab: HopLab) -> None:
    place = lab.folder / "reload"
    with policyd(lab, place) as child:
        assert ask(place, "policy testing.test") == "NOTFOUND "
        write(place, settings(lab, place, mta_sts="testing"))
        child.signal(signal.SIGHUP)
        assert wait_until(lambda: " reloaded" in child.log_tail(), 30)
        wanted = "OK secure match=mx.testing.test"
        assert wait_until(lambda: ask(place, "policy testing.test").startswith(wanted), 30)
        write(place, settings(lab, place, mta_sts="perhaps"))
        child.signal(signal.SIGHUP)
        assert wait_until(lambda: " reload-failed " in child.log_tail(), 30)
        assert ask(place, "policy testing.test").startswith(wanted)
        child.stop()
        assert not (place / "tls.sock").exists()


def test_attributes_of_the_policy_are_given_where_the_option_says_so(lab: HopLab) -> None:
    place = lab.folder / "attributes"
    with policyd(lab, place, attributes=True):
        answer = ask(place, "policy sts.test")
    assert answer.startswith("OK secure match=mx.sts.test servername=hostname policy_type=sts policy_domain=sts.test ")
    assert " mx_host_pattern=*.sts.test " in answer
    assert answer.endswith("{ policy_string = max_age: 86400 }")


def test_attributes_are_taken_by_postfix_3_10_and_hold_mail_with_an_older_one(lab: HopLab) -> None:
    place = lab.folder / "tlsrpt"
    with policyd(lab, place, attributes=True):
        found = Sender(lab, lab.folder / "tlsrpt-sender", place / "tls.sock")
        with found.postfix:
            status, lines = found.delivers("policy", "sts.test")
            assert status == ("sent" if found.postfix.version >= (3, 10) else "deferred"), lines
            assert found.delivers("policy", "dane.test")[0] == "sent"


def test_authorities_in_a_file_of_any_name_that_the_configuration_takes_are_read_by_postfix(lab: HopLab) -> None:
    place, usual = lab.folder / "odd-name", lab.circle_file
    lab.circle_file = lab.folder / 'it\'s=a:$file(of)%40"odd"|name;\\x.pem'
    lab.circle_file.write_bytes(usual.read_bytes())
    try:
        with policyd(lab, place):
            found = Sender(lab, lab.folder / "odd-sender", place / "tls.sock")
            with found.postfix:
                assert found.delivers("secure", "inside.test")[0] == "sent"
                assert found.delivers("secure", "intruder.test")[0] == "deferred"
    finally:
        lab.circle_file = usual


ODD_KEYS = (
    b"",
    b" ",
    b"\0",
    b".",
    b"..",
    b"*.dane.test",
    b"dane.test\n",
    b"dane.test\0.evil.test",
    b"\xff\xfe.test",
    b"[dane.test]:587",
    b"[IPv6:::1]",
    b"dane.test:25",
    b"-dane.test",
    b"a" * 64 + b".test",
    b"a." * 126 + b"test",
    b"x" * 90_000,
)


def test_odd_questions_in_a_row_have_one_answer_each_and_none_says_less_than_the_level_of_the_transport(
    server: Path,
) -> None:
    connection = Asking(server)
    for key in ODD_KEYS:
        connection.socket.sendall(netstring.written(b"secure " + key))
    for key in ODD_KEYS:
        assert connection.read().partition(" ")[0] in ("NOTFOUND", "TEMP") or key == b"dane.test\n", key
    for name, answer in {
        "DANE.test.": "OK dane-only",
        "xn--bcher-kva.test": "TEMP",
        "b\u00fccher.test": "TEMP",
    }.items():
        assert connection.ask(f"secure {name}").startswith(answer), name
    connection.socket.close()


@pytest.mark.parametrize("raw", [b"100001:", b"0000005:secur,", b"-1:,", b"5:secure,", b"\x16\x03\x01\x02\x00"])
def test_netstring_that_is_none_ends_its_own_connection_alone(server: Path, raw: bytes) -> None:
    bystander, connection = Asking(server), Asking(server)
    connection.socket.sendall(raw)
    assert connection.socket.recv(100) == b""
    assert bystander.ask("secure dane.test") == "OK dane-only"
    for one in (bystander, connection):
        one.socket.close()


def kill_who_serves(held: Asking, smilla: Smilla) -> None:
    """Kills one child after the other until the connection is closed."""
    held.socket.settimeout(1)
    for pid in [pid for pid in session_members(smilla.child.pid) if pid != smilla.child.pid]:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            assert held.socket.recv(1) == b""
            return
    held.socket.settimeout(60)  # who was killed may still have to be told so
    assert held.socket.recv(1) == b"", "nobody held the connection"


def test_filter_answers_in_a_process_of_its_own_which_is_replaced(lab: HopLab) -> None:
    place = lab.folder / "filter"
    table = settings(lab, place, policy_server=True)
    table.pop("dns")
    table.pop("reinject")
    with Smilla(place, lab.dns.resolver, table) as smilla:
        assert ask(place, "policy dane.test") == "OK dane-only"
        assert ask(place, "secure inside.test").startswith("OK secure match=.inside.test")
        held = Asking(place)
        assert held.ask("policy sts.test").startswith("OK secure")
        assert (place / "spool" / "hops.sqlite").stat().st_mode & 0o777 == 0o600
        line = smilla.wait_for_log(r"- hop domain=sts\.test ")
        assert line.endswith("verdict=verified way=mta-sts reason=mta_sts names=mx.sts.test policy_id=1")
        smilla.reload()
        assert ask(place, "policy dane.test") == "OK dane-only"
        kill_who_serves(held, smilla)
        assert ask(place, "policy dane.test") == "OK dane-only"
        held = Asking(place)
        assert held.ask("policy sts.test").startswith("OK secure")
    with pytest.raises(EOFError):
        held.read()
    assert not (place / "tls.sock").exists()


def test_filter_without_any_need_for_it_opens_no_socket(lab: HopLab) -> None:
    place = lab.folder / "without"
    table = settings(lab, place)
    for name in ("dns", "reinject", "circle"):
        table.pop(name)
    with Smilla(place, lab.dns.resolver, table):
        assert not (place / "tls.sock").exists()


def test_socket_that_cannot_be_opened_is_logged_and_the_filter_runs(lab: HopLab) -> None:
    place = lab.folder / "closed"
    table = settings(lab, place, policy_server=True)
    table["hop"]["socket"] = f"unix:{place}/missing/tls.sock"
    for name in ("dns", "reinject"):
        table.pop(name)
    with Smilla(place, lab.dns.resolver, table) as smilla:
        assert "missing: no such folder" in smilla.wait_for_log("- hop-socket-closed ")
