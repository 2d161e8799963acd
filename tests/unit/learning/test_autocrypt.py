"""The key in an Autocrypt field: whose it must be, and who must have signed it."""

from __future__ import annotations

import pytest

from smilla.learning import autocrypt
from smilla.learning.authenticated import UnprovenError, sender_of
from smilla.model import Format, LearnedKey, Message
from tests.unit.learning.letters import DKIM, DMARC, OURS, PIA, SIGNATURE, letter, offer
from tests.vectors.memory import NOW, make_ports, raw_key


def key_of(message: Message) -> LearnedKey | None:
    return autocrypt.key_of(message, sender_of(message, OURS, NOW), make_ports())


def why(message: Message) -> str:
    with pytest.raises(UnprovenError) as caught:
        key_of(message)
    return str(caught.value)


def test_key_that_the_senders_domain_has_signed_is_learned() -> None:
    found = key_of(letter())
    assert found is not None
    assert (str(found.address), found.format, found.way) == (PIA, Format.OPENPGP, "autocrypt")
    assert found.raw == raw_key("pia.pgp")
    assert found.sent_at == NOW.timestamp() - 3600


def test_message_without_the_field_offers_nothing() -> None:
    assert key_of(letter(offers=())) is None


@pytest.mark.parametrize(
    ("offers", "told"),
    [
        ([offer(), offer()], "more than one"),
        ([offer(), "Autocrypt: nonsense"], "more than one"),
        (["Autocrypt: nonsense"], "malformed"),
        ([offer(addr="eve@example.org")], "another address"),
        ([offer(addr="eve")], "address"),
        ([offer(preference="")], "prefer-encrypt"),
        ([offer(preference=" prefer-encrypt=nopreference;")], "prefer-encrypt"),
        ([offer(preference=" prefer-encrypt=mutual; critical=x;")], "critical"),
        ([offer("pgp-expired.pgp")], "expired"),
        ([offer("pgp-revoked.pgp")], "revoked"),
        ([offer("pgp-sign-only.pgp")], "signing only"),
        ([offer("quinn.pgp")], PIA),
        ([offer("pia.secret")], "exactly one OpenPGP key"),
        ([offer("hugh.crt")], "exactly one OpenPGP key"),
    ],
)
def test_field_that_breaks_a_rule_teaches_nothing(offers: list[str], told: str) -> None:
    assert told in why(letter(offers=offers))


@pytest.mark.parametrize("name", ["Autocrypt", "From", "Date"])
def test_signature_must_cover_each_field_that_matters(name: str) -> None:
    signature = SIGNATURE.replace(f"{name}:", "").replace(f":{name};", ";")
    assert name not in signature.partition("h=")[2]
    assert "no valid DKIM signature" in why(letter(signatures=[signature]))


def test_dmarc_that_passed_by_spf_alone_is_not_enough() -> None:
    assert "no valid DKIM signature" in why(letter((DMARC,)))
    assert "no valid DKIM signature" in why(letter((DKIM.replace("pass", "fail"), DMARC)))


def test_address_may_be_written_in_another_case_than_in_from() -> None:
    found = key_of(letter(offers=[offer(addr=PIA.upper())]))
    assert found is not None
    assert found.address.local_part == "pia"
