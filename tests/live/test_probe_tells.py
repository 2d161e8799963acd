"""smilla config check --probe beside a filter that runs: what it has found counts for the filter at once.

client -> smtpd -> smilla: sealed -> queue -> lmtp -> smilla: split -> the listener that smilla init made -> sink
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab.client import send_mail
from tests.lab.processes import wait_until
from tests.lab.smilla import Smilla
from tests.live.mta import letter
from tests.live.test_init import Machine, machine

if TYPE_CHECKING:
    from tests.lab.client import Reply

__all__ = ["machine"]
pytestmark = pytest.mark.live


def mixed(machine: Machine) -> Reply:
    """The answer to a message that is needed in two forms."""
    mail = letter(to=b"alice@r.test, bob@r.test")
    return send_mail(machine.port, "sender@s.test", ["alice@r.test", "bob@r.test"], mail)


def probed(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.smilla("config", "check", "--probe", "--config", machine.output)


def test_mail_flows_as_soon_as_the_probe_has_found_postfixs_lines(machine: Machine) -> None:
    machine.init("--apply")
    record = machine.output.with_name("seal") / "postfix.json"
    with Smilla(machine.place / "filter", machine.resolver, text=machine.output.read_text()) as filtering:
        machine.postfix.reload()
        for change in ("smtp_helo_name = first.test", "smtp_helo_name = second.test"):
            machine.run("postconf", "-c", machine.etc, "-e", change)
            machine.postfix.reload()
            # A process that the reload has told to end may take its time.
            assert wait_until(lambda: probed(machine).returncode == 0, 60), probed(machine).stderr
            assert "postfix: its lines for the stage are there, and the filter knows it now" in probed(machine).stdout
            reply = mixed(machine)
            assert reply.code == 250, (reply, filtering.log)
        machine.run("postconf", "-c", machine.etc, "-X", "milter_header_checks")
        machine.postfix.reload()
        done = probed(machine)
        assert done.returncode == 1
        assert "milter_header_checks = regexp:" in done.stderr
        kept = json.loads(record.read_text())["instances"]
        assert kept[str(machine.etc)] == []  # what a probe finds missing stops nobody
        reply = mixed(machine)  # the change of main.cf does
        assert reply.code == 451
        assert "main.cf" not in reply.text
        filtering.wait_for_log("stage-not-ready .*main.cf was changed since")


@pytest.mark.parametrize("applied", [False, True])
def test_a_service_that_takes_mail_past_smilla_is_warned_of_once_with_the_line(machine: Machine, applied: bool) -> None:
    with (machine.etc / "master.cf").open("a") as file:
        file.write("submission inet n - n - - smtpd\n  -o smtpd_milters=\n")
    options = ("--apply",) if applied else ()
    told = machine.init(*options).stderr
    assert told.count("warning: postfix: submission: has -o smtpd_milters= in master.cf") == 1
    line = f"postconf -c {machine.etc} -PX submission/inet/smtpd_milters"
    assert told.count(line) == 1
    assert machine.run("sh", "-c", line).returncode == 0
    assert "has -o smtpd_milters=" not in machine.init(*options).stderr
