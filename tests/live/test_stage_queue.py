"""Sealed messages in Postfix's queue: requeued, replayed, altered, renamed; nothing of them can be read there.

client -> smtpd -> smilla: sealed -> cleanup (maps) -> queue (postsuper, postqueue) -> lmtp -> smilla: split
"""

from __future__ import annotations

import contextlib
import email
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.lab.client import stuffed
from tests.lab.processes import wait_until
from tests.live.mta import CANARY, Mta, check_logs
from tests.live.test_stage import BOTH, SPLIT, forms, letter, queued_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Smilla
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_STAGE: dict[str, Any] = {"policy": {"mixed": "stage"}, "dns": {"timeout_s": 10}}
_RULES: dict[str, Any] = {**_STAGE, "rule": [{"recipient": "secret@inside.test", "encrypt": "require"}]}
_FILTERS: dict[str, Any] = {"outbound": _STAGE, "rules": _RULES}
_PARAMETERS = {
    # Postfix's default, which the laboratory empties elsewhere.
    "local_header_rewrite_clients": "permit_inet_interfaces",
    "virtual_alias_maps": (
        "inline:{{anna@r.test=n3@r.test} {secret@inside.test=n2@r.test} {two@inside.test=alice@r.test}}"
    ),
    "virtual_alias_domains": "inside.test",
    "sender_canonical_maps": "inline:{old@s.test=new@s.test}",
    "recipient_canonical_maps": "inline:{{older@r.test=alice@r.test} {erin@r.test=n4@r.test}}",
    "sender_bcc_maps": "inline:{watched@s.test=archive@there.test}",
    "export_environment": "MAIL_CONFIG LD_LIBRARY_PATH",
}
_WORD = b"QzQzQzQz"  # too long to stand in Base64 by chance
_HELD = "check_sender_access inline:{held@s.test=HOLD}, permit"
_MOVED = "check_recipient_access inline:{{moved@r.test = REDIRECT boss@there.test}}, permit"
_AS_GIVEN = {
    "receive_override_options": "no_address_mappings,no_header_body_checks",
    "smtpd_authorized_xforward_hosts": "127.0.0.1/32",
}


@contextlib.contextmanager
def started(folder: Path, lab: DNSLab, *, requeues: bool = True) -> Iterator[Mta]:
    place = Path(tempfile.mkdtemp(prefix="stage-queue-", dir=folder))
    place.chmod(0o755)
    options = {name: {"smtpd_sender_restrictions": _HELD, "smtpd_recipient_restrictions": _MOVED} for name in _FILTERS}
    chain = Chain(
        place, lab.resolver, _FILTERS, _PARAMETERS, options={**options, "plain": _AS_GIVEN}, requeues=requeues
    )
    try:
        with chain:
            yield Mta(chain)
            check_logs(chain)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    with started(folder, lab) as running:
        yield running


def filter_of(mta: Mta) -> Smilla:
    return mta.chain.filters["outbound"]


def held(mta: Mta, message: bytes = b"", to: list[str] | None = None) -> tuple[Path, bytes]:
    """A sealed message that is on hold: its queue file, and what was sent."""
    reply, sent = mta.send(message or letter(), to or BOTH, sender="held@s.test")
    path = mta.chain.postfix.queue / "hold" / queued_as(mta, reply)
    assert wait_until(path.exists, 60)
    return path, sent


def captured(mta: Mta) -> tuple[bytes, bytes, str]:
    """A sealed message that somebody got hold of, what was sent, and the queue ID at which it was sealed."""
    reply, sent = mta.send(letter(), [*BOTH, "moved@r.test"])
    name = queued_as(mta, reply)
    assert forms(mta, sent) == {("boss@there.test", "sealed"): 1}
    raw = mta.arrived(sent).raw
    # As it is in the queue: the next hop's trace fields, and what Postfix says of the redirection, are not.
    return raw[raw.index(b"Received: ") :], sent, name


def handed(mta: Mta, raw: bytes, ident: str, *to: str, sender: str = "sender@s.test") -> list[str]:
    """What the stage answers to whoever can reach its socket, such as the MTA."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(mta.chain.stages["outbound"]))
        connection.settimeout(60)
        stream = connection.makefile("rb")
        stream.readline()
        commands = ["LHLO mta.test", f"XFORWARD IDENT={ident}", f"MAIL FROM:<{sender}>"]
        for command in [*commands, *(f"RCPT TO:<{name}>" for name in to), "DATA"]:
            connection.sendall(f"{command}\r\n".encode())
            while (line := stream.readline())[3:4] == b"-":
                pass
            assert line[:3] in (b"250", b"354"), line
        connection.sendall(stuffed(raw))
        return [stream.readline()[:3].decode() for _ in to]


def nobody_got(mta: Mta, sent: bytes, but: int = 0) -> None:
    assert len(mta.so_far(sent)) == but


# --- the administrator's commands


def test_all_that_is_requeued_at_once_comes_back_to_the_stage(mta: Mta) -> None:
    mta.chain.mta.wait_until_empty()
    sent = [held(mta)[1] for _ in range(5)]
    mta.chain.postfix.postsuper("-r", "ALL")
    for message in sent:
        assert forms(mta, message) == SPLIT


def test_requeued_again_and_again_it_is_still_whole(mta: Mta) -> None:
    path, sent = held(mta)
    mta.chain.postfix.postsuper("-H", path.name)
    assert forms(mta, sent) == SPLIT
    with filter_of(mta).copies_to("127.0.0.1:1"):
        reply, sent = mta.send(letter(), BOTH)
        queued_as(mta, reply)
        filter_of(mta).wait_for_log("copy-failed rcpt=alice@r.test")
        for _ in range(3):
            mta.chain.postfix.postsuper("-r", "ALL")
            assert wait_until(lambda: not list((mta.chain.postfix.queue / "maildrop").iterdir()), 60)
        nobody_got(mta, sent)
    assert forms(mta, sent) == SPLIT


def test_flushed_while_the_listener_is_away_each_copy_comes_once_when_it_is_back(mta: Mta) -> None:
    with filter_of(mta).copies_to("127.0.0.1:1"):
        reply, sent = mta.send(letter(), BOTH)
        name = queued_as(mta, reply)
        for _ in range(3):
            mta.chain.postfix.flush()
        filter_of(mta).wait_for_log(f"{name} copy-failed rcpt=n1@r.test")
        nobody_got(mta, sent)
        assert not [path for path in mta.queued_with(CANARY) if path.name == name]
    mta.chain.postfix.flush()
    assert forms(mta, sent) == SPLIT


def test_without_the_table_for_requeues_ciphertext_leaves_and_no_plaintext(
    folder: Path, lab: DNSLab, keys: Keys
) -> None:
    with started(folder, lab, requeues=False) as mta:
        path, sent = held(mta)
        mta.chain.postfix.postsuper("-r", path.name)
        assert forms(mta, sent) == {("alice@r.test", "sealed"): 1, ("n1@r.test", "sealed"): 1}
        path, sent = held(mta)
        mta.chain.postfix.postsuper("-H", path.name)
        assert forms(mta, sent) == SPLIT


def test_stopped_by_postsuper_and_released_it_goes_to_the_stage(mta: Mta) -> None:
    """-h moves it at once, whoever has it at that moment."""
    hold = mta.chain.postfix.queue / "hold"
    with filter_of(mta).copies_to("127.0.0.1:1"):
        reply, sent = mta.send(letter(), BOTH)
        name = queued_as(mta, reply)
        filter_of(mta).wait_for_log(f"{name} copy-failed rcpt=n1@r.test")
        mta.chain.postfix.postsuper("-h", name)
        assert (hold / name).exists()
    mta.chain.postfix.flush()
    nobody_got(mta, sent)
    assert CANARY not in (hold / name).read_bytes()
    mta.chain.postfix.postsuper("-H", name)
    assert forms(mta, sent) == SPLIT


@contextlib.contextmanager
def stage_away(mta: Mta) -> Iterator[None]:
    """The milter answers, and the stage does not."""
    socket, aside = mta.chain.stages["outbound"], mta.chain.folder / "aside"
    socket.rename(aside)
    try:
        yield
    finally:
        aside.rename(socket)


def test_while_the_stage_is_away_its_mail_waits_sealed_and_other_mail_goes_on(mta: Mta) -> None:
    with stage_away(mta):
        waiting = [mta.send(letter(), BOTH) for _ in range(3)]
        for reply, _ in waiting:
            assert mta.chain.postfix.defers(queued_as(mta, reply))
        for listener, to in (("outbound", ["alice@r.test"]), ("outbound", ["n1@r.test"]), ("rules", BOTH)):
            reply, other = mta.send(letter(to=", ".join(to).encode()), to, listener=listener)
            assert reply.code == 250
            assert wait_until(lambda to=to, other=other: len(mta.so_far(other)) == len(to), 60)  # type: ignore[misc]
        for _, sent in waiting:
            nobody_got(mta, sent)
        assert wait_until(lambda: len(mta.chain.postfix.queued()) == 3, 60)
        assert not mta.queued_with(CANARY)
    mta.chain.postfix.flush()
    for _, sent in waiting:
        assert forms(mta, sent) == SPLIT


def test_sealed_message_that_expires_bounces_with_its_header_fields_alone(mta: Mta) -> None:
    with stage_away(mta):
        reply, sent = mta.send(letter(), BOTH, mail_parameters="RET=FULL ENVID=QQ1")
        name = queued_as(mta, reply)
        assert mta.chain.postfix.defers(name)
        mta.chain.postfix.postsuper("-e", name)
        mta.chain.postfix.flush()
        (bounce,) = mta.delivered(sent)
    assert bounce.rcpt_to == ("sender@s.test",)
    assert bounce.mail_from == ""
    assert CANARY not in bounce.raw
    assert b"sealed.smilla" not in bounce.raw
    report: Any = email.message_from_bytes(bounce.raw)
    _, status, returned = report.get_payload()
    assert returned.get_content_type() == "text/rfc822-headers"
    assert status.get_payload()[0]["Original-Envelope-Id"] == "QQ1"
    assert {part["Final-Recipient"] for part in status.get_payload()[1:]} == {f"rfc822; {name}" for name in BOTH}


# --- marks and seals of others


def test_captured_seal_is_refused_over_smtp_and_opens_for_nobody_by_sendmail_1(mta: Mta) -> None:
    raw, sent, _ = captured(mta)
    assert str(mta.send(raw, ["eve@there.test"])[0]).startswith("550 5.7.1")
    before = len(filter_of(mta).log)
    for sender, to in (
        ("eve@s.test", "eve@there.test"),
        ("sender@s.test", "n1@r.test"),
        ("sender@s.test", "n2@r.test"),
    ):
        mta.chain.postfix.sendmail(raw, sender, to)
    assert wait_until(lambda: len(set(re.findall(r"(\w+) seal-broken ", filter_of(mta).log[before:]))) == 3, 60)
    nobody_got(mta, sent, but=1)
    mta.chain.postfix.delete_all()


def test_mark_that_was_made_up_waits_for_its_key_and_stops_no_other_mail(mta: Mta) -> None:
    mark = b"X-Smilla-Stage: " + b"0" * 32 + b" " + b"1" * 16
    before = len(filter_of(mta).log)
    mta.chain.postfix.sendmail(letter(mark), "eve@s.test", "n1@r.test")
    assert wait_until(lambda: re.search("seal-key-missing|seal-broken", filter_of(mta).log[before:]) is not None, 60)
    reply, sent = mta.send(letter(), BOTH, listener="rules")
    assert reply.code == 250
    mark_of_it = sent[: sent.index(b"\r\n")]
    assert wait_until(lambda: sum(mark_of_it in mail.raw for mail in mta.chain.sink.messages) == 2, 60)
    mta.chain.postfix.delete_all()


def test_seal_at_its_own_hop_opens_for_nobody_whom_it_does_not_name(mta: Mta) -> None:
    raw, sent, name = captured(mta)
    assert handed(mta, raw, name, "eve@there.test", "n2@r.test", "bob@r.test") == ["550", "550", "250"]
    assert forms(mta, sent) == {("boss@there.test", "sealed"): 1, ("bob@r.test", "openpgp"): 1}


@pytest.mark.parametrize("change", ["an octet", "cut", "swapped", "another hop", "the null sender", "no mark"])
def test_seal_that_was_touched_opens_for_nobody(mta: Mta, change: str) -> None:
    raw, sent, name = captured(mta)
    sender, at = "sender@s.test", raw.index(b"filename=sealed.smilla\r\n\r\n") + 200
    if change == "an octet":
        raw = raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
    elif change == "cut":
        end = raw.index(b"\r\n--smilla-", at)
        raw = raw[: end - 80] + raw[end:]
    elif change == "swapped":
        other, _, _ = captured(mta)
        mark = re.compile(rb"X-Smilla-Stage: [0-9a-f ]+")
        found = mark.search(other)
        assert found
        raw = mark.sub(found[0], raw)
    elif change == "another hop":
        raw, name = raw.replace(name.encode(), b"4OTHER"), "4OTHER"
    elif change == "the null sender":
        sender = ""
    else:
        raw = raw.replace(b"X-Smilla-Stage: ", b"X-Other: ")
    assert handed(mta, raw, name, *BOTH, sender=sender) == ["451", "451"]
    filter_of(mta).wait_for_log(f"{name} seal-broken")
    nobody_got(mta, sent, but=1)


def test_message_that_was_altered_in_the_queue_goes_nowhere(mta: Mta) -> None:
    path, sent = held(mta)
    octets = path.read_bytes()
    at = octets.index(b"filename=sealed.smilla") + 200
    path.write_bytes(octets[:at] + (b"A" if octets[at : at + 1] != b"A" else b"B") + octets[at + 1 :])
    mta.chain.postfix.release(path.name)
    filter_of(mta).wait_for_log(f"{path.name} seal-broken .*reply=451")
    nobody_got(mta, sent)
    mta.chain.postfix.postsuper("-d", path.name)


def test_mail_waits_for_a_lost_key_and_goes_on_when_it_is_back(mta: Mta) -> None:
    smilla = filter_of(mta)
    path, sent = held(mta)
    (key,) = (smilla.folder / "seal").glob("*.key")
    aside = key.with_suffix(".aside")
    key.rename(aside)
    try:
        mta.chain.postfix.release(path.name)
        smilla.wait_for_log(f"{path.name} seal-key-missing")
        nobody_got(mta, sent)
    finally:
        aside.rename(key)
    assert forms(mta, sent) == SPLIT


def test_mail_that_was_sealed_under_an_older_key_goes_on(mta: Mta) -> None:
    smilla = filter_of(mta)
    path, sent = held(mta)
    before = set((smilla.folder / "seal").glob("*.key"))
    argv = [sys.executable, "-m", "smilla", "seal", "rotate", "--config", str(smilla.config)]
    subprocess.run(argv, check=True, env=smilla.child.environment, capture_output=True)
    (newer,) = set((smilla.folder / "seal").glob("*.key")) - before
    other, other_sent = held(mta)
    assert newer.stem.encode() in other.read_bytes()
    assert newer.stem.encode() not in path.read_bytes()
    mta.chain.postfix.postsuper("-H", "ALL")
    assert forms(mta, sent) == forms(mta, other_sent) == SPLIT


# --- what the MTA makes of addresses after the filter


def test_sender_that_a_map_renames_is_that_of_the_copies(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, sender="old@s.test")
    queued_as(mta, reply)
    assert forms(mta, sent) == SPLIT
    assert {mail.mail_from for mail in mta.delivered(sent)} == {"new@s.test"}


def test_whom_a_map_adds_gets_no_plaintext_and_the_log_says_so(mta: Mta) -> None:
    reply, sent = mta.send(letter(), BOTH, sender="watched@s.test")
    name = queued_as(mta, reply)
    assert forms(mta, sent) == SPLIT
    filter_of(mta).wait_for_log(f"{name} refused rcpt=archive@there.test .*reason=not_sealed")


def test_one_address_twice_gets_one_copy(mta: Mta) -> None:
    to = ["alice@r.test", "n1@r.test", "two@inside.test", "alice@r.test", "n1@R.TEST"]
    reply, sent = mta.send(letter(), to)
    queued_as(mta, reply)
    assert Counter({(a.lower(), form): n for (a, form), n in forms(mta, sent).items()}) == SPLIT


def test_alias_with_a_key_is_encrypted_to_wherever_it_leads(mta: Mta) -> None:
    reply, sent = mta.send(letter(), ["anna@r.test", "n1@r.test"])
    queued_as(mta, reply)
    assert forms(mta, sent) == {("n3@r.test", "smime"): 1, ("n1@r.test", "plain"): 1}


def test_canonical_recipient_gets_the_form_of_the_address_that_was_written_to_or_of_whom_it_leads_to(mta: Mta) -> None:
    reply, sent = mta.send(letter(), ["older@r.test", "erin@r.test", "n1@r.test"])
    queued_as(mta, reply)
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1, ("n4@r.test", "smime"): 1, ("n1@r.test", "plain"): 1}


def test_alias_that_a_rule_wants_encrypted_never_leads_to_plaintext(mta: Mta) -> None:
    reply, sent = mta.send(letter(), ["secret@inside.test", *BOTH], listener="rules")
    assert str(reply).startswith("550 5.7.5 <secret@inside.test>"), reply
    assert forms(mta, sent) == {}


# --- retries


def test_client_that_retries_ten_times_without_a_message_id_of_its_own_sends_nothing_twice(mta: Mta) -> None:
    """Postfix adds Message-Id and Date anew at each attempt; an attempt that is answered 451 has sent nothing."""
    mark = b"X-Again: yes\r\n"
    for _ in range(10):
        assert mta.send(mark + letter(), [*BOTH, "alice@bogus.test"])[0].code == 451
    assert mta.send(mark + letter(), BOTH)[0].code == 250
    mta.chain.mta.wait_until_empty()
    found = [mail for mail in mta.chain.sink.messages if mark in mail.raw]
    assert sorted(address for mail in found for address in mail.rcpt_to) == BOTH
    assert all(re.search(rb"(?mi)^Message-Id: <", mail.raw) for mail in found)


# --- the canary


@pytest.mark.parametrize("width", [14, 29, 70, 300, 900])
@pytest.mark.parametrize("lines", [1, 2, 3, 10, 40, 900])
def test_no_word_of_a_body_is_in_the_queue_once_the_filter_has_answered(mta: Mta, lines: int, width: int) -> None:
    """Not at the end of the old body either, where Postfix leaves standing what the new one does not cover."""
    body = b"".join((b"%04d" % number + _WORD * 125)[:width] + b"\r\n" for number in range(lines))
    message = letter(to=b"alice@r.test, bob@r.test").partition(CANARY)[0] + body
    mta.chain.sink.answer = lambda line: b"451 4.3.0 not now" if line == b"." else None
    try:
        path, sent = held(mta, message, ["alice@r.test", "bob@r.test"])
        assert not mta.queued_with(_WORD)
        mta.chain.postfix.release(path.name)
        filter_of(mta).wait_for_log(f"{path.name} encrypted rcpt=bob@r.test .*via=stage")
        assert not mta.queued_with(_WORD)
    finally:
        mta.chain.sink.answer = lambda line: None
    mta.chain.postfix.flush()
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1, ("bob@r.test", "openpgp"): 1}


@pytest.mark.parametrize("width", [0, 2, 14, 70, 126, 127, 128, 300, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("lines", [1, 2, 3, 10, 40, 900])
@pytest.mark.parametrize(("to", "form"), [("alice@r.test", "smime"), ("bob@r.test", "openpgp")])
def test_nor_is_one_where_the_body_is_replaced_in_place(mta: Mta, to: str, form: str, lines: int, width: int) -> None:
    """Six octets in a row are too many."""
    body = b"".join(b"~!" * (width // 2) + b"~" * (width % 2) + b"\r\n" for _ in range(lines))
    path, sent = held(mta, letter(to=to.encode()).partition(CANARY)[0] + body, [to])
    assert b"~!~!~!" not in path.read_bytes()
    mta.chain.postfix.release(path.name)
    assert forms(mta, sent) == {(to, form): 1}


def test_plaintext_is_in_the_queue_only_for_whom_it_is(mta: Mta) -> None:
    mta.chain.sink.answer = lambda line: b"451 4.3.0 not now" if line == b"." else None
    try:
        reply, sent = mta.send(letter(), [*BOTH, "bob@r.test", "n2@r.test"])
        name = queued_as(mta, reply)
        filter_of(mta).wait_for_log(f"{name} plain rcpt=n2@r.test .*via=stage")
        found: list[bytes] = []

        def is_read() -> bool:
            found.extend(mta.octets_queued_with(CANARY))
            return bool(found)

        assert wait_until(is_read, 60)
        for raw in found:
            assert set(re.findall(rb"(?s)R.([a-z0-9]+)@r\.test", raw)) == {b"n1", b"n2"}
    finally:
        mta.chain.sink.answer = lambda line: None
    mta.chain.postfix.flush()
    assert forms(mta, sent) == {**SPLIT, ("bob@r.test", "openpgp"): 1, ("n2@r.test", "plain"): 1}
