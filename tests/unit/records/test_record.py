"""A record's line, as a name server reads it."""

from __future__ import annotations

import pytest

from smilla.adapters import zone_line
from smilla.address import parse
from smilla.records.record import Record, openpgpkey_record, smimea_record

HUGH = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6"


@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize("ttl_s", [None, 0, 3600])
@pytest.mark.parametrize(
    "record",
    [
        smimea_record(parse("hugh@example.org"), bytes(range(256)) * 20, 3),
        smimea_record(parse("hugh@example.org"), b"0", 0),
        openpgpkey_record(parse("hugh@example.org"), bytes(range(256)) * 200),
    ],
)
def test_line_is_read_back_as_the_record(record: Record, generic: bool, ttl_s: int | None) -> None:
    found = zone_line.read(record.line(generic=generic, ttl_s=ttl_s))
    assert found == (record.owner, record.rdtype, record.rdata)


def test_owner_and_ttl_stand_in_front() -> None:
    line = smimea_record(parse("hugh@example.org"), b"0", 3).line(ttl_s=60)
    assert line == f"{HUGH}._smimecert.example.org. 60 IN SMIMEA 3 0 0 30"
