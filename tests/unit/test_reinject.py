"""How a message is known again, and how a copy of ours is."""

from __future__ import annotations

import pytest

from smilla import reinject
from smilla.model import Client
from smilla.session import Session
from tests.vectors.memory import NOW

FIELDS = [
    (b"Received", b" from a by b; now"),
    (b"Message-ID", b" <1@s.test>"),
    (b"From", b" sam@s.test"),
    (b"Subject", b" a\n letter"),
    (b"Content-Type", b" text/plain"),
]


def session(
    fields: list[tuple[bytes, bytes]] = FIELDS, sender: str = "<sam@s.test>", body: bytes = b"hi\r\n"
) -> Session:
    found = Session(Client(), sender)
    for name, value in fields:
        found.header(name, value)
    found.body_chunk(body)
    return found


def whole(of: Session) -> tuple[bytes, bytes]:
    known = reinject.fingerprint(of)
    return known.quick, known.content()


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Received", b" from c by d; later"), *FIELDS],
        [(b"Authentication-Results", b" x"), (b"X-Spam-Score", b" 3"), *FIELDS],
        FIELDS[1:],
    ],
    ids=["a-hop-more", "scores", "a-hop-less"],
)
def test_what_a_hop_adds_does_not_matter(fields: list[tuple[bytes, bytes]]) -> None:
    assert whole(session(fields)) == whole(session())


@pytest.mark.parametrize(
    "other",
    [
        session(sender="<tom@s.test>"),
        session(body=b"ho\r\n"),
        session([*FIELDS[:3], (b"Subject", b" another"), FIELDS[4]]),
        session([*FIELDS[:4], (b"Content-Type", b" text/html")]),
        session([*FIELDS, (b"Cc", b" x@r.test")]),
        session([FIELDS[0], (b"Message-ID", b" <2@s.test>"), *FIELDS[2:]]),
    ],
)
def test_what_an_author_writes_makes_another_message(other: Session) -> None:
    assert whole(other) != whole(session())


def test_without_a_message_id_the_received_fields_count() -> None:
    nameless = [FIELDS[0], *FIELDS[2:]]
    later = [(b"Received", b" from a by b; later"), *FIELDS[2:]]
    assert whole(session(nameless)) != whole(session(later))
    assert reinject.fingerprint(session(nameless)).identified
    assert not reinject.fingerprint(session(FIELDS[2:])).identified


def test_the_field_of_a_copy_has_its_token() -> None:
    token = "0123456789abcdef" * 2
    raw = reinject.received(session(), token, NOW)
    assert raw.startswith(b"Received: from ")
    name, _, value = raw.removesuffix(b"\r\n").partition(b":")
    came_back = session([(b"Received", b" from x by y; now"), (name, value.replace(b"\r\n", b"\n")), *FIELDS])
    assert reinject.own_token(came_back.message) == token
    assert reinject.own_token(session().message) == ""


def test_what_the_client_called_itself_cannot_add_a_line() -> None:
    found = session()
    found.client = Client(ip="192.0.2.1", host_name="h\r\nX: y", helo="a\nb (smilla) with ESMTP id", mta="m t")
    raw = reinject.received(found, "0" * 32, NOW)
    assert raw.count(b"\r\n") == 3
    assert raw.count(b"\n") == 3
    assert raw.count(b"(smilla)") == 1
