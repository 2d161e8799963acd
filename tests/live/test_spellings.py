"""However a sender spells a recipient who publishes a key: no spelling that an MTA reads as theirs gets plaintext."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.live.mta import CANARY, Mta, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

# What Postfix or Sendmail, asked in November 2026, made bob@r.test of, or of another domain's way to him.
SPELLINGS = (
    "<bob@r.test>", "bob@r.test", "< bob@r.test>", "<bob@r.test >", "<bob@r.test.>", "<bob@R.TEST>", '<"bob"@r.test>',
    r'<"b\ob"@r.test>', "<@q.test:bob@r.test>", "<bob @r.test>", "<bob@ r.test>", "<bob@r .test>", "<bob\t@r.test>",
    "<bob@r.test;>", "<bob@r.test,>", "<;bob@r.test>", "<x:bob@r.test;>", "<(x)bob@r.test>", "<((x))bob@r.test>",
    "<bob(x)@r.test>", "<bob@(x)r.test>", "<bob@r.(x)test>", "<bob@r.test(x)>", "(x)bob@r.test", r"<b\ob@r.test>",
    r"<bob@\r.test>", '<"bob" @r.test>', '<"bob"(x)@r.test>', '<bob@"r.test">', '<bob@r."test">', "<bob@[r.test]>",
    "<<bob@r.test>>", "<x <bob@r.test>>", "<bob@r.test>x", "<bob@r.test..>", "<bob%r.test@mta.test>", "<r.test!bob>",
)  # fmt: skip


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def mta(request: pytest.FixtureRequest, folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    """An MTA whose filter splits messages."""
    place = Path(tempfile.mkdtemp(prefix="spellings-", dir=folder))
    place.chmod(0o755)
    try:
        with Chain(place, lab.resolver, {"outbound": {"policy": {"mixed": "reinject"}}}, kind=request.param) as chain:
            yield Mta(chain)
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("beside", [(), ("<n1@r.test>",)], ids=["alone", "beside-another"])
def test_no_spelling_of_a_recipient_is_a_way_around_encryption(mta: Mta, beside: tuple[str, ...]) -> None:
    for number, spelling in enumerate(SPELLINGS):
        mark = b"X-Mark: %d-%d-\r\n" % (number, len(beside))
        message = mark + letter(b"Message-ID: <%d-%d@s.test>" % (number, len(beside)))
        with SMTPClient(mta.chain.port()) as client:
            client.command("MAIL FROM:<sender@s.test>")
            accepted = [client.command(f"RCPT TO:{recipient}").code == 250 for recipient in (spelling, *beside)]
            if not any(accepted) or client.command("DATA").code != 354:
                continue
            reply = client.command(message + b".")
        assert reply.code == 250 or str(reply).startswith("550 5.7.5"), (spelling, reply)
        found = mta.delivered(message)
        owed = sum(accepted)
        for mail in found:
            names = {
                address.strip('"').partition("@")[0].replace('"', "").replace("\\", "") for address in mail.rcpt_to
            }
            assert names == ({"n1"} if CANARY in mail.raw else {"bob"}), (spelling, mail.rcpt_to)
        assert len(found) == (owed if reply.code == 250 else 0), (spelling, reply)
