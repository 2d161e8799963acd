"""Recipients whose keys have something in common: a primary key, an issuer and serial, a subkey."""

from __future__ import annotations

from contextlib import suppress

import pytest

from smilla import pipeline
from smilla.config import parse
from smilla.errors import ParseError
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import PKESK, packets
from smilla.model import Action, Disposition, Outcome
from tests.openpgp_maker import Secret, packet, secret, signature, subkey, subpacket, user_id
from tests.vectors.memory import NOW, TableResolver, make_ports, make_session

MADE = int(NOW.timestamp()) - 86400 * 100
ALICE, BOB = "alice@example.org", "bob@example.org"
MESSAGE = b"From: sam@sender.example\r\nTo: alice@example.org, bob@example.org\r\n\r\nthe canary sings\r\n"
SUBKEYS = {
    4: (secret("cv25519", MADE), secret("ecdh-nistp256", MADE)),
    6: (secret("x25519", MADE, 6), secret("x448", MADE, 6)),
}


def primary_key(version: int) -> Secret:
    return secret("eddsa" if version == 4 else "ed25519", MADE, version)


def published(primary: Secret, address: str, *subkeys: Secret, more: bytes = b"") -> bytes:
    direct = signature(primary, 0x1F, primary.signed, MADE, subpacket(27, b"\x01"))
    bound = b"".join(subkey(primary, sub, MADE) for sub in subkeys)
    return packet(6, primary.body) + direct + user_id(primary, address, MADE) + bound + more


def processed(alice: tuple[bytes, ...], bob: tuple[bytes, ...] = (), text: str = "") -> Outcome:
    resolver = TableResolver().publish(ALICE, "openpgpkey", "secure", *alice)
    resolver.publish(BOB, "openpgpkey", "secure", *bob)
    recipients = (ALICE, BOB) if bob else (ALICE,)
    return pipeline.process(make_session(MESSAGE, recipients), make_ports(resolver), parse(text))


def key_ids(outcome: Outcome, copy: int = 0) -> set[str]:
    """Whom a copy names, by what their session keys say."""
    body = outcome.copies[copy].rewrite.body
    assert body is not None
    raw = b"".join(body())
    start, end = raw.index(b"-----BEGIN PGP"), raw.index(b"-----END PGP MESSAGE-----") + 27
    found = set()
    for one in packets_before_the_data(dearmour(raw[start:end]).data):
        found.add(one[1:9].hex() if one[0] == 3 else one[3 : 3 + one[1] - 1].hex())
    return found


def packets_before_the_data(raw: bytes) -> list[bytes]:
    found: list[bytes] = []
    with suppress(ParseError):  # the encrypted data may come in parts
        found.extend(one.body for one in packets(raw) if one.tag == PKESK)
    return found


def named(sub: Secret) -> set[str]:
    return {sub.key_id.hex(), sub.fingerprint.hex()}


@pytest.mark.parametrize("version", [4, 6])
def test_two_recipients_with_one_primary_key_are_each_encrypted_to_at_their_own_subkey(version: int) -> None:
    primary, (first, second) = primary_key(version), SUBKEYS[version]
    outcome = processed((published(primary, ALICE, first),), (published(primary, BOB, second),))
    assert [len(copy.recipients) for copy in outcome.copies] == [2]
    found = key_ids(outcome)
    assert len(found) == 2
    assert found & named(first)
    assert found & named(second)


@pytest.mark.parametrize("version", [4, 6])
def test_two_recipients_with_one_subkey_are_named_once(version: int) -> None:
    primary, (first, _) = primary_key(version), SUBKEYS[version]
    outcome = processed((published(primary, ALICE, first),), (published(primary, BOB, first),))
    assert len(key_ids(outcome)) == 1


def test_revocation_of_a_subkey_in_another_record_of_the_answer_counts() -> None:
    primary, (first, second) = primary_key(4), SUBKEYS[4]
    revocation = signature(primary, 0x28, primary.signed + first.signed, MADE, subpacket(29, b"\x02"))
    old, revoked = published(primary, ALICE, first), published(primary, ALICE, first, more=revocation)
    for records in ((old, revoked), (revoked, old)):
        outcome = processed(records)
        assert (outcome.decisions[0].action, outcome.decisions[0].reason.code) == (Action.REFUSE, "revoked")
        assert outcome.disposition is Disposition.REFUSE
        outcome = processed((*records, published(primary, ALICE, second)))
        assert key_ids(outcome) <= named(second)
