"""Who shares a copy with whom: nobody who cannot be seen shares a ciphertext."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smilla.address import parse as parse_address
from smilla.copies.sharing import group, removable, visible_recipients
from smilla.errors import EncryptionError
from smilla.formats import oaep
from smilla.keys.validity import x509
from smilla.message import parse
from smilla.model import (
    Action,
    Candidate,
    Client,
    CopyForm,
    Decision,
    Format,
    Hop,
    HopVerdict,
    HopWay,
    KeyVerdict,
    Reason,
    Style,
    X509Key,
)
from smilla.session import Session
from tests.certificates import NOW, make_certificate
from tests.unit.decisions import certificate, decision, lookup, openpgp_key, recipient

CERTIFICATE, KEY = certificate(), openpgp_key()
ADDRESS = parse_address("a@x.org")


def copies_of(header: str, *decisions: Decision) -> list[tuple[str, list[str]]]:
    message = parse(f"{header}\r\n\r\nbody\r\n".encode()).message
    return [(form.value, [d.recipient.shown for d in members]) for form, members in group(decisions, message)]


def smime(*names: str) -> list[Decision]:
    return [decision(name, Action.ENCRYPT, CERTIFICATE) for name in names]


def openpgp(*names: str) -> list[Decision]:
    return [decision(name, Action.ENCRYPT, KEY) for name in names]


def test_recipients_who_see_each_other_share_a_ciphertext() -> None:
    assert copies_of("To: a@x.org\r\nCc: Bob <B@X.org>", *smime("a@x.org", "b@x.org")) == [
        ("smime", ["a@x.org", "b@x.org"])
    ]


def test_each_format_has_its_own_copy() -> None:
    found = copies_of("To: a@x.org, b@x.org, c@x.org", *smime("a@x.org"), *openpgp("b@x.org"), *smime("c@x.org"))
    assert found == [("smime", ["a@x.org", "c@x.org"]), ("openpgp", ["b@x.org"])]


def test_recipients_whose_copies_are_written_differently_share_none() -> None:
    authenticated = [replace(one, style=Style(cipher="aes256-gcm")) for one in smime("b@x.org")]
    found = copies_of("To: a@x.org, b@x.org, c@x.org", *smime("a@x.org"), *authenticated, *smime("c@x.org"))
    assert found == [("smime", ["a@x.org", "c@x.org"]), ("smime", ["b@x.org"])]


def of_kind(kind: str, *names: str, **choices: Any) -> list[Decision]:
    """Decisions with a certificate of that kind; ``oaep`` is one for OAEP only."""
    _, raw = make_certificate("rsa2048" if kind == "oaep" else kind)
    key = x509.assess(Candidate("directory", "", Format.SMIME, raw), ADDRESS, NOW, require_address=False).key
    assert isinstance(key, X509Key)
    key = replace(key, oaep=oaep.SHA256) if kind == "oaep" else key
    return [replace(decision(name, Action.ENCRYPT, key), style=Style(**choices)) for name in names]


def groups_of(*decisions: Decision, separate: bool = True) -> list[list[str]]:
    message = parse(b"To: a@x.org, b@x.org, c@x.org, d@x.org, e@x.org, f@x.org\r\n\r\n").message
    return [[d.recipient.shown[0] for d in members] for _, members in group(decisions, message, separate=separate)]


def test_each_mechanism_has_a_copy_of_its_own() -> None:
    everybody = [
        *of_kind("rsa2048", "a@x.org"),
        *of_kind("oaep", "b@x.org"),
        *of_kind("p256", "c@x.org"),
        *of_kind("x25519", "d@x.org"),
        *of_kind("x448", "e@x.org"),
        *of_kind("mlkem768", "f@x.org"),
    ]
    assert groups_of(*everybody) == [["a"], ["b"], ["c"], ["d", "e"], ["f"]]
    assert groups_of(*everybody, separate=False) == [["a", "b", "c", "d", "e", "f"]]


@pytest.mark.parametrize("separate", [True, False])
def test_cbc_and_gcm_and_two_paddings_never_share_a_copy(separate: bool) -> None:
    ciphers = ("aes256-cbc", "aes128-cbc", "aes256-gcm", "aes128-gcm")
    each = [one for n, c in zip("abcd", ciphers, strict=True) for one in of_kind("rsa2048", f"{n}@x.org", cipher=c)]
    assert groups_of(*each, separate=separate) == [["a"], ["b"], ["c"], ["d"]]
    padded = [*of_kind("rsa2048", "a@x.org"), *of_kind("rsa2048", "b@x.org", rsa_padding="oaep-sha256")]
    assert groups_of(*padded, separate=separate) == [["a"], ["b"]]


def test_what_says_nothing_to_a_key_keeps_nobody_apart() -> None:
    rsa = [*of_kind("rsa2048", "a@x.org"), *of_kind("rsa2048", "b@x.org", ecdh_kdf="sha256")]
    ec = [*of_kind("p256", "c@x.org"), *of_kind("p256", "d@x.org", rsa_padding="oaep-sha256")]
    others = [
        *of_kind("x25519", "e@x.org"),
        *of_kind("x25519", "f@x.org", rsa_padding="oaep-sha256", ecdh_kdf="sha256"),
    ]
    assert groups_of(*rsa, *ec, *others) == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert groups_of(*of_kind("p256", "a@x.org"), *of_kind("p384", "b@x.org", ecdh_kdf="sha256")) == [["a"], ["b"]]


def test_further_reader_of_another_mechanism_is_in_no_copy_of_those_who_have_none() -> None:
    (reader,) = of_kind("p256", "archive@x.org")
    assert reader.lookup is not None
    alone, other, read = of_kind("rsa2048", "a@x.org", "b@x.org", "c@x.org")
    assert groups_of(alone, other, replace(read, readers=(reader.lookup,))) == [["a", "b"], ["c"]]
    with_readers = [replace(one, readers=(reader.lookup,)) for one in (alone, other)]
    different = replace(with_readers[1], style=Style(ecdh_kdf="sha256"))
    assert groups_of(*with_readers) == [["a", "b"]]
    assert groups_of(with_readers[0], different) == [["a"], ["b"]]


def test_blind_recipients_share_with_nobody_not_even_with_each_other() -> None:
    found = copies_of("To: a@x.org", *smime("a@x.org", "b@x.org", "c@x.org"), *openpgp("d@x.org", "e@x.org"))
    assert found == [
        ("smime", ["a@x.org"]),
        ("smime", ["b@x.org"]),
        ("smime", ["c@x.org"]),
        ("openpgp", ["d@x.org"]),
        ("openpgp", ["e@x.org"]),
    ]


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Bcc: b@x.org",
            "From: b@x.org",
            "Reply-To: b@x.org",
            "Subject: b@x.org",
            "X-To: b@x.org",
            "Resent-Bcc: b@x.org",
        ),
        *(
            'To: "b@x.org" <a@x.org>',
            "To: a@x.org (b@x.org)",
            "To: =?utf-8?q?b=40x.org?= <a@x.org>",
            "To: b@x.org.evil",
        ),
        *("To: b@x.org: a@x.org;", "To: a@x.org <b @ x.org", "To: undisclosed-recipients:;"),
    ],
)
def test_address_that_is_no_mailbox_of_to_or_cc_makes_nobody_visible(header: str) -> None:
    found = copies_of(f"To: a@x.org\r\n{header}", *smime("a@x.org", "b@x.org"))
    assert found == [("smime", ["a@x.org"]), ("smime", ["b@x.org"])]


def test_blind_recipients_whose_addresses_differ_in_case_are_two() -> None:
    assert len(copies_of("To: a@x.org", *smime("Bob@x.org", "bob@x.org"))) == 2


def test_same_recipient_twice_gets_one_copy() -> None:
    assert copies_of("To: a@x.org", *smime("b@x.org", "b@x.org")) == [("smime", ["b@x.org", "b@x.org"])]


def test_resent_fields_and_repeated_fields_are_seen() -> None:
    raw = b"To: a@x.org\r\nTO : b@x.org\r\nResent-To: c@x.org\r\nresent-cc: d@x.org\r\n\r\n"
    assert visible_recipients(parse(raw).message) == {"a@x.org", "b@x.org", "c@x.org", "d@x.org"}


def test_what_is_not_encrypted_is_shared_by_all_who_get_it() -> None:
    plain = [decision(name, Action.PLAIN) for name in ("b@x.org", "c@x.org", "no address")]
    assert copies_of("To: a@x.org", *smime("a@x.org"), *plain) == [
        ("smime", ["a@x.org"]),
        ("plain", ["b@x.org", "c@x.org", "no\\u0020address"]),
    ]


def test_held_goes_to_quarantine_as_it_came() -> None:
    assert copies_of("To: a@x.org", decision("a@x.org", Action.HOLD)) == [("plain", ["a@x.org"])]


def test_unchanged_is_a_form_of_its_own() -> None:
    assert copies_of("To: a@x.org", decision("a@x.org", Action.UNCHANGED)) == [("unchanged", ["a@x.org"])]


@pytest.mark.parametrize("action", [Action.ENCRYPT, Action.SECURE_HOP, Action.DEFER, Action.REFUSE])
def test_decision_without_a_key_or_a_form_never_becomes_plaintext(action: Action) -> None:
    with pytest.raises(EncryptionError):
        copies_of("To: a@x.org", decision("a@x.org", action))


def test_key_that_got_lost_never_becomes_plaintext() -> None:
    lost = lookup("a@x.org", KeyVerdict.USABLE, None)
    with pytest.raises(EncryptionError):
        copies_of("To: a@x.org", Decision(recipient("a@x.org"), Action.ENCRYPT, Reason("usable", ""), "", lost))


@pytest.mark.parametrize("verdict", [verdict for verdict in HopVerdict if verdict is not HopVerdict.VERIFIED])
def test_copy_for_a_verified_hop_has_no_form_without_one(verdict: HopVerdict) -> None:
    hop = Hop("x.org", verdict, Reason("x", ""), HopWay.DANE)
    with pytest.raises(EncryptionError):
        copies_of("To: a@x.org", replace(decision("a@x.org", Action.SECURE_HOP), hop=hop))


def test_copies_for_a_verified_hop_are_kept_apart_from_plain_ones() -> None:
    hop = Hop("x.org", HopVerdict.VERIFIED, Reason("x", ""), HopWay.DANE)
    bound = replace(decision("a@x.org", Action.SECURE_HOP), hop=hop)
    assert copies_of("To: a@x.org", bound, decision("b@x.org", Action.PLAIN)) == [
        ("secure-hop", ["a@x.org"]),
        ("plain", ["b@x.org"]),
    ]


def test_every_action_is_known_here() -> None:
    served = {Action.ENCRYPT, Action.UNCHANGED, Action.PLAIN, Action.SECURE_HOP}
    assert set(Action) == served | {Action.HOLD, Action.DEFER, Action.REFUSE, Action.DONE}
    assert {form.value for form in CopyForm} == {"smime", "openpgp", "plain", "secure-hop", "unchanged"}


@pytest.mark.parametrize(
    ("raw", "certain"),
    [
        ("<b@x.org>", True),
        ('<"b"@x.org>', True),
        ("b@x.org", False),
        ("< b@x.org>", False),
        ("<b@x.org >", False),
        ("<b@x.org.>", False),
        ("<@y.org:b@x.org>", False),
        ("<(c)b@x.org>", False),
    ],
)
def test_only_who_is_spelled_plainly_is_removed_by_the_mta(raw: str, certain: bool) -> None:
    session = Session(Client(), "")
    removed = session.recipient(raw)
    assert removable([removed], [session.recipient("<a@x.org>"), removed]) is certain
