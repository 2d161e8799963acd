"""Packets, armour, and what counts as one encrypted message."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from functools import partial

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smilla.errors import ParseError
from smilla.formats import armour, openpgp, openpgp_keys
from tests.openpgp_maker import armoured, mpi, packet
from tests.unit.timing import idle_seconds

KEY = pysequoia.Tsk.generate(user_id="Alice <alice@example.org>").extract_certificate()
V6_KEY = pysequoia.Tsk.generate(user_id="A <a@example.org>", profile=pysequoia.Profile.RFC9580).extract_certificate()

KEY_ID = bytes(range(8))
ECDH = b"\x12" + mpi(b"\x40" + bytes(range(1, 33))) + b"\x30" + bytes(48)
PKESK = packet(1, b"\x03" + KEY_ID + ECDH)
NOISE = bytes(range(256)) * 4
SEIPD = packet(18, b"\x01" + NOISE)
GOOD = PKESK + SEIPD


def check(raw: bytes, size: int = 0) -> bool:
    blocks = [raw[at : at + size] for at in range(0, len(raw), size)] if size else [raw]
    found = openpgp.encrypted_message(blocks)
    assert found.reason
    return found.encrypted


def shown(data: bytes, *headers: str) -> bool:
    return check(armoured(data, "PGP MESSAGE", *headers))


# --- what is encrypted


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 1000])
def test_encrypted_message_is_recognized_in_blocks_of_any_size(size: int) -> None:
    assert check(armoured(GOOD), size)
    assert check(pysequoia.encrypt(os.urandom(2000), [KEY]), size)


@pytest.mark.parametrize(
    "raw", [armoured(GOOD, crc=False), armoured(GOOD, end="\n"), b" \r\n\t" + armoured(GOOD) + b"\n \n"]
)
def test_white_space_line_ends_and_a_missing_crc_do_not_matter(raw: bytes) -> None:
    assert check(raw)
    assert check(raw.rstrip())


def test_white_space_at_line_ends_does_not_matter() -> None:
    assert check(armoured(GOOD).replace(b"\r\n", b" \t\r\n"))


def test_messages_of_sequoia_for_version_4_and_6_and_for_passwords_are_encrypted() -> None:
    for raw in (
        pysequoia.encrypt(b"", [KEY]),
        pysequoia.encrypt(b"x", [V6_KEY]),
        pysequoia.encrypt(b"x", [KEY, V6_KEY]),
        pysequoia.encrypt(b"x", [KEY], passwords=["secret"]),
        pysequoia.encrypt(b"x" * 100_000, passwords=["secret"]),
    ):
        assert check(raw)


_RSA = packet(1, b"\x03" + KEY_ID + b"\x01" + mpi(b"\xff" + os.urandom(255)))
_ELGAMAL = packet(1, b"\x03" + KEY_ID + b"\x10" + mpi(12345) + mpi(b"\xff" + os.urandom(255)))
_X25519 = packet(1, b"\x03" + KEY_ID + b"\x19" + bytes(32) + b"\x29\x09" + bytes(40))
_X448_V6 = packet(1, b"\x06\x21\x06" + bytes(32) + b"\x1a" + bytes(56) + b"\x28" + bytes(40))
_HIDDEN_V6 = packet(1, b"\x06\x00" + b"\x19" + bytes(32) + b"\x28" + bytes(40))
_ML_KEM = packet(1, b"\x06\x21\x06" + bytes(32) + b"\x23" + os.urandom(32 + 1088) + b"\x28" + bytes(40))
_SKESK = packet(3, b"\x04\x09\x03\x08" + bytes(8) + b"\xff")


@pytest.mark.parametrize("esk", [PKESK, _RSA, _ELGAMAL, _X25519, _X448_V6, _HIDDEN_V6, _ML_KEM, _SKESK])
def test_session_key_of_each_algorithm_is_taken(esk: bytes) -> None:
    assert shown(esk + SEIPD)
    assert shown(packet(10, b"PGP") + esk + PKESK + packet(21, bytes(20)) + SEIPD)


@pytest.mark.parametrize(
    "container",
    [
        SEIPD,
        packet(18, b"\x01" + NOISE, old=False),
        packet(9, NOISE, old=True),
        packet(9, NOISE),
        b"\xa7" + NOISE,  # the old format, of indeterminate length
        packet(18, b"\x02\x09\x02\x06" + NOISE),
        packet(20, b"\x01\x09\x02\x10" + NOISE),
        b"\xd2\xe9\x01" + NOISE[:511] + b"\xe9" + NOISE[:512] + b"\x05hello",  # partial lengths
        b"\xd2\xe9\x01" + NOISE[:511] + b"\x00",
    ],
)
def test_container_of_each_kind_is_taken(container: bytes) -> None:
    assert shown(PKESK + container)


@pytest.mark.parametrize(
    "header",
    [
        "Version: PGP Universal 2.9.1 (Build 287)",
        "Version: Encryption Desktop 10.3.0 (Build 9307)",
        "Version: FlowCrypt Email Encryption 8.5.5",
        "Version: GnuPG v1.4.11 (GNU/Linux)",
        "Version: Keybase Go 1.0.17 (linux)",
        "Version: GnuPG/MacGPG2 v2.0.22 (Darwin)",
        "Version: PGP for Personal Privacy 5.0",
        "Version: BCPG v1.58",
        "Version: PGP Desktop 10.2.0 (Build 1950) - not licensed for commercial use: www.pgp.com",
        "Version: PGPfreeware 6.5.8 for non-commercial use <http://www.pgp.com>",
        "Version: Didisoft OpenPGP Library for Java 3.1",
        "Version: BouncyCastle.NET Cryptography (net6.0) v2.0.0",
        "Version: ",
        "Comment: https://keybase.io/download",
        "Comment: GPGTools - http://gpgtools.org",
        "Comment: Using GnuPG with Mozilla - http://enigmail.mozdev.org/",
        "Comment: Using GnuPG with Red Hat - http://enigmail.mozdev.org",
        "Comment: Public key at http://people.example/eblake.gpg",
        "Comment: Seamlessly send and receive encrypted email",
        "Comment: Encrypted using AES with 128-bit key",
        "Comment: Processed by Mailvelope",
        "Comment: Canary PGP V3",
        "Version: GnuPG v2.2.40 (MingW32)",
        "Version: OpenPGP.js v4.10.10",
        "Version: ProtonMail",
        "Comment: https://www.mailvelope.com",
        "Comment: Key ID 0x0123456789ABCDEF",
    ],
)
def test_what_programs_write_in_armour_headers_is_taken(header: str) -> None:
    assert shown(GOOD, header)


def test_usual_armour_headers_are_taken() -> None:
    assert shown(GOOD, "Version: GnuPG v2", "Comment: Using GnuPG with Thunderbird - https://www.enigmail.net/")
    assert shown(GOOD, "Charset: utf-8", "Hash: SHA256", "MessageID: 0123456789abcdef")


# --- what is not


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Dear Bob,\r\n-----BEGIN PGP MESSAGE-----\r\n",
        b"-----BEGIN PGP MESSAGE-----\r\n\r\n-----END PGP MESSAGE-----\r\n",
        b"see below\r\n" + armoured(GOOD),
        armoured(GOOD) + b"see above\r\n",
        armoured(GOOD) + armoured(GOOD),
        b"> " + armoured(GOOD),
        armoured(GOOD)[:-40],
        armoured(GOOD).replace(b"-----END PGP MESSAGE-----", b""),
        armoured(GOOD).replace(b"END PGP MESSAGE", b"END PGP SIGNATURE"),
        armoured(GOOD, "PGP SIGNED MESSAGE"),
        armoured(GOOD, "PGP PUBLIC KEY BLOCK"),
        armoured(GOOD, "PGP MESSAGE, PART 1/2"),
        armoured(GOOD).replace(b"-----\r\n\r\n", b"-----\r\n", 1),
        armoured(GOOD).replace(b"\r\n=", b"\r\nhello!\r\n=", 1),
        armoured(GOOD).replace(b"-----END", b"=\r\nsecret\r\n-----END"),
        GOOD,
        b"\0" + armoured(GOOD),
    ],
)
def test_anything_but_one_whole_armour_is_not_encrypted(raw: bytes) -> None:
    assert not check(raw)
    assert not check(raw, 1)


def test_wrong_crc_is_not_encrypted() -> None:
    data = armoured(GOOD)
    at = data.rindex(b"\r\n=") + 3
    letter = b"A" if data[at : at + 1] != b"A" else b"B"
    assert not check(data[:at] + letter + data[at + 1 :])


@pytest.mark.parametrize(
    "headers",
    [
        ["Comment: " + "the plaintext " * 10],
        ["Comment: the password is swordfish"],
        ["Version: the password is swordfish"],
        ["Comment: the.password-is_swordfish"],
        ["Comment: s w o r d f i s h"],
        ["Comment: using GnuPG with attack at dawn - http://a.example"],
        ["Comment: \u0432\u0441\u0442\u0440\u0435\u0447\u0430 \u0437\u0430\u0432\u0442\u0440\u0430"],
        ["Comment: meet bob", "Comment: noon bridge", "Comment: password swordfish"],
        ["Comment: https://meet/me/at/noon"],
        ["Comment: http://x/kill,charles,tomorrow"],
        ["Comment: www.kill-charles-tomorrow-at-noon.example"],
        ["Comment: http://kill http://charles http://tomorrow"],
        ["Version: http://Dear.John/meet.me"],
        ["Charset: http://x/kill/charles/tomorrow"],
        ["MessageID: Dear.John.meet.me.at.the.old.bridge"],
        ["Comment: using GnuPG with KillCharles - https://x/tomorrow-at-noon"],
        ["Comment: Public key at http://x/kill/charles/tomorrow"],
        ["Comment: PGP now 1 - not licensed for commercial use: www.kill-charles.example"],
        ["Comment: DearJohnMeetMe"],
        ["Comment: kill2charles2tomorrow2at2noon"],
        ["Comment: D34r J0hn m33t m3"],
        ["Comment: killcharlestomorrowatnoon inprisonwithpoisonandburyhim"],
        ["Comment: PIN 4711 PUK 12345678"],
        ["Comment: PIN 4711"],
        ["Comment: 4111 1111 1111 1111 0927 123"],
        ["Comment: 4111.1111.1111.1111"],
        ["Comment: DE89 3704 0044 0532 0130 00"],
        ["Comment: 41 11 11 11 11 11"],
        ["Comment: 6d656574206d65206174206e6f6f6e21"],
        ["Comment: &#68;&#101;&#97;&#114;"],
        ["Comment: &#x44;&#x65;"],
        ["Comment: +AEQAZQBhAHIAIABKAG8AaABuACwAIABtAGUAZQB0-"],
        ["Secret: meet at noon"],
        ["Comment: one", "Comment: two", "Comment: three", "Comment: four", "Comment: five"],
        ["not a header"],
        ["Comment:\x00binary"],
    ],
)
def test_armour_headers_that_could_carry_a_letter_are_not_encrypted(headers: list[str]) -> None:
    assert not shown(GOOD, *headers)


_LITERAL = packet(11, b"b\0\0\0\0\0hello")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _LITERAL,
        packet(8, b"\0" + _LITERAL),
        packet(4, b"\x03\x00\x08\x01" + KEY_ID + b"\x01") + _LITERAL,
        packet(2, b"\x04" + bytes(30)),
        SEIPD,
        PKESK,
        PKESK + PKESK,
        PKESK + _LITERAL,
        GOOD + _LITERAL,
        GOOD + SEIPD,
        GOOD + PKESK,
        GOOD + packet(10, b"PGP"),
        GOOD + b"\n",
        GOOD[:-1],
        PKESK + _LITERAL + SEIPD,
        packet(13, b"Alice") + GOOD,
        packet(60, b"meet at noon") + GOOD,
        packet(10, b"meet at noon") + GOOD,
        packet(21, b"meet at noon, and bring what you promised; " * 2) + GOOD,
        packet(21, bytes(40)) * 2 + GOOD,
        packet(21, b"meet at noon") + GOOD,
        packet(21, b"\xd0\xb4\xd0\xbe\xd0\xb1\xd1\x80\xd1\x8b\xd0\xb9" * 5) + GOOD,
        packet(3, b"\x04\x09\x03\x08" + bytes(8) + b"\x60" + b"Dear John, meet me at nine tonight") + GOOD,
        packet(3, b"\x06\x1a\x09" + b"Dear John, meet me at nine tonight.") + GOOD,
        packet(1, b"\x03" + bytes(8) + b"\x12\x01\x07\x40" + bytes(32) + b"\x21Dear John, meet me at the bridge.")
        + GOOD,
        b"hello",
    ],
)
def test_anything_but_session_keys_and_one_container_is_not_encrypted(data: bytes) -> None:
    assert not shown(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x03",
        b"\x02" + KEY_ID + ECDH,
        b"\x03" + KEY_ID,
        b"\x03" + KEY_ID + ECDH + b"meet at noon",
        b"\x03" + KEY_ID + b"\x12" + b"\xff\xff",
        b"\x03" + KEY_ID + b"\x01" + mpi(12345),
        b"\x03" + KEY_ID + b"\x63" + b"meet at noon",
        b"\x03" + KEY_ID + b"\x11" + mpi(1 << 2047),
        b"\x03" + KEY_ID + b"\x10" + mpi(1 << 2047),
        b"\x03" + KEY_ID + b"\x19" + bytes(32),
        b"\x06\x07" + bytes(7) + ECDH,
        b"meet at noon, at the usual place",
        b"\x03" + KEY_ID + b"\x01" + mpi(b"Dear Bob, here is what nobody else may read. " * 20),
        b"\x03" + KEY_ID + b"\x01" + mpi(b"\xc8 meet\xc9 noon" * 80),
    ],
)
def test_nonsense_session_key_is_not_encrypted(body: bytes) -> None:
    assert not shown(packet(1, body) + SEIPD)


@pytest.mark.parametrize(
    "body", [b"", b"\x04", b"\x04\x09\x03\x08" + b"meet at noon" * 20, b"meet at noon", b"\x06\x01"]
)
def test_nonsense_passphrase_session_key_is_not_encrypted(body: bytes) -> None:
    assert not shown(packet(3, body) + SEIPD)


@pytest.mark.parametrize(
    "container",
    [
        packet(18, b""),
        packet(18, b"\x01" + NOISE[100:130]),
        packet(18, b"\x07" + NOISE),
        packet(18, b"\x02\x63\x63\x63" + NOISE),
        packet(18, b"\x01" + b"Dear Bob, here is what nobody else may read. " * 20),
        packet(18, b"\x01" + base64.b64encode(NOISE)),
        packet(9, b"Dear Bob, here is what nobody else may read. "),
        packet(20, b"\x01\x63\x02\x10" + NOISE),
        packet(20, b"\x01\x09\x02\x10" + NOISE[100:120]),
        packet(18, b"\x01" + NOISE)[:-7],
        b"\xd2\xe9\x01" + NOISE[:511],
        b"\xd2\xe9\x01" + NOISE[:511] + b"\xff\0",
    ],
)
def test_container_that_holds_no_ciphertext_is_not_encrypted(container: bytes) -> None:
    assert not shown(PKESK + container)


_TEXT = b"Dear Bob, here is what nobody else may read, since it is a secret between the two of us. " * 20


@pytest.mark.parametrize("every", [2, 3, 7, 8, 9])
def test_container_of_text_with_other_octets_strewn_in_is_not_encrypted(every: int) -> None:
    step = every - 1
    strewn = b"".join(b"\xc8" + _TEXT[at : at + step] for at in range(0, len(_TEXT), step))
    for container in (packet(18, b"\x01" + strewn), packet(9, strewn), packet(20, b"\x01\x09\x02\x10" + strewn)):
        assert not shown(PKESK + container)


@pytest.mark.parametrize("before", [0, 1000, 5000, 60_000])
def test_container_with_text_among_the_ciphertext_is_not_encrypted(before: int) -> None:
    start, end = os.urandom(before), os.urandom(100_000)
    assert shown(PKESK + packet(18, b"\x01" + start + end))
    assert not shown(PKESK + packet(18, b"\x01" + start + _TEXT + end))
    assert not shown(PKESK + packet(18, b"\x01" + start + end + _TEXT[:150]))
    parts = b"\xd2\xf0\x01" + os.urandom(65535) + b"\xea" + _TEXT[:1024] + b"\x40" + os.urandom(64)
    assert not shown(PKESK + parts)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_octets_are_judged_without_an_exception(raw: bytes, size: int) -> None:
    assert not check(raw, size)
    assert not check(armoured(raw), size)
    check(armoured(PKESK + raw), size)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 60))
def test_verdict_does_not_depend_on_the_size_of_blocks(cut: int, size: int) -> None:
    raw = armoured(GOOD[:cut])
    assert not check(raw, size)
    assert openpgp.encrypted_message([raw]) == openpgp.encrypted_message(iter([raw[:size], raw[size:]]))


_WORST = {
    "white space": b" \r\n" * 2_000_000,
    "short lines": armoured(GOOD + NOISE * 1000).replace(b"\r\n\r\n", b"\r\n\r\n" + b"\r\n" * 1_000_000, 1),
    "markers": armoured(packet(10, b"PGP") * 400_000 + GOOD),
    "session keys": armoured(PKESK * 20_000 + SEIPD),
    "tiny parts": armoured(PKESK + b"\xd2" + b"\xe0\x01" * 1_000_000),
    "small parts": armoured(PKESK + b"\xd2\xe9" + NOISE[:512] + (b"\xe6" + NOISE[100:164]) * 30_000 + b"\0"),
    "equals signs": b"-----BEGIN PGP MESSAGE-----\r\n\r\n" + b"=" * 3_000_000,
    "dashes": b"-" * 3_000_000,
    "headers": b"-----BEGIN PGP MESSAGE-----\r\n" + b"Comment: x\r\n" * 300_000,
}


@pytest.mark.parametrize("name", _WORST)
def test_message_made_to_be_slow_is_judged_in_a_second(name: str) -> None:
    raw = _WORST[name]
    for size in (4096, 1 << 20):
        assert idle_seconds(partial(check, raw, size), 1) < 1


def test_large_message_is_read_in_little_memory() -> None:
    held = 0

    def blocks() -> Iterator[bytes]:
        nonlocal held
        yield b"-----BEGIN PGP MESSAGE-----\r\n\r\n"
        start = PKESK + b"\xd2\xff" + (1 + 3 * 1024 * 4000).to_bytes(4, "big") + b"\x01"
        carry = start
        for _ in range(4000):
            carry += NOISE * 3
            whole = len(carry) - len(carry) % 3
            yield base64.b64encode(carry[:whole]) + b"\r\n"
            carry = carry[whole:]
            held = max(held, len(reader._pending) + len(packets_of._pending))
        yield base64.b64encode(carry) + b"\r\n-----END PGP MESSAGE-----\r\n"

    reader, packets_of = armour.ArmourReader(), openpgp.EncryptedMessageReader()
    for block in blocks():
        for octets in reader.feed(block):
            packets_of.feed(octets)
    packets_of.feed(reader.finish())
    packets_of.finish()
    assert held < 70_000


# --- packets


def test_packets_keep_their_octets_in_both_formats() -> None:
    raw = packet(6, b"abc") + packet(13, b"x" * 300) + packet(2, b"old", old=True) + b"\xcd\xc0\x08" + b"y" * 200
    found = list(openpgp.packets(raw))
    assert [(p.tag, len(p.body)) for p in found] == [(6, 3), (13, 300), (2, 3), (13, 200)]
    assert b"".join(p.raw for p in found) == raw


@pytest.mark.parametrize(
    "raw", [b"\x00", b"\x80", b"\xc6", b"\xc6\x05abc", b"\xc6\xff\0\0", b"\xc6\xe1ab", b"\x9babc", b"\x99\0"]
)
def test_packet_that_is_cut_off_or_indefinite_is_an_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        list(openpgp.packets(raw))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_parsers_raise_nothing_but_parse_errors(raw: bytes) -> None:
    for parse in (
        lambda: list(openpgp.packets(raw)),
        lambda: openpgp_keys.parse_key(openpgp.Packet(6, raw, raw)),
        lambda: openpgp_keys.parse_key(openpgp.Packet(6, b"\x04" + raw, raw)),
        lambda: openpgp_keys.parse_signature(openpgp.Packet(2, raw, raw)),
        lambda: openpgp_keys.parse_signature(openpgp.Packet(2, b"\x04\x13\x01\x08" + raw, raw)),
        lambda: openpgp_keys.parse_subpackets(raw),
        lambda: openpgp_keys.parse_numbers(raw, 2),
        lambda: armour.dearmour(raw),
        lambda: armour.dearmour(b"-----BEGIN PGP MESSAGE-----\n\n" + raw),
    ):
        with contextlib.suppress(ParseError):
            parse()


# --- armour


def test_armour_is_undone_octet_for_octet() -> None:
    for size in (0, 1, 2, 3, 4, 47, 48, 49, 100_000):
        data = os.urandom(size)
        raw = armoured(data, "PGP PUBLIC KEY BLOCK", "Comment: größe")
        assert armour.dearmour(raw) == armour.Armoured("PGP PUBLIC KEY BLOCK", (("Comment", "größe"),), data)


def test_armour_of_sequoia_is_undone() -> None:
    found = armour.dearmour(str(KEY).encode())
    assert (found.label, found.data) == (armour.PUBLIC_KEY, bytes(KEY))


def test_armour_is_recognized_behind_white_space() -> None:
    assert armour.is_armoured(b"\r\n-----BEGIN PGP MESSAGE-----")
    assert not armour.is_armoured(GOOD)
    assert not armour.is_armoured(b"see -----BEGIN PGP MESSAGE-----")
