"""How a message came, with real MTAs, TLS and certificates: what is said is true, and what was forged is gone.

client -> smtpd, with STARTTLS or without -> smilla (inbound) -> Maildir (with Sendmail: the sink)
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.opendkim import OpenDKIM, make_dkim_key
from tests.lab.programs import require_servers
from tests.live.examples import beside_postfix
from tests.live.mta import CANARY, Mta, check_logs, letter, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

ID = "mx.home.test"
FORGED = (
    b"Authentication-Results: mx.home.test; x-tls=pass smtp.cipher=FORGED",
    b"X-Smilla-Transport: circle ours FORGED FORGED; e2e=smime",
    b"Authentication-Results: mx.home.test; dkim=pass header.d=s.test",
    b'authentication-results: (x)\r\n\t"MX.HOME.TEST" 1; dmarc=pass;\r\n X-TLS = pass (FORGED)',
    b"Authentication-Results: relay.test; x-tls=pass smtp.version=TLSv1.2",
    b"x-smilla-transport: FORGED",
)
KEPT = (FORGED[2], FORGED[4])
NO_TLS = b"Authentication-Results: mx.home.test;\r\n\tx-tls=none\r\nX-Smilla-Transport: plain; e2e="
RESULTS = (
    b"Authentication-Results: mx.home.test;\r\n\tx-tls=pass smtp.version=TLSv1.3 "
    b"smtp.cipher=TLS_AES_256_GCM_SHA384 smtp.bits=256\r\n"
)


def says(way: bytes, e2e: bytes = b"none") -> bytes:
    """Both fields, as they are to stand in the header."""
    if way == b"plain":
        return NO_TLS + e2e + b"\r\n"
    return RESULTS + b"X-Smilla-Transport: " + way + b" TLSv1.3 TLS_AES_256_GCM_SHA384; e2e=" + e2e + b"\r\n"


class Certificates:
    """A circle's CA, a stranger's CA of the same name that no MTA trusts, one of another name that is trusted, and a
    certificate of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, subject in (("circle", "Our CA"), ("twin", "Our CA"), ("other", "Their CA")):
            self._openssl("req", "-x509", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "9", "-subj",
                          f"/C=ES/O=A Network/CN={subject}", *_NEW_KEY)  # fmt: skip
            self._made(f"by-{name}", name, f"/O=x/CN={name}.member.test; x-tls=pass (")
        self._made("server", "circle", "/CN=mta.test")
        (folder / "trusted.pem").write_bytes((folder / "circle.pem").read_bytes() + (folder / "other.pem").read_bytes())
        for key in folder.glob("*.key"):
            key.chmod(0o600)

    def pair(self, name: str) -> tuple[Path, Path]:
        """A client's certificate and its key."""
        return self.folder / f"by-{name}.pem", self.folder / f"by-{name}.key"

    def _made(self, name: str, authority: str, subject: str) -> None:
        self._openssl("req", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject, *_NEW_KEY)
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                      "-CAcreateserial", "-out", f"{name}.pem", "-days", "9")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Iterator[Certificates]:
    """Sendmail reads none below a folder that everybody may write to, such as /tmp."""
    place = Path(tempfile.mkdtemp(prefix="smilla-live-", dir="/run"))
    place.chmod(0o755)
    try:
        yield Certificates(place)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(
    request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys, certificates: Certificates
) -> Iterator[Mta]:
    """An MTA with STARTTLS, and four filters: inbound, one that only observes, one that splits, with Postfix by the
    stage, with Sendmail by re-injection, and one behind OpenDKIM, which has the same authserv-id."""
    require_servers("opendkim")
    place = Path(tempfile.mkdtemp(prefix="transport-", dir=folder))
    home = place / "keys"
    home.mkdir()
    (home / "alice@home.test.pem").write_bytes(keys.alice.certificate_file.read_bytes())
    (home / "bob@home.test.pgp").write_bytes(keys.bob.raw)
    for path in (place, home):
        path.chmod(0o755)
    inbound: dict[str, Any] = {
        "mode": "inbound",
        "local_domains": ["home.test"],
        "keys": {"sources": ["directory"], "directory": str(home)},
        "transport": {"authserv_id": ID, "circles": True},
        "circle": [{"name": "ours", "domains": ["home.test"], "ca_file": str(certificates.folder / "circle.pem")}],
    }
    mixed = {"policy": {"mixed": "stage" if request.param == "postfix" else "reinject"}, "stage": {"check": False}}
    filters = {"inbound": inbound, "observing": {**inbound, "observe": True}, "splitting": {**inbound, **mixed}}
    filters["verified"] = inbound
    verifier = OpenDKIM(certificates.folder / f"opendkim-{request.param}", make_dkim_key("s.test"))
    tls = {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(certificates.folder / "server.pem"),
        "smtpd_tls_key_file": str(certificates.folder / "server.key"),
        "smtpd_tls_CAfile": str(certificates.folder / "trusted.pem"),
        "smtpd_tls_ask_ccert": "yes",
    }
    lines = [
        f"define(`{name}', `{certificates.folder}/{file}')dnl"
        for name, file in (("confSERVER_CERT", "server.pem"), ("confSERVER_KEY", "server.key"),
                           ("confCACERT", "trusted.pem"), ("confCACERT_PATH", ""))
    ]  # fmt: skip
    try:
        options = dict.fromkeys(filters, tls) if request.param == "postfix" else {}
        main = {"export_environment": "MAIL_CONFIG LD_LIBRARY_PATH"}
        chain = Chain(place, lab.resolver, filters, main, kind=request.param, options=options, lines=lines)
        main["non_smtpd_milters"] = chain.filters["inbound"].milter
        chain.listeners["verified"].milters = [verifier.milter, *chain.listeners["verified"].milters]
        with verifier, chain:
            yield Mta(chain)
            check_logs(chain)
    finally:
        shutil.rmtree(place)


def send(mta: Mta, message: bytes, *names: str, listener: str = "inbound", tls: dict[str, Any] | None = None) -> bytes:
    """Sends a message, marked, with these options of STARTTLS or without it; returns it as it was sent."""
    sent = b"X-Mark: %d-\r\n" % next(numbers) + message
    with SMTPClient(mta.chain.port(listener)) as client:
        if tls is not None:
            client.start_tls(**tls)
        reply = client.send("sender@s.test", [f"{name}@home.test" for name in names], sent)[-1]
    assert reply.code == 250, reply
    return sent


def check_header(raw: bytes, expected: bytes) -> None:
    """What is said stands before all that the client sent, once; what was forged is gone; the rest stands."""
    head = raw.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert expected in head, head
    assert head.index(expected) < head.index(b"X-Mark")
    assert b"FORGED" not in head
    assert len(re.findall(rb"(?im)^X-Smilla-Transport", head)) == 1
    assert len(re.findall(rb"(?i)x-tls", head)) == 2  # ours, and that of relay.test
    for field in KEPT:
        assert head.count(field + b"\r\n") == 1
    assert b"Authentication-Results: mx.home.test; dkim=pass" in head


CLIENTS: dict[str, tuple[str, dict[str, Any] | None, bytes]] = {
    "in the clear": ("", None, b"plain"),
    "tls": ("", {}, b"tls"),
    "tls, and no second EHLO": ("", {"ehlo": False}, b"tls"),
    "a certificate of the circle": ("circle", {}, b"circle ours"),
    "a certificate of another authority that is trusted": ("other", {}, b"tls"),
    "a certificate of an authority of the circle's name that is not trusted": ("twin", {}, b"tls"),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_said_is_how_the_message_came(mta: Mta, certificates: Certificates, client: str) -> None:
    name, tls, way = CLIENTS[client]
    if name and tls is not None:
        tls = {**tls, "certificate": certificates.pair(name)}
    sent = send(mta, letter(*FORGED), "carol", tls=tls)
    raw = mta.in_mailbox("carol", sent)
    check_header(raw, says(way))
    mark = sent[: sent.index(b"\r\n")]
    assert raw[raw.index(mark) :] == mark + b"\r\n" + letter(*KEPT)


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize(("tls", "way"), [(None, b"plain"), ({}, b"tls")])
def test_what_is_encrypted_here_says_it_outside(mta: Mta, name: str, tls: dict[str, Any] | None, way: bytes) -> None:
    raw = mta.in_mailbox(name, send(mta, letter(*FORGED), name, tls=tls))
    assert CANARY not in raw
    check_header(raw, says(way))


def test_what_came_encrypted_end_to_end_is_told(mta: Mta) -> None:
    first = mta.in_mailbox("alice", send(mta, letter(*FORGED), "alice"))
    again = b"\r\n".join(FORGED) + first[first.index(b"\r\nContent-Type:") :]
    sent = send(mta, again, "carol", tls={})
    check_header(mta.in_mailbox("carol", sent), says(b"tls", b"smime"))


def test_while_observing_nothing_is_changed(mta: Mta) -> None:
    sent = send(mta, letter(*FORGED), "carol", listener="observing", tls={})
    raw = mta.in_mailbox("carol", sent)
    assert raw[raw.index(sent[: sent.index(b"\r\n")]) :] == sent
    assert b"smtp.cipher=TLS" not in raw


def test_copies_of_a_message_that_was_split_say_it_too(mta: Mta) -> None:
    names = ("alice", "bob", "carol")
    sent = send(mta, letter(*FORGED), *names, listener="splitting", tls={})
    if mta.chain.kind == "postfix":
        copies = {name: mta.in_mailbox(name, sent) for name in names}
    else:
        copies = {mail.rcpt_to[0].partition("@")[0]: mail.raw for mail in mta.delivered(sent)}
    assert copies.keys() == set(names)
    for name, raw in copies.items():
        check_header(raw, says(b"tls"))
        assert (CANARY in raw) == (name == "carol")


def test_behind_a_verifier_of_the_same_name_its_result_stays_and_the_right_fields_go(mta: Mta) -> None:
    """OpenDKIM puts its field even before the MTA's own Received, so this tells whether the numbers are the MTA's."""
    sent = send(mta, letter(*FORGED), "carol", listener="verified", tls={})
    raw = mta.in_mailbox("carol", sent)
    head = raw.partition(b"\r\n\r\n")[0]
    assert says(b"tls") in head
    assert head.index(says(b"tls")) < head.index(b"X-Mark")
    assert b"FORGED" not in head
    assert re.findall(rb"(?m)^Authentication-Results: mx.home.test; dkim=(\w+)", head) == [b"none"]
    assert KEPT[1] in head
    assert len(re.findall(rb"(?im)^Authentication-Results:", head)) == 3
    encrypted = mta.in_mailbox("alice", send(mta, letter(*FORGED), "alice", listener="verified"))
    assert says(b"plain") in encrypted
    assert encrypted.count(b"mx.home.test; dkim=none") == 1
    assert b"FORGED" not in encrypted


def test_config_check_says_what_may_be_forged_and_whom_postfix_trusts_too(mta: Mta) -> None:
    smilla = mta.chain.filters["inbound"]
    argv = [sys.executable, "-m", "smilla", "config", "check", "--probe", "--json", "--config", str(smilla.config)]
    if mta.chain.kind == "postfix":
        argv += ["--postfix-config", str(mta.chain.postfix.folder / "etc")]
    done = subprocess.run(argv, env=beside_postfix(), capture_output=True, text=True, check=False)
    found = [each for each in json.loads(done.stdout)["findings"] if each["kind"] == "transport"]
    texts = {each["severity"]: each["text"] for each in found}
    if mta.chain.kind == "sendmail":
        assert "hint" in texts, done.stdout + done.stderr
    else:
        assert texts.keys() == {"error", "warning"}
        assert "1 authorities that are in no [[circle]]" in texts["error"]
        assert f"Authentication-Results fields of {ID} that came from outside stay" in texts["warning"]


def test_mail_of_sendmail_came_over_no_network_and_is_told_as_plain(mta: Mta) -> None:
    if mta.chain.kind != "postfix":
        pytest.skip("the laboratory has Postfix's sendmail(1) only")
    sent = b"X-Mark: %d-\r\n" % next(numbers) + letter(*FORGED)
    mta.chain.postfix.sendmail(sent.replace(b"\r\n", b"\n"), "sender@s.test", "carol@home.test")
    raw = mta.in_mailbox("carol", sent)
    check_header(raw, says(b"plain"))
    assert "internal-error" not in mta.chain.filters["inbound"].log
