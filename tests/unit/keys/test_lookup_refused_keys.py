"""A key that the gate passes and no engine takes is its recipient's trouble alone, found before any copy is made."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pysequoia
import pytest

from smilla import pipeline
from smilla.adapters import gnupg
from smilla.adapters.gnupg import GnuPGEngine
from smilla.adapters.openpgp import Either
from smilla.adapters.sequoia import SequoiaEngine
from smilla.address import parse as parse_address
from smilla.config import parse
from smilla.encrypt import cms
from smilla.encrypt import pgp as openpgp
from smilla.encrypt.cms_recipients import recipient_infos
from smilla.errors import EncryptionError
from smilla.keys import lookup
from smilla.keys.validity import pgp
from smilla.model import Action, Candidate, Disposition, Format, KeyVerdict, Outcome, PGPKey, Reason, X509Key
from smilla.ports import OpenPGPEngine
from tests.certificates import make_certificate
from tests.lab.programs import require
from tests.openpgp_maker import FLAGS_CERTIFY, FLAGS_ENCRYPT, Secret, mpi, packet, secret, signature, subkey, subpacket
from tests.openpgp_maker import user_id as made_user_id
from tests.vectors.memory import KEYS, NOW, NoEngine, TableResolver, make_ports, make_session, raw_key, smimea

MADE = int(NOW.timestamp()) - 86400 * 100
ALICE, PIA, HUGH = "alice@example.org", "pia@example.org", "hugh@example.org"
MESSAGE = b"From: sam@sender.example\r\nTo: alice@example.org, pia@example.org, hugh@example.org\r\n\r\nthe canary\r\n"
BOTH = subpacket(27, b"\x0e")  # signing and encryption, which asks for a signature by the subkey (RFC 9580 5.2.1.10)


def version_6(*subpackets: bytes, sub: str = "x25519", hash_algorithm: int = 8, primary: str = "ed25519") -> bytes:
    main, key = secret(primary, MADE, 6), secret(sub, MADE, 6)
    direct = signature(main, 0x1F, main.signed, MADE, FLAGS_CERTIFY)
    bound = subkey(main, key, MADE, *(subpackets or (FLAGS_ENCRYPT,)), hash_algorithm=hash_algorithm)
    return packet(6, main.body) + direct + made_user_id(main, ALICE, MADE) + bound


def version_4(sub: Secret) -> bytes:
    main = secret("eddsa", MADE)
    return packet(6, main.body) + made_user_id(main, ALICE, MADE) + subkey(main, sub, MADE)


def of_material(algorithm: int, material: bytes) -> Secret:
    return Secret(algorithm, material, MADE, 4)


def rsa(exponent: int, bits: int = 2048) -> bytes:
    return mpi((1 << (bits - 1)) + 12345) + mpi(exponent)


CV25519 = secret("cv25519", MADE).material
REFUSED_BY_SEQUOIA = {
    "signs too, without the subkey's word": version_6(BOTH),
    "critical subpacket": version_6(FLAGS_ENCRYPT, subpacket(34, b"\1\2\3\4", critical=True)),
    "large exponent": version_4(of_material(1, rsa((1 << 33) + 1))),
    "RSA 16384": version_4(of_material(1, rsa(65537, 16384))),
    "brainpool": version_4(secret("ecdh-brainpoolP256r1", MADE)),
    "brainpool of version 6": version_6(sub="ecdh-brainpoolP256r1"),
    "number with zeros before it": version_4(of_material(1, rsa(65537)[:-5] + b"\0\x20\0\1\0\1")),
}
REFUSED_BY_BOTH = [
    "signs too, without the subkey's word",
    "critical subpacket",
    "brainpool of version 6",
    "number with zeros before it",
]


def gated(raw: bytes) -> PGPKey:
    key = pgp.assess(Candidate("openpgpkey", "", Format.OPENPGP, raw), parse_address(ALICE), NOW).key
    assert isinstance(key, PGPKey)
    return key


def either() -> Either:
    require("gpg")
    return Either(SequoiaEngine(), GnuPGEngine())


def processed(alice: bytes, engine: OpenPGPEngine | None = None, text: str = "", *others: str) -> Outcome:
    resolver = TableResolver().publish(ALICE, "openpgpkey", "secure", alice)
    resolver.publish(PIA, "openpgpkey", "secure", raw_key("pia.pgp")).publish(
        HUGH, "smimea", "secure", smimea("hugh.crt")
    )
    ports = replace(make_ports(resolver), openpgp=engine or SequoiaEngine())
    return pipeline.process(make_session(MESSAGE, [ALICE, *(others or (PIA, HUGH))]), ports, parse(text))


@pytest.mark.parametrize("name", REFUSED_BY_SEQUOIA)
def test_key_that_sequoia_refuses_is_unusable_for_its_recipient_alone(name: str) -> None:
    outcome = processed(REFUSED_BY_SEQUOIA[name])
    found = [(decision.action, decision.reason.code) for decision in outcome.decisions]
    assert found == [(Action.REFUSE, "engine_refuses"), (Action.ENCRYPT, "usable"), (Action.ENCRYPT, "usable")]
    first = outcome.decisions[0].lookup
    assert first is not None
    assert first.verdict is KeyVerdict.UNUSABLE_KEY
    assert "Sequoia" in first.reason.text
    assert outcome.disposition is Disposition.REFUSE


@pytest.mark.parametrize("name", REFUSED_BY_SEQUOIA)
def test_either_engine_serves_as_long_as_one_takes_the_key(name: str) -> None:
    fault = either().fault(gated(REFUSED_BY_SEQUOIA[name]))
    if name in REFUSED_BY_BOTH:
        assert fault is not None
        assert fault.code == "engine_refuses"
        assert "Sequoia" in fault.text
        assert "gpg" in fault.text
        return
    assert fault is None
    outcome = processed(REFUSED_BY_SEQUOIA[name], either())
    assert outcome.disposition is Disposition.DELIVER
    for copy in outcome.copies:
        assert copy.rewrite.body
        assert b"".join(copy.rewrite.body())


def test_others_are_served_where_one_fails_is_bounce() -> None:
    text = "[policy]\nmixed = 'reinject'\none_fails = 'bounce'\n"
    outcome = processed(REFUSED_BY_SEQUOIA["critical subpacket"], None, text)
    assert outcome.disposition is Disposition.DELIVER
    assert [decision.recipient.raw for decision in outcome.bounced] == [f"<{ALICE}>"]
    assert [[r.raw for r in copy.recipients] for copy in outcome.copies] == [[f"<{PIA}>"], [f"<{HUGH}>"]]
    for copy in outcome.copies:
        assert copy.rewrite.body
        assert b"the canary" not in b"".join(copy.rewrite.body())


def test_another_key_of_the_answer_that_the_engine_takes_is_used() -> None:
    resolver = TableResolver().publish(
        ALICE, "openpgpkey", "secure", version_6(BOTH, primary="ed448"), version_6(sub="x448")
    )
    ports = make_ports(resolver)
    pending = lookup.begin(parse_address(ALICE), ports, parse(""))
    found = lookup.finish(pending, pending.asked_at + 5, NOW, ports)
    assert found.verdict is KeyVerdict.USABLE
    assert found.key is not None
    assert found.key.algorithm == "X448"


def test_large_message_goes_to_the_engine_that_takes_the_key() -> None:
    """Past the threshold gpg comes first, and it must take every key, whatever Sequoia takes."""
    require("gpg")
    key = gated(version_4(secret("cv25519", MADE)))

    class Refusing(GnuPGEngine):
        def fault(self, key: PGPKey) -> Reason | None:
            return Reason("engine_refuses", "it takes no such key")

        def encrypt(self, *_: object) -> Iterator[bytes]:
            raise EncryptionError("it was asked all the same")

    engine = Either(SequoiaEngine(), Refusing(), threshold=1)
    assert b"".join(openpgp.encrypt([bytes(100)], 100, [key], engine)).startswith(b"-----BEGIN PGP MESSAGE")


def test_gpg_is_tried_once_a_key_and_not_for_what_sequoia_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = either()
    tried: list[bytes] = []
    original = GnuPGEngine._written

    def counted(self: GnuPGEngine, content: Iterable[bytes], raws: list[bytes], option: str, time: float) -> object:
        tried.extend(raws)
        return original(self, content, raws, option, time)

    monkeypatch.setattr(GnuPGEngine, "_written", counted)
    brainpool = gated(REFUSED_BY_SEQUOIA["brainpool"])
    for _ in range(3):
        assert engine.fault(gated(version_4(secret("cv25519", MADE)))) is None
        assert engine.fault(brainpool) is None
    assert tried == [brainpool.raw_for_engine]


@pytest.mark.parametrize("why", ["it ends at once", "it never ends"])
def test_gpg_that_fails_by_itself_blames_no_key(why: str, tmp_path: Path) -> None:
    require("gpg")
    engine = GnuPGEngine(timeout_s=0.01 if why == "it never ends" else 120)
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\n" + ("exec sleep 600\n" if why == "it never ends" else "exit 2\n"))
    program.chmod(0o755)
    engine._gpg.gpgbinary = str(program)
    key = gated(version_4(secret("cv25519", MADE)))
    assert engine.fault(key) is None
    assert len(engine._trials) == 0
    outcome = processed(version_4(secret("cv25519", MADE)), engine, "", HUGH)
    assert [d.action for d in outcome.decisions] == [Action.ENCRYPT, Action.ENCRYPT]
    body = outcome.copies[0].rewrite.body
    assert body is not None
    with pytest.raises(EncryptionError):
        b"".join(body())


@pytest.mark.parametrize(
    ("status", "line", "blamed"),
    [
        ("invalid recipient", "[GNUPG:] FAILURE encrypt 33554485", True),
        ("invalid recipient", "[GNUPG:] FAILURE encrypt 34", True),
        ("invalid recipient", "[GNUPG:] FAILURE encrypt 4294967295", False),
        ("invalid recipient", "[GNUPG:] FAILURE encrypt 32854", False),  # GPG_ERR_ENOMEM
        ("invalid recipient", "[GNUPG:] INV_RECP 0 x", False),
        ("invalid recipient", "[GNUPG:] FAILURE encrypt what", False),
        ("encryption failed", "[GNUPG:] FAILURE encrypt 53", False),
    ],
)
def test_only_what_gpg_says_of_the_key_itself_blames_it(status: str, line: str, blamed: bool) -> None:
    assert gnupg._blames_a_key(status, ["gpg: x", line]) is blamed


def test_sequoia_without_memory_blames_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise MemoryError

    def refusing(*_: object, **__: object) -> bytes:
        raise ValueError

    key = gated(version_4(of_material(1, rsa(65537, 2049))))
    engine = SequoiaEngine()
    monkeypatch.setattr(pysequoia, "encrypt", full)
    assert engine.fault(key) is None
    monkeypatch.undo()
    monkeypatch.setattr(pysequoia, "encrypt", refusing)
    assert engine.fault(key) is not None


# --- every key that the gate passes is taken, or has its own word


KINDS = ["rsa2048", "x25519", "x448", "ecdh-nistp256", "ecdh-nistp384", "ecdh-nistp521"]


@pytest.mark.parametrize(("kind", "version"), [*itertools.product(KINDS, (4, 6)), ("cv25519", 4)])
def test_every_usual_key_is_taken(kind: str, version: int) -> None:
    raw = version_4(secret(kind, MADE)) if version == 4 else version_6(sub=kind)
    assert SequoiaEngine().fault(gated(raw)) is None


SMALL_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("ed" + "ff" * 30 + "7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_point_of_small_order_is_malformed(point: bytes) -> None:
    for sub in (
        of_material(18, CV25519[:11] + mpi(b"\x40" + point) + b"\3\1\10\7"),
        of_material(25, point),
    ):
        found = pgp.assess(Candidate("x", "", Format.OPENPGP, version_4(sub)), parse_address(ALICE), NOW)
        assert found.key is None
        assert [reason.code for reason in found.reasons] == ["malformed"]


# --- certificates


def test_certificate_that_cannot_be_encrypted_to_is_unusable_for_its_recipient_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where cryptography reads a key of ML-KEM that it cannot calculate with."""
    _, raw = make_certificate("p384", email=ALICE)
    resolver = TableResolver().publish(ALICE, "smimea", "secure", b"\3\0\0" + raw)
    resolver.publish(HUGH, "smimea", "secure", smimea("hugh.crt"))

    def refusing(keys: list[X509Key], *task: object) -> object:
        if any(key.raw == raw for key in keys):
            raise EncryptionError("cannot encrypt to the certificate")
        return recipient_infos(keys, *task)  # type: ignore[arg-type]

    monkeypatch.setattr("smilla.encrypt.cms.recipient_infos", refusing)
    outcome = pipeline.process(make_session(MESSAGE, [ALICE, HUGH]), make_ports(resolver), parse(""))
    assert [(d.action, d.reason.code) for d in outcome.decisions] == [
        (Action.REFUSE, "engine_refuses"),
        (Action.ENCRYPT, "usable"),
    ]


def test_certificate_is_tried_once() -> None:
    tried: list[str] = []
    _, raw = make_certificate("p521", email=ALICE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cms, "fault", lambda key: tried.append(key.fingerprint))
        for _ in range(3):
            resolver = TableResolver().publish(ALICE, "smimea", "secure", b"\3\0\0" + raw)
            ports = make_ports(resolver)
            pending = lookup.begin(parse_address(ALICE), ports, parse(""))
            assert lookup.finish(pending, pending.asked_at + 5, NOW, ports).key
    assert len(tried) == 1


@pytest.mark.parametrize("name", sorted(path.name for path in KEYS.glob("*.crt")))
def test_every_certificate_of_the_vectors_that_passes_can_be_written_to(name: str) -> None:
    resolver = TableResolver().publish(HUGH, "smimea", "secure", smimea(name))
    ports = replace(make_ports(resolver), openpgp=cast("OpenPGPEngine", NoEngine()))
    pending = lookup.begin(parse_address(HUGH), ports, parse(""))
    found = lookup.finish(pending, pending.asked_at + 5, NOW, ports)
    assert found.reason.code != "engine_refuses"
