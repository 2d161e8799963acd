"""The golden vectors: one message, one set of answers, one configuration, one clock, one expectation, one fault each.

A folder ``NNN-name`` holds

    message.eml     the message, octet for octet
    vector.toml     why; sender, recipients, now; config; [[dns]], [[web]], [ldap], [directory], [[learned]]; [expect]
    inside.mime     what each encrypted copy must hold, octet for octet
    outside.header  the header fields that an encrypted copy keeps, octet for octet
                    (where copies differ, expect.copy names other files as inside and outside)
    unchanged.eml   what a copy in the clear must be, where that is not message.eml itself
                    (expect.inserted has the fields that come before all others, in every copy)

The message goes through ``smilla.pipeline.process`` with ports in memory; what comes out is opened by OpenSSL and by
Sequoia.  Whatever the vector is about, the canary in its body must not stand in an encrypted copy or in the reply.
"""

from __future__ import annotations

import email
import email.policy
import re
import subprocess
import tomllib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pysequoia
import pytest
from asn1crypto import cms
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from smilla import config, decide, pipeline
from smilla.answer import reply
from smilla.errors import SmillaError
from smilla.formats import openpgp
from smilla.formats.armour import dearmour
from smilla.keys.discovery import ldap, wkd
from smilla.message import ParsedMessage, parse
from smilla.model import Client, Copy, CopyForm, Outcome, Transport
from smilla.session import Session
from tests import cms_opener
from tests.vectors.memory import (
    KEYS,
    MemoryLearned,
    OneDirectory,
    TableResolver,
    TableWeb,
    learned_key,
    make_ports,
    raw_key,
)

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("[0-9]*/vector.toml"))
CANARY = b"Kanarienvogel"
ENCRYPTED = (CopyForm.SMIME, CopyForm.OPENPGP)
_NOT_FOR_OPENSSL = ("xena", "kim")


@dataclass(frozen=True)
class Vector:
    """A folder, and what the pipeline made of it."""

    folder: Path
    table: dict[str, Any]
    parsed: ParsedMessage
    settings: config.Config
    outcome: Outcome

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.table["expect"]
        return found

    def octets(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def run(folder: Path) -> Vector:
    table = tomllib.loads((folder / "vector.toml").read_text("utf-8"))
    parsed = parse((folder / "message.eml").read_bytes())
    settings = config.parse(table.get("config", "").replace("KEYS", str(KEYS))).behind("sendmail")
    now: datetime = table["now"]
    trust_store = (KEYS / table["trust_store"]).read_bytes() if "trust_store" in table else b""
    resolver = _resolver(table)
    ports = make_ports(resolver, _files(table), now, trust_store, web=_web(table, resolver), company=_company(table))
    known = [learned_key(one["mailbox"], one["key"]) for one in table.get("learned", ())]
    ports = replace(ports, learned=MemoryLearned(known, fails=table.get("learned_fails", False)))
    unreadable = [str(KEYS / name) for name in table.get("unreadable", ())]
    if unreadable:
        ports = replace(ports, read_key_file=_Unreadable(unreadable))
    client = Client(**table.get("client", {}))
    session = Session(client, f"<{table['sender']}>", (), settings.completion)
    session.transport = Transport(**table["transport"]) if "transport" in table else None
    for recipient in table["recipients"]:
        decide.begin_lookup(session, session.recipient(f"<{recipient}>"), ports, settings)
    for header in parsed.message.headers:
        session.header(header.raw_name, header.raw_value)
    body = b"".join(parsed.message.body.blocks())
    size = table.get("chunk", 65535)
    for start in range(0, len(body), size):
        session.body_chunk(body[start : start + size])
    return Vector(folder, table, parsed, settings, pipeline.process(session, ports, settings))


def _resolver(table: dict[str, Any]) -> TableResolver:
    resolver = TableResolver()
    for answer in table.get("dns", ()):
        fields = bytes(answer.get("fields", (3, 0, 0))) if answer["type"] == "smimea" else b""
        records = [fields + raw_key(name) for name in answer.get("keys", ())]
        records += [bytes.fromhex(text) for text in answer.get("rdata", ())]
        malformed = answer.get("malformed", 0)
        resolver.publish(answer["mailbox"], answer["type"], answer["status"], *records, malformed=malformed)
    return resolver


class _Unreadable:
    """Files that cannot be read; there is none beside them."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __call__(self, path: str) -> bytes | None:
        if path in self._paths:
            raise SmillaError(f"{path}: cannot be read")
        return None


def _web(table: dict[str, Any], resolver: TableResolver) -> TableWeb:
    """Hosts of Web Key Directories; one without a status answers nobody."""
    web = TableWeb(resolver)
    for host in table.get("web", ()):
        raw = b"".join(raw_key(name) for name in host.get("keys", ())) or host.get("text", "").encode()
        known = {name: host[name] for name in ("media_type", "location") if name in host}
        answer = wkd.Fetched(host["status"], raw=raw, **known) if "status" in host else None
        web.serve(host["host"], answer, host.get("dns", "insecure"))
    return web


def _company(table: dict[str, Any]) -> OneDirectory:
    """One entry with these keys, or none; {} is a directory that is away."""
    found = table.get("ldap", {"keys": []})
    kinds = {".crt": "userCertificate;binary", ".pgp": "pgpKey"}
    values = tuple((kinds[name[-4:]], raw_key(name)) for name in found.get("keys", ()))
    entries = (("cn=somebody", values),) if values else ()
    return OneDirectory(ldap.Found(found.get("code", 0), "told", entries) if found else None)


def _files(table: dict[str, Any]) -> dict[str, bytes | None]:
    """An empty name stands for a file that cannot be read."""
    return {name: (KEYS / key).read_bytes() if key else None for name, key in table.get("directory", {}).items()}


def test_there_are_enough_vectors_and_each_says_why_in_one_line() -> None:
    whys = [tomllib.loads((folder / "vector.toml").read_text("utf-8"))["why"] for folder in FOLDERS]
    assert len(whys) >= 195
    assert len(set(whys)) == len(whys)
    assert all(20 < len(why) < 160 and "\n" not in why for why in whys)
    assert len({folder.name[:3] for folder in FOLDERS}) == len(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_vector_gives_what_it_must(folder: Path) -> None:
    vector = run(folder)
    _check_decisions(vector)
    _check_reply(vector)
    expected = vector.expected.get("copy", [])
    assert [copy.form.value for copy in vector.outcome.copies] == [wanted["form"] for wanted in expected]
    for copy, wanted in zip(vector.outcome.copies, expected, strict=True):
        assert [r.raw.strip("<>") for r in copy.recipients] == wanted["recipients"]
        assert [f"{name}: {value}" for name, value in copy.rewrite.inserted] == vector.expected.get("inserted", [])
        if copy.form in ENCRYPTED:
            _check_encrypted(vector, copy, wanted)
        else:
            _check_clear(vector, copy)


def _check_decisions(vector: Vector) -> None:
    found = [
        {"address": d.recipient.raw.strip("<>"), "action": d.action.value, "reason": d.reason.code}
        for d in vector.outcome.decisions
    ]
    assert found == vector.expected["recipient"]
    assert vector.outcome.classification.kind.value == vector.expected.get("kind", "plain")


def _check_reply(vector: Vector) -> None:
    answer = reply.for_outcome(vector.outcome, vector.settings.policy.mixed, observe=vector.settings.observe)
    assert (f"{answer.code} {answer.enhanced}" if answer.code else answer.verb.value) == vector.expected["reply"]
    assert CANARY.decode() not in answer.text
    if answer.copy is not None:
        assert set(vector.outcome.copies) == {answer.copy, *answer.further}


def _check_clear(vector: Vector, copy: Copy) -> None:
    name = "unchanged.eml" if (vector.folder / "unchanged.eml").exists() else "message.eml"
    assert (copy.rewrite.body, copy.rewrite.added) == (None, ())
    assert vector.parsed.raw_unchanged(copy.rewrite.removed) == vector.octets(name)


def _check_encrypted(vector: Vector, copy: Copy, wanted: dict[str, Any]) -> None:
    headers = vector.parsed.message.headers
    kept = b"".join(h.raw for index, h in enumerate(headers) if index not in copy.rewrite.removed)
    assert kept == vector.octets(wanted.get("outside", "outside.header"))
    _check_protection(copy, wanted)
    assert copy.rewrite.body is not None
    body = b"".join(copy.rewrite.body())
    _check_lines(body)
    added = b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in copy.rewrite.added)
    message = email.message_from_bytes(added + b"\r\n" + body, policy=email.policy.SMTP)
    assert message.get_all("X-Smilla") == [f"encrypted; format={copy.form.value}"]
    assert (
        sum(re.match(rb"mime-version\s*:", h.raw, re.IGNORECASE) is not None for h in headers)
        + len(message.get_all("MIME-Version", []))
        == 1
    )
    opener = _open_cms if copy.form is CopyForm.SMIME else _open_openpgp
    count, payload = _cms(message) if copy.form is CopyForm.SMIME else _armour(message)
    assert count == len(wanted["opens_with"])
    for key in wanted["opens_with"]:
        assert opener(payload, key) == vector.octets(wanted.get("inside", "inside.mime"))
    assert wanted.get("cipher") in (None, copy.form is CopyForm.SMIME and cms_opener.cipher(payload))
    assert "scheme" not in wanted or cms_opener.schemes(payload) == {wanted["scheme"]}
    assert wanted.get("smime_type", "") in str(message["Content-Type"])


def _check_protection(copy: Copy, wanted: dict[str, Any]) -> None:
    """The fields that come in place of hidden ones, and why none could be protected."""
    ours = re.compile("content-.*|mime-version|x-smilla", re.IGNORECASE)
    come = [f"{name}: {value}" for name, value in copy.rewrite.added if not ours.fullmatch(name)]
    assert come == wanted.get("added", [])
    problem = copy.protection.problem
    assert (problem.code if problem else "") == wanted.get("problem", "")


def _check_lines(body: bytes) -> None:
    assert CANARY not in body
    assert body.isascii()
    lines = body.split(b"\r\n")
    assert lines[-1] == b""
    assert max(map(len, lines)) <= 78
    assert not re.search(rb"[\r\n\0]", b"".join(lines))


def _cms(message: email.message.EmailMessage) -> tuple[int, bytes]:
    assert message.get_content_type() == "application/pkcs7-mime"
    der = message.get_payload(decode=True)
    assert isinstance(der, bytes)
    content = cms.ContentInfo.load(der)["content"]
    return len(content["recipient_infos"]), der


def _open_cms(der: bytes, key: str) -> bytes:
    """By OpenSSL; what OpenSSL 3.0 does not read, by the tests' own reader."""
    certificate, private = KEYS / f"{key}.crt", KEYS / f"{key}.key"
    if not private.exists():  # one more certificate for the same key
        private = KEYS / "hugh.key"
    if key in _NOT_FOR_OPENSSL:
        return cms_opener.opened(der, raw_key(certificate.name), load_pem_private_key(private.read_bytes(), None))
    command = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", str(certificate)]
    return subprocess.run([*command, "-inkey", str(private)], input=der, capture_output=True, check=True).stdout


def _armour(message: email.message.EmailMessage) -> tuple[int, bytes]:
    assert message.get_content_type() == "multipart/encrypted"
    control, payload = message.iter_parts()
    assert (control.get_content_type(), control.get_payload(decode=True)) == (
        "application/pgp-encrypted",
        b"Version: 1\r\n",
    )
    armour = payload.get_payload(decode=True)
    assert isinstance(armour, bytes)
    packets = openpgp.EncryptedMessageReader()
    packets.feed(dearmour(armour).data)
    return packets.recipients, armour


def _open_openpgp(armour: bytes, key: str) -> bytes:
    secret = pysequoia.Tsk.from_bytes((KEYS / f"{key}.secret").read_bytes())
    opened: bytes | None = pysequoia.decrypt(armour, secret.decryptor()).bytes
    assert opened is not None
    return opened
