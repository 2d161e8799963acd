"""What others decide about a sealed message holds: filters behind smilla, access maps, header_checks, content filters.

client -> smtpd -> smilla: sealed -> meddler -> cleanup (maps) -> queue -> lmtp -> smilla: split -> the listener
without a filter, which signs -> sink
"""

from __future__ import annotations

import contextlib
import email
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dkim
import pytest

from tests.lab.chain import Chain
from tests.lab.mail import header_fields
from tests.lab.meddler import Meddler
from tests.lab.opendkim import DKIMKey, OpenDKIM, make_dkim_key
from tests.lab.processes import wait_until
from tests.lab.programs import require_servers
from tests.lab.sink import Sink
from tests.live.mta import CANARY, Mta, check_logs
from tests.live.test_stage import BOTH, SPLIT, form_of, forms, letter, queued_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.client import Reply
    from tests.lab.dns import DNSLab
    from tests.lab.sink import ReceivedMail
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_STAGE: dict[str, Any] = {"policy": {"mixed": "stage"}, "dns": {"timeout_s": 10}}
_SENDERS = "{discard@s.test = DISCARD} {filter@s.test = FILTER AWAY}"
_LATE = "check_recipient_access inline:{ {late@r.test = 450 4.2.1 later} {gone@r.test = 550 5.1.1 gone} }, permit"
_COPIES = {
    "receive_override_options": "no_address_mappings,no_header_body_checks",
    "smtpd_authorized_xforward_hosts": "127.0.0.1/32",
}


@dataclass(frozen=True)
class Office:
    """Postfix, with a meddler behind smilla ("outbound") or before it ("early"), and the sink to which another FILTER
    leads."""

    mta: Mta
    elsewhere: Sink
    key: DKIMKey

    def send(self, *fields: bytes, to: list[str] | None = None, **options: str) -> tuple[Reply, bytes]:
        """A letter to BOTH."""
        return self.mta.send(letter(*fields), to or BOTH, **options)

    def diverted(self, sent: bytes) -> list[ReceivedMail]:
        """What came of a message where another FILTER leads."""
        return [mail for mail in self.elsewhere.messages if sent[: sent.index(b"\r\n")] in mail.raw]

    def held(self, reply: Reply) -> Path:
        """The queue file of a message that is held, in which nobody can read it."""
        path = self.mta.chain.postfix.queue / "hold" / queued_as(self.mta, reply)
        assert wait_until(path.exists, 60)
        assert CANARY not in path.read_bytes()
        return path


def checks(**actions: str) -> str:
    """A table that does what a message's X-Way field says."""
    return "regexp:{ " + " ".join(f"{{/^X-Way: {name}/ {action}}}" for name, action in actions.items()) + " }"


@contextlib.contextmanager
def started(folder: Path, lab: DNSLab, parameters: dict[str, str], signs: bool = False) -> Iterator[Office]:
    place = Path(tempfile.mkdtemp(prefix="stage-later-", dir=folder))
    place.chmod(0o755)
    key = make_dkim_key("s.test")
    try:
        with contextlib.ExitStack() as stack:
            elsewhere, meddler = stack.enter_context(Sink()), stack.enter_context(Meddler(place / "meddler"))
            away = f"smtp:[127.0.0.1]:{elsewhere.port}"
            # Postfix's default, which the laboratory empties elsewhere.
            filled = {"local_header_rewrite_clients": "permit_inet_interfaces"}
            filled |= {name: value.replace("AWAY", away) for name, value in parameters.items()}
            restricted = {"smtpd_sender_restrictions": f"check_sender_access inline:{{ {_SENDERS} }}, permit"}
            options = {
                "plain": {**_COPIES, "smtpd_recipient_restrictions": _LATE},
                "outbound": {n: v.replace("AWAY", away) for n, v in restricted.items()},
            }
            chain = Chain(place, lab.resolver, {"outbound": _STAGE, "early": _STAGE}, filled, options=options)
            chain.listeners["outbound"].milters = [chain.filters["outbound"].milter, meddler.milter]
            chain.listeners["early"].milters = [meddler.milter, chain.filters["early"].milter]
            if signs:
                signer = stack.enter_context(OpenDKIM(place / "signer", key, "relaxed/simple"))
                chain.listeners["outbound"].milters.append(signer.milter)
                chain.listeners["plain"].milters = [signer.milter]
            stack.enter_context(chain)
            for name in chain.stages:
                with (chain.postfix.folder / f"etc/stage-{name}").open("a") as table:
                    table.write(f"/^X-Routed: / FILTER {away}\n/^X-Suspicious: / HOLD\n")
                    table.write("/^X-Moved: / REDIRECT boss@there.test\n")
            yield Office(Mta(chain), elsewhere, key)
            check_logs(chain)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def office(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Office]:
    require_servers("opendkim")
    way = checks(hold="HOLD", redirect="REDIRECT boss@there.test", discard="DISCARD", filter="FILTER AWAY")
    with started(folder, lab, {"header_checks": way}, signs=True) as running:
        yield running


# --- filters behind smilla


@pytest.mark.parametrize(("order", "answer"), [("reject", "550"), ("tempfail", "451"), ("discard", "250")])
def test_nobody_has_a_copy_of_what_a_later_filter_ended(office: Office, order: str, answer: str) -> None:
    reply, sent = office.send(b"X-Meddle: " + order.encode())
    assert str(reply).startswith(answer), reply
    assert forms(office.mta, sent) == {}
    office.mta.nothing_arrived(sent)


@pytest.mark.parametrize("order", ["quarantine", "field X-Suspicious yes"])
def test_what_a_later_filter_quarantines_is_held_sealed_and_split_once_it_is_released(
    office: Office, order: str
) -> None:
    reply, sent = office.send(b"X-Meddle: " + order.encode())
    path = office.held(reply)
    assert not office.mta.so_far(sent)
    office.mta.chain.postfix.release(path.name)
    assert forms(office.mta, sent) == SPLIT


@pytest.mark.parametrize("gone", BOTH)
def test_recipient_whom_a_later_filter_deletes_gets_nothing(office: Office, gone: str) -> None:
    reply, sent = office.send(b"X-Meddle: delete " + gone.encode())
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == {pair: 1 for pair in SPLIT if pair[0] != gone}


def test_recipient_whom_a_later_filter_adds_gets_ciphertext_or_the_sender_is_told(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: add bob@r.test", b"X-Meddle: add n2@r.test")
    queued_as(office.mta, reply)
    found = forms(office.mta, sent)
    assert found == {**SPLIT, ("bob@r.test", "openpgp"): 1, ("sender@s.test", "sealed"): 1}
    (bounce,) = [mail for mail in office.mta.delivered(sent) if mail.rcpt_to == ("sender@s.test",)]
    report: Any = email.message_from_bytes(bounce.raw).get_payload()
    *_, returned = report
    assert b"n2@r.test" in bounce.raw
    assert b"alice@r.test>: " not in bounce.raw
    assert returned.get_content_type() in ("text/rfc822-headers", "message/global-headers")
    assert b"sealed.smilla" not in bounce.raw


def test_body_that_a_later_filter_changed_opens_for_nobody_and_is_told_of(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: alter")
    name = queued_as(office.mta, reply)
    line = office.mta.chain.filters["outbound"].wait_for_log(f"{name} seal-broken ")
    assert "reply=451" in line
    assert not office.mta.so_far(sent)
    office.mta.chain.postfix.postsuper("-d", name)
    assert forms(office.mta, sent) == {}


def test_footer_that_a_later_filter_added_harms_nobody(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: footer")
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == SPLIT
    assert not [mail for mail in office.mta.delivered(sent) if b"A footer." in mail.raw]


def test_header_of_the_copies_is_what_was_sealed_and_what_came_later_beside_it(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: subject another", b"X-Meddle: field X-Scanned clean")
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == SPLIT
    for mail in office.mta.delivered(sent):
        assert header_fields(mail.raw, "Subject", "X-Scanned") == [b"X-Scanned: clean", b"Subject: a letter"]


def test_sender_that_a_later_filter_changed_is_that_of_the_copies(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: sender srs@s.test")
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == SPLIT
    assert {mail.mail_from for mail in office.mta.delivered(sent)} == {"srs@s.test"}


def test_filter_that_comes_later_leads_past_the_stage_with_ciphertext_only(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: field X-Routed yes")
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == {}
    (mail,) = office.diverted(sent)
    assert form_of(mail.raw) == "sealed"
    assert CANARY not in mail.raw


def test_each_copy_carries_one_signature_and_it_is_over_the_copy(office: Office) -> None:
    """The signer stands on both listeners: what it signed on the first was the sealed form."""
    reply, sent = office.send(to=["alice@r.test", "bob@r.test", "n1@r.test"])
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == {**SPLIT, ("bob@r.test", "openpgp"): 1}
    for mail in office.mta.delivered(sent):
        assert len(header_fields(mail.raw, "DKIM-Signature")) == 1
        assert dkim.verify(mail.raw, dnsfunc=office.key.answer)
        assert not dkim.verify(mail.raw.replace(b"\r\nSubject: a", b"\r\nSubject: b"), dnsfunc=office.key.answer)


@pytest.mark.parametrize("listener", ["outbound", "early"])
def test_field_for_which_milter_header_checks_redirect_shows_ciphertext_only(office: Office, listener: str) -> None:
    reply, sent = office.send(b"X-Meddle: field X-Moved yes", listener=listener)
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == {("boss@there.test", "sealed"): 1}


def test_filter_before_smilla_that_adds_a_field_to_be_held_by_has_it_held_sealed(office: Office) -> None:
    reply, sent = office.send(b"X-Meddle: field X-Suspicious yes", listener="early")
    path = office.held(reply)
    office.mta.chain.postfix.release(path.name)
    assert forms(office.mta, sent) == SPLIT


# --- the listener that takes the copies


def test_whom_the_listener_turns_away_waits_or_bounces_alone_and_the_others_get_theirs_once(office: Office) -> None:
    reply, sent = office.send(to=[*BOTH, "late@r.test", "gone@r.test"])
    name = queued_as(office.mta, reply)
    postfix, smilla = office.mta.chain.postfix, office.mta.chain.filters["outbound"]
    try:
        copies = f"{name} copy-failed rcpt=late@r.test"
        assert postfix.tries_until(lambda: smilla.log.count(copies) >= 3)
        assert smilla.log.count(f"{name} copy-failed rcpt=gone@r.test") == 1
        assert re.search(rf"{name}: to=<gone@r.test>.* dsn=5.1.1, status=bounced", postfix.log)
        assert re.search(rf"{name}: to=<late@r.test>.* status=deferred", postfix.log)
        assert wait_until(lambda: not office.mta.queued_with(CANARY), 60)
        assert wait_until(lambda: len(office.mta.so_far(sent)) >= 3, 60)  # the ciphertext and the bounce, too
        found = office.mta.so_far(sent)
        (bounce,) = [mail for mail in found if mail.rcpt_to == ("sender@s.test",)]
        assert CANARY not in bounce.raw
        found.remove(bounce)
        assert Counter((address, form_of(mail.raw)) for mail in found for address in mail.rcpt_to) == SPLIT
    finally:
        postfix.postsuper("-d", name)


def test_more_recipients_than_one_transaction_takes_get_one_copy_each(office: Office) -> None:
    """Postfix hands over 50 at once, where <transport>_destination_recipient_limit does not say otherwise."""
    to = ["alice@r.test", "bob@r.test", *(f"m{number}@r.test" for number in range(120))]
    reply, sent = office.send(to=to)
    queued_as(office.mta, reply)
    plain = {(address, "plain"): 1 for address in to[2:]}
    assert forms(office.mta, sent) == {("alice@r.test", "smime"): 1, ("bob@r.test", "openpgp"): 1, **plain}


# --- access maps, header_checks, content_filter


@pytest.mark.parametrize("how", ["discard@s.test", "discard"])
def test_nobody_has_a_copy_of_what_a_map_discards(office: Office, how: str) -> None:
    reply, sent = office.send(sender=how) if "@" in how else office.send(b"X-Way: " + how.encode())
    assert reply.code == 250
    assert forms(office.mta, sent) == {}


def test_header_checks_hold_a_sealed_message(office: Office) -> None:
    reply, sent = office.send(b"X-Way: hold")
    path = office.held(reply)
    assert not office.mta.so_far(sent)
    office.mta.chain.postfix.release(path.name)
    assert forms(office.mta, sent) == SPLIT


def test_header_checks_that_redirect_end_all_filtering_as_the_manual_says(office: Office) -> None:
    """cleanup(8) asks no filter any more, and smilla never sees the end of the message."""
    reply, sent = office.send(b"X-Way: redirect")
    assert reply.code == 250
    assert forms(office.mta, sent) == {("boss@there.test", "plain"): 1}


@pytest.mark.parametrize("how", ["filter@s.test", "filter"])
def test_filter_of_a_map_or_of_header_checks_is_skipped_for_the_stage(office: Office, how: str) -> None:
    reply, sent = office.send(sender=how) if "@" in how else office.send(b"X-Way: " + how.encode())
    queued_as(office.mta, reply)
    assert forms(office.mta, sent) == SPLIT
    assert not office.diverted(sent)


def test_content_filter_sees_every_copy_and_no_sealed_message(folder: Path, lab: DNSLab, keys: Keys) -> None:
    """That of main.cf is in force on the listener that takes the copies."""
    with started(folder, lab, {"content_filter": "AWAY", "always_bcc": "brit@r.test"}) as office:
        reply, sent = office.send()
        queued_as(office.mta, reply)
        assert forms(office.mta, sent) == {}
        found = [(address, form_of(mail.raw)) for mail in office.diverted(sent) for address in mail.rcpt_to]
        assert sorted(found) == sorted([*SPLIT, ("brit@r.test", "openpgp")])
