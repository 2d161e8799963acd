"""One message from end to end, with ports in memory: what is decided, and that nothing falls through to plaintext."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import pytest

from smilla import decide, pipeline, policy
from smilla.config import Config, parse
from smilla.errors import EncryptionError, SmillaError
from smilla.keys import lookup as lookup_module
from smilla.keys.questions import MOST
from smilla.model import (
    Action,
    Client,
    Copy,
    CopyForm,
    Disposition,
    DNSAnswer,
    DNSSECStatus,
    KeyVerdict,
    Outcome,
    Recipient,
)
from smilla.ports import Journal
from smilla.session import Session
from tests.unit.decisions import certificate, decision, lookup, openpgp_key
from tests.vectors.memory import TableResolver, make_ports, make_session, raw_key, smimea

CANARY = b"the canary sings"
MESSAGE = b"From: sam@sender.example\r\nTo: hugh@example.org, pia@example.org\r\nSubject: x\r\n\r\n" + CANARY + b"\r\n"
AUTO = 'mode = "auto"\nlocal_domains = ["here.example"]\n[policy]\nwish_subject = "[encrypt]"'
HUGH, PIA, ZOE = "hugh@example.org", "pia@example.org", "zoe@example.org"


def dns() -> TableResolver:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea("hugh.crt"))
    return resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp"))


def processed(*recipients: str, text: str = "", resolver: TableResolver | None = None, raw: bytes = MESSAGE) -> Outcome:
    return pipeline.process(make_session(raw, recipients), make_ports(resolver or dns()), parse(text))


def body_blocks(copy: Copy) -> Iterator[bytes]:
    assert copy.rewrite.body is not None
    return copy.rewrite.body()


def body_of(copy: Copy) -> bytes:
    return b"".join(body_blocks(copy))


def test_each_recipient_is_encrypted_to_in_their_format() -> None:
    outcome = processed(HUGH, PIA)
    assert outcome.disposition is Disposition.DELIVER
    assert [decision.action for decision in outcome.decisions] == [Action.ENCRYPT, Action.ENCRYPT]
    assert [copy.form for copy in outcome.copies] == [CopyForm.SMIME, CopyForm.OPENPGP]
    for copy in outcome.copies:
        assert CANARY not in body_of(copy)


def test_message_without_a_recipient_is_an_error() -> None:
    with pytest.raises(EncryptionError):
        processed()


def test_encrypter_that_fails_raises_before_a_block_leaves() -> None:
    outcome = pipeline.process(make_session(MESSAGE, [PIA]), make_ports(dns(), sequoia=False), parse(""))
    left: list[bytes] = []
    with pytest.raises(EncryptionError):
        left.extend(itertools.islice(body_blocks(outcome.copies[0]), 2))
    assert left == []


def test_failing_classifier_or_clock_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    for target in ("classify.classify", "policy.decide", "copies.sharing.group", "keys.lookup.finish"):
        with monkeypatch.context() as patched:
            patched.setattr(f"smilla.{target}", broken)
            with pytest.raises(RuntimeError):
                processed(HUGH)


@pytest.mark.parametrize(
    ("bob", "disposition"),
    [
        ("plain", Disposition.DELIVER),
        ("defer", Disposition.DEFER),
        ("refuse", Disposition.REFUSE),
        ("hold", Disposition.HOLD),
    ],
)
def test_one_recipient_without_a_key_never_makes_the_others_plain(bob: str, disposition: Disposition) -> None:
    outcome = processed(HUGH, ZOE, text=f'[policy]\nno_key = "{bob}"\n')
    assert outcome.disposition is disposition
    if disposition in (Disposition.DELIVER, Disposition.HOLD):
        assert [(c.form, [r.shown for r in c.recipients]) for c in outcome.copies] == [
            (CopyForm.SMIME, [HUGH]),
            (CopyForm.PLAIN, [ZOE]),
        ]
    else:
        assert outcome.copies == ()
    assert [r.shown for r in outcome.blocked_by] == ([] if bob == "plain" else [ZOE])


def test_deferred_comes_before_refused_and_that_before_held() -> None:
    text = (
        '[[rule]]\nrecipient = "a@*"\nno_key = "hold"\n[[rule]]\nrecipient = "b@*"\nno_key = "refuse"\n'
        '[[rule]]\nrecipient = "c@*"\nno_key = "defer"\n'
    )
    a, b, c = "a@example.org", "b@example.org", "c@example.org"
    for recipients, disposition, culprit in [
        ((a,), Disposition.HOLD, a),
        ((a, b), Disposition.REFUSE, b),
        ((a, b, c), Disposition.DEFER, c),
        ((c, b), Disposition.DEFER, c),
    ]:
        outcome = processed(*recipients, text=text)
        assert outcome.disposition is disposition
        assert [r.shown for r in outcome.blocked_by] == [culprit]


@pytest.mark.parametrize("fields", [b"Subject: [encrypt] x", b"Subject: x\r\nX-Encrypt: yes"])
def test_what_is_held_in_plaintext_still_says_that_the_sender_asked_for_encryption(fields: bytes) -> None:
    text = '[policy]\nno_key = "hold"\nwish_subject = "[encrypt]"\nwish_header = "X-Encrypt"\n'
    raw = b"From: sam@sender.example\r\nTo: x@y.test\r\n" + fields + b"\r\n\r\n" + CANARY + b"\r\n"
    outcome = processed(HUGH, ZOE, text=text, raw=raw)
    assert outcome.disposition is Disposition.HOLD
    encrypted, held = outcome.copies
    assert (held.form, held.rewrite.removed, held.rewrite.added) == (CopyForm.PLAIN, (), ())
    assert 2 in encrypted.rewrite.removed or 3 in encrypted.rewrite.removed


def test_recipient_that_is_no_address_is_unclear_and_never_plain() -> None:
    outcome = processed("nobody")
    assert (outcome.disposition, outcome.reason.code) == (Disposition.REFUSE, "not_an_address")
    assert processed("nobody", text='[policy]\nunclear = "hold"\n').disposition is Disposition.HOLD


def test_already_encrypted_message_asks_nobody_and_stays() -> None:
    first = processed(PIA)
    body = body_of(first.copies[0])
    content_type = dict(first.copies[0].rewrite.added)["Content-Type"].encode()
    resolver = TableResolver().publish(ZOE, "smimea", "bogus")
    raw = b"Content-Type: " + content_type + b"\r\n\r\n" + body
    outcome = processed(PIA, ZOE, resolver=resolver, raw=raw)
    assert (outcome.disposition, [c.form for c in outcome.copies]) == (Disposition.DELIVER, [CopyForm.UNCHANGED])
    assert outcome.copies[0].rewrite.body is None
    assert resolver.asked == []


def test_signed_message_is_encrypted() -> None:
    outcome = processed(HUGH, raw=b"Content-Type: multipart/signed; boundary=s\r\n\r\n" + CANARY)
    assert [copy.form for copy in outcome.copies] == [CopyForm.SMIME]


def test_lookups_begin_at_rcpt_and_are_not_begun_again() -> None:
    resolver = dns()
    session, ports, settings = make_session(MESSAGE, [HUGH, HUGH]), make_ports(resolver), parse("")
    for recipient in session.envelope.recipients:
        decide.begin_lookup(session, recipient, ports, settings)
    assert len(resolver.asked) == 2
    pipeline.process(session, ports, settings)
    assert len(resolver.asked) == 2


@pytest.mark.parametrize("text", ["", AUTO])
def test_what_is_wanted_is_worked_out_once_a_recipient(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    asked = []
    wanted = policy.wanted

    def counted(recipient: Recipient, circumstances: policy.Circumstances, config: Config) -> policy.Requirement:
        asked.append(recipient.raw)
        return wanted(recipient, circumstances, config)

    monkeypatch.setattr(policy, "wanted", counted)
    session, ports, settings = make_session(MESSAGE, [HUGH, PIA]), make_ports(dns()), parse(text)
    for recipient in session.envelope.recipients:
        decide.begin_lookup(session, recipient, ports, settings)
    pipeline.process(session, ports, settings)
    assert asked == [f"<{HUGH}>", f"<{PIA}>"]


def test_a_message_to_many_domains_asks_so_much_at_once() -> None:
    class Silent:
        asked = 0

        def ask(self, owner: str, rdtype: int) -> Silent:
            self.asked += 1
            return self

        def done(self) -> bool:
            return False

        def result(self, deadline: float) -> DNSAnswer:
            return DNSAnswer("", "SMIMEA", DNSSECStatus.UNREACHABLE)

    silent, recipients = Silent(), [f"bob@d{number}.test" for number in range(500)]
    session, ports, settings = make_session(MESSAGE, recipients), replace(make_ports(dns()), resolver=silent), parse("")
    for recipient in session.envelope.recipients:
        decide.begin_lookup(session, recipient, ports, settings)
    assert silent.asked == MOST


def test_all_lookups_share_one_deadline() -> None:
    resolver = TableResolver()
    processed(HUGH, PIA, ZOE, text="[dns]\ntimeout_s = 3\n", resolver=resolver)
    assert set(resolver.deadlines) == {1003.0}


def test_nobody_is_looked_up_where_nothing_is_wanted() -> None:
    resolver = TableResolver()
    outcome = processed(HUGH, text='mode = "inbound"\nlocal_domains = ["here.example"]\n', resolver=resolver)
    assert (resolver.asked, outcome.copies[0].form) == ([], CopyForm.PLAIN)


def test_client_decides_the_direction_in_auto_mode() -> None:
    settings = parse('mode = "auto"\nlocal_domains = ["here.example"]\n')
    for client, towards in [(Client("203.0.113.1"), "inbound"), (Client("203.0.113.1", "", "sam"), "outbound")]:
        outcome = pipeline.process(make_session(MESSAGE, [HUGH], client=client), make_ports(dns()), settings)
        assert (outcome.copies[0].form, outcome.direction) == (CopyForm.SMIME, towards)


def test_gcm_is_announced_as_what_it_is() -> None:
    outcome = processed(HUGH, text='[smime]\ncipher = "aes256-gcm"\n')
    assert "authEnveloped-data" in dict(outcome.copies[0].rewrite.added)["Content-Type"]


def replaced_lookup(verdict: KeyVerdict, *, key: bool) -> Callable[..., object]:
    return lambda pending, *_: lookup(str(pending.address), verdict, certificate() if key else None)


@pytest.mark.parametrize("verdict", list(KeyVerdict))
def test_usable_verdict_without_a_key_can_never_become_plaintext(
    verdict: KeyVerdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_module, "finish", replaced_lookup(verdict, key=False))
    text = '[policy]\nno_key = "refuse"\ninsecure = "refuse"\nunusable_key = "refuse"\n'
    if verdict is KeyVerdict.USABLE:
        with pytest.raises((SmillaError, AttributeError)):
            processed(HUGH, text=text)
    else:
        assert processed(HUGH, text=text).copies == ()


@pytest.mark.parametrize("verdict", [verdict for verdict in KeyVerdict if verdict is not KeyVerdict.USABLE])
def test_key_beside_a_verdict_against_it_is_not_used(verdict: KeyVerdict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "finish", replaced_lookup(verdict, key=True))
    outcome = processed(HUGH)
    assert all(decision.key is None for decision in outcome.decisions)
    assert all(copy.form is CopyForm.PLAIN for copy in outcome.copies)


def test_key_of_another_format_in_a_copy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = (decision(HUGH, Action.ENCRYPT, certificate()), decision(PIA, Action.ENCRYPT, openpgp_key()))
    for form in (CopyForm.SMIME, CopyForm.OPENPGP):
        with monkeypatch.context() as patched:
            patched.setattr("smilla.copies.sharing.group", lambda *_, form=form, **__: [(form, mixed)])
            outcome = processed(HUGH)
            assert outcome.copies[0].rewrite.body is not None
            with pytest.raises(EncryptionError):
                list(outcome.copies[0].rewrite.body())


def test_answer_that_raises_is_not_taken_for_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> DNSAnswer:
        raise RuntimeError("broken")

    monkeypatch.setattr(TableResolver, "ask", broken)
    with pytest.raises(RuntimeError):
        processed(HUGH)


def test_session_keeps_octets_as_they_come() -> None:
    session = Session(Client(), "<>", ("BODY=8BITMIME",))
    session.recipient('<"john smith"@example.org>', ("NOTIFY=NEVER",))
    session.recipient("hugh@example.org")
    session.header(b"Subject", b" \xff\n folded\r\n again")
    for block in (b"a\r", b"\nb\0", b""):
        session.body_chunk(block)
    envelope, message = session.envelope, session.message
    assert (envelope.sender, envelope.parameters) == ("", ("BODY=8BITMIME",))
    assert [(r.raw, r.parameters) for r in envelope.recipients] == [
        ('<"john smith"@example.org>', ("NOTIFY=NEVER",)),
        ("hugh@example.org", ()),
    ]
    assert message.headers[0].raw == b"Subject: \xff\r\n folded\r\n again\r\n"
    assert (b"".join(message.body.blocks()), message.body.size) == (b"a\r\nb\0", 5)


class EveryTokenIsOurs:
    """A journal that knows any token, and no message."""

    def known(self, _: object) -> bool:
        return False

    def is_own(self, *_: object) -> bool:
        return True


@pytest.mark.parametrize(("ip", "action"), [("127.0.0.1", Action.UNCHANGED), ("198.51.100.7", Action.ENCRYPT)])
def test_a_copy_of_ours_comes_from_near_and_whoever_shows_its_token_from_afar_is_not_believed(
    ip: str, action: Action
) -> None:
    ports = replace(make_ports(dns()), journal=cast("Journal", EveryTokenIsOurs()))
    session = Session(Client(ip=ip), "<sam@s.test>")
    session.recipient(f"<{HUGH}>")
    token = b"0123456789abcdef" * 2
    session.header(b"Received", b" from x (x)\n\tby y (smilla) with ESMTP id " + token + b";\n\tnow")
    session.body_chunk(b"hi\r\n")
    outcome = pipeline.process(session, ports, parse(""))
    assert [decision.action for decision in outcome.decisions] == [action]


@pytest.mark.parametrize("protect", ["off", "copy", "hide"])
def test_copies_for_many_blind_recipients_do_not_hold_a_large_header_as_often(protect: str) -> None:
    """A header may have megabytes, and a message a hundred copies."""
    blind, field = [f"b{number}@example.org" for number in range(20)], b"Content-Odd: " + b"x" * 5000 + b"\r\n"
    resolver = TableResolver()
    for address in blind:
        resolver.publish(address, "smimea", "secure", smimea("nobody.crt"))
    raw = b"From: sam@sender.example\r\nSubject: x\r\n" + field * 200 + b"\r\n" + CANARY + b"\r\n"
    tracemalloc.start()
    try:
        outcome = processed(*blind, text=f'[headers]\nprotect = "{protect}"', resolver=resolver, raw=raw)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [copy.form for copy in outcome.copies] == [CopyForm.SMIME] * 20
    assert held < 5 * len(raw)
    assert all(len(body_of(copy)) > len(raw) for copy in outcome.copies)
