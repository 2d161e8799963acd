"""What becomes of recipients who need different forms where the configuration does not say it: the MTA tells which one
it is."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.live.mta import Mta, letter

if TYPE_CHECKING:
    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", ["postfix", "sendmail"])
def test_postfix_splits_by_the_stage_and_sendmail_by_re_injection(folder: Path, lab: DNSLab, kind: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="default-", dir=folder))
    place.chmod(0o755)
    try:
        filters: dict[str, dict[str, Any]] = {"outbound": {"policy": {"mixed": ""}, "stage": {"check": True}}}
        with Chain(place, lab.resolver, filters, kind=kind) as chain:
            mta = Mta(chain)
            reply, sent = mta.send(letter(to=b"alice@r.test, bob@r.test"), ["alice@r.test", "bob@r.test"])
            if kind == "postfix":
                assert str(reply).startswith("451 4.3.5 The recipients need different forms of this message, and the")
                return
            assert reply.code == 250, reply
            found = Counter(address for mail in mta.delivered(sent) for address in mail.rcpt_to)
            assert found == {"alice@r.test": 1, "bob@r.test": 1}
    finally:
        shutil.rmtree(place)
