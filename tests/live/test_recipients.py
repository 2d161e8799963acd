"""Messages to several recipients, behind both MTAs: who got what, once, in which form, and who is told of whom.

Everything that reaches the sink is looked at: each recipient exactly once, those who share a copy the same octets, each
copy opened by openssl or gpg, and nothing in it, neither address nor key ID, of anybody whom its readers shall not
know.
"""

from __future__ import annotations

import base64
import contextlib
import email
import re
import shutil
import subprocess
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.keys import OpenPGPKey, SMIMEKey, encrypt_openpgp, encrypted_part
from tests.lab.mail import header_fields, inside
from tests.lab.postfix import Postfix
from tests.lab.programs import find_program
from tests.lab.sasl import DovecotAuth
from tests.live.mta import CANARY, Mta, check_logs, letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_REINJECT: dict[str, Any] = {"policy": {"mixed": "reinject"}, "dns": {"timeout_s": 10}}
_FILTERS: dict[str, Any] = {
    "outbound": _REINJECT,
    "strict": _REINJECT | {"policy": {"no_key": "refuse"}},
    "bounce": _REINJECT | {"policy": {"one_fails": "bounce"}},
    "foreign": _REINJECT | {"policy": {"one_fails": "bounce"}, "internal_networks": ["192.0.2.0/24"]},
    "defer": _REINJECT | {"policy": {"mixed": "defer"}},
    "refuse": _REINJECT | {"policy": {"mixed": "refuse"}},
    "hold": _REINJECT | {"policy": {"no_key": "hold"}},
    "observe": _REINJECT | {"observe": True, "policy": {"one_fails": "bounce"}},
    "together": _REINJECT | {"smime": {"separate": False}},
    "few": _REINJECT | {"reinject": {"max_copies": 3}},
    "rules": _REINJECT
    | {
        "policy": {"wish_subject": "[encrypt]", "wish_header": "X-Encrypt"},
        "rule": [
            {"recipient": "anna@r.test", "encrypt": "never"},
            {"recipient": "n1@r.test", "encrypt": "require"},
            {"recipient": "gina@r.test", "formats": ["openpgp"]},
            {"recipient": "arthur@r.test", "also_to": ["sender", "dora@r.test"]},
            {"domain": ["bogus.test"], "at_rcpt": True},
            {"sender": "boss@s.test", "no_key": "refuse"},
        ],
    },
    "auto": _REINJECT | {"mode": "auto", "local_domains": ["home.test"], "internal_networks": ["192.0.2.0/24"]},
    "auth": _REINJECT | {"mode": "auto", "local_domains": ["home.test"], "internal_networks": ["192.0.2.0/24"]},
    "auto-originating": _REINJECT
    | {"mode": "auto", "local_domains": ["home.test"], "internal_networks": ["192.0.2.0/24"]},
    "auto-internal": _REINJECT | {"mode": "auto", "local_domains": ["home.test"]},
    "auto-local": _REINJECT | {"mode": "auto", "local_domains": ["r.test"], "internal_networks": ["192.0.2.0/24"]},
}


def _staged(settings: dict[str, Any]) -> dict[str, Any]:
    """The same filter, with the stage where it re-injected."""
    policy = settings.get("policy", {})
    return (
        {**settings, "policy": {**policy, "mixed": "stage"}}
        if policy.get("mixed", "reinject") == "reinject"
        else settings
    )


@pytest.fixture(scope="module")
def running(folder: Path, lab: DNSLab) -> Iterator[Callable[[str], Mta]]:
    """An MTA with a listener for each of the filters, by its kind (stage, postfix or sendmail); each starts once."""
    sasl = {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": "private/auth",
        "smtpd_sasl_security_options": "noanonymous",
    }
    started: dict[str, Mta] = {}
    with contextlib.ExitStack() as stack:

        def start(kind: str) -> Mta:
            if kind in started:
                return started[kind]
            place = Path(tempfile.mkdtemp(prefix="recipients-", dir=folder))
            place.chmod(0o755)
            stack.callback(shutil.rmtree, place)
            filters = {name: _staged(s) if kind == "stage" else s for name, s in _FILTERS.items()}
            options: dict[str, dict[str, str]] = {"auto-originating": {"Name": "ORIGINATING"}}
            if kind != "sendmail":
                options = {"auto-originating": {"milter_macro_daemon_name": "ORIGINATING"}, "auth": sasl}
            mta = "sendmail" if kind == "sendmail" else "postfix"
            chain = stack.enter_context(Chain(place, lab.resolver, filters, kind=mta, options=options))
            chain.sink.extensions = ("8BITMIME", "SMTPUTF8", "DSN")
            started[kind] = Mta(chain)
            return started[kind]

        yield start
        for mta in started.values():
            check_logs(mta.chain)


@pytest.fixture(params=["stage", "postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, running: Callable[[str], Mta]) -> Mta:
    """An MTA whose messages are split by the stage, or by re-injection."""
    return running(request.param)


@pytest.fixture(params=["postfix", "sendmail"])
def inject(request: pytest.FixtureRequest, running: Callable[[str], Mta]) -> Mta:
    """An MTA where further copies are re-injected before it has decided about the message."""
    return running(request.param)


@dataclass(frozen=True)
class Scenario:
    """Who is written to, how, and what must come of it.

    ``copies`` are groups "form name …" of who gets the same octets; a name without a domain is one of r.test.
    ``readers`` adds further readers to the copy of a name.
    """

    name: str
    to: str
    copies: tuple[str, ...] = ()
    cc: str = ""
    hidden: str = ""
    listener: str = "outbound"
    sender: str = "sender@s.test"
    reply: str = "250"
    subject: bytes = b"a letter"
    fields: tuple[bytes, ...] = ()
    readers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


SCENARIOS = [
    Scenario("one-smime", "alice", ("smime alice",)),
    Scenario("one-openpgp", "bob", ("openpgp bob",)),
    Scenario("one-without", "n1", ("plain n1",)),
    Scenario("rsa-share", "alice anna arthur", ("smime alice anna arthur",)),
    Scenario("elliptic-share", "erin emil", ("smime erin emil",)),
    Scenario("rsa-and-elliptic", "alice erin anna", ("smime alice anna", "smime erin")),
    Scenario("together", "alice erin anna", ("smime alice erin anna",), listener="together"),
    Scenario("openpgp-share", "bob brit ben", ("openpgp bob brit ben",)),
    Scenario("two-formats", "alice bob", ("smime alice", "openpgp bob")),
    Scenario("smime-and-plain", "alice n1", ("smime alice", "plain n1")),
    Scenario("openpgp-and-plain", "bob n1 n2", ("openpgp bob", "plain n1 n2")),
    Scenario("every-kind", "alice erin bob n1", ("smime alice", "smime erin", "openpgp bob", "plain n1")),
    Scenario("to-and-cc", "alice bob", ("smime alice anna", "openpgp bob brit"), cc="anna brit"),
    Scenario("blind-smime", "alice", ("smime alice", "smime dora"), hidden="dora"),
    Scenario("two-blind-smime", "n1", ("plain n1", "smime dora", "smime anna"), hidden="dora anna"),
    Scenario("blind-openpgp", "bob", ("openpgp bob", "openpgp dirk"), hidden="dirk"),
    Scenario("blind-plain", "alice", ("smime alice", "plain n1"), hidden="n1"),
    Scenario("blind-of-each-kind", "alice bob", ("smime alice", "openpgp bob", "smime dora", "openpgp dirk"),
             hidden="dora dirk"),
    Scenario("a-list", "list@lists.test", ("smime alice", "smime anna", "openpgp bob", "openpgp brit", "plain n1"),
             hidden="alice anna bob brit n1", sender="list-bounces@lists.test"),
    Scenario("a-bcc-field-left-standing", "alice", ("smime alice", "smime dora"), hidden="dora",
             fields=(b"Bcc: dora@r.test",)),
    Scenario("the-null-sender", "alice bob", ("smime alice", "openpgp bob"), sender=""),
    Scenario("strict-refuses-all", "alice n1", reply="550 5.7.5 <n1@r.test>", listener="strict"),
    Scenario("forged-defers-all", "alice alice@bogus.test", reply="451 4.7.5 <alice@bogus.test>"),
    Scenario("slow-defers-all", "alice alice@silent.test", reply="451 4.7.5 <alice@silent.test>"),
    Scenario("bounce-one-deferred", "alice bob alice@bogus.test",
             ("smime alice", "openpgp bob", "bounce sender@s.test"), listener="bounce"),
    Scenario("bounce-one-refused", "n1 expired", ("plain n1", "bounce sender@s.test"), listener="bounce"),
    Scenario("bounce-nobody-of-the-null-sender", "alice alice@bogus.test", reply="451 4.7.5", sender="",
             listener="bounce"),
    Scenario("bounce-for-ours-only", "alice alice@bogus.test", reply="451 4.7.5", listener="foreign"),
    Scenario("bounce-where-all-fail", "alice@bogus.test expired", reply="451 4.7.5", listener="bounce"),
    Scenario("mixed-defer", "alice bob", reply="451 4.3.0 The recipients need 2 different forms", listener="defer"),
    Scenario("mixed-refuse", "alice bob", reply="550 5.7.5 The recipients need 2 different forms", listener="refuse"),
    Scenario("observe", "alice bob n1 alice@bogus.test", ("plain alice bob n1 alice@bogus.test",), listener="observe"),
    Scenario("the-same-twice", "alice alice bob", ("smime alice", "openpgp bob"),
             extra={"envelope": ["alice@r.test", "alice@r.test", "bob@r.test"]}),
    Scenario("a-domain-in-capitals", "alice bob", ("smime alice", "openpgp bob"),
             extra={"envelope": ["alice@R.TEST", "bob@r.test"]}),
    Scenario("a-source-route", "alice bob", ("smime alice", "openpgp bob"),
             extra={"envelope": ["@relay.test:alice@r.test", "bob@r.test"]}),
    Scenario("a-source-route-that-the-mta-does-not-find", "alice bob", ("smime alice", "openpgp bob"),
             extra={"envelope": ["alice@r.test", "@relay.test:bob@r.test"]}),
    Scenario("two-spellings-of-one-mailbox", "alice anna arthur bob", ("smime alice anna arthur", "openpgp bob"),
             extra={"envelope": ["alice@r.test", "anna@r.test", "arthur@r.test", "bob@r.test", "bob@R.TEST"]}),
    Scenario("never-by-rule", "alice anna", ("smime alice", "plain anna"), listener="rules"),
    Scenario("require-by-rule", "alice n1", reply="550 5.7.5 <n1@r.test>", listener="rules"),
    Scenario("formats-by-rule", "alice gina", ("smime alice", "openpgp gina"), listener="rules"),
    Scenario("sender-by-rule", "alice n2", reply="550 5.7.5 <n2@r.test>", listener="rules", sender="boss@s.test"),
    Scenario("further-readers", "arthur bob", ("smime arthur", "openpgp bob"), listener="rules",
             sender="alice@r.test", readers={"arthur": ("alice", "dora")}),
    Scenario("a-wish-in-the-subject", "alice n2", reply="550 5.7.5 <n2@r.test>", listener="rules",
             subject=b"[encrypt] a letter"),
    Scenario("a-wish-in-a-field", "alice n2", reply="550 5.7.5 <n2@r.test>", listener="rules",
             fields=(b"X-Encrypt: yes",)),
    Scenario("a-wish-that-holds", "alice bob", ("smime alice", "openpgp bob"), listener="rules",
             subject=b"[encrypt] a letter", fields=(b"X-Encrypt: yes",)),
    Scenario("auto-relayed", "alice", ("smime alice",), listener="auto"),
    Scenario("auto-originating", "alice", ("smime alice",), listener="auto-originating"),
    Scenario("auto-internal", "alice bob", ("smime alice", "openpgp bob"), listener="auto-internal"),
    Scenario("auto-outside-to-here", "alice n1", ("smime alice", "plain n1"), listener="auto-local"),
]  # fmt: skip


def full(name: str) -> str:
    return name if "@" in name else f"{name}@r.test"


def caseless(address: str) -> str:
    """The address with its domain in lower case."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def compose(scenario: Scenario) -> tuple[bytes, list[str]]:
    """The message and its envelope recipients."""
    to, cc, hidden = ([full(name) for name in text.split()] for text in (scenario.to, scenario.cc, scenario.hidden))
    fields = [b"From: Sender <sender@s.test>", b"To: " + ", ".join(dict.fromkeys(to)).encode()]
    fields += [b"Cc: " + ", ".join(cc).encode()] if cc else []
    fields += [b"Subject: " + scenario.subject, b"Date: Tue, 24 Nov 2026 10:00:00 +0000", *scenario.fields]
    fields += [b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit"]
    head = b"\r\n".join([*fields, b"Message-ID: <%s@s.test>" % uuid.uuid4().hex.encode()])
    envelope = [address for address in [*to, *cc, *hidden] if "lists.test" not in address]
    return head + b"\r\n\r\nK\xc3\xa4se " + CANARY + b"\r\n.\r\n", scenario.extra.get("envelope", envelope)


def unfolded(raw: bytes) -> bytes:
    """The message with each header field on one line."""
    head, middle, body = raw.partition(b"\r\n\r\n")
    return re.sub(rb"\r\n[ \t]+", b" ", head) + middle + body


def words(raw: bytes) -> bytes:
    """The message without its lines of Base64 and armour, where "/n1+" may stand by chance."""
    return re.sub(rb"(?m)^[A-Za-z0-9+/=]+\r$", b"", raw)


def key_mark(key: SMIMEKey | OpenPGPKey) -> bytes:
    """The octets by which a ciphertext names a key: the certificate's serial number, the subkey's key ID."""
    if isinstance(key, SMIMEKey):
        serial = x509.load_der_x509_certificate(key.raw_certificate).serial_number
        return serial.to_bytes((serial.bit_length() + 7) // 8)
    command = [str(find_program("gpg")), "--homedir", str(key.home), "--batch", "--with-colons", "--list-keys"]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    (subkey,) = [line.split(":")[4] for line in lines if line.startswith("sub:")]
    return bytes.fromhex(subkey)


def payload(raw: bytes, form: str) -> bytes:
    """The ciphertext as octets, without Base64 or armour."""
    if form == "smime":
        return base64.b64decode(raw.partition(b"\r\n\r\n")[2])
    lines = encrypted_part(raw).replace(b"\r\n", b"\n").partition(b"\n\n")[2].split(b"\n=")[0]
    return base64.b64decode(lines)


@pytest.fixture(scope="module")
def marks(keys: Keys) -> dict[str, bytes]:
    return {name: key_mark(key) for name, key in keys.people.items()} | {"gina-openpgp": key_mark(keys.gina_openpgp)}


@dataclass
class Judge:
    """Looks at everything that came of one message."""

    keys: Keys
    marks: dict[str, bytes]
    place: Path

    def check(self, found: Sequence[ReceivedMail], sent: bytes, scenario: Scenario) -> None:
        """The groups of the scenario, each once, and nothing else."""
        groups = [(text.split()[0], [full(name) for name in text.split()[1:]]) for text in scenario.copies]
        expected = Counter(caseless(address) for _, members in groups for address in members)
        assert Counter(caseless(address) for mail in found for address in mail.rcpt_to) == expected
        for form, members in groups:
            mails = [mail for mail in found if set(map(caseless, mail.rcpt_to)) & set(members)]
            assert len({mail.raw_body for mail in mails}) == 1, form
            if form in ("smime", "openpgp"):
                assert mails[0].raw_body not in [mail.raw_body for mail in found if mail not in mails]
            for mail in mails:
                assert mail.mail_from == ("" if form == "bounce" else scenario.sender)
                getattr(self, f"_{form}")(mail, sent, members, scenario)

    def _ciphertext(self, mail: ReceivedMail, sent: bytes, members: list[str], scenario: Scenario, form: str) -> None:
        assert CANARY not in mail.raw
        names = {member.removesuffix("@r.test") for member in members}
        wanted = names | {reader for name in names for reader in scenario.readers.get(name, ())}
        wanted = {f"{name}-openpgp" if (name, form) == ("gina", "openpgp") else name for name in wanted}
        octets = payload(mail.raw, form)
        assert {name for name, mark in self.marks.items() if mark in octets} == wanted
        file = self.place / "arrived.eml"
        file.write_bytes(mail.raw)
        for name in wanted:
            key = self.keys.gina_openpgp if name == "gina-openpgp" else self.keys.people[name]
            assert key.open(file) == inside(sent)
        self._tells_of_nobody(mail, members, scenario)
        assert header_fields(mail.raw, "Subject") == [b"Subject: " + scenario.subject.replace(b"[encrypt] ", b"")]
        assert header_fields(mail.raw, "X-Encrypt", "Bcc") == []
        assert len(header_fields(mail.raw, "Message-ID")) == 1

    def _tells_of_nobody(self, mail: ReceivedMail, members: list[str], scenario: Scenario) -> None:
        for stranger in (full(name) for name in scenario.hidden.split()):
            if stranger not in members:
                local = stranger.partition("@")[0].encode()
                assert not re.search(rb"\b" + local + rb"\b", words(mail.raw), re.IGNORECASE), stranger

    def _smime(self, mail: ReceivedMail, sent: bytes, members: list[str], scenario: Scenario) -> None:
        self._ciphertext(mail, sent, members, scenario, "smime")

    def _openpgp(self, mail: ReceivedMail, sent: bytes, members: list[str], scenario: Scenario) -> None:
        self._ciphertext(mail, sent, members, scenario, "openpgp")

    def _plain(self, mail: ReceivedMail, sent: bytes, members: list[str], scenario: Scenario) -> None:
        assert mail.raw_body == sent.partition(b"\r\n\r\n")[2]
        if not scenario.fields:
            assert unfolded(mail.raw).endswith(unfolded(sent))  # Sendmail folds To anew
        assert b"\r\nX-Smilla" not in mail.raw
        self._tells_of_nobody(mail, members, scenario)

    def _bounce(self, mail: ReceivedMail, sent: bytes, members: list[str], scenario: Scenario) -> None:
        message = email.message_from_bytes(mail.raw)
        assert message.get_content_type() == "multipart/report"
        report: Any = message.get_payload()
        _, status, original = report
        assert status.get_content_type() == "message/delivery-status"
        failed = [part["Final-Recipient"] for part in status.get_payload()[1:]]
        served = {full(n) for text in scenario.copies for n in text.split()[1:]}
        to = {full(name) for name in scenario.to.split()}
        assert {text.partition("; ")[2] for text in failed} == to - served
        assert all(part["Action"] == "failed" for part in status.get_payload()[1:])
        assert original.get_content_type() == "text/rfc822-headers"
        assert CANARY not in mail.raw


@pytest.fixture
def judge(keys: Keys, marks: dict[str, bytes], tmp_path: Path) -> Judge:
    return Judge(keys, marks, tmp_path)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_everyone_gets_exactly_one_in_the_right_form(mta: Mta, judge: Judge, scenario: Scenario) -> None:
    message, envelope = compose(scenario)
    reply, sent = mta.send(message, envelope, sender=scenario.sender, listener=scenario.listener)
    assert str(reply).startswith(scenario.reply), reply
    judge.check(mta.delivered(sent), sent, scenario)


TWENTY = Scenario(
    "twenty",
    "alice anna arthur gina erin emil bob brit ben n1 n2 n3 n4 n5 alice@unsigned.test alice@bogus.test expired",
    (
        "smime alice anna arthur gina", "smime erin emil", "openpgp bob brit ben", "smime dora", "openpgp dirk",
        "plain n1 n2 n3 n4 n5 alice@unsigned.test list", "bounce sender@s.test",
    ),
    hidden="dora dirk list",
    listener="bounce",
)  # fmt: skip


def test_a_message_to_twenty_of_all_kinds_arrives_as_the_documentation_says(mta: Mta, judge: Judge) -> None:
    message, envelope = compose(TWENTY)
    assert len(envelope) == 20
    reply, sent = mta.send(message, envelope, listener="bounce")
    assert reply.code == 250, reply
    judge.check(mta.delivered(sent), sent, TWENTY)
    log = mta.chain.filters["bounce"].log
    (line,) = [line for line in log.splitlines() if " message " in line and "rcpts=20" in line]
    assert "copies=6 reply=accept" in line


def test_the_same_message_reaches_nobody_by_default_as_the_documentation_says(mta: Mta, judge: Judge) -> None:
    message, envelope = compose(TWENTY)
    reply, sent = mta.send(message, envelope)
    assert str(reply).startswith("451 4.7.5 <alice@bogus.test>"), reply
    judge.check(mta.delivered(sent), sent, replace(TWENTY, copies=()))


def test_what_is_encrypted_already_goes_to_all_as_it_is(mta: Mta, keys: Keys) -> None:
    armour = encrypt_openpgp(keys.bob, b"Content-Type: text/plain\r\n\r\nhello\r\n").replace(b"\n", b"\r\n")
    message = letter(b"Content-Type: text/plain; charset=us-ascii", body=armour)
    reply, sent = mta.send(message, ["alice@r.test", "bob@r.test", "dora@r.test"])
    assert reply.code == 250, reply
    found = mta.delivered(sent)
    assert Counter(a for mail in found for a in mail.rcpt_to) == Counter(["alice@r.test", "bob@r.test", "dora@r.test"])
    assert all(mail.raw.endswith(sent) for mail in found)


def test_who_is_held_stays_in_quarantine_until_released_and_the_others_get_theirs(inject: Mta, judge: Judge) -> None:
    scenario = Scenario("hold", "alice n1", ("smime alice",), listener="hold")
    message, envelope = compose(scenario)
    reply, sent = inject.send(message, envelope, listener="hold")
    assert reply.code == 250, reply
    inject.arrived(sent)
    judge.check([mail for mail in inject.chain.sink.messages if sent.split(b"\r\n")[0] in mail.raw], sent, scenario)
    held = inject.queued_with(CANARY)
    assert len(held) == 1
    before = len(inject.chain.sink.messages)
    inject.chain.mta.release(held[0].name.removeprefix("df"))
    (released,) = inject.chain.sink.wait_for(before + 1)[before:]
    assert released.rcpt_to == ("n1@r.test",)
    assert CANARY in released.raw
    inject.chain.mta.wait_until_empty()


def test_dsn_parameters_and_8bitmime_reach_every_copy(mta: Mta) -> None:
    message, _ = compose(SCENARIOS[0])
    message = b"X-Mark: dsn-\r\n" + message
    with SMTPClient(mta.chain.port("outbound")) as client:
        client.command("MAIL FROM:<sender@s.test> BODY=8BITMIME RET=HDRS ENVID=QQ+2B7")
        client.command("RCPT TO:<alice@r.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@r.test")
        client.command("RCPT TO:<bob@r.test> NOTIFY=NEVER")
        assert client.command("DATA").code == 354
        assert client.command(message + b".").code == 250
    mta.chain.mta.wait_until_empty()
    found = {mail.rcpt_to: mail for mail in mta.chain.sink.messages if b"X-Mark: dsn-\r\n" in mail.raw}
    assert sorted(found) == [("alice@r.test",), ("bob@r.test",)]
    for mail in found.values():
        assert {"RET=HDRS", "ENVID=QQ+2B7"} <= set(mail.mail_parameters)
    assert set(found["alice@r.test",].rcpt_parameters[0]) >= {"NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;a+2Bb@r.test"}
    assert "NOTIFY=NEVER" in found["bob@r.test",].rcpt_parameters[0]


def test_silence_was_asked_for_so_nobody_is_bounced(mta: Mta) -> None:
    message, _ = compose(SCENARIOS[0])
    with SMTPClient(mta.chain.port("bounce")) as client:
        client.command("MAIL FROM:<sender@s.test>")
        client.command("RCPT TO:<alice@r.test>")
        client.command("RCPT TO:<alice@bogus.test> NOTIFY=NEVER")
        client.command("DATA")
        assert str(client.command(message + b".")).startswith("451 4.7.5 <alice@bogus.test>")


def test_a_rule_defers_one_recipient_at_rcpt_and_the_others_get_the_message(mta: Mta, judge: Judge) -> None:
    scenario = Scenario("at-rcpt", "alice alice@bogus.test bob", ("smime alice", "openpgp bob"))
    message, envelope = compose(scenario)
    mark = b"X-Mark: at-rcpt-\r\n"
    with SMTPClient(mta.chain.port("rules")) as client:
        replies = client.send("sender@s.test", envelope, mark + message)
    assert [reply.code for reply in replies] == [250, 250, 451, 250, 354, 250]
    assert str(replies[2]).startswith("451 4.7.5 <alice@bogus.test>: the answer about a published key fails")
    judge.check(mta.delivered(mark + message), mark + message, scenario)
    assert "deferred rcpt=alice@bogus.test" in mta.chain.filters["rules"].wait_for_log("via=rcpt")


def test_past_the_bound_recipients_are_told_to_come_in_another_transaction(inject: Mta, judge: Judge) -> None:
    scenario = Scenario("list", "list@lists.test", ("smime alice", "smime anna", "openpgp bob", "openpgp brit"),
                        hidden="alice anna bob brit")  # fmt: skip
    message, envelope = compose(scenario)
    mark = b"X-Mark: bound-\r\n"
    with SMTPClient(inject.chain.port("few")) as client:
        first = client.send("sender@s.test", envelope, mark + message)
        assert [reply.code for reply in first] == [250, 250, 250, 250, 452, 354, 250]
        assert "4.5.3" in first[4].text
        assert client.send("sender@s.test", envelope[3:], mark + message)[-1].code == 250
    judge.check(inject.delivered(mark + message), mark + message, scenario)


def tried(inject: Mta, raw: bytes, envelope: list[str]) -> str:
    """The answer to one attempt of a client."""
    with SMTPClient(inject.chain.port()) as client:
        answer = str(client.send("sender@s.test", envelope, raw)[-1])
        client.command("MAIL FROM:<sender@s.test>")  # once it is answered, the filter has finished the one before
        return answer


def counted(inject: Mta, raw: bytes) -> dict[str, int]:
    """How often each has it."""
    return dict(Counter(address for mail in inject.delivered(raw) for address in mail.rcpt_to))


def test_a_retry_after_the_listener_was_away_sends_each_copy_once(inject: Mta, judge: Judge) -> None:
    scenario = Scenario("retry", "alice bob n1", ("smime alice", "openpgp bob", "plain n1"))
    message, envelope = compose(scenario)
    mark = b"X-Mark: retry-\r\n"
    with inject.chain.filters["outbound"].copies_to("127.0.0.1:1"):
        assert tried(inject, mark + message, envelope).startswith("451 4.3.0 Not all copies")
    assert inject.delivered(mark + message) == []
    assert tried(inject, mark + message, envelope).startswith("250")
    judge.check(inject.delivered(mark + message), mark + message, scenario)


def test_what_was_answered_250_swallows_nothing(inject: Mta) -> None:
    """Two equal alarms are two, and whoever knows a message beforehand cannot have it thrown away."""
    message, envelope = compose(Scenario("alarm", "alice bob n1", ()))
    for mark in (b"X-Mark: alarm-%d\r\n" % number for number in range(2)):
        for times in (1, 2):
            assert tried(inject, mark + message, envelope).startswith("250")
            assert counted(inject, mark + message) == dict.fromkeys(envelope, times)


def test_after_a_451_only_the_same_message_is_a_retry(inject: Mta) -> None:
    message, envelope = compose(Scenario("again", "alice bob n1", ()))
    mark = b"X-Mark: again-\r\n"
    sink = inject.chain.sink
    with inject.chain.filters["outbound"].copies_to(f"127.0.0.1:{sink.port}"):
        sink.answer = lambda line: b"451 4.3.0 not now" if b"bob@" in line else None
        try:
            assert tried(inject, mark + message, envelope).startswith("451 4.3.0 Not all copies")
        finally:
            sink.answer = lambda line: None
    assert counted(inject, mark + message) == {"alice@r.test": 1}
    flagged = b"X-Spam-Flag: YES\r\n" + mark + message
    assert tried(inject, flagged, envelope).startswith("250")
    assert counted(inject, mark + message) == {"alice@r.test": 2, "bob@r.test": 1, "n1@r.test": 1}
    assert tried(inject, mark + message, envelope).startswith("250")
    assert counted(inject, mark + message) == {"alice@r.test": 2, "bob@r.test": 2, "n1@r.test": 2}
    inject.chain.filters["outbound"].wait_for_log("already-sent rcpt=alice@r.test")


def test_a_copy_that_comes_back_to_the_filter_is_known_and_goes_no_further_round(inject: Mta, judge: Judge) -> None:
    scenario = Scenario("loop", "alice bob", ("smime alice", "openpgp bob"))
    message, envelope = compose(scenario)
    mark = b"X-Mark: loop-\r\n"
    smilla = inject.chain.filters["outbound"]
    good = dict(smilla._settings)
    back = f"127.0.0.1:{inject.chain.port('outbound')}"
    smilla.write_config({**good, "reinject": {**good["reinject"], "smtp": back}})  # type: ignore[dict-item]
    smilla.reload()
    try:
        with SMTPClient(inject.chain.port()) as client:
            assert client.send("sender@s.test", envelope, mark + message)[-1].code == 250
    finally:
        smilla.write_config(good)
        smilla.reload()
    judge.check(inject.delivered(mark + message), mark + message, scenario)
    smilla.wait_for_log("own-copy")


def test_a_forged_token_of_ours_lets_nothing_past(inject: Mta, keys: Keys, tmp_path: Path) -> None:
    forged = b"Received: from x (x [192.0.2.1])\r\n\tby mta.test (smilla) with ESMTP id " + b"0" * 32
    forged += b";\r\n\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
    reply, sent = inject.send(forged + letter(), ["alice@r.test"])
    assert reply.code == 250, reply
    arrived = inject.arrived(sent)
    assert CANARY not in arrived.raw


def test_smtputf8_reaches_every_copy(mta: Mta) -> None:
    if mta.chain.kind == "sendmail":
        return  # Debian's is built without it
    message, envelope = compose(Scenario("utf8", "alice bob"))
    parameters = "BODY=8BITMIME SMTPUTF8"
    reply, sent = mta.send(message, envelope, sender="käse@s.test", mail_parameters=parameters)
    assert reply.code == 250, reply
    found = mta.delivered(sent)
    assert sorted(mail.rcpt_to for mail in found) == [("alice@r.test",), ("bob@r.test",)]
    assert all(mail.mail_from == "käse@s.test" and "SMTPUTF8" in mail.mail_parameters for mail in found)


def test_the_listener_learns_who_the_client_was(inject: Mta) -> None:
    message, envelope = compose(Scenario("xforward", "alice bob"))
    reply, sent = inject.send(message, envelope)
    assert reply.code == 250, reply
    found = inject.delivered(sent)
    ours = [mail for mail in found if b"(smilla) with ESMTP id" in mail.raw]
    assert len(ours) == 1
    assert re.search(rb"Received: from client.test \(.*\[127.0.0.1\]\)\r\n\tby mta.test \(smilla\)", ours[0].raw)
    if isinstance(inject.chain.mta, Postfix):
        assert "orig_client=" in inject.chain.mta.log


def test_auto_is_outbound_for_who_authenticated(mta: Mta, judge: Judge) -> None:
    if not isinstance(mta.chain.mta, Postfix):
        return  # Sendmail's Cyrus SASL has no server here that it could ask
    message, envelope = compose(Scenario("auth", "alice"))
    mark = b"X-Mark: auth-\r\n"
    with (
        DovecotAuth(mta.chain.mta.queue / "private/auth", {"user": "secret"}),
        SMTPClient(mta.chain.port("auth")) as client,
    ):
        token = base64.b64encode(b"\0user\0secret").decode()
        assert client.command(f"AUTH PLAIN {token}").code == 235
        assert client.send("sender@s.test", envelope, mark + message)[-1].code == 250
    scenario = Scenario("auth", "alice", ("smime alice",))
    judge.check(mta.delivered(mark + message), mark + message, scenario)
