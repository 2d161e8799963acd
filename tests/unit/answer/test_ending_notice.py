"""The notice to the owner of a key that ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from smilla.answer.ending_notice import EndingKey, build

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEY = EndingKey("bob@example.net", "smime", "ab12", "smimea", "x._smimecert.example.net.", NOW.replace(day=30))


def test_notice_says_what_ends_when_where_and_what_to_do() -> None:
    raw = build(KEY, "postmaster@example.org", NOW)
    assert b"\n" not in raw.replace(b"\r\n", b"")
    notice = message_from_bytes(raw, policy=policy.default)
    assert (notice["To"], notice["From"]) == ("bob@example.net", "postmaster@example.org")
    assert notice["Subject"] == "Your key for encrypted mail ends on 2026-11-30"
    assert notice["Auto-Submitted"] == "auto-generated"
    text = notice.get_content()
    for expected in ("ends on 2026-11-30", "ab12", "S/MIME certificate", "_smimecert", "Publish", "old private key"):
        assert expected in text


def test_notice_about_a_stored_key_asks_for_the_public_part_and_never_for_the_private_one() -> None:
    stored = replace(KEY, source="directory", where="bob@example.net.asc", format="openpgp", has_ended=True)
    text = build(stored, "postmaster@example.org", NOW).decode("ascii")
    assert "ended on 2026-11-30" in text
    assert "never the private one" in text
    assert "in DNS" not in text


def test_key_whose_end_cannot_be_read_is_told_without_a_date() -> None:
    text = build(replace(KEY, ends_at=None, has_ended=True), "postmaster@example.org", NOW).decode("ascii")
    assert "Subject: Your key for encrypted mail has ended\r\n" in text


def test_owner_outside_ascii_gets_it_too() -> None:
    raw = build(replace(KEY, address="jörg@example.net"), "postmaster@example.org", NOW)
    assert "To: jörg@example.net\r\n".encode() in raw


def test_line_end_in_an_address_adds_no_field() -> None:
    with pytest.raises(ValueError, match="linefeed"):
        build(replace(KEY, address="bob@example.net\r\nBcc: eve@example.net"), "postmaster@example.org", NOW)
