"""The key for an address whoever writes to it: a rule's, where no message could change that; and what one could."""

from __future__ import annotations

from smilla import config
from smilla.address import parse
from smilla.keys import for_address
from smilla.keys.for_address import Found
from tests.vectors.memory import KEYS, TableResolver, make_ports, smimea

KEY = f'key = "{KEYS}/hugh.crt"'
OTHER = f'key = "{KEYS}/pia.pgp"'


def look_up(rules: str, asked: str = "dana@partner.example") -> Found:
    resolver = TableResolver()
    resolver.publish("dana@partner.example", "smimea", "secure", smimea("dana.crt"))
    return for_address.look_up(parse(asked), make_ports(resolver), config.parse(rules))


def test_rule_for_everybody_there_gives_the_key() -> None:
    for condition in ('domain = ["partner.example"]', 'recipient = "*@partner.example"', 'recipient = "*"'):
        found = look_up(f"[[rule]]\n{condition}\n{KEY}")
        assert (found.lookup.source, found.others) == ("rule", ())


def test_without_such_a_rule_the_sources_are_asked() -> None:
    found = look_up(f'[[rule]]\ndomain = ["elsewhere.example"]\n{KEY}')
    assert (found.lookup.source, found.others) == ("smimea", ())
    assert look_up(f'[[rule]]\nrecipient = "*"\ncipher = "aes128-cbc"\n[[rule]]\nrecipient = "*"\n{KEY}').others == ()


def test_rule_that_asks_more_is_named_and_not_taken() -> None:
    for condition in ('sender = "*@x.example"', 'client = ["192.0.2.0/24"]', 'user = "*"', 'direction = "outbound"'):
        found = look_up(f'[[rule]]\ndomain = ["partner.example"]\n{condition}\n{KEY}')
        assert found.lookup.source == "smimea"
        (told,) = found.others
        assert "mail that rule 1 matches (" in told
        assert f"gets the key in {KEYS}/hugh.crt" in told


def test_rule_that_comes_first_and_has_no_key_is_named_too() -> None:
    found = look_up(f'[[rule]]\nuser = "*"\ncipher = "aes128-cbc"\n[[rule]]\nrecipient = "*"\n{OTHER}')
    assert found.lookup.source == "rule"
    (told,) = found.others
    assert told.startswith("mail that rule 1 matches (user = *) gets the key that the sources have")


def test_formats_of_the_rule_count() -> None:
    found = look_up(f'[[rule]]\nrecipient = "*"\n{KEY}\nformats = ["openpgp"]').lookup
    assert (found.source, found.reason.code) == ("rule", "other_format")
