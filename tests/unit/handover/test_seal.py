"""A message that is sealed for the queue: what it shows, what it hides, and what opens it."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

import pytest

from smilla.errors import SealBroken
from smilla.handover import seal
from smilla.handover.seal import Facts, SealedRecipient
from smilla.message import MemoryBody, parse
from smilla.model import Action, Client, Direction, Envelope, Message
from smilla.ports import SealKey

KEY = SealKey(b"KEY-ID-1", b"k" * 32)
CANARY = b"Kanarienvogel"
RAW = (
    b"From: Sam <sam@s.test>\r\nTo: bob@r.test\r\nBcc: eve@r.test\r\nSubject: hello\r\n there\r\nX-Smilla: forged\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\n"
    + CANARY
    + b" gr\xfc\xdfe\r\n.\r\n\x00\r\n"
)
FACTS = Facts(
    Envelope("sam@s.test", (), ("RET=FULL", "ENVID=x", "BODY=8BITMIME")),
    (
        SealedRecipient("<bob@r.test>", ("NOTIFY=NEVER",), Action.ENCRYPT, "smime"),
        SealedRecipient("<k\udce4se@r.test>", (), Action.PLAIN, "plain"),
    ),
    "4XyZ",
    Client(ip="192.0.2.1", authenticated_as="söm", mta="mx.s.test"),
    Direction.OUTBOUND,
)


def message(raw: bytes = RAW) -> Message:
    return parse(raw).message


def queued(raw: bytes = RAW, facts: Facts = FACTS, key: SealKey = KEY) -> bytes:
    """What lies in the queue."""
    rewrite = seal.rewrite(message(raw), facts, key)
    kept = [h.raw for i, h in enumerate(message(raw).headers) if i not in rewrite.removed]
    added = [f"{name}: {value}\r\n".encode() for name, value in rewrite.added]
    assert rewrite.body is not None
    return b"".join([*kept, *added, b"\r\n", *rewrite.body()])


@pytest.mark.parametrize("body", [b"", b"x", CANARY * 40_000, b"\r\n" * 100_000])
def test_what_was_sealed_comes_out_octet_for_octet(body: bytes) -> None:
    raw = RAW.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    found = seal.opened(message(queued(raw)), KEY)
    assert found.facts == FACTS
    assert found.message.headers == message(raw).headers
    assert b"".join(found.message.body.blocks()) == body
    assert b"".join(found.message.body.blocks()) == body
    assert found.message.body.size == len(body)


def test_what_lies_in_the_queue_says_what_it_is_and_shows_nothing_else() -> None:
    raw = queued()
    for secret in (CANARY, b"bob@r.test>", b"eve@r.test", b"charset=utf-8", b"X-Smilla: forged", b"192.0.2.1"):
        assert secret not in raw
    raw.decode("ascii")
    assert max(map(len, raw.split(b"\r\n"))) <= 100
    seen = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert [part.get_content_type() for part in seen.iter_parts()] == ["text/plain", "application/vnd.smilla.sealed"]
    assert "smilla open" in seen.get_body().get_content()  # type: ignore[union-attr]
    assert (seen["Subject"], len(seen.get_all("X-Smilla-Stage", []))) == ("hello there", 1)


def test_a_message_without_mime_fields_gets_them_once() -> None:
    raw = queued(b"From: a@x.test\r\n\r\nhello\r\n")
    assert raw.count(b"MIME-Version: 1.0\r\n") == 1
    assert seal.opened(message(raw), KEY).message.headers == message(b"From: a@x.test\r\n\r\n").headers


def test_the_mark_names_message_and_key_and_nothing_else_counts_as_one() -> None:
    found = seal.mark(message(queued()).headers)
    assert found is not None
    assert found.raw_key_id == KEY.raw_id
    ids = "0" * 32 + " " + "1" * 16
    for text in (f"{ids}\r\nX-Smilla-Stage: {ids}", "0" * 32, ids.replace("1", "G"), f"{ids} x", f"x {ids}", ""):
        assert seal.mark(message(f"X-Smilla-Stage: {text}\r\n\r\n".encode()).headers) is None
    assert seal.mark(message(f"X-Smilla-Stage: {ids}\r\n\r\n".encode()).headers) is not None


def test_two_seals_of_one_message_have_nothing_in_common() -> None:
    first, second = (seal.mark(message(queued()).headers) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.raw_message_id != second.raw_message_id


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"; boundary=", b"; border="),
        (b"application/vnd.smilla.sealed", b"application/octet-stream"),
        (b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: base64\r\n\r\n"),
        (b"--\r\n", b"\r\n"),
    ],
)
def test_a_part_that_is_not_as_it_was_written_is_broken(what: bytes, instead: bytes) -> None:
    raw = queued()
    assert what in raw
    with pytest.raises(SealBroken):
        seal.opened(message(raw.replace(what, instead)), KEY)


def test_an_octet_that_was_changed_is_noticed_wherever_it_stands() -> None:
    raw = queued(RAW + bytes(200_000))
    begin = raw.index(b"sealed.smilla\r\n\r\n") + len(b"sealed.smilla\r\n\r\n")
    for at in (begin, begin + 60, begin + 90, begin + 5000, begin + 150_001, len(raw) - 100):
        changed = bytearray(raw)
        changed[at] = ord("B") if raw[at] == ord("A") else ord("A")
        with pytest.raises(SealBroken):
            seal.opened(message(bytes(changed)), KEY)


def test_a_footer_after_the_parts_changes_nothing() -> None:
    found = seal.opened(message(queued() + b"\r\n-- \r\nour disclaimer\r\n"), KEY)
    assert CANARY in b"".join(found.message.body.blocks())


def test_another_key_of_the_same_id_opens_nothing() -> None:
    with pytest.raises(SealBroken):
        seal.opened(message(queued()), replace(KEY, raw=b"o" * 32))


def test_a_body_in_pieces_is_the_same() -> None:
    raw = queued(RAW + bytes(300_000))
    whole = message(raw)
    octets = b"".join(whole.body.blocks())
    for step in (1000, 65_536, 70_001):
        pieces = MemoryBody([octets[at : at + step] for at in range(0, len(octets), step)])
        found = seal.opened(Message(whole.headers, pieces), KEY)
        assert b"".join(found.message.body.blocks()).endswith(bytes(300_000))
