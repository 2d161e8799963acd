"""The life of the filter: start, reload, the death of a worker, stop; as a service manager and an MTA see it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from smilla.server import systemd
from tests.lab.processes import Child, free_port, port_answers, processes_in, session_members, wait_until
from tests.lab.programs import REPOSITORY
from tests.lab.smilla import to_toml
from tests.milter.client import ProtocolError
from tests.milter.material import directory_settings, edits_of, plain_mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients, Mail, MilterClient
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

    Opened = Callable[[Mail, Mail, str], None]


TRIES = 3  # of what has to be quick; a busy machine may be slow once


def workers_of(smilla: Smilla) -> set[int]:
    """The workers of a filter: children of a process that this test started."""
    return set(session_members(smilla.child.pid)) - {smilla.child.pid}


def ended_within(smilla: Smilla, timeout_s: float) -> float | None:
    """Seconds until the filter and all its children are gone; None where they are not within the time."""
    began_at = time.monotonic()
    pid = smilla.child.pid
    gone = wait_until(lambda: not smilla.child.running and not session_members(pid), timeout_s)
    return time.monotonic() - began_at if gone else None


# --- stop


def test_a_message_in_flight_may_finish_after_sigterm(start: Starter, clients: Clients, opened: Opened) -> None:
    smilla = start()
    client = clients.open(smilla.milter)
    idle = clients.open(smilla.milter)
    mail = plain_mail(b"Content-Type: text/plain")
    client.envelope(["<alice@r.test>"])
    smilla.child.signal(signal.SIGTERM)
    smilla.wait_for_log("stopping signal=SIGTERM")
    assert not wait_until(lambda: not smilla.child.running, 0.3)

    def is_refused() -> bool:
        told = idle.mail("<a@s.test>").reply
        idle.abort()
        return told.startswith("451 4.3.2 ")

    assert wait_until(is_refused, 30)  # the worker hears of it a moment after the parent has logged it
    answer = client.content(mail)
    with contextlib.suppress(ProtocolError, OSError):  # it ends a moment after its last answer
        assert client.mail("<next@s.test>").reply.startswith("451 4.3.2 ")
    assert ended_within(smilla, 20) is not None  # of [milter] stop_timeout_s, which is 30
    opened(answer.applied(mail, postfix=True), mail, "alice")
    smilla.stop()
    assert smilla.child.returncode == 0


def test_an_idle_filter_stops_at_once_with_connections_open(start: Starter, clients: Clients) -> None:
    smilla, took = start(), list[float]()
    for _ in range(TRIES):
        for _ in range(5):
            client = clients.open(smilla.milter)
            client.send(plain_mail(), ["<alice@r.test>"])
            client.mail("<twice@s.test>")
            client.envelope(["<alice@r.test>"])
            client.abort()
        time.sleep(0.1)
        smilla.child.signal(signal.SIGTERM)
        seconds = ended_within(smilla, 60)
        assert seconds is not None
        took.append(seconds)
        smilla.stop()
        assert smilla.child.returncode == 0
        if seconds < 3:
            return
        smilla.start()
    pytest.fail(f"libmilter itself would take up to five seconds, and this took {took}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_ends_it_in_order_and_takes_the_socket_away(
    start: Starter, clients: Clients, number: signal.Signals
) -> None:
    smilla = start()
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    assert smilla.socket.is_socket()
    # Ctrl-C reaches the whole group; the workers leave it to the parent.
    os.killpg(smilla.child.pid, number)
    smilla.wait_for_log(f"stopping signal={number.name}")
    assert client.content(plain_mail()).verdict == "accept"
    assert ended_within(smilla, 20) is not None
    smilla.stop()
    assert smilla.child.returncode == 0
    assert [path.name for path in smilla.folder.iterdir() if path.is_socket()] == ["notify"]
    assert f"stopping signal={number.name}" in smilla.log


def test_a_filter_that_is_ended_as_soon_as_its_socket_is_there_ends_in_order(start: Starter) -> None:
    smilla = start()
    for _ in range(3):
        smilla.stop()
        smilla.launch()
        assert wait_until(smilla.socket.is_socket, 60, step_s=0.0005)
        smilla.child.signal(signal.SIGTERM)
        assert ended_within(smilla, 60) is not None
        smilla.stop()
        assert smilla.child.returncode == 0
        assert not smilla.socket.exists()


def test_no_signal_to_a_worker_cuts_a_message_off(start: Starter, clients: Clients) -> None:
    smilla = start()
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    (worker,) = workers_of(smilla)
    for _ in range(300):  # which of its threads takes a signal that one of them waits for is a matter of luck
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker, number)
        time.sleep(0.002)
    time.sleep(7)  # libmilter looks every five seconds whether it has had one
    assert client.content(plain_mail()).verdict == "accept"
    assert workers_of(smilla) == {worker}


def test_a_message_that_does_not_end_is_cut_off_after_the_time_for_it(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    smilla = start(directory_settings(keys, milter={"stop_timeout_s": 1}))
    for _ in range(TRIES):
        client = clients.open(smilla.milter)
        client.envelope(["<alice@r.test>"])
        smilla.child.signal(signal.SIGTERM)
        seconds = ended_within(smilla, 60)
        assert seconds is not None
        assert seconds > 0.9
        with pytest.raises((ProtocolError, OSError)):
            client.content(plain_mail())
        smilla.stop()
        assert smilla.child.returncode == 0
        if "stopped in_flight=0" in smilla.log:
            return
        smilla.start()
    pytest.fail("the parent has always had to kill the worker")


def test_the_answer_to_a_large_message_is_sent_whole_before_the_worker_ends(
    start: Starter, clients: Clients, opened: Opened
) -> None:
    smilla = start()
    mail = plain_mail(body=b"0123456789abcde\r\n" * 500_000)
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    for each in mail.fields:
        client.header(each.name, each.value)
    for at in range(0, len(mail.body), 65535):
        client.body(mail.body[at : at + 65535])
    client.send_packet(b"E")
    client.read_packet()
    smilla.child.signal(signal.SIGTERM)
    time.sleep(1)  # the MTA is slow to read
    answer = client.answer()
    assert answer.verdict == "accept"
    assert ended_within(smilla, 20) is not None


def test_the_workers_end_when_their_parent_is_killed(start: Starter, clients: Clients) -> None:
    smilla = start()
    workers = workers_of(smilla)
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    smilla.child.signal(signal.SIGKILL)
    # What is in flight may finish even so.
    assert client.content(plain_mail()).verdict == "accept"
    assert wait_until(lambda: not workers & set(session_members(smilla.child.pid)), 30)


def test_port_of_the_status_page_is_free_as_soon_as_its_own_process_is_gone(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    """What is in flight when the parent is killed goes on in its worker, and keeps no port from the next smilla."""
    port = free_port()
    smilla = start(directory_settings(keys, web={"listen": f"127.0.0.1:{port}"}))
    assert wait_until(lambda: port_answers(port), 30)
    client = clients.open(smilla.milter)
    client.envelope(["<alice@r.test>"])
    smilla.child.signal(signal.SIGKILL)

    def opens() -> bool:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return True
        return False

    assert wait_until(opens, 30)
    assert client.content(plain_mail()).verdict == "accept"


# --- reload


def test_a_reload_counts_for_messages_that_begin_after_it(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, policy={"no_key": "refuse"}))
    old, new = clients.open(smilla.milter), clients.open(smilla.milter)
    old.envelope(["<nobody@r.test>"])
    smilla.write_config(directory_settings(keys, policy={"no_key": "plain"}))
    smilla.reload()
    smilla.wait_for_log(" reloaded")
    assert new.send(plain_mail(), ["<nobody@r.test>"]).verdict == "accept"
    assert old.content(plain_mail()).reply.startswith("550 5.7.5 <nobody@r.test>")
    assert old.send(plain_mail(), ["<nobody@r.test>"]).verdict == "accept"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[policy]\nno_kye = 'plain'\n", "no_kye is unknown; did you mean no_key?"),
        ("[policy\n", "is not TOML"),
        ("mode = 'inbound'\n", "local_domains is empty"),
        ("\udcff", "can't decode"),
        (None, "No such file"),
    ],
    ids=["unknown-key", "no-toml", "contradiction", "no-utf8", "no-file"],
)
def test_a_faulty_reload_keeps_the_old_configuration_and_says_why(
    start: Starter, clients: Clients, keys: Keys, text: str | None, said: str
) -> None:
    smilla = start(directory_settings(keys, policy={"no_key": "refuse"}))
    if text is None:
        smilla.config.unlink()
    else:
        smilla.config.write_bytes(text.encode("utf-8", "surrogateescape"))
    smilla.reload()
    assert said in smilla.wait_for_log("reload-failed")
    client = clients.open(smilla.milter)
    assert client.send(plain_mail(), ["<nobody@r.test>"]).reply.startswith("550 5.7.5 ")
    assert edits_of(client.send(plain_mail(), ["<alice@r.test>"])).startswith("b")
    # The next good one is taken.
    smilla.write_config(directory_settings(keys, policy={"no_key": "plain"}))
    smilla.reload()
    assert wait_until(lambda: client.send(plain_mail(), ["<nobody@r.test>"]).verdict == "accept", 30)


def test_a_reload_reaches_every_worker_and_those_that_replace_them(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    settings = directory_settings(keys, policy={"no_key": "refuse"}, milter={"workers": 3})
    smilla = start(settings)
    smilla.write_config(directory_settings(keys, policy={"no_key": "plain"}, milter={"workers": 3}))
    smilla.reload()
    victims = workers_of(smilla)
    assert len(victims) == 3
    for round_ in range(2):
        verdicts = {clients.open(smilla.milter).send(plain_mail(), ["<x@r.test>"]).verdict for _ in range(24)}
        assert verdicts == {"accept"}
        if round_ == 0:
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            assert wait_until(lambda: len(workers_of(smilla) - victims) == 3, 30)


def test_a_reload_is_over_once_every_worker_has_taken_the_configuration(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    smilla = start(directory_settings(keys, policy={"no_key": "refuse"}, milter={"workers": 2}))
    smilla.write_config(directory_settings(keys, policy={"no_key": "plain"}, milter={"workers": 2}))
    slow = min(workers_of(smilla))
    os.kill(slow, signal.SIGSTOP)
    reload = threading.Thread(target=smilla.reload)
    reload.start()
    reload.join(0.5)
    assert reload.is_alive()
    os.kill(slow, signal.SIGCONT)
    reload.join()
    verdicts = {clients.open(smilla.milter).send(plain_mail(), ["<x@r.test>"]).verdict for _ in range(24)}
    assert verdicts == {"accept"}


def test_a_reload_is_in_force_everywhere_once_it_is_said_to_be(start: Starter, clients: Clients, keys: Keys) -> None:
    several = {"workers": 3}
    smilla = start(directory_settings(keys, milter=several))
    for action, verdict in [("refuse", "reject"), ("plain", "accept")] * 5:
        smilla.write_config(directory_settings(keys, milter=several, policy={"no_key": action}))
        smilla.reload()
        verdicts = {clients.open(smilla.milter).send(plain_mail(), ["<x@r.test>"]).verdict for _ in range(9)}
        assert verdicts == {verdict}


def test_what_a_reload_cannot_change_is_said(start: Starter, keys: Keys) -> None:
    smilla = start()
    smilla.write_config(directory_settings(keys, milter={"timeout_s": 100, "workers": 2}))
    smilla.reload()
    for option in ("timeout_s", "workers"):
        smilla.wait_for_log(rf'restart-needed option="\[milter\] {option}"')


def test_a_reload_may_change_the_form_of_the_log(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start()
    smilla.write_config(directory_settings(keys, log={"format": "json"}))
    smilla.reload()
    clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"], queue_id="AFTER")
    assert smilla.log_lines_of("AFTER")[0].startswith("{")


def test_reloads_under_load_lose_no_message(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start()
    wrong: list[str] = []
    over = threading.Event()

    def work(client: MilterClient) -> None:
        while not over.is_set():
            answer = client.send(plain_mail(), ["<alice@r.test>"])
            if answer.verdict != "accept" or not answer.edits:
                wrong.append(answer.reply)

    threads = [threading.Thread(target=work, args=(clients.open(smilla.milter),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(10):
        smilla.write_config(directory_settings(keys, policy={"no_key": ("plain", "refuse")[number % 2]}))
        smilla.reload()
    over.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []


# --- workers


def stopped_whole(pid: int) -> bool:
    """Whether every thread of a process is stopped (proc_pid_stat(5))."""
    lines = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(line.rpartition(")")[2].split()[0] == "T" for line in lines)


def test_a_dead_worker_is_replaced_and_harms_no_other(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, milter={"workers": 2}))
    victim, other = sorted(workers_of(smilla))
    connections = []
    for stopped in (victim, other):  # so that each worker has half of them
        os.kill(stopped, signal.SIGSTOP)
        assert wait_until(lambda pid=stopped: stopped_whole(pid), 30)  # type: ignore[misc]
        for _ in range(8):
            connections.append(clients.open(smilla.milter))
            connections[-1].envelope(["<alice@r.test>"])
        os.kill(stopped, signal.SIGCONT)
    os.kill(victim, signal.SIGKILL)
    verdicts = []
    for client in connections:
        try:
            verdicts.append(client.content(plain_mail()).verdict)
        except (ProtocolError, OSError):
            verdicts.append("lost")
    assert verdicts == ["accept"] * 8 + ["lost"] * 8
    assert wait_until(lambda: len(workers_of(smilla)) == 2, 30)
    assert smilla.wait_for_log(f'worker-died pid={victim} status="killed by SIGKILL"')
    for _ in range(8):
        assert clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"
    assert smilla.socket.is_socket()


# --- sockets


@pytest.mark.parametrize(("mode", "bits"), [("0660", 0o660), ("0600", 0o600), ("666", 0o666)])
def test_the_socket_has_the_mode_and_group_asked_for(start: Starter, keys: Keys, mode: str, bits: int) -> None:
    group = {"socket_group": "mail"} if os.geteuid() == 0 else {}
    smilla = start(directory_settings(keys, milter={"socket_mode": mode, **group}))
    status = smilla.socket.stat()
    assert stat.S_IMODE(status.st_mode) == bits
    if group:
        import grp

        assert status.st_gid == grp.getgrnam("mail").gr_gid


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_a_second_filter_on_the_same_socket_refuses_to_start_and_harms_nobody(
    start: Starter, clients: Clients, keys: Keys, kind: str
) -> None:
    place = {"socket": f"inet:{free_port()}@127.0.0.1"} if kind == "inet" else {}
    smilla = start(directory_settings(keys, milter=place))
    address = place.get("socket", smilla.milter)
    second = subprocess.run(
        [sys.executable, "-m", "smilla", "milter", "--config", smilla.config],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("error: ")
    assert ("another process listens there" if kind == "unix" else "cannot be opened") in second.stderr
    assert "Traceback" not in second.stderr
    assert clients.open(address).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


def test_a_socket_left_behind_by_a_crash_is_no_obstacle(start: Starter, clients: Clients, folder: Path) -> None:
    stale = folder / "stale.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(str(stale))
    smilla = start({"milter": {"socket": f"unix:{stale}", "user": ""}, "policy": {"no_key": "refuse"}})
    assert clients.open(f"unix:{stale}").send(plain_mail(), ["<a@[192.0.2.1]>"]).verdict == "reject"
    smilla.stop()
    assert not stale.exists()


def test_a_folder_that_is_missing_is_named(start: Starter, folder: Path) -> None:
    from tests.lab.processes import ChildError

    with pytest.raises(ChildError, match="no such folder for the socket"):
        start({"milter": {"socket": f"unix:{folder}/missing/smilla.sock"}})


def test_inet_sockets_work_and_are_free_again_after_the_stop(
    start: Starter, clients: Clients, keys: Keys, opened: Opened
) -> None:
    port = free_port()
    settings = directory_settings(keys, milter={"socket": f"inet:{port}@127.0.0.1", "workers": 2})
    took = []
    for _ in range(TRIES):
        smilla = start(settings)
        for _ in range(4):
            mail = plain_mail()
            client = clients.open(f"inet:{port}@127.0.0.1")
            opened(client.send(mail, ["<alice@r.test>"]).applied(mail, postfix=True), mail, "alice")
        smilla.child.signal(signal.SIGTERM)
        seconds = ended_within(smilla, 60)
        assert seconds is not None
        took.append(seconds)
    assert min(took) < 3  # libmilter itself would take up to five


# --- the service manager


@pytest.fixture
def notified(folder: Path, keys: Keys) -> Iterator[tuple[Child, Path, Callable[[], list[str]]]]:
    """A filter whose states are all collected: the child, its configuration, and what it said so far."""
    place = folder / "notified"
    place.mkdir(mode=0o755, exist_ok=True)
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(b"\0smilla-test-%d" % os.getpid())
        receiver.setblocking(False)

        def states() -> list[str]:
            while True:
                try:
                    said.append(receiver.recv(4096).decode())
                except BlockingIOError:
                    return said

        config = place / "smilla.toml"
        milter: dict[str, Any] = {"socket": f"unix:{place}/s", "workers": 1}
        config.write_text(to_toml(directory_settings(keys, milter=milter)))
        child = Child(
            "smilla",
            [sys.executable, "-m", "smilla", "milter", "--config", config],
            place / "log",
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "NOTIFY_SOCKET": f"@smilla-test-{os.getpid()}"},
        )
        with child.start(ready=lambda: "READY=1" in states()):
            yield child, config, states
    assert processes_in(place) == []


def test_the_service_manager_is_told_of_ready_reloading_and_stopping(
    notified: tuple[Child, Path, Callable[[], list[str]]],
) -> None:
    child, config, states = notified
    assert states() == ["READY=1"]
    for faulty in (False, True):
        if faulty:
            config.write_text("nonsense = 1\n")
        before = len(states())
        child.signal(signal.SIGHUP)
        assert wait_until(lambda before=before: len(states()) == before + 2, 30)  # type: ignore[misc]
        reloading, ready = states()[before:]
        assert reloading.splitlines()[0] == "RELOADING=1"
        assert reloading.splitlines()[1].startswith("MONOTONIC_USEC=")
        assert abs(int(reloading.rpartition("=")[2]) / 1e6 - time.monotonic()) < 30
        assert ready == "READY=1"
    child.signal(signal.SIGTERM)
    assert wait_until(lambda: not child.running, 30)
    assert states()[-1] == "STOPPING=1"


def test_a_faulty_configuration_is_refused_at_the_start(folder: Path) -> None:
    config = folder / "faulty.toml"
    config.write_text("[policy]\nbogus = 'plain'\n[milter]\nsockt = 'x'\n")
    command = [sys.executable, "-m", "smilla", "milter", "--config", str(config)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 78
    assert result.stderr.count("error: ") == 2


def test_service_manager_that_does_not_read_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"@smilla-unread-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind("\0" + name[1:])
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        def tell() -> None:
            for _ in range(2000):
                systemd.notify("READY=1")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        teller.join(20)
        assert not teller.is_alive()
