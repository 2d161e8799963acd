"""What the MTA is told and what the log says, for each outcome."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.keys import make_smime_key
from tests.milter.dns_stub import ABSENT, BOGUS, FAILED, DNSStub, Fault, Scripted
from tests.milter.material import directory_settings, edits_of, fill_directory, plain_mail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Clients, MilterClient
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

LINE = re.compile(
    r"(?P<id>\S+) (?P<event>encrypted|unchanged|plain|deferred|refused|held) rcpt=(?P<rcpt>\S+)"
    r"(?: format=(?P<format>smime|openpgp))?(?: source=(?P<source>\S+))?"
    r"(?: dnssec=(?P<dnssec>\S+))? reason=(?P<reason>\S+)(?: rule=.*)?"
)


def recipient_lines(smilla: Smilla, queue_id: str) -> list[dict[str, str | None]]:
    """The log lines about the recipients of a message; all of them in the contract's form."""
    found = []
    for line in smilla.log_lines_of(queue_id):
        if " rcpt=" in line and not line.startswith(f"{queue_id} lookup "):
            match = LINE.fullmatch(line)
            assert match, line
            found.append(match.groupdict())
    return found


def dns_settings(**more: Any) -> dict[str, Any]:
    """Keys from DNS only."""
    return {"dns": {"timeout_s": 15}, **more}


@pytest.mark.parametrize(
    ("scripted", "reply"),
    [
        (BOGUS, "451 4.7.5 <alice@r.test>: the answer about a published key fails DNSSEC validation"),
        (FAILED, "451 4.7.5 <alice@r.test>: the name servers that would know of a published key do not answer"),
        (Scripted(fault=Fault.MALFORMED_RECORD), "550 5.7.5 <alice@r.test>: the published key cannot be used"),
    ],
    ids=["bogus", "unreachable", "malformed"],
)
def test_a_reply_names_the_recipient_and_the_reason(
    start: Starter, clients: Clients, stub: DNSStub, scripted: Scripted, reply: str
) -> None:
    stub.default = scripted
    smilla = start(dns_settings(), resolver=stub.address)
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"], queue_id="QID")
    assert (answer.reply, edits_of(answer)) == (reply, "")
    event = "deferred" if reply.startswith("451") else "refused"
    reason = {BOGUS: "bogus", FAILED: "unreachable"}.get(scripted, "malformed")
    (line,) = recipient_lines(smilla, "QID")
    assert (line["event"], line["rcpt"], line["reason"]) == (event, "alice@r.test", reason)


def test_a_resolver_that_reaches_nobody_is_ours_and_no_fault_of_the_recipient_s_name_servers(
    start: Starter, clients: Clients, stub: DNSStub
) -> None:
    """It answers SERVFAIL to the probe as well."""
    stub.default = stub.probe = FAILED
    smilla = start(dns_settings(), resolver=stub.address)
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"], queue_id="QID")
    assert answer.reply == "451 4.7.5 <alice@r.test>: this system cannot look up keys at the moment; try again later"
    (line,) = recipient_lines(smilla, "QID")
    assert line["reason"] == "resolver_down"


def test_absence_and_unsigned_keys_pass_in_the_clear_by_default_and_without_an_edit(
    start: Starter, clients: Clients, stub: DNSStub, keys: Keys
) -> None:
    smilla = start(dns_settings(), resolver=stub.address)
    client = clients.open(smilla.milter)
    assert client.send(plain_mail(), ["<alice@r.test>"], queue_id="NOKEY").edits == ()
    stub.default = Scripted((b"\3\0\0" + keys.alice.raw_certificate,), authenticated=False)
    assert client.send(plain_mail(), ["<erin@r.test>"], queue_id="INSECURE").edits == ()
    (none,), (insecure,) = recipient_lines(smilla, "NOKEY"), recipient_lines(smilla, "INSECURE")
    assert (none["event"], none["source"], none["dnssec"], none["reason"]) == ("plain", "smimea", "secure", "no_key")
    assert (insecure["event"], insecure["dnssec"], insecure["reason"]) == ("plain", "insecure", "insecure")


def test_a_key_from_signed_dns_encrypts_and_is_logged_so(
    start: Starter, clients: Clients, stub: DNSStub, keys: Keys
) -> None:
    stub.default = Scripted((b"\3\0\0" + keys.alice.raw_certificate,))
    smilla = start(dns_settings(), resolver=stub.address)
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>"], queue_id="SIGNED")
    assert edits_of(answer) == "bhhhhh"
    (line,) = recipient_lines(smilla, "SIGNED")
    assert line == {
        "id": "SIGNED",
        "event": "encrypted",
        "rcpt": "alice@r.test",
        "format": "smime",
        "source": "smimea",
        "dnssec": "secure",
        "reason": "usable",
    }


@pytest.fixture(scope="module")
def strict(start_once: Starter, keys: Keys) -> Smilla:
    """A filter that lets nothing out without a key, and has a rule for each action."""
    rules = [{"recipient": f"*@{action}.test", "no_key": action} for action in ("plain", "defer", "refuse", "hold")]
    return start_once(directory_settings(keys, policy={"no_key": "refuse"}, rule=rules))


@pytest.mark.parametrize(
    ("domain", "reply", "event"),
    [
        ("plain.test", "", "plain"),
        ("defer.test", "451 4.7.5 ", "deferred"),
        ("refuse.test", "550 5.7.5 ", "refused"),
        ("other.test", "550 5.7.5 ", "refused"),
        ("hold.test", "", "held"),
    ],
)
def test_each_action_is_answered_and_logged_as_it_is_named(
    strict: Smilla, clients: Clients, domain: str, reply: str, event: str
) -> None:
    mail = plain_mail()
    text = f"<x@{domain}>: encryption is required, but no key is published"
    answer = clients.open(strict.milter).send(mail, [f"<x@{domain}>"], queue_id=f"ACTION-{domain}")
    assert answer.verdict == {"": "accept", "4": "tempfail", "5": "reject"}[reply[:1]]
    assert answer.reply == (reply and reply + text)
    assert [line["event"] for line in recipient_lines(strict, f"ACTION-{domain}")] == [event]
    assert answer.quarantined == (text if event == "held" else None)
    assert answer.applied(mail, postfix=True).raw == mail.raw


@pytest.mark.parametrize(
    ("recipients", "reply"),
    [
        (["alice@r.test", "x@refuse.test"], "550 5.7.5 <x@refuse.test>: encryption is required"),
        (["x@refuse.test", "x@defer.test", "alice@r.test"], "451 4.7.5 <x@defer.test>: encryption is required"),
        (["x@refuse.test", "y@refuse.test", "z@refuse.test"], "550 5.7.5 <x@refuse.test> (and 2 more): encryption is"),
        (["alice@r.test", "bob@r.test"], "451 4.3.0 The recipients need 2 different forms of this message"),
        (["alice@r.test", "x@plain.test"], "451 4.3.0 The recipients need 2 different forms of this message"),
        (["alice@r.test", "erin@r.test"], "451 4.3.0 The recipients need 2 different forms of this message"),
    ],
    ids=["refuse", "defer", "several", "formats", "plain", "blind"],
)
def test_one_reply_stands_for_all_and_nobody_gets_another_ones_form(
    strict: Smilla, clients: Clients, recipients: list[str], reply: str
) -> None:
    bracketed = [f"<{recipient}>" for recipient in recipients]
    queue_id = f"MIXED-{len(strict.log)}"
    answer = clients.open(strict.milter).send(plain_mail(), bracketed, queue_id=queue_id)
    assert answer.reply.startswith(reply)
    assert answer.edits == ()
    lines = recipient_lines(strict, queue_id)
    assert [line["rcpt"] for line in lines] == recipients
    assert {line["event"] for line in lines} == {"deferred" if reply.startswith("451") else "refused"}


def test_mixed_refuse_refuses(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, policy={"mixed": "refuse"}))
    answer = clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>", "<bob@r.test>"])
    assert answer.reply.startswith("550 5.7.5 The recipients need 2 different forms")


def test_a_held_message_with_a_key_beside_it_is_not_held_in_the_clear(strict: Smilla, clients: Clients) -> None:
    answer = clients.open(strict.milter).send(plain_mail(), ["<x@hold.test>", "<alice@r.test>"])
    assert answer.reply.startswith("451 4.3.0 ")
    assert answer.edits == ()


def test_an_expired_key_refuses_and_says_so(start: Starter, clients: Clients, folder: Path) -> None:
    place = folder / "expired"
    place.mkdir(mode=0o755)
    past = datetime.now(UTC) - timedelta(days=3)
    fill_directory(place, make_smime_key(place, "old@r.test", not_before=past - timedelta(days=9), not_after=past))
    settings = {"keys": {"sources": ["directory"], "directory": str(place)}}
    answer = clients.open(start(settings).milter).send(plain_mail(), ["<old@r.test>"])
    assert answer.reply == "550 5.7.5 <old@r.test>: the published key has expired"


@pytest.mark.parametrize("recipient", ["alice@r.test", "x@refuse.test", "x@hold.test", "x@defer.test"])
def test_observing_changes_nothing_and_logs_what_would_have_happened(
    observer: Smilla, clients: Clients, recipient: str
) -> None:
    queue_id = recipient.partition("@")[2].partition(".")[0].upper()
    answer = clients.open(observer.milter).send(
        plain_mail(b"X-Smilla: foreign", b"Content-Type: text/html"), [f"<{recipient}>"], queue_id=queue_id
    )
    assert (answer.verdict, answer.reply, answer.edits) == ("accept", "", ())
    (line,) = [line for line in observer.log_lines_of(queue_id) if " rcpt=" in line]
    assert line.startswith(f"{queue_id} observed would=")
    assert line.endswith("observe=true")


def test_observing_accepts_also_what_breaks_the_filter(observer: Smilla, clients: Clients) -> None:
    answer = clients.open(observer.milter).send(plain_mail(b"X-\xe4: y"), ["<alice@r.test>"], queue_id="BROKEN")
    assert (answer.verdict, answer.edits) == ("accept", ())
    (line,) = observer.log_lines_of("BROKEN")[-1:]
    assert line == "BROKEN observed would=deferred rcpt=alice@r.test reason=internal observe=true"


def test_observing_tells_that_several_forms_would_be_deferred(observer: Smilla, clients: Clients) -> None:
    recipients = ["<alice@r.test>", "<nobody@r.test>"]
    answer = clients.open(observer.milter).send(plain_mail(), recipients, queue_id="SEVERAL")
    assert (answer.verdict, answer.reply, answer.edits) == ("accept", "", ())
    *decided, message = observer.log_lines_of("SEVERAL")
    assert all(
        line.startswith("SEVERAL observed would=deferred ") and "reason=mixed" in line and "observe=true" in line
        for line in decided
    )
    assert "reply=accept" in message
    assert 'would="451 4.3.0 ' in message
    assert "reason=mixed" in message


@pytest.fixture(scope="module")
def observer(start_once: Starter, keys: Keys) -> Smilla:
    """A filter that only watches."""
    rules = [{"recipient": f"*@{action}.test", "no_key": action} for action in ("defer", "refuse", "hold")]
    return start_once(directory_settings(keys, observe=True, rule=rules))


def test_the_json_log_has_the_same_names(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, log={"format": "json"}))
    clients.open(smilla.milter).send(plain_mail(), ["<alice@r.test>", "<nobody\udcff@r.test>"], queue_id="JSON")
    clients.open(smilla.milter).send(plain_mail(), ["<bob@r.test>"], queue_id="JSON2")
    lines = [json.loads(line) for line in smilla.log.splitlines()]
    about = {line["rcpt"]: line for line in lines if "rcpt" in line}
    bob = about["bob@r.test"]
    assert {name: bob[name] for name in ("queue_id", "event", "rcpt", "format", "source", "reason")} == {
        "queue_id": "JSON2",
        "event": "encrypted",
        "rcpt": "bob@r.test",
        "format": "openpgp",
        "source": "directory",
        "reason": "usable",
    }
    assert about["alice@r.test"]["event"] == "refused"  # the other is unclear


HOSTILE = [
    '<a"\r\nFORGED encrypted rcpt=x@y reason=usable@r.test>',
    '<"a\nFORGED encrypted rcpt=x@y"@r.test>',
    "<a\u2028FORGED\u0085x\x0b\x0c@r.test>",
    "<a=b rcpt=c@r.test>",
    "<%s%n%%@r.test>",
    "<\x1b[31mred\x07@r.test>",
    "<a\\@r.test>",
    "<" + "x" * 3000 + "@r.test>",
    "<../../../../etc/passwd@r.test>",
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_hostile_strings_cannot_write_a_log_line_or_break_a_reply(
    refuser: dict[str, Smilla], clients: Clients, hostile: str, log_format: str
) -> None:
    smilla = refuser[log_format]
    before = len(smilla.log.splitlines())
    client = clients.open(smilla.milter)
    answer = client.send(plain_mail(), [hostile], sender=hostile, queue_id="H\r\nFORGED encrypted rcpt=x")
    assert answer.verdict == "reject"
    assert answer.reply.startswith("550 5.7.5 <")
    assert "%" not in answer.reply.replace("%%", "")
    assert not re.search(r"[^ -~]", answer.reply)
    assert len(answer.reply) < 980
    lines = smilla.log[len("\n".join(smilla.log.split("\n")[:before])) :].strip("\n").split("\n")
    assert not [line for line in lines if line.startswith("FORGED")]
    assert not re.search(r"[^ -~]", "".join(lines))
    if log_format == "json":
        assert all(json.loads(line)["event"] in ("refused", "message", "lookup") for line in lines)
    else:
        assert len(lines) == 2


@pytest.fixture(scope="module")
def refuser(start_once: Starter, keys: Keys) -> dict[str, Smilla]:
    """Two filters that refuse everything, one for each form of the log."""
    policy = {"no_key": "refuse"}
    return {
        form: start_once(directory_settings(keys, policy=policy, log={"format": form})) for form in ("text", "json")
    }


def test_a_message_without_a_queue_id_is_logged_with_a_dash(strict: Smilla, clients: Clients) -> None:
    client: MilterClient = clients.open(strict.milter)
    client.mail("<a@s.test>")
    client.rcpt("<alice@r.test>")
    for each in plain_mail().fields:
        client.header(each.name, each.value)
    client.send_packet(b"E")
    assert client.answer().verdict == "accept"
    assert "\n- encrypted rcpt=alice@r.test format=smime source=directory reason=usable" in strict.log


def test_absence_is_asked_for_each_source(start: Starter, clients: Clients, stub: DNSStub) -> None:
    stub.default = ABSENT
    smilla = start(dns_settings(policy={"no_key": "defer"}), resolver=stub.address)
    assert clients.open(smilla.milter).send(plain_mail(), ["<hugh@r.test>"]).reply.startswith("451 4.7.5 <hugh@r.test>")
    assert {rdtype for _, rdtype in stub.asked} - {6} == {53, 61}  # 6: the probe at the start
