"""The lines of contrib/ for an administrator's Postfix, put into a Postfix that is as strict as they come."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.postfix import Listener, Postfix, example_options
from tests.lab.processes import wait_until
from tests.lab.programs import postfix_daemons, program_environment
from tests.lab.sink import Sink
from tests.lab.smilla import Smilla
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Settings, Value

pytestmark = pytest.mark.live

# What main.cf says for users and strangers, and the listener for further copies must not be held up by.
STRICT = {
    "smtpd_helo_restrictions": "reject",
    "smtpd_sender_restrictions": "reject",
    "smtpd_recipient_restrictions": "reject",
    "smtpd_data_restrictions": "reject",
    "smtpd_end_of_data_restrictions": "reject",
    "smtpd_tls_security_level": "encrypt",
    "smtpd_delay_reject": "yes",
}
ARCHIVE = "archive@r.test"
EXAMPLE = "contrib/postfix/master.cf.example"


@pytest.fixture(scope="module")
def chain(folder: Path, lab: DNSLab) -> Iterator[Chain]:
    """Postfix with the listener of the example."""
    place = Path(tempfile.mkdtemp(prefix="examples-", dir=folder))
    place.chmod(0o755)
    options = {"plain": example_options(EXAMPLE, "10025"), "outbound": dict.fromkeys(STRICT, "")}
    options["outbound"]["smtpd_tls_security_level"] = "none"
    options["outbound"]["smtpd_delay_reject"] = "yes"
    parameters = {**STRICT, "always_bcc": ARCHIVE}
    try:
        with Chain(place, lab.resolver, {"outbound": {}}, parameters, options=options) as running:
            yield running
    finally:
        shutil.rmtree(place)


def test_the_listener_of_the_example_takes_copies_whatever_main_cf_says(chain: Chain) -> None:
    """And what always_bcc adds gets each of the copies, as the README says."""
    message = letter(b"Message-ID: <examples@s.test>", to=b"alice@r.test, bob@r.test")
    with SMTPClient(chain.port("outbound")) as client:
        assert client.send("sender@s.test", ["alice@r.test", "bob@r.test"], message)[-1].code == 250
    chain.mta.wait_until_empty()
    found = sorted((mail.rcpt_to, CANARY in mail.raw, b"pkcs7-mime" in mail.raw) for mail in chain.sink.messages)
    assert found == [(("alice@r.test", ARCHIVE), False, True), ((ARCHIVE, "bob@r.test"), False, False)]


def test_mail_from_sendmail_1_is_filtered_as_in_the_example(folder: Path, lab: DNSLab) -> None:
    """And what is deferred waits in the queue, not in the maildrop."""
    with tempfile.TemporaryDirectory(prefix="sendmail1-", dir=folder) as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "postfix").mkdir()
        listener = Listener(options=example_options(EXAMPLE, "10024"))
        with Sink() as sink, Smilla(place / "smilla", lab.resolver, {"policy": {"mixed": "defer"}}) as smilla:
            listener.options["smtpd_milters"] = smilla.milter
            exported = {"export_environment": "MAIL_CONFIG LD_LIBRARY_PATH"}  # to postdrop, where it is unpacked only
            postfix = Postfix(place / "postfix", sink.port, [listener], STRICT | exported)
            (way, port) = example_options(EXAMPLE, "pickup", "unix")["content_filter"].rsplit(":", 1)
            assert (way, port) == ("smilla-in:[127.0.0.1]", "10024")
            postfix.transports = {"smilla-in": example_options(EXAMPLE, "smilla-in", "unix")}
            postfix.pickup_options = {"content_filter": f"{way}:{listener.port}"}
            with postfix:
                for recipient in ("alice@r.test", "alice@bogus.test"):
                    _sendmail(postfix, recipient)
                (mail,) = sink.wait_for(1)
                smilla.wait_for_log("deferred rcpt=alice@bogus.test")
                assert wait_until(lambda: [path.parent.name for path in postfix.queued()] != [], 60)
                assert wait_until(lambda: not list((postfix.queue / "maildrop").iterdir()), 60)
                assert mail.rcpt_to == ("alice@r.test",)
                assert CANARY not in mail.raw
                assert len(sink.messages) == 1


def test_mail_from_sendmail_1_is_never_turned_away_at_rcpt(folder: Path, lab: DNSLab) -> None:
    """Where somebody sets non_smtpd_milters all the same: the bound and at_rcpt are for SMTP clients only."""
    with tempfile.TemporaryDirectory(prefix="non-smtpd-", dir=folder) as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "postfix").mkdir()
        with Sink() as sink:
            listener = Listener()
            rule: dict[str, Value] = {"domain": ["r.test"], "at_rcpt": True, "no_key": "refuse"}
            settings: Settings = {
                "reinject": {"max_copies": 1, "smtp": f"127.0.0.1:{listener.port}"},
                "rule": [rule],
            }
            with Smilla(place / "smilla", lab.resolver, settings) as smilla:
                exported = {"export_environment": "MAIL_CONFIG LD_LIBRARY_PATH", "non_smtpd_milters": smilla.milter}
                with Postfix(place / "postfix", sink.port, [listener], exported) as postfix:
                    _sendmail(postfix, "alice@r.test", "bob@r.test")
                    found = sink.wait_for(2)
                    assert sorted(mail.rcpt_to for mail in found) == [("alice@r.test",), ("bob@r.test",)]
                    assert not any(CANARY in mail.raw for mail in found)
                    _sendmail(postfix, "n1@r.test")
                    assert "via=rcpt" not in smilla.wait_for_log("refused rcpt=n1@r.test")


def _sendmail(postfix: Postfix, *recipients: str) -> None:
    program = postfix_daemons().parents[2] / "sbin/sendmail"
    environment = program_environment(program) | {"MAIL_CONFIG": str(postfix.folder / "etc")}
    argv = [str(program), "-f", "sender@s.test", *recipients]
    done = subprocess.run(
        argv, input=letter(to=", ".join(recipients).encode()), env=environment, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode() + postfix.log[-2000:]
