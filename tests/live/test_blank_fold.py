"""A line of white space in a header: what Postfix and Sendmail make of it, and smilla encrypt makes the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.message import parse
from tests.lab.chain import Chain
from tests.live.mta import CANARY, Mta, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    place = Path(tempfile.mkdtemp(prefix="fold-", dir=folder))
    place.chmod(0o755)
    try:
        with Chain(place, lab.resolver, {"outbound": {}}, kind=request.param) as chain:
            yield Mta(chain)
    finally:
        shutil.rmtree(place)


def test_line_of_white_space_goes_on_with_its_field_in_every_mta(mta: Mta) -> None:
    fields = b"X-Folded: one\r\n \t \r\n\ttwo\r\n"
    reply, sent = mta.send(fields + letter(b"Message-ID: <fold@s.test>"), ["alice@r.test"])
    assert reply.code == 250
    arrived = mta.arrived(sent).raw
    assert CANARY not in arrived
    names = [header.name for header in parse(arrived).message.headers]
    assert {"from", "to", "subject", "message-id", "x-folded", "content-type"} <= set(names)
    assert fields in arrived
