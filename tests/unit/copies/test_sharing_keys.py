"""Recipients whose keys have something in common: a primary key, an issuer and serial, a subkey."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from smilla import pipeline
from smilla.adapters.gnupg import GnuPGEngine
from smilla.adapters.openpgp import Either
from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import parse as parse_address
from smilla.config import parse
from smilla.copies import sharing
from smilla.errors import ParseError
from smilla.formats.armour import dearmour
from smilla.formats.openpgp import PKESK, packets
from smilla.keys.validity import pgp
from smilla.model import Action, Candidate, Decision, Disposition, Format, KeyVerdict, Outcome, PGPKey
from tests.certificates import make_certificate
from tests.lab.programs import require
from tests.openpgp_maker import Secret, mpi, packet, secret, signature, subkey, subpacket, user_id
from tests.unit.decisions import decision
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


# --- one name, two keys

CAROL = "carol@example.org"


def twin(kind: str, address: str, number: int = 0, name: str = "Twin", serial: int = 7) -> bytes:
    """Self-signed, so that its issuer is what it says itself."""
    return b"\3\0\0" + make_certificate(kind, email=address, number=number, common_name=name, serial=serial)[1]


def to_all(*certificates: tuple[str, bytes], text: str = "") -> Outcome:
    resolver = TableResolver()
    for address, record in certificates:
        resolver.publish(address, "smimea", "secure", record)
    recipients = [address for address, _ in certificates if address != CAROL]
    raw = MESSAGE.replace(b"To: ", b"To: carol@example.org, ")
    return pipeline.process(make_session(raw, recipients), make_ports(resolver), parse(text))


def groups(outcome: Outcome) -> list[list[str]]:
    return [[str(r.address) for r in copy.recipients] for copy in outcome.copies]


@pytest.mark.parametrize("separate", ["true", "false"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "x25519", "mlkem768"])
def test_certificates_with_one_issuer_and_serial_and_different_keys_share_no_message(kind: str, separate: str) -> None:
    text = f"[smime]\nseparate = {separate}"
    apart = [[ALICE], [BOB]]
    assert groups(to_all((ALICE, twin(kind, ALICE)), (BOB, twin(kind, BOB, 1)), text=text)) == apart
    assert groups(to_all((ALICE, twin(kind, ALICE)), (BOB, twin(kind, BOB, 1, "tWIN ")), text=text)) == apart
    together = [[ALICE, BOB]]
    assert groups(to_all((ALICE, twin(kind, ALICE)), (BOB, twin(kind, BOB)), text=text)) == together
    assert groups(to_all((ALICE, twin(kind, ALICE)), (BOB, twin(kind, BOB, 1, serial=8)), text=text)) == together


def test_many_certificates_of_one_name_have_a_message_each_and_others_share_the_first() -> None:
    others = [(f"u{n}@example.org", twin("p256", f"u{n}@example.org", n)) for n in range(4)]
    resolver = TableResolver().publish(BOB, "smimea", "secure", twin("p256", BOB, 9, "Bob"))
    for address, record in others:
        resolver.publish(address, "smimea", "secure", record)
    addresses = [address for address, _ in others]
    raw = MESSAGE.replace(b"To: ", b"To: " + ", ".join(addresses).encode() + b", ")
    outcome = pipeline.process(make_session(raw, [*addresses, BOB]), make_ports(resolver), parse(""))
    assert groups(outcome) == [[addresses[0], BOB], *([address] for address in addresses[1:])]


def test_further_reader_with_the_recipients_issuer_and_serial_defers() -> None:
    rule = f"[[rule]]\nrecipient = '*'\nalso_to = ['{CAROL}']"
    outcome = to_all((ALICE, twin("p256", ALICE)), (CAROL, twin("p256", CAROL, 1)), text=rule)
    assert outcome.disposition is Disposition.DEFER
    assert outcome.reason.code == "confusable_keys"
    outcome = to_all((ALICE, twin("p256", ALICE)), (CAROL, twin("p256", CAROL, 1, "Carol")), text=rule)
    assert outcome.disposition is Disposition.DELIVER
    both = [(ALICE, twin("p256", ALICE)), (BOB, twin("p256", BOB, 1)), (CAROL, twin("p256", CAROL, 2, "Carol"))]
    assert groups(to_all(*both, text=rule)) == [[ALICE], [BOB]]


def test_further_reader_whose_key_is_unclear_defers() -> None:
    """Nobody knows that there is none."""
    rule = "[[rule]]\nrecipient = '*'\nalso_to = ['archive@partner']"
    outcome = to_all((ALICE, twin("p256", ALICE)), text=rule)
    (decision,) = outcome.decisions
    assert [reader.verdict for reader in decision.readers] == [KeyVerdict.UNCLEAR]
    assert (outcome.disposition, outcome.reason.code) == (Disposition.DEFER, "reader")


def openpgp_key(address: str, sub: str, version: int = 4) -> Decision:
    made = published(primary_key(version), address, secret(sub, MADE, version))
    candidate = Candidate("openpgpkey", "", Format.OPENPGP, made)
    key = pgp.assess(candidate, parse_address(address), NOW).key
    assert isinstance(key, PGPKey)
    return decision(address, Action.ENCRYPT, key)


def test_openpgp_keys_of_one_key_id_share_no_message() -> None:
    message = make_session(MESSAGE, [ALICE, BOB]).message
    alice, bob = openpgp_key(ALICE, "cv25519"), openpgp_key(BOB, "ecdh-nistp256")
    assert len(sharing.group([alice, bob], message)) == 1
    assert isinstance(alice.key, PGPKey)
    assert isinstance(bob.key, PGPKey)
    forged = replace(bob.key, encrypts_to="0" * 24 + alice.key.encrypts_to[-16:])
    assert len(sharing.group([alice, decision(BOB, Action.ENCRYPT, forged)], message)) == 2


LARGE = Secret(1, mpi((1 << 8191) + 12345) + mpi(65537), MADE, 4)  # which pysequoia's wheels do not take


@pytest.mark.parametrize("gpg_only", [LARGE, secret("ecdh-brainpoolP256r1", MADE)], ids=["RSA 8192", "Brainpool"])
@pytest.mark.parametrize(("version", "sequoia_only"), [(4, "x448"), (6, "x25519")])
def test_openpgp_keys_that_no_single_engine_knows_share_no_message(
    gpg_only: Secret, version: int, sequoia_only: str
) -> None:
    require("gpg")
    by_gpg = published(primary_key(4), ALICE, gpg_only)
    by_sequoia = published(primary_key(version), BOB, secret(sequoia_only, MADE, version))
    by_both, as_both = (published(primary_key(4), address, SUBKEYS[4][0]) for address in (ALICE, BOB))
    assert [len(copy.recipients) for copy in of_engines(by_gpg, as_both).copies] == [2]
    assert [len(copy.recipients) for copy in of_engines(by_both, by_sequoia).copies] == [2]
    outcome = of_engines(by_gpg, by_sequoia)
    assert [len(copy.recipients) for copy in outcome.copies] == [1, 1]
    assert all(key_ids(outcome, number) for number in (0, 1))
    with_reader = of_engines(by_gpg, by_sequoia, f"[[rule]]\nrecipient = '{ALICE}'\nalso_to = ['{BOB}']")
    assert (with_reader.disposition, with_reader.reason.code) == (Disposition.DEFER, "confusable_keys")


def of_engines(alice: bytes, bob: bytes, text: str = "") -> Outcome:
    resolver = TableResolver().publish(ALICE, "openpgpkey", "secure", alice)
    resolver.publish(BOB, "openpgpkey", "secure", bob)
    ports = replace(make_ports(resolver), openpgp=Either(SequoiaEngine(), GnuPGEngine()))
    return pipeline.process(make_session(MESSAGE, (ALICE, BOB)), ports, parse(text))
