"""The lines and tables of contrib/postfix for the stage, in a running Postfix.

client -> smtpd "out", "held", "pending" -> smilla, which seals -> queue -> the example's lmtp -> the stage -> "plain"
sendmail(1) -> pickup -> smtpd "sendmail"  -> the same
client -> smtpd "unseen", "in"           -> no filter
client -> smtpd "moved"                  -> smilla, of which cleanup then asks nothing (REDIRECT)
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
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.client import SMTPClient
from tests.lab.postfix import Listener, Postfix, example_options, queue_id
from tests.lab.processes import wait_until
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live
EXAMPLES = REPOSITORY / "contrib/postfix"
MASTER = "contrib/postfix/master.cf.example"
SECRET = "pending 2f1c0d"
_MOVING = "regexp:{{/^X-Way: / REDIRECT boss@there.test}}"
MIXED = ["alice@r.test", "n1@r.test"]
FORGED = b"X-Smilla-Stage: 0123456789abcdef0123456789abcdef 0123456789abcdef\r\n"


@dataclass
class Stage:
    """All that runs."""

    sink: Sink
    smilla: Smilla
    postfix: Postfix
    listeners: dict[str, Listener]
    unseen: str = ""  # the reply to a mixed message before anybody had looked at Postfix's lines

    def check(self, what: str) -> subprocess.CompletedProcess[str]:
        """smilla config check, with Postfix's own programs."""
        program = find_program("postconf")
        environment = program_environment(program)
        environment["PATH"] = f"{program.parent}:{environment.get('PATH', '')}"
        argv = [sys.executable, "-m", "smilla", "config", "check", what, "--config", str(self.smilla.config)]
        argv += ["--postfix-config", str(self.postfix.folder / "etc")]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    def told(self, recipients: list[str]) -> str:
        """The reply to a message."""
        with SMTPClient(self.listeners["out"].port) as client:
            return str(client.send("sender@s.test", recipients, letter())[-1])

    def send(self, listener: str, recipients: list[str], raw: bytes) -> tuple[int, str]:
        """The reply to the end of the message, and its queue ID."""
        with SMTPClient(self.listeners[listener].port) as client:
            reply = client.send("sender@s.test", recipients, raw)[-1]
        return reply.code, queue_id(reply.text) or ""

    def has_split(self, before: int) -> None:
        """Both copies of a message to MIXED have come, each in its form, without anything of ours on the way."""
        alice, n1 = sorted(self.sink.wait_for(before + 2)[before:], key=lambda mail: mail.rcpt_to)
        assert (alice.rcpt_to, n1.rcpt_to) == (("alice@r.test",), ("n1@r.test",))
        assert CANARY not in alice.raw
        assert CANARY in n1.raw
        for mail in (alice, n1):
            assert b"X-Smilla-Stage" not in mail.raw
            assert SECRET.encode() not in mail.raw


def _example_main(place: Path) -> dict[str, str]:
    """What the example says about the stage, with the tables in ``place``."""
    text = (EXAMPLES / "main.cf.example").read_text()
    names = r"milter_header_checks|smilla_destination_recipient_limit|header_checks|nested_header_checks"
    found = dict(re.findall(rf"^({names}|mime_header_checks) =(.*)$", text, re.MULTILINE))
    assert len(found) == 5
    found["smtp_header_checks"] = _commented(text, "smtp_header_checks = (.*)")
    return {name: value.strip().replace("/etc/postfix", str(place)) for name, value in found.items()}


def _commented(text: str, pattern: str) -> str:
    found = re.search(rf"^# .*?{pattern}$", text, re.MULTILINE)
    assert found is not None, pattern
    return found[1]


@pytest.fixture(scope="module")
def stage(folder: Path, lab: DNSLab) -> Iterator[Stage]:
    place = Path(tempfile.mkdtemp(prefix="stage-examples-", dir=folder))
    place.chmod(0o755)
    (place / "postfix").mkdir()
    example = (EXAMPLES / "main.cf.example").read_text()
    prepend = _commented(example, "smtpd_data_restrictions = (.*)").replace("pending 2f1c...", SECRET)
    pending = _commented(example, "smilla_pending: (.*)").replace("pending 2f1c...", SECRET)
    (place / "smilla_pending").write_text(pending + "\n")
    plain = example_options(MASTER, "10025") | {"receive_override_options": "no_address_mappings,no_header_body_checks"}
    assert f"#   -o receive_override_options={plain['receive_override_options']}\n" in (REPOSITORY / MASTER).read_text()
    listeners = {name: Listener() for name in ("out", "held", "pending", "moved", "unseen", "in")}
    listeners["plain"] = Listener(options=plain)
    listeners["sendmail"] = Listener(options=example_options(MASTER, "10024"))
    listeners["held"].options["smtpd_sender_restrictions"] = "static:HOLD"
    for name in ("pending", "moved", "unseen"):
        listeners[name].options["smtpd_data_restrictions"] = prepend
    listeners["moved"].options["cleanup_service_name"] = "moved"
    try:
        settings: dict[str, dict[str, Any]] = {
            "policy": {"mixed": ""},
            "stage": {"check": True},
            "reinject": {"smtp": f"127.0.0.1:{listeners['plain'].port}"},
        }
        with Sink() as sink, Smilla(place / "smilla", lab.resolver, settings) as smilla:
            for name in ("out", "held", "pending", "moved", "sendmail"):
                listeners[name].options["smtpd_milters"] = smilla.milter
            for table in ("smilla_stage", "smilla_requeue", "smilla_refuse"):
                text = (EXAMPLES / table).read_text()
                (place / table).write_text(text.replace("smilla/stage.sock", f"{smilla.folder}/stage.sock"))
            postfix = Postfix(place / "postfix", sink.port, list(listeners.values()), _example_main(place))
            postfix.pickup_options = example_options(MASTER, "pickup", "unix")
            assert postfix.pickup_options["content_filter"] == "smtp:[127.0.0.1]:10024"
            postfix.pickup_options["content_filter"] = f"smtp:[127.0.0.1]:{listeners['sendmail'].port}"
            # For postdrop.
            postfix.parameters["export_environment"] = "MAIL_CONFIG LD_LIBRARY_PATH"
            block = re.search(r"^smilla    unix.*?(?=^#)", (REPOSITORY / MASTER).read_text(), re.MULTILINE | re.DOTALL)
            assert block is not None
            postfix.services = re.sub(r"(unix +\S+ +\S+ +)y", r"\1n", block[0]).replace("/etc/postfix", str(place))
            postfix.services += "moved unix n - n - 0 cleanup\n  -o { header_checks = " + _MOVING + " }\n"
            with postfix:
                started = Stage(sink, smilla, postfix, listeners)
                started.unseen = started.told(MIXED)
                done = started.check("--postfix")
                assert done.returncode == 0, done.stdout + done.stderr
                yield started
    finally:
        shutil.rmtree(place)


def test_mixed_message_is_sealed_and_split(stage: Stage) -> None:
    before = len(stage.sink.messages)
    code, found = stage.send("out", MIXED, letter(b"Message-ID: <1@s.test>", to=b"alice@r.test, n1@r.test"))
    assert code == 250
    stage.has_split(before)
    for event in ("sealed rcpt=alice@r.test", "sealed rcpt=n1@r.test"):
        stage.smilla.wait_for_log(f"{found} {event}")
    for event in ("encrypted rcpt=alice@r.test", "plain rcpt=n1@r.test"):
        assert "via=stage" in stage.smilla.wait_for_log(f"{found} {event}")


def test_held_message_that_is_requeued_comes_to_the_stage(stage: Stage) -> None:
    before = len(stage.sink.messages)
    _, found = stage.send("held", MIXED, letter(b"Message-ID: <2@s.test>", to=b"alice@r.test, n1@r.test"))
    program = find_program("postsuper")
    argv = [str(program), "-c", str(stage.postfix.folder / "etc"), "-r", found]
    subprocess.run(argv, env=program_environment(program), check=True, capture_output=True)
    stage.has_split(before)


def test_mail_from_sendmail_1_is_sealed_and_split_also_when_it_is_requeued(stage: Stage) -> None:
    before = len(stage.sink.messages)
    raw = letter(b"Message-ID: <6@s.test>", to=b"alice@r.test, n1@r.test")
    stage.postfix.sendmail(raw, "sender@s.test", *MIXED)
    stage.has_split(before)
    with listener_away(stage):
        stage.postfix.sendmail(raw, "sender@s.test", *MIXED)
        found = stage.smilla.wait_for_log("copy-failed rcpt=alice@r.test").partition(" ")[0]
        assert CANARY not in b"".join(path.read_bytes() for path in stage.postfix.queued())
        stage.postfix.postsuper("-r", "ALL")
        assert wait_until(lambda: not [path for path in stage.postfix.queued() if path.name == found], 20)
    stage.has_split(before + 2)
    stage.smilla.wait_for_log(f"{found} encrypted rcpt=alice@r.test .*via=stage")


@contextlib.contextmanager
def listener_away(stage: Stage) -> Iterator[None]:
    """Nobody takes the copies for a while."""
    good = dict(stage.smilla.settings)
    stage.smilla.write_config({**good, "reinject": {"smtp": "127.0.0.1:1"}})
    stage.smilla.reload()
    try:
        yield
    finally:
        stage.smilla.write_config(good)
        stage.smilla.reload()


@pytest.mark.parametrize("listener", ["out", "in"])
def test_forged_mark_is_refused_on_every_listener(stage: Stage, listener: str) -> None:
    assert stage.send(listener, ["n1@r.test"], FORGED + letter())[0] == 550


@pytest.mark.parametrize("listener", ["out", "in"])
def test_attached_message_may_have_a_mark(stage: Stage, listener: str) -> None:
    before = len(stage.sink.messages)
    raw = (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n"
        + FORGED
        + b"Subject: y\r\n\r\nhi\r\n"
    )
    assert stage.send(listener, ["n1@r.test"], raw)[0] == 250
    (mail,) = stage.sink.wait_for(before + 1)[before:]
    assert FORGED in mail.raw


def test_the_secret_field_lets_only_mail_out_that_the_filter_saw(stage: Stage) -> None:
    """As where an earlier milter quarantined and somebody released it: the filter never saw what comes by "unseen", nor
    what header_checks redirect."""
    before = len(stage.sink.messages)
    stage.send("pending", MIXED, letter(b"Message-ID: <3@s.test>", to=b"alice@r.test, n1@r.test"))
    stage.has_split(before)
    for recipient in ("alice@r.test", "n1@r.test"):
        stage.send("pending", [recipient], letter(b"Message-ID: <4@s.test>", to=recipient.encode()))
    assert not any(SECRET.encode() in mail.raw for mail in stage.sink.wait_for(before + 4))
    for listener in ("unseen", "moved"):
        _, found = stage.send(listener, ["n1@r.test"], letter(b"X-Way: up", to=b"n1@r.test"))
        assert stage.postfix.defers(found), listener
        assert f"{found}: smtp header checks lookup error" in stage.postfix.log
        assert len(stage.sink.messages) == before + 4


def test_nothing_is_sealed_before_somebody_has_seen_the_lines(stage: Stage) -> None:
    assert stage.unseen.startswith("451 4.3.5 The recipients need different forms of this message, and nobody has")
    assert "stage-not-ready" in stage.smilla.log


def test_what_is_found_missing_is_named_to_the_client_until_it_is_mended(stage: Stage) -> None:
    table = stage.smilla.folder.parent / "smilla_stage"
    right = table.read_text()
    table.write_text(right.replace("FILTER", "WARN"))
    try:
        done = stage.check("--postfix")
        assert done.returncode == 1
        assert "nothing sends a sealed message to the stage" in done.stderr
        told = stage.told(MIXED)
        assert told.startswith("451 4.3.5 The recipients need different forms of this message, and postfix: ")
        assert "milter_header_checks = regexp:/etc/postfix/smilla_stage" in told
        assert stage.told(["alice@r.test"]).startswith("250")
    finally:
        table.write_text(right)
    assert stage.check("--postfix").returncode == 0
    before = len(stage.sink.wait_for(1))
    assert stage.told(MIXED).startswith("250")
    assert wait_until(lambda: len(stage.sink.messages) >= before + 2, 60)


def test_the_probe_finds_the_running_stage_and_nothing_amiss(stage: Stage) -> None:
    done = stage.check("--probe")
    assert f"stage unix:{stage.smilla.folder}/stage.sock: answers" in done.stdout
    assert "seal keys" in done.stdout
    assert "postfix: has the lines for the stage" in done.stdout, done.stderr
    assert done.returncode == 0, done.stderr
