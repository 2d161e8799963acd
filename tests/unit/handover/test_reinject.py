"""How a message is known again, and how a copy of ours is."""

from __future__ import annotations

import pytest

from smilla.handover import reinject
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
    fields: list[tuple[bytes, bytes]] = FIELDS,
    sender: str = "<sam@s.test>",
    body: bytes = b"hi\r\n",
    client: Client | None = None,
    queue_id: str = "4Xq1Zz0ABC",
) -> Session:
    found = Session(client or Client(), sender)
    found.queue_id = queue_id
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
        [(b"Authentication-Results", b" x"), *FIELDS],
        [(b"Received-SPF", b" pass"), (b"ARC-Seal", b" i=1"), *FIELDS],
        [(b"X-Envelope-ID", b" 4Xq1Zz0ABC at mx"), *FIELDS],
        [*FIELDS, (b"Date", b" Sat, 28 Nov 2026 12:00:00 +0000 (UTC)"), (b"From", b" sam@s.test")],
    ],
    ids=["results", "spf and arc", "queue ID", "Date at the end"],
)
def test_what_this_hop_adds_does_not_matter(fields: list[tuple[bytes, bytes]]) -> None:
    before = session([*FIELDS, (b"From", b" sam@s.test")] if fields[-1][0] == b"From" else FIELDS)
    assert whole(session(fields)) == whole(before)


@pytest.mark.parametrize(
    "other",
    [
        session(sender="<tom@s.test>"),
        session(body=b"ho\r\n"),
        session([*FIELDS[:3], (b"Subject", b" another"), FIELDS[4]]),
        session([*FIELDS[:4], (b"Content-Type", b" text/html")]),
        session([*FIELDS, (b"Cc", b" x@r.test")]),
        session([FIELDS[0], (b"Message-ID", b" <2@s.test>"), *FIELDS[2:]]),
        session([*FIELDS, (b"X-Spam-Flag", b" YES")]),
        session([(b"Received", b" from c by d; later"), *FIELDS]),
        session(FIELDS[1:]),
        session([(b"Date", b" Sat, 28 Nov 2026 12:00:00 +0000"), *FIELDS]),
        session(client=Client(ip="192.0.2.2")),
        session(client=Client(authenticated_as="tom")),
    ],
)
def test_anything_else_makes_another_message(other: Session) -> None:
    assert whole(other) != whole(session())


def test_retry_of_a_client_for_whom_postfix_adds_message_id_and_date_is_known() -> None:
    def attempt(queue_id: str, date: bytes) -> Session:
        made = [(b"Message-Id", b" <20261128120000.%b@mx.test>" % queue_id.encode()), (b"Date", date)]
        return session([*FIELDS[2:], *made], queue_id=queue_id)

    assert whole(attempt("4Xq1Zz0ABC", b" Sat, 1")) == whole(attempt("4Xq1Zz0DEF", b" Sat, 2"))


def test_two_messages_without_a_message_id_differ_by_their_dates() -> None:
    assert whole(session([*FIELDS[2:], (b"Date", b" Sat, 1")])) != whole(session([*FIELDS[2:], (b"Date", b" Sat, 2")]))


def test_a_short_queue_id_stands_in_no_field() -> None:
    assert whole(session(queue_id="from")) == whole(session(queue_id="1"))
    assert whole(session([*FIELDS, (b"X-A", b" b")], queue_id="b")) != whole(session(queue_id="b"))


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
