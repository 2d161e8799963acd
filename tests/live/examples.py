"""A Postfix that runs with the lines and tables of contrib/postfix for the stage, and with those that keep what smilla
never saw.

client -> smtpd (each listener has its milters) -> queue -> the example's lmtp -> smilla, the stage -> smtpd "plain"
sendmail(1) -> pickup -> queue -> the example's smilla-in -> smtpd "sendmail", with smilla
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
from typing import TYPE_CHECKING

from tests.lab.client import SMTPClient
from tests.lab.postfix import Listener, Postfix, example_options, queue_id
from tests.lab.programs import REPOSITORY, find_program, program_environment
from tests.lab.scanner import Scanner
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.lab.smilla import Settings

EXAMPLES = REPOSITORY / "contrib/postfix"
MASTER = "contrib/postfix/master.cf.example"
SECRET = "2f1c0d"
MIXED = ["alice@r.test", "n1@r.test"]
_STAGE = r"milter_header_checks|smilla_destination_recipient_limit|(?:nested_|mime_)?header_checks"
_UNSEEN = r"smilla_secret|smilla_unseen|(?:smtp|smtp_nested|lmtp)_header_checks"
_EXPORTED = {"export_environment": "MAIL_CONFIG LD_LIBRARY_PATH"}  # to postdrop, where it is unpacked only


@dataclass
class Site:
    """All that runs; a message is found by a field of its own."""

    sink: Sink
    smilla: Smilla
    postfix: Postfix
    listeners: dict[str, Listener]
    sent: int = 0

    def marked(self, raw: bytes) -> tuple[bytes, bytes]:
        """A field of its own, and the message with it."""
        self.sent += 1
        mark = b"X-Mark: %d-\r\n" % self.sent
        return mark, mark + raw

    def send(self, listener: str, to: list[str], raw: bytes, sender: str = "sender@s.test") -> tuple[int, str, bytes]:
        """The reply to the end of the message, its queue ID, and its mark."""
        mark, marked = self.marked(raw)
        with SMTPClient(self.listeners[listener].port) as client:
            reply = client.send(sender, to, marked)[-1]
        return reply.code, queue_id(reply.text) or "", mark

    def got(self, mark: bytes) -> list[ReceivedMail]:
        """What has come of a message until now, in the order of its recipients."""
        return sorted((mail for mail in self.sink.messages if mark in mail.raw), key=lambda mail: mail.rcpt_to)

    def delivered(self, mark: bytes) -> list[ReceivedMail]:
        """What came of a message, once nothing is queued any more."""
        self.postfix.wait_until_empty()
        return self.got(mark)

    def has_split(self, mark: bytes) -> None:
        """Both copies of a message to MIXED have come, each in its form, without anything of ours on the way."""
        alice, n1 = self.delivered(mark)
        assert (alice.rcpt_to, n1.rcpt_to) == (("alice@r.test",), ("n1@r.test",))
        assert CANARY not in alice.raw
        assert CANARY in n1.raw
        for mail in (alice, n1):
            assert b"X-Smilla-Stage" not in mail.raw
            assert SECRET.encode() not in mail.raw

    def told(self, to: list[str]) -> str:
        """The reply to a message."""
        with SMTPClient(self.listeners["out"].port) as client:
            return str(client.send("sender@s.test", to, letter())[-1])

    def check(self, what: str = "--probe") -> subprocess.CompletedProcess[str]:
        """smilla config check, beside this Postfix."""
        argv = [sys.executable, "-m", "smilla", "config", "check", what, "--config", str(self.smilla.config)]
        argv += ["--postfix-config", str(self.postfix.folder / "etc")]
        return subprocess.run(argv, env=beside_postfix(), capture_output=True, text=True, check=False)


def beside_postfix() -> dict[str, str]:
    """The environment of a program that finds this Postfix's own programs."""
    program = find_program("postconf")
    environment = program_environment(program)
    return {**environment, "PATH": f"{program.parent}:{environment.get('PATH', '')}"}


def unseen() -> dict[str, str]:
    """The parameters of the example that keep what smilla never saw, ``smtpd_data_restrictions`` among them."""
    text = (EXAMPLES / "main.cf.example").read_text()
    found = dict(re.findall(rf"^# ({_UNSEEN}|smtpd_data_restrictions) = (.*)$", text, re.MULTILINE))
    assert len(found) == 6
    return {**found, "smilla_secret": SECRET}


def _parameters(place: Path) -> dict[str, str]:
    """What main.cf.example says about the stage and about unseen mail, with the tables in ``place``."""
    text = (EXAMPLES / "main.cf.example").read_text()
    found = dict(re.findall(rf"^({_STAGE}) =(.*)$", text, re.MULTILINE))
    assert len(found) == 5
    found |= {name: value for name, value in unseen().items() if name != "smtpd_data_restrictions"}
    return {name: value.strip().replace("/etc/postfix", str(place)) for name, value in found.items()}


@contextlib.contextmanager
def site(
    folder: Path,
    lab: DNSLab,
    milters: Mapping[str, str],
    options: Mapping[str, dict[str, str]],
    parameters: Mapping[str, str] | None = None,
    *,
    is_default: bool = False,
) -> Iterator[Site]:
    """``milters`` are those of each listener, by name: "scanner" and "smilla", in their order.
    ``options`` come on top of the example's for "plain" and "sendmail", and ``parameters`` on top of its main.cf;
    {sink} in them is the port of the sink, {NAME} that of a listener, {place} the folder of the tables.
    ``is_default``: mixed is not set, and nobody has looked at Postfix's lines yet."""
    place = Path(tempfile.mkdtemp(prefix="site-", dir=folder))
    place.chmod(0o755)
    (place / "postfix").mkdir()
    listeners = {name: Listener() for name in milters}
    listeners["plain"] = Listener(options=example_options(MASTER, "10025"))
    overrides = "receive_override_options=no_address_mappings,no_header_body_checks"
    assert f"#   -o {overrides}\n" in (REPOSITORY / MASTER).read_text()
    listeners["plain"].options |= dict([overrides.split("=")]) | {"content_filter": ""}
    listeners["sendmail"] = Listener(options=example_options(MASTER, "10024"))
    settings: Settings = {
        "policy": {"mixed": "" if is_default else "stage"},
        "stage": {"check": is_default},
        "dns": {"timeout_s": 10},
        "reinject": {"smtp": f"127.0.0.1:{listeners['plain'].port}"},
        "rule": [{"recipient": "n2@r.test", "no_key": "hold"}],
    }
    try:
        with (
            Sink() as sink,
            Smilla(place / "smilla", lab.resolver, settings, environment=beside_postfix()) as smilla,
            Scanner(place) as scanner,
        ):

            def filled_in(given: Mapping[str, str]) -> dict[str, str]:
                known = {"{sink}": str(sink.port), "{place}": str(place)}
                known |= {f"{{{name}}}": str(listener.port) for name, listener in listeners.items()}
                return {key: re.sub(r"\{\w+\}", lambda m: known.get(m[0], m[0]), value) for key, value in given.items()}

            places = {"scanner": scanner.milter, "smilla": smilla.milter}
            for name, listener in listeners.items():
                words = milters.get(name, "smilla" if name == "sendmail" else "").split()
                listener.options["smtpd_milters"] = ",".join(places[word] for word in words)
                listener.options |= filled_in(options.get(name, {}))
            for table in EXAMPLES.glob("smilla_*"):
                text = table.read_text().replace("smilla/stage.sock", f"{smilla.folder}/stage.sock")
                (place / table.name).write_text(text)
            postfix = Postfix(place / "postfix", sink.port, list(listeners.values()), _parameters(place) | _EXPORTED)
            postfix.parameters |= filled_in(parameters or {})
            postfix.pickup_options = example_options(MASTER, "pickup", "unix")
            way = postfix.pickup_options["content_filter"]
            assert way == "smilla-in:[127.0.0.1]:10024"
            postfix.pickup_options["content_filter"] = way.replace("10024", str(listeners["sendmail"].port))
            block = re.search(r"^smilla-in .*?(?=^# A listener)", (REPOSITORY / MASTER).read_text(), re.M | re.S)
            assert block is not None
            postfix.services = re.sub(r"(unix +\S+ +\S+ +)y", r"\1n", block[0]).replace("/etc/postfix", str(place))
            with postfix:
                yield Site(sink, smilla, postfix, listeners)
    finally:
        shutil.rmtree(place)
