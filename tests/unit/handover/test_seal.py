"""A message that is sealed for the queue: what it shows, what it hides, and what opens it."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

import pytest

from smilla.errors import SealBroken
from smilla.formats import seal as sealed_format
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


# --- what a mutation run (make mutants) left alive ---------------------------------------------------------


def test_facts_that_the_seal_is_not_bound_to_open_nothing() -> None:
    other = replace(FACTS, queue_id="4XyQ")
    octets = b"".join(sealed_format.sealed(seal._content(message(), FACTS), KEY, b"m" * 16, other.bound))
    raw = octets
    with pytest.raises(SealBroken, match="bound"):
        seal.opened_octets(lambda: iter([raw]), KEY)


def test_head_is_found_in_blocks_of_any_size() -> None:
    raw = b"".join(sealed_format.sealed(seal._content(message(), FACTS), KEY, b"m" * 16, FACTS.bound))
    whole = seal.head(lambda: iter([raw]))
    assert whole.raw_message_id == b"m" * 16
    assert seal.head(lambda: iter([raw[i : i + 1] for i in range(len(raw))])) == whole


@pytest.mark.parametrize(
    "told", [b"no JSON", b"{}", b"[1]", b'{"header_octets": 1}', b'{"header_octets": null}', b'{"header_octets": 0}']
)
def test_facts_of_another_form_break_the_seal(told: bytes) -> None:
    with pytest.raises(SealBroken, match="cannot be read"):
        seal._facts(len(told).to_bytes(4, "big") + told)


def test_header_that_is_not_all_there_breaks_the_seal() -> None:
    content = b"".join(seal._content(message(), FACTS))
    known, start, body_at = seal._facts(content)
    assert (known, content[body_at:]) == (FACTS, RAW.partition(b"\r\n\r\n")[2])
    assert seal._facts(content[:body_at])[1:] == (start, body_at)
    with pytest.raises(SealBroken, match="too long"):
        seal._facts(content[: body_at - 1])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"Subject: x\r\n\r\nx", "no boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "no sealed part"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", "not a sealed"),
    ],
)
def test_message_without_a_sealed_part_says_what_is_missing(raw: bytes, why: str) -> None:
    with pytest.raises(SealBroken, match=why):
        b"".join(seal.sealed_octets(message(raw))())
