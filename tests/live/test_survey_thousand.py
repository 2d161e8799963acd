"""A thousand domains on few mail servers: how many smilla survey asks at once, and whether it goes on after a kill.

smilla survey -> unbound -> nsd (one signed zone; a domain is a name in it)
              -> a server on all loopback addresses, which counts

Forty providers have a mail server each; one more has forty hosts under one name, in several blocks of addresses, and
one has forty names in one block.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import make_certificate, to_pem
from tests.lab.dns import DNSLab
from tests.lab.greeter import Greeter
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live
DOMAINS = [f"d{number:04}.many.test" for number in range(1000)]
AT_ONCE = 4


def host_of(number: int) -> tuple[str, str]:
    """The MX host of a domain, and its address."""
    place, kind = number // 3 % 40, number % 3
    if kind == 0:
        return f"mx.own{place}.test", f"127.1.{place}.1"
    if kind == 1:
        return f"mx{place}.many-hosts.test", f"127.2.{place}.1"
    return f"mx.one-block{place}.test", f"127.3.0.{place + 1}"


@dataclass
class Lab:
    place: Path
    config: Path
    greeter: Greeter

    def line(self, *arguments: str) -> list[str]:
        line = [sys.executable, "-m", "smilla", "survey", "--config", str(self.config), "--json"]
        return [*line, "-f", str(self.place / "list"), "--port", str(self.greeter.port), *arguments]

    def results(self, name: str) -> list[dict[str, Any]]:
        path = self.place / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _groups(address: str) -> list[str]:
    kind = address.split(".")[1]
    return {"2": ["many-hosts"], "3": ["one-block"]}.get(kind, [])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require_servers("nsd", "unbound", "ldns-signzone")
    place = Path(tempfile.mkdtemp(prefix="smilla-"))
    place.chmod(0o755)
    key, raw = make_certificate("p256", common_name="greeter.test", number=921)
    pair = place / "pair.pem"
    pair.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(raw))
    (place / "ca.pem").write_bytes(to_pem(raw))
    dns = DNSLab(place / "dns")
    many, others = dns.zone("many.test"), dns.zone("test")
    for number, domain in enumerate(DOMAINS):
        host, address = host_of(number)
        many.add(f"{domain}.", "MX", f"10 {host}.")
        if (f"{host}.", "A", address) not in others.records:
            others.add(f"{host}.", "A", address)
    (place / "list").write_text("# a thousand\n" + "\n".join(DOMAINS) + "\n")
    config = place / "smilla.toml"
    try:
        with dns, Greeter(pair, _groups) as greeter:
            config.write_text(
                f'[dns]\nnameservers = ["{dns.resolver}"]\nprobe = "test."\n[hop]\nca_file = "{place}/ca.pem"\n'
            )
            yield Lab(place, config, greeter)
    finally:
        shutil.rmtree(place)


def test_thousand_domains_never_more_than_four_a_provider_and_one_an_address(lab: Lab) -> None:
    lab.greeter.admit(0)  # nobody is greeted until all are there that may be there at once
    line = lab.line("--parallel", "64", "--timeout", "600")
    with (lab.place / "out").open("wb") as out, subprocess.Popen(line, stdout=out, stdin=subprocess.DEVNULL) as running:
        allowed = 40 + 2 * AT_ONCE
        try:
            assert wait_until(lambda: lab.greeter.began.total() >= allowed, 300)
            assert not wait_until(lambda: lab.greeter.began.total() > allowed, 2)
        finally:
            lab.greeter.admit(None)
        assert running.wait() == 0
    found = lab.results("out")
    assert sorted(one["asked"] for one in found) == DOMAINS
    assert {one["way"] for one in found} == {"opportunistic"}
    assert {server["requiretls"] for one in found for host in one["hosts"] for server in host["servers"]} == {True}
    most = lab.greeter.most
    assert {number for name, number in most.items() if name.startswith("127.")} == {1}
    assert (most["many-hosts"], most["one-block"]) == (AT_ONCE, AT_ONCE)
    # Each server was asked once, however many domains it serves.
    assert set(lab.greeter.began.values()) == {1}
    assert len(lab.greeter.began) == len({host_of(number) for number in range(len(DOMAINS))})
    assert lab.greeter.quits == lab.greeter.began.total()


def test_killed_in_the_middle_and_resumed_every_domain_is_there_once(lab: Lab) -> None:
    resumed = lab.line("--resume", str(lab.place / "results"), "--timeout", "600")
    for _ in range(3):
        lab.greeter.admit(20)  # so that it cannot come to its end before it is killed
        before = len(_lines(lab))
        with subprocess.Popen(resumed, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as running:
            try:
                assert wait_until(functools.partial(_has_grown, lab, before), 300)
            finally:
                running.send_signal(signal.SIGKILL)
            assert running.wait() == -signal.SIGKILL
        with (lab.place / "results").open("ab") as file:  # half a line, as a kill in the middle of a write leaves it
            file.write(b'{"asked":"d0999.many.test","dom')
    lab.greeter.admit(None)
    assert 60 <= len(_lines(lab)) < len(DOMAINS)
    done = subprocess.run(resumed, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.stderr, done.returncode) == ("", 0)
    kept = Counter(one["asked"] for one in lab.results("results"))
    shown = Counter(json.loads(line)["asked"] for line in done.stdout.splitlines())
    assert kept == shown == Counter(DOMAINS)


def test_bar_on_a_terminal_and_what_an_interrupt_leaves(lab: Lab) -> None:
    screen, terminal = os.openpty()
    lab.greeter.admit(20)
    before = len(_lines(lab, "interrupted"))
    # Whoever runs these tests in the background of a shell has SIGINT ignored, and so would the command.
    line = ["env", "--default-signal=INT", *lab.line("--resume", str(lab.place / "interrupted"), "--timeout", "600")]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=terminal, stdin=subprocess.DEVNULL) as running:
        os.close(terminal)
        shown = Reader(screen)
        try:
            assert wait_until(functools.partial(_has_grown, lab, before, "interrupted"), 300)
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(60) == 75
    lab.greeter.admit(None)
    text = shown.all()
    assert re.search(r"\[#*\.+\] \d+ of 1000", text)
    assert "\r\x1b[Kerror: interrupted; the same command goes on from there\r\n" in text
    assert len(_lines(lab, "interrupted")) > before


class Reader(threading.Thread):
    """Reads a terminal to its end, so that whoever writes never waits."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor, self._blocks = descriptor, [b""]
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while block := os.read(self._descriptor, 4096):
                self._blocks.append(block)

    def all(self) -> str:
        """Everything, once the other side has closed it."""
        self.join(60)
        os.close(self._descriptor)
        return b"".join(self._blocks).decode()


def _has_grown(lab: Lab, before: int, name: str = "results") -> bool:
    return len(_lines(lab, name)) >= before + 20


def _lines(lab: Lab, name: str = "results") -> list[bytes]:
    path = lab.place / name
    return path.read_bytes().split(b"\n") if path.exists() else []


def test_file_that_is_something_else_stays_as_it_is(lab: Lab) -> None:
    path = lab.place / "letter"
    path.write_text("Dear Hugh,\nyours")
    done = subprocess.run(lab.line("--resume", str(path)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}, line 1: no result of a survey")
    assert path.read_text() == "Dear Hugh,\nyours"
