"""Mode auto: mail that the MTA relays for a client that is none of ours; and whose message may ask for encryption."""

from __future__ import annotations

import pytest

from smilla import decide, log, pipeline
from smilla.answer import reply, report
from smilla.config import parse
from smilla.log_line import Line
from smilla.model import Action, Client, Outcome
from smilla.session import Session
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key

HUGH, OUT, OUT_TOO = "hugh@example.org", "bob@there.test", "eve@there.test"
STRANGER, USER = Client("203.0.113.9", "smtpd", mta="mail.home.test"), Client("203.0.113.9", "smtpd", "sam")
AUTO = 'mode = "auto"\nlocal_domains = ["example.org"]\n'
WISH = '[policy]\nwish_subject = "[encrypt]"\nwish_header = "X-Encrypt"\n'
MESSAGE = b"From: sam@sender.example\r\nSubject: x\r\n\r\nthe canary sings\r\n"
WISHED = MESSAGE.replace(b": x", b": [encrypt] x")
NEVER = '[[rule]]\ndomain = ["there.test"]\nencrypt = "never"\n'


def processed(text: str, client: Client, *to: str, raw: bytes = MESSAGE) -> tuple[Session, Outcome]:
    session = make_session(raw, to, client=client)
    dns = TableResolver().publish(HUGH, "smimea", "secure", b"\3\0\0" + raw_key("hugh.crt"))
    return session, pipeline.process(session, make_ports(dns), parse(text))


def actions(outcome: Outcome) -> dict[str, Action]:
    return {decision.recipient.raw.strip("<>"): decision.action for decision in outcome.decisions}


def words_left(outcome: Outcome) -> list[bool]:
    """For each copy, whether the Subject with the word stays outside."""
    return [1 not in copy.rewrite.removed for copy in outcome.copies]


@pytest.mark.parametrize(
    ("text", "client", "to", "relayed"),
    [
        (AUTO, STRANGER, (OUT, HUGH, OUT_TOO), [OUT, OUT_TOO]),
        (AUTO, STRANGER, (HUGH, "root@localhost", "root@mail.home.test", "x@[192.0.2.1]", "x@partner"), []),
        (AUTO, USER, (OUT,), []),
        (AUTO, Client("127.0.0.1"), (OUT,), []),
        (AUTO + NEVER, STRANGER, (OUT,), []),
        ("", STRANGER, (OUT,), []),
        (AUTO.replace("auto", "inbound"), STRANGER, (OUT,), []),
    ],
)
def test_those_are_relayed_who_are_elsewhere_and_whose_client_is_none_of_ours(
    text: str, client: Client, to: tuple[str, ...], relayed: list[str]
) -> None:
    _, outcome = processed(text, client, *to)
    assert [recipient.raw.strip("<>") for recipient in outcome.relayed] == relayed


class Lines:
    """Where the log goes, in memory."""

    joins = False

    def __init__(self) -> None:
        self.text = ""

    @staticmethod
    def framed(line: Line) -> bytes:
        return line.raw

    def write(self, raw: bytes) -> None:
        self.text += raw.decode()

    def flush(self) -> None:
        """Nothing waits."""


def test_log_warns_of_a_relayed_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_output", None)
    lines = Lines()
    log.configure("info", "text", lines)
    session, outcome = processed(AUTO, STRANGER, OUT, HUGH, OUT_TOO)
    answer = reply.for_outcome(outcome, "reinject", observe=False)
    report.message(session, report.Result(outcome, answer, (), observed=False, elapsed_ms=1))
    (line,) = [line for line in lines.text.splitlines() if " relayed " in line]
    assert line.startswith(f"- relayed client=203.0.113.9 rcpt={OUT} rcpts=2 hint=")
    assert "internal_networks" in line


@pytest.mark.parametrize("client", [STRANGER, USER])
def test_policy_and_rules_for_outbound_mail_hold_for_who_is_relayed(client: Client) -> None:
    refuse = AUTO + '[policy]\nno_key = "refuse"\n'
    assert actions(processed(refuse, client, OUT)[1]) == {OUT: Action.REFUSE}
    rule = AUTO + '[[rule]]\ndirection = "outbound"\nno_key = "hold"\n'
    assert actions(processed(rule, client, OUT, HUGH)[1]) == {OUT: Action.HOLD, HUGH: Action.ENCRYPT}


@pytest.mark.parametrize(("client", "bounced"), [(STRANGER, 0), (USER, 1)])
def test_only_one_of_ours_gets_a_notification(client: Client, bounced: int) -> None:
    text = AUTO + '[policy]\nno_key = "refuse"\none_fails = "bounce"\nmixed = "stage"\n'
    assert len(processed(text, client, OUT, HUGH)[1].bounced) == bounced


# --- who may ask -------------------------------------------------------------------------------------------

LOCAL = 'local_domains = ["example.org"]\n'
ZOE = "zoe@example.org"  # local, without a key


@pytest.mark.parametrize(
    ("text", "client", "to", "expected"),
    [
        (LOCAL, STRANGER, (HUGH,), {HUGH: Action.ENCRYPT}),
        (LOCAL, STRANGER, (HUGH, ZOE), {HUGH: Action.ENCRYPT, ZOE: Action.REFUSE}),
        (LOCAL, STRANGER, ("root@localhost",), {"root@localhost": Action.REFUSE}),
        (LOCAL, STRANGER, (OUT,), {OUT: Action.REFUSE}),
        (AUTO, USER, (HUGH, ZOE), {HUGH: Action.ENCRYPT, ZOE: Action.REFUSE}),
        (AUTO, STRANGER, (OUT, ZOE), {OUT: Action.REFUSE, ZOE: Action.REFUSE}),
        (AUTO, STRANGER, (ZOE,), {ZOE: Action.PLAIN}),
        (AUTO.replace("auto", "inbound"), USER, (ZOE, OUT), {ZOE: Action.PLAIN, OUT: Action.PLAIN}),
        (AUTO + NEVER, USER, (OUT,), {OUT: Action.REFUSE}),
        (AUTO + NEVER, STRANGER, (OUT,), {OUT: Action.REFUSE}),
        (NEVER.replace("there.test", "example.org"), STRANGER, (HUGH,), {HUGH: Action.REFUSE}),
    ],
)
def test_wish_holds_for_every_recipient_of_a_message_that_may_carry_it(
    text: str, client: Client, to: tuple[str, ...], expected: dict[str, Action]
) -> None:
    for raw in (WISHED, MESSAGE.replace(b"Subject", b"X-Encrypt: yes\r\nSubject")):
        top, bracket, rest = text.partition("[[rule]]")
        assert actions(processed(top + WISH + bracket + rest, client, *to, raw=raw)[1]) == expected


@pytest.mark.parametrize(
    ("text", "client", "stays"),
    [
        (LOCAL, STRANGER, False),
        (AUTO, USER, False),
        (AUTO, STRANGER, True),
        (AUTO.replace("auto", "inbound"), USER, True),
    ],
)
def test_word_is_removed_exactly_where_it_holds(text: str, client: Client, *, stays: bool) -> None:
    _, outcome = processed(text + WISH, client, HUGH, raw=WISHED)
    assert words_left(outcome) == [stays]


def test_look_up_for_a_wish_begins_at_the_end_and_has_the_deadline_of_all() -> None:
    session = make_session(WISHED, ())
    ports, settings = make_ports(TableResolver()), parse(LOCAL + WISH)
    recipient = session.recipient(f"<{HUGH}>")
    assert not decide.begin_lookup(session, recipient, ports, settings).wanted
    assert not session.lookups
    pipeline.process(session, ports, settings)
    (pending,) = session.lookups.values()
    assert pending.asked_at == ports.clock.monotonic()
    assert isinstance(ports.resolver, TableResolver)
    assert set(ports.resolver.deadlines) == {pending.asked_at + settings.dns.timeout_s}
