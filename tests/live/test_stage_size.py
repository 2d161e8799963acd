"""message_size_limit, and messages that grow: refused in the dialogue, or sealed and served; nothing between.

client -> smtpd -> smilla: 552 or sealed -> queue -> lmtp -> smilla: split -> the listener, which says SIZE
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.chain import Chain
from tests.live.mta import CANARY, Mta, check_logs
from tests.live.test_stage import BOTH, SPLIT, forms, letter, queued_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

_LIMIT = 100_000
_GROWN = "552 5.3.4 The message is too large once it is encrypted"
_STAGE: dict[str, Any] = {"policy": {"mixed": "stage"}, "dns": {"timeout_s": 10}}
_FILTERS: dict[str, Any] = {
    "outbound": _STAGE,
    "told": {**_STAGE, "stage": {"message_size_limit": 60_000}},
    "knows": {**_STAGE, "milter": {"message_size_limit": _LIMIT}},
    "copied": {**_STAGE, "headers": {"protect": "copy"}},
}


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab, keys: Keys) -> Iterator[Mta]:
    place = Path(tempfile.mkdtemp(prefix="stage-size-", dir=folder))
    place.chmod(0o755)
    chain = Chain(place, lab.resolver, _FILTERS, {"message_size_limit": str(_LIMIT)})
    try:
        with chain:
            yield Mta(chain)
            check_logs(chain)
    finally:
        shutil.rmtree(place)


def of(octets: int, width: int = 70) -> bytes:
    """A letter with a body of so many octets."""
    line = CANARY + b"x" * (width - len(CANARY) - 2) + b"\r\n"
    return letter().partition(CANARY)[0] + line * (octets // width) + b"y" * (octets % width)


@pytest.mark.parametrize("width", [31, 70, 990])
def test_message_at_the_limit_is_refused_or_served_and_never_stuck_or_bounced(mta: Mta, width: int) -> None:
    """Where smilla lets it pass, Postfix takes the sealed one and the listener each copy."""
    served, refused = [], 0
    for octets in range(62_000, 71_000, 500):
        reply, sent = mta.send(of(octets, width), BOTH)
        if reply.code == 250:
            served.append(sent)
        else:
            assert str(reply).startswith(_GROWN), reply
            refused += 1
    assert served
    assert refused
    for sent in served:
        assert forms(mta, sent) == SPLIT


def test_reason_stands_in_the_log(mta: Mta) -> None:
    assert str(mta.send(of(90_000), BOTH)[0]).startswith(_GROWN)
    smilla = mta.chain.filters["outbound"]
    smilla.wait_for_log("refused rcpt=alice@r.test .*reason=too_large")
    smilla.wait_for_log("refused rcpt=n1@r.test .*reason=too_large")


def test_limit_that_the_configuration_names_is_that(mta: Mta) -> None:
    assert str(mta.send(of(50_000), BOTH, listener="told")[0]).startswith(_GROWN)
    reply, sent = mta.send(of(30_000), BOTH, listener="told")
    queued_as(mta, reply)
    assert forms(mta, sent) == SPLIT


def test_header_fields_inside_a_copy_count(mta: Mta) -> None:
    fields = b"".join(b"X-Field-%d: %s\r\n" % (number, b"z" * 60) for number in range(250))
    reply, _ = mta.send(fields + of(30_000), BOTH, listener="copied")
    assert str(reply).startswith(_GROWN), reply
    reply, sent = mta.send(fields + of(30_000), BOTH)
    queued_as(mta, reply)
    assert len(forms(mta, sent)) == 2


def test_in_place_smilla_refuses_beforehand_what_postfix_would_refuse(mta: Mta) -> None:
    reply, sent = mta.send(of(80_000), ["alice@r.test"], listener="knows")
    assert str(reply).startswith(_GROWN), reply
    assert forms(mta, sent) == {}
    mta.chain.filters["knows"].wait_for_log("refused rcpt=alice@r.test .*reason=too_large")
    reply, sent = mta.send(of(60_000), ["alice@r.test"], listener="knows")
    queued_as(mta, reply)
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1}


def test_in_place_postfix_itself_refuses_what_has_grown(mta: Mta) -> None:
    reply, sent = mta.send(of(80_000), ["alice@r.test"])
    assert str(reply).startswith("552 5.3.4 "), reply
    assert forms(mta, sent) == {}
    reply, sent = mta.send(of(60_000), ["alice@r.test"])
    queued_as(mta, reply)
    assert forms(mta, sent) == {("alice@r.test", "smime"): 1}
