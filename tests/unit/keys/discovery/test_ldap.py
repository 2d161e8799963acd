"""A company's directory: what is asked for, and what each answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smilla.address import EmailAddress, parse
from smilla.config import Config
from smilla.config.options import KeysOptions, LDAPOptions
from smilla.errors import DirectoryError
from smilla.formats import key_file
from smilla.keys import lookup
from smilla.keys.discovery import ldap
from smilla.keys.discovery.ldap import Found
from smilla.model import Format, KeyLookup, KeyVerdict, SourceAnswer
from smilla.ports import PendingSource
from tests.openpgp_maker import armoured
from tests.unit.records.test_web_directory import key_of
from tests.vectors.memory import NOW, make_ports, raw_key

PIA, HUGH = parse("pia@example.org"), parse("hugh@example.org")
OPTIONS = LDAPOptions(url="ldaps://ldap.example.org", base="dc=example,dc=org")
CERTIFICATE = ("userCertificate;binary", raw_key("hugh.crt"))
KEY = ("pgpKey", armoured(raw_key("pia.pgp"), "PGP PUBLIC KEY BLOCK"))


def entry(*values: tuple[str, bytes], code: int = 0) -> Found:
    return Found(code, "", (("cn=x,dc=example,dc=org", values),))


def asked(found: Found | None, address: EmailAddress = PIA, options: LDAPOptions = OPTIONS) -> SourceAnswer:
    def search(_: str) -> Found:
        if found is None:
            raise DirectoryError("ldaps://ldap.example.org: refused")
        return found

    return ldap.find(address, options, search)


def kind(answer: SourceAnswer) -> str:
    if answer.unclear is not None:
        return answer.unclear.code
    if answer.status is not None:
        return answer.status.value
    return "keys" if answer.candidates else "absent"


@pytest.mark.parametrize(
    ("mailbox", "text"),
    [
        ("pia@example.org", "(mail=pia@example.org)"),
        ("a.b-c_d@example.org", "(mail=a.b-c_d@example.org)"),
        ('"*"@example.org', r"(mail=\2a@example.org)"),
        ('"x)(uid=*"@example.org', r"(mail=x\29\28uid\3d\2a@example.org)"),
        (r'"a\\b"@example.org', r"(mail=a\5cb@example.org)"),
        ("a+b@example.org", r"(mail=a\2bb@example.org)"),
        ("dörte@example.org", r"(mail=d\c3\b6rte@example.org)"),
        ("{domain}@example.org", r"(mail=\7bdomain\7d@example.org)"),
        ("pia@bücher.example", r"(|(mail=pia@xn--bcher-kva.example)(mail=pia@b\c3\bccher.example))"),
    ],
)
def test_nothing_in_an_address_changes_the_filter(mailbox: str, text: str) -> None:
    assert ldap.filter_for(parse(mailbox), "(mail={address})") == text


def test_a_nul_is_escaped() -> None:
    assert ldap.escaped("a\0b") == r"a\00b"


def test_the_filter_may_have_the_parts_of_the_address() -> None:
    template = "(&(objectClass=person)(uid={local_part})(o={domain}))"
    assert ldap.filter_for(PIA, template) == "(&(objectClass=person)(uid=pia)(o=example.org))"


@pytest.mark.parametrize(
    ("found", "means"),
    [
        (entry(CERTIFICATE), "keys"),
        (entry(KEY), "keys"),
        (entry(("userCertificate", CERTIFICATE[1])), "keys"),
        (entry(("USERCERTIFICATE;BINARY", CERTIFICATE[1])), "keys"),
        (Found(0), "absent"),
        (entry(), "absent"),
        (entry(("jpegPhoto", b"x")), "absent"),
        (None, "unreachable"),
        *((Found(code, "x"), "unreachable") for code in (1, 3, 8, 11, 13, 32, 34, 48, 49, 50, 51, 52, 53, 80)),
        (entry(KEY, code=4), "ldap_unclear"),
        (Found(4), "ldap_unclear"),
        (Found(10), "ldap_unclear"),
        (Found(0, is_referred=True), "ldap_unclear"),
        (entry(*[KEY] * (key_file.MOST + 1)), "ldap_unclear"),
    ],
)
def test_each_answer_has_one_meaning(found: Found | None, means: str) -> None:
    assert kind(asked(found)) == means


def test_a_key_counts_though_a_part_of_the_answer_is_elsewhere() -> None:
    found = Found(0, "", entry(KEY).entries, is_referred=True)
    assert kind(asked(found)) == "keys"


def test_an_answer_that_is_not_whole_has_no_candidates() -> None:
    assert asked(entry(KEY, code=4)).candidates == ()


def test_every_value_of_every_entry_is_a_candidate_with_the_name_of_its_entry() -> None:
    found = Found(0, "", (("cn=a", (CERTIFICATE, KEY)), ("cn=b", (KEY,))))
    candidates = asked(found).candidates
    assert [(c.where, c.format, c.source) for c in candidates] == [
        ("cn=a", Format.SMIME, "ldap"),
        ("cn=a", Format.OPENPGP, "ldap"),
        ("cn=b", Format.OPENPGP, "ldap"),
    ]
    assert [c.raw for c in candidates] == [raw_key("hugh.crt"), raw_key("pia.pgp"), raw_key("pia.pgp")]


@pytest.mark.parametrize(
    "value", [("pgpKey", b""), ("pgpKey", b"x"), ("pgpKey", raw_key("hugh.crt")), ("userCertificate", b"x")]
)
def test_octets_that_are_no_key_go_to_the_gate_as_they_are(value: tuple[str, bytes]) -> None:
    (candidate,) = asked(entry(value)).candidates
    assert candidate.raw == value[1]


def test_a_domain_that_the_directory_is_not_for_is_not_asked() -> None:
    options = replace(OPTIONS, domains=("example.net", "*.example.net"))
    assert kind(asked(None, PIA, options)) == "absent"
    assert kind(asked(None, parse("pia@a.example.net"), options)) == "unreachable"


class _Directory:
    """smilla.ports.NetworkSource over one answer."""

    def __init__(self, found: Found | None) -> None:
        self._found = found

    def begin(self, address: EmailAddress) -> PendingSource:
        answer = asked(self._found, address)

        class _Known:
            def done(self) -> bool:
                return True

            def result(self, deadline: float) -> SourceAnswer:
                return answer

        return _Known()


def look_up(address: EmailAddress, found: Found | None) -> KeyLookup:
    ports = replace(make_ports(), network={"ldap": _Directory(found)})
    pending = lookup.begin(address, ports, Config(keys=KeysOptions(sources=("ldap",))))
    return lookup.finish(pending, pending.asked_at + 5, NOW, ports)


@pytest.mark.parametrize(
    ("address", "found", "verdict", "reason"),
    [
        (HUGH, entry(CERTIFICATE), KeyVerdict.USABLE, "usable"),
        (PIA, entry(KEY), KeyVerdict.USABLE, "usable"),
        (PIA, entry(CERTIFICATE), KeyVerdict.UNUSABLE_KEY, "other_address"),
        (HUGH, entry(KEY), KeyVerdict.UNUSABLE_KEY, "other_address"),
        (HUGH, entry(("userCertificate", raw_key("expired.crt"))), KeyVerdict.UNUSABLE_KEY, "expired"),
        (HUGH, entry(("userCertificate", raw_key("sign-only.crt"))), KeyVerdict.NO_KEY, "not_for_encryption"),
        (PIA, entry(("pgpKey", b"rubbish")), KeyVerdict.UNUSABLE_KEY, "malformed"),
        (PIA, entry(), KeyVerdict.NO_KEY, "no_key"),
        (PIA, None, KeyVerdict.UNREACHABLE, "ldap_unreachable"),
        (PIA, Found(49, "invalidCredentials"), KeyVerdict.UNREACHABLE, "ldap_unreachable"),
        (PIA, Found(4), KeyVerdict.UNCLEAR, "ldap_unclear"),
    ],
)
def test_the_gate_judges_what_the_directory_has(
    address: EmailAddress, found: Found | None, verdict: KeyVerdict, reason: str
) -> None:
    result = look_up(address, found)
    assert (result.verdict, result.reason.code) == (verdict, reason)
    assert result.proof == ("unreachable" if verdict is KeyVerdict.UNREACHABLE else "ldap")


def test_a_certificate_comes_before_an_openpgp_key_and_is_chosen_among_certificates() -> None:
    named = ("pgpKey", key_of("hugh@example.org"))
    result = look_up(HUGH, entry(named, CERTIFICATE))
    assert result.key is not None
    assert result.key.format is Format.SMIME
    assert "strongest" not in result.reason.text


def test_probe_searches_for_whoever_has_a_key_and_for_those_whom_the_filter_finds() -> None:
    has_key = "(|(userCertificate=*)(pgpKey=*))"
    assert ldap.holders("(mail={address})") == (has_key, f"(&(mail=*){has_key})")
    assert ldap.holders("(|(uid={local_part})(x={local_part}@{domain}))")[1] == f"(&(|(uid=*)(x=*@*)){has_key})"
