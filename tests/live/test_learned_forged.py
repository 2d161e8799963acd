"""A stranger writes what only our verifiers may say, in every spelling, and the real OpenDKIM removes it or smilla does
not believe it.

client -> smtpd "gate" [OpenDKIM verifies and removes, a milter says what DMARC found, smilla learns] -> Maildir
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.chain import Chain
from tests.lab.dmarc_word import DMARCWord
from tests.lab.keys import make_openpgp_key
from tests.lab.opendkim import AUTHSERV_ID, OpenDKIM, make_dkim_key
from tests.lab.programs import require_servers
from tests.live.test_learned import PASSED, SETTINGS, WHO, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live

# As smilla-transport(7) and config check say.
_REMOVES = f"RemoveARAll yes\nRemoveARFrom csl:{AUTHSERV_ID}\n"
_NAMES = ("Authentication-Results:", "AUTHENTICATION-results:", "Authentication-Results :", "Authentication-Results\t:")
_DMARC = "dmarc=pass header.from=r.test"
_DKIM = "dkim=pass header.d=r.test header.s=one"
_MANY = "; ".join(["spf=pass smtp.mailfrom=r.test"] * 400)
_HEADS = {
    "plain": "{id};",
    "other case": "{ID};",
    "folded": "\r\n {id}\r\n ;",
    "quoted": '"{id}";',
    "quoted with escapes": '"mx\\.home\\.test";',
    "comment before": "(x) {id};",
    "comment after": "{id} (x);",
    "comment with the name": "({id}) {id};",
    "nested comment": "(x(y)z\\)) {id};",
    "version": "{id} 1;",
    "version and comment": "{id} (v) 1 (w);",
    "version that is not 1": "{id} 2;",
    "final dot": "{id}.;",
    "final dot and a version": "{id}. 1;",
    "tab": "\t{id}\t;",
    "more results than a parser may keep": "{id}; " + _MANY + ";",
    "many results in few words": "{id}; " + "a=b;" * 60,
    "many words in one result": "{id}; spf=pass " + "a.b=c " * 300 + ";",
    "many comments": "{id}; " + "(x)" * 600,
    "a broken result first": "{id}; = ;",
    "another server first": "evil.test; spf=pass; {id};",
}


@pytest.fixture(scope="module")
def gate(folder: Path, lab: DNSLab) -> Iterator[Bench]:
    require_servers("opendkim")
    place = Path(tempfile.mkdtemp(prefix="forged-", dir=folder))
    place.chmod(0o755)
    signing, key = make_dkim_key("r.test"), make_openpgp_key(place, WHO)
    verifier, word = OpenDKIM(place / "verifier", signing, more=_REMOVES), DMARCWord(place / "word")
    settings = {**SETTINGS, "learned": {"accept": ["autocrypt"]}}
    chain = Chain(place / "chain", lab.resolver, {"gate": settings})
    listener = chain.listeners["gate"]
    listener.milters = [verifier.milter, word.milter, *listener.milters]
    with key, verifier, word, chain:
        yield Bench(chain, signing, key, None)


def fields(head: str, result: str, name: str = _NAMES[0]) -> bytes:
    begun = head.replace("{id}", AUTHSERV_ID).replace("{ID}", AUTHSERV_ID.upper())
    return f"{name} {begun} {result}".replace(" \r\n", "\r\n").encode()


@pytest.mark.parametrize("head", _HEADS.values(), ids=_HEADS)
def test_word_of_dmarc_that_a_stranger_writes_teaches_nothing(gate: Bench, head: str) -> None:
    """The DKIM signature is genuine; DMARC's verifier is silent."""
    for several in (1, 3):
        told = gate.logs(gate.offer(*[fields(head, _DMARC)] * several), "key-(not-)?learned .*$")
        assert told.startswith("key-not-learned"), told


@pytest.mark.parametrize("name", _NAMES)
def test_name_of_the_field_in_another_spelling_teaches_nothing(gate: Bench, name: str) -> None:
    told = gate.logs(gate.offer(fields("{id};", _DMARC, name)), "key-(not-)?learned .*$")
    assert told.startswith("key-not-learned"), told


@pytest.mark.parametrize("head", _HEADS.values(), ids=_HEADS)
def test_word_of_dkim_that_a_stranger_writes_covers_nothing(gate: Bench, head: str) -> None:
    """DMARC has passed, by SPF say, for another user of that domain, and the signature is forged."""
    genuine = gate.offer(fields(head, _DKIM), PASSED)
    forged = re.sub(rb"(?s)(b=)[A-Za-z0-9+/=\s]+?(\r\n(?=\S))", rb"\1AAAA\2", genuine, count=1)
    assert forged != genuine
    told = gate.logs(forged, "key-(not-)?learned .*$")
    assert told.startswith("key-not-learned"), told


def test_two_addresses_in_from_teach_nothing(gate: Bench) -> None:
    for author in (f"{WHO}, eve@evil.test", f"<{WHO}> eve@evil.test", f"{WHO}\r\nFrom: eve@evil.test"):
        message = gate.offer(PASSED).replace(b"From: " + WHO.encode(), b"From: " + author.encode())
        told = gate.logs(message, "key-(not-)?learned .*$")
        assert "exactly one" in told, told


def test_the_same_message_without_a_forgery_teaches(gate: Bench) -> None:
    assert gate.logs(gate.offer(PASSED), "key-(not-)?learned .*$").startswith("key-learned")
