"""The metrics of a running filter: they say what the log says, whoever dies, and no scraper harms anybody."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from smilla.errors import SmillaError
from tests.lab.processes import LOOPBACK, ChildError, free_port, processes_in, session_members, wait_until
from tests.milter.dns_stub import DNSStub, Scripted
from tests.milter.material import CANARY, NOBODY, directory_settings, plain_mail
from tests.milter.scraping import agree, logged, recipients, reporter_of, samples, scraped, snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys


def settings(keys: Keys, port: int, **more: object) -> dict[str, Any]:
    return {**directory_settings(keys, **more), "metrics": {"listen": f"{LOOPBACK}:{port}"}}


def letters(smilla: Smilla, clients: Clients) -> None:
    """One of each fate."""
    client = clients.open(smilla.milter)
    for recipient in ("alice", "bob", "nobody"):
        client.send(plain_mail(to=f"{recipient}@r.test"), [f"<{recipient}@r.test>"])
    client.send(plain_mail(), ["<alice@r.test>", "<bob@r.test>", "<erin@r.test>"])
    client.send(plain_mail(to="not an address"), ["<not an address>"])
    client.close()


def test_a_scrape_says_what_the_log_says_though_a_worker_was_killed(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    port = free_port()
    smilla = start(settings(keys, port, milter={"workers": 2}))
    letters(smilla, clients)
    assert agree(smilla, port)
    before = logged(smilla)
    (victim, *_) = sorted(set(session_members(smilla.child.pid)) - {smilla.child.pid})
    os.kill(victim, signal.SIGKILL)
    smilla.wait_for_log("worker-died")
    assert wait_until(lambda: samples(port)["smilla_worker_deaths_total", ()] == 1, 30)
    assert wait_until(lambda: samples(port)["smilla_workers", ()] == 2, 30)
    assert recipients(port) == before
    letters(smilla, clients)
    assert agree(smilla, port)
    assert sum(logged(smilla).values()) == 2 * sum(before.values()) > 10
    assert {fate[0] for fate in before} >= {"encrypted", "plain", "deferred", "refused"}


def test_messages_are_counted_by_their_reply_and_timed(start: Starter, clients: Clients, keys: Keys) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    letters(smilla, clients)
    assert agree(smilla, port)
    replies = re.findall(r" message .* reply=\"?(\w+)", smilla.log)
    codes = ["250" if code == "accept" else code for code in replies]
    # The times come behind the counts, in a datagram of their own.
    assert wait_until(lambda: samples(port).get(("smilla_message_seconds_count", ())) == len(codes), 30)
    found = samples(port)
    counted = {labels[0]: n for (name, labels), n in found.items() if name == "smilla_messages_total"}
    assert counted == {code: codes.count(code) for code in set(codes)}
    assert found["smilla_encryption_seconds_count", ("smime",)] == 1
    assert found["smilla_encryption_seconds_count", ("openpgp",)] == 1


def test_while_observing_nothing_counts_as_encrypted(start: Starter, clients: Clients, keys: Keys) -> None:
    port = free_port()
    smilla = start({**settings(keys, port), "observe": True})
    letters(smilla, clients)
    would = "smilla_observed_recipients_total"
    assert wait_until(lambda: sum(recipients(port, would).values()) == 7, 30)
    assert recipients(port) == {}
    assert wait_until(lambda: samples(port)["smilla_observing", ()] == 1, 30)  # the parent tells it
    assert {labels for name, labels in samples(port) if name == "smilla_messages_total"} == {("250",)}


def test_questions_to_dns_the_cache_and_the_proof_are_counted(
    start: Starter, clients: Clients, keys: Keys, stub: DNSStub
) -> None:
    port = free_port()
    stub.default = Scripted(zone="r.test.")
    smilla = start({**settings(keys, port), "keys": {"sources": ["smimea"]}}, resolver=stub.address)
    client = clients.open(smilla.milter)
    for _ in range(2):
        assert client.send(plain_mail(to="x@r.test"), ["<x@r.test>"]).verdict == "accept"
    assert agree(smilla, port)
    assert wait_until(lambda: samples(port).get(("smilla_resolver_proven", ())) == 1, 30)
    assert wait_until(lambda: ("smilla_lookup_seconds_count", ("secure",)) in samples(port), 30)
    found = samples(port)
    assert found["smilla_cache_requests_total", ("miss",)] == found["smilla_cache_requests_total", ("hit",)] == 1
    assert found["smilla_lookup_seconds_count", ("secure",)] == 1
    assert found["smilla_cache_entries", ()] == 1
    assert found["smilla_cache_bytes", ()] > 0


def test_a_resolver_that_proves_nothing_is_0(start: Starter, keys: Keys) -> None:
    port = free_port()
    start({**settings(keys, port), "keys": {"sources": ["smimea"]}}, resolver=NOBODY)
    assert wait_until(lambda: samples(port).get(("smilla_resolver_proven", ())) == 0, 30)


def test_reloads_are_counted_whether_they_are_taken_or_not(start: Starter, keys: Keys) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    smilla.reload()
    good = smilla.config.read_text()
    smilla.config.write_text("nonsense = 1\n")
    smilla.reload()
    result = "smilla_config_last_reload_successful"
    assert wait_until(lambda: samples(port)[result, ()] == 0, 30)
    assert samples(port)["smilla_config_reloads_total", ("failed",)] == 1
    smilla.config.write_text(good)
    smilla.reload()
    assert wait_until(lambda: samples(port)[result, ()] == 1, 30)
    assert samples(port)["smilla_config_reloads_total", ("ok",)] == 2


def test_neither_addresses_nor_domains_nor_mail_reach_whoever_scrapes(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    letters(smilla, clients)
    assert agree(smilla, port)
    for raw in (scraped(port)[0], snapshot(smilla).to_json().encode()):
        for word in (b"r.test", b"s.test", b"alice", b"nobody", b"sender", CANARY):
            assert word not in raw


def test_the_form_is_that_which_the_scraper_asks_for(start: Starter, keys: Keys) -> None:
    port = free_port()
    start(settings(keys, port))
    raw, kind = scraped(port, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert raw.endswith(b"# EOF\n")
    assert scraped(port)[1].startswith("text/plain")


def test_scrapers_that_say_nothing_hold_up_neither_mail_nor_smilla_status(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    silent = [socket.create_connection((LOOPBACK, port)) for _ in range(12)]
    try:
        letters(smilla, clients)
        assert wait_until(lambda: sum(n for _, n in snapshot(smilla).replies) == 5, 30)
        # Each is cut off in its time; then others have their turn.
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b""
        assert agree(smilla, port, 60)
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    ("request_", "begins"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 "),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 404 "),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 404 "),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.0 501 "),
        (b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", b""),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"HTTP/1.0 431 "),
        (b"G" * 20000, b""),
    ],
)
def test_whatever_is_asked_has_a_short_answer_and_the_next_one_is_served(
    listening: tuple[Smilla, int], request_: bytes, begins: bytes
) -> None:
    smilla, port = listening
    with socket.create_connection((LOOPBACK, port), 20) as connection:
        connection.sendall(request_)
        answer = b""
        try:
            while block := connection.recv(65536):
                answer += block
        except ConnectionResetError:
            pass  # it had not read all that was sent
    assert answer.startswith(begins)
    assert wait_until(lambda: samples(port)["smilla_workers", ()] == 1, 30)
    assert "internal-error" not in smilla.log


@pytest.fixture(scope="module")
def listening(start_once: Starter, keys: Keys) -> tuple[Smilla, int]:
    """A filter that is asked in many ways."""
    port = free_port()
    return start_once(settings(keys, port)), port


def test_a_reporter_that_dies_harms_no_mail_and_another_begins_at_0(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    letters(smilla, clients)
    assert agree(smilla, port)
    os.kill(reporter_of(smilla), signal.SIGKILL)
    client = clients.open(smilla.milter)
    assert client.send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"
    smilla.wait_for_log("reporter-died")
    assert wait_until(lambda: sum(recipients(port).values()) == 1, 30)
    assert wait_until(lambda: samples(port)["smilla_workers", ()] == 1, 30)
    assert samples(port)["smilla_worker_deaths_total", ()] == 0


def test_a_reporter_that_is_stopped_holds_up_nobody(start: Starter, clients: Clients, keys: Keys) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    reporter = reporter_of(smilla)
    os.kill(reporter, signal.SIGSTOP)
    for _ in range(3):
        letters(smilla, clients)
        smilla.reload()
    os.kill(reporter, signal.SIGCONT)
    assert agree(smilla, port)
    assert wait_until(lambda: samples(port)["smilla_config_reloads_total", ("ok",)] == 3, 30)


def test_a_parent_that_is_killed_leaves_no_reporter(start: Starter, keys: Keys) -> None:
    smilla = start(settings(keys, free_port()))
    os.kill(smilla.child.pid, signal.SIGKILL)
    assert wait_until(lambda: processes_in(smilla.folder) == [], 60)


def test_a_filter_that_was_killed_and_starts_again_at_once_can_be_asked(start: Starter, keys: Keys) -> None:
    port = free_port()
    smilla = start(settings(keys, port))
    reporter, before = reporter_of(smilla), smilla.socket.stat().st_ino
    os.kill(reporter, signal.SIGSTOP)  # so that it still listens when the next filter begins
    os.kill(smilla.child.pid, signal.SIGKILL)
    smilla.stop()
    smilla.launch()
    assert wait_until(lambda: smilla.socket.stat().st_ino != before, 60)
    os.kill(reporter, signal.SIGKILL)
    smilla.await_ready()
    assert wait_until(lambda: samples(port)["smilla_workers_wanted", ()] == 1, 30)
    assert "status-closed" not in smilla.log


def test_its_sockets_are_gone_after_the_end_and_theirs_alone_may_ask(start: Starter, keys: Keys) -> None:
    smilla = start(directory_settings(keys))
    path = smilla.folder / "spool" / "status.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    smilla.stop()
    assert not path.exists()
    with pytest.raises(SmillaError, match="nobody answers"):
        snapshot(smilla)


def test_without_a_place_for_the_status_socket_mail_goes_on(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start({**directory_settings(keys), "metrics": {"status": "/nonexistent/status.sock"}})
    assert clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"
    assert "status-closed detail=" in smilla.log


def test_a_port_that_is_taken_is_a_fault_at_the_start(start: Starter, keys: Keys) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(ChildError):
        start(settings(keys, taken.getsockname()[1]))


def test_prometheus_may_be_served_on_a_unix_socket(start: Starter, keys: Keys, folder: Path) -> None:
    place = folder / "unix"
    place.mkdir()
    place.chmod(0o777)
    smilla = start({**directory_settings(keys), "metrics": {"listen": f"unix:{place}/m.sock", "socket_mode": "0666"}})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{place}/m.sock")
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.0 200 ")
    smilla.stop()
    assert list(place.iterdir()) == []
