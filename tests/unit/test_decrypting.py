"""What smilla decrypt does with a message for recipients with and without a rule; and that nothing else is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pysequoia
import pytest

from smilla import decrypting, log_decrypt
from smilla.adapters.html_cleaner import HTMLCleaner
from smilla.answer import reply
from smilla.config import parse as parse_config
from smilla.decrypting import Believed, Decrypting, Reader
from smilla.errors import MTALost, NotDecrypted, SmillaError
from smilla.message import parse
from smilla.model import Client, Style
from smilla.session import Session
from tests.certificates import NOW, to_pem
from tests.openpgp_maker import armoured
from tests.unit.decrypt.material import OUTSIDE, TEXT, Owner, message, owner, pgp_mime, smime, written
from tests.unit.decrypt.signing import both
from tests.unit.decrypt.test_message import Engine, encrypted_data
from tests.unit.decrypt.test_signature import TRUSTED, certified

if TYPE_CHECKING:
    from datetime import datetime

    from smilla.model import Message

GCM = Style("aes256-gcm")
HTML = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>The canary<img src=http://efail.test/>\r\n"
RESULTS = b"Authentication-Results: mx.test;\r\n\tx-decrypt=pass "


@dataclass
class MTA:
    """Takes edits as Postfix does: fields are counted as they stand, and those at the beginning come first."""

    fields: list[tuple[str, bytes]]
    body: bytes = b""
    replaced: list[bytes] = field(default_factory=list)
    lost_after: int = 1000
    calls: int = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls > self.lost_after:
            raise MTALost("gone")

    def replace_body(self, block: bytes) -> None:
        self._call()
        self.replaced.append(block)

    def change_header(self, name: str, number: int, value: str) -> None:
        self._call()
        if number < 0:
            self.fields.insert(0, (name, b" " + value.encode()))
        elif number == 0:
            self.fields.append((name, b" " + value.encode()))
        else:
            places = [i for i, (known, _) in enumerate(self.fields) if known.lower() == name.lower()]
            if value:
                self.fields[places[number - 1]] = (name, b" " + value.encode())
            else:
                del self.fields[places[number - 1]]

    def delete_recipient(self, raw: str) -> None:
        raise AssertionError(raw)

    def change_sender(self, sender: str, parameters: str) -> None:
        raise AssertionError(sender, parameters)

    def quarantine(self, text: str) -> None:
        raise AssertionError(text)

    def alive(self) -> None: ...

    @property
    def raw(self) -> bytes:
        head = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in self.fields)
        return head + b"\r\n" + (b"".join(self.replaced) if self.replaced else self.body)


class Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Folder:
    """The files of sue."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: bool = False

    def names(self, folded: str) -> list[str]:
        if self.broken:
            raise SmillaError("no folder")
        return [name for name in self.files if name.startswith(f"{folded}.")]

    def all_names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)


BELIEVED = Believed(Clock(), Folder(), TRUSTED, cleaner=HTMLCleaner().of_a_message)


@dataclass
class Told:
    decrypted: list[tuple[list[str], dict[str, str], bool]] = field(default_factory=list)
    not_decrypted: list[tuple[list[str], str]] = field(default_factory=list)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()

    def decrypted(_: str, recipients: list[str], fields: dict[str, str], *, observed: bool) -> None:
        found.decrypted.append((list(recipients), fields, observed))

    def not_decrypted(_: str, recipients: list[str], code: str, detail: str) -> None:
        assert detail
        found.not_decrypted.append((list(recipients), code))

    monkeypatch.setattr(log_decrypt, "decrypted", decrypted)
    monkeypatch.setattr(log_decrypt, "not_decrypted", not_decrypted)
    return found


def of(*owners: Owner, engine: Engine | None = None) -> tuple[Reader, ...]:
    """hugh's rule with these keys, and the second one's for iris alone."""
    return (
        Reader("hugh@example.org", tuple(one.held for one in owners[:1]), engine),
        Reader("iris@example.org", tuple(one.held for one in owners[1:2]), None),
    )


def handled(
    one: Message,
    readers: tuple[Reader, ...],
    *to: str,
    mta: MTA | None = None,
    options: str = "",
    believed: Believed = BELIEVED,
) -> MTA:
    settings = parse_config(options or '[decrypt]\nauthserv_id = "mx.test"')
    session = Session(Client(mta="mta.test"), "<sue@example.org>")
    session.take(one)
    raw = b"".join(one.body.blocks())
    found = mta or MTA([(h.raw_name.decode(), h.raw_value) for h in one.headers], raw)
    handling = Decrypting(session, readers, settings, believed)
    for recipient in to:
        handling.recipient(f"<{recipient}>", alone=True)
    assert handling.end(found) == reply.Reply(reply.Verb.ACCEPT)
    return found


def told_of(authenticated: str, html: str = "", **signed: str) -> dict[str, str]:
    """The fields of a log line."""
    usual = {"format": "smime", "authenticated": authenticated, "html": html}
    return usual | {"signature": "none", "signer": "", "reason": ""} | signed


def raw_of(one: Message) -> bytes:
    return b"".join(h.raw for h in one.headers) + b"\r\n" + b"".join(one.body.blocks())


# --- decrypted ---------------------------------------------------------------------------------------------


def test_message_for_a_recipient_with_a_rule_is_decrypted_and_says_so(told: Told) -> None:
    one = smime(written(TEXT, owner(), style=GCM))
    found = handled(one, of(owner()), "hugh@example.org")
    assert found.raw.startswith(RESULTS + b"body.format=smime body.authenticated=yes\r\n")
    inner = parse(found.raw).message
    assert [h.raw_value for h in inner.named("x-smilla")] == [b" decrypted; format=smime"]
    assert found.raw.endswith(TEXT.partition(b"\r\n\r\n")[2])
    assert told.decrypted == [(["hugh@example.org"], told_of("yes"), False)]


def test_openpgp_message_is_decrypted(told: Told) -> None:
    found = handled(pgp_mime(armoured(encrypted_data())), of(engine=Engine()), "hugh@example.org")
    assert found.raw.startswith(RESULTS + b"body.format=openpgp body.authenticated=yes\r\n")
    assert told.not_decrypted == []


def test_without_a_name_of_its_own_the_mtas_name_stands_in_the_field(told: Told) -> None:
    found = handled(smime(written(TEXT, owner())), of(owner()), "hugh@example.org", options="observe = false")
    assert found.raw.startswith(b"Authentication-Results: mta.test;\r\n")
    assert len(told.decrypted) == 1


@pytest.mark.parametrize(
    ("how", "kind", "is_left"),
    [("strip", b"text/html", False), ("text", b"text/plain", True), ("keep", b"text/html", True)],
)
def test_html_that_nothing_authenticates_is_handed_on_as_the_option_says(
    how: str, kind: bytes, is_left: bool, told: Told
) -> None:
    options = f'[decrypt]\nauthserv_id = "mx.test"\nhtml = "{how}"'
    found = handled(smime(written(HTML, owner())), of(owner()), "hugh@example.org", options=options)
    assert b"\r\nContent-Type: " + kind in found.raw
    assert (b"efail" in found.raw) == is_left
    html = "" if how == "keep" else how
    assert told.decrypted[0][1] == told_of("no", html)
    assert (b"body.html=" + how.encode() in found.raw) == (how != "keep")


@pytest.mark.parametrize("number", [0, 1], ids=["beside", "around"])
def test_html_that_its_sender_signed_stays_and_the_header_names_the_signer(number: int, told: Told) -> None:
    signed = both(HTML, *certified())[number]
    found = handled(smime(written(signed, owner())), of(owner()), "hugh@example.org")
    results = RESULTS + b"body.format=smime body.authenticated=no\r\n"
    results += b"Authentication-Results: mx.test;\r\n\tsmime=pass body.smime-identifier=sue@example.org\r\n"
    assert found.raw.startswith(results)
    assert HTML.partition(b"\r\n\r\n")[2] in found.raw
    assert (b"multipart/signed" in found.raw) == (number == 0)
    assert b"pkcs7-mime" not in found.raw
    assert told.decrypted[0][1] == told_of("no", signature="pass", signer="sue@example.org")


@pytest.mark.parametrize(
    ("words", "result", "reason"),
    [({"email": "eve@example.org"}, b"policy", "other_address"), ({"issuer": None}, b"policy", "untrusted")],
)
@pytest.mark.parametrize("number", [0, 1], ids=["beside", "around"])
def test_html_that_somebody_else_signed_is_not_believed(
    number: int, words: dict[str, Any], result: bytes, reason: str, told: Told
) -> None:
    signed = both(HTML, *certified(**words))[number]
    found = handled(smime(written(signed, owner())), of(owner()), "hugh@example.org")
    assert b"efail" not in found.raw
    assert b"\tsmime=" + result + b" policy.reason=" + reason.encode() + b"\r\n" in found.raw
    assert told.decrypted[0][1]["html"] == "strip"


@pytest.mark.parametrize(("said", "signer"), [(("pass", ""), "sue@example.org"), (("fail", "changed"), "")])
def test_openpgp_signature_in_the_ciphertext_is_named(said: tuple[str, str], signer: str, told: Told) -> None:
    key = bytes(pysequoia.Tsk.generate("Sue <sue@example.org>").extract_certificate())
    engine = Engine(said=said)
    believed = replace(BELIEVED, folder=Folder({"sue@example.org.pgp": key}), trusted=None)
    one = pgp_mime(armoured(encrypted_data()))
    found = handled(one, of(engine=engine), "hugh@example.org", believed=believed)
    assert engine.certificates == [key]
    why = b"body.signer=sue@example.org" if signer else b"policy.reason=changed"
    assert b"mx.test;\r\n\tx-openpgp=" + said[0].encode() + b" " + why + b"\r\n" in found.raw
    assert told.decrypted[0][1]["signature"] == said[0]


def test_certificate_in_the_folder_of_keys_is_believed_and_a_folder_that_fails_is_empty(told: Told) -> None:
    private, raw = certified(issuer=None)
    one = smime(written(both(HTML, private, raw)[0], owner()))
    known = Folder({"sue@example.org.crt": to_pem(raw), "sue@example.org.pgp": b"no certificate"})
    for folder, result in ((known, "pass"), (Folder(), "policy"), (Folder(known.files, broken=True), "policy")):
        handled(one, of(owner()), "hugh@example.org", believed=replace(BELIEVED, folder=folder, trusted=None))
        assert told.decrypted[-1][1]["signature"] == result


@pytest.mark.parametrize(
    "senders",
    [
        b"",
        b"From: sue@example.org, eve@example.org\r\n",
        b"From: sue@example.org\r\n" * 2,
        b"From: <eve@example.org> x, sue@example.org\r\n",
        b"From: eve@example.org: sue@example.org;\r\n",
        b"From: sue@example.org, Eve <eve@example.org\r\n",
        b"From: eve@example.org <sue@example.org>\r\n",
    ],
)
def test_where_another_reader_may_see_another_sender_no_signature_passes(senders: bytes, told: Told) -> None:
    outside = OUTSIDE.replace(b"From: sue@example.org\r\n", senders)
    found = handled(smime(written(both(HTML, *certified())[0], owner()), outside), of(owner()), "hugh@example.org")
    assert b"\tsmime=neutral policy.reason=from\r\n" in found.raw
    assert b"efail" not in found.raw
    assert len(told.decrypted) == 1


def test_malformed_entity_in_signed_data_that_does_not_pass_is_not_handed_on(told: Told) -> None:
    """Nothing else authenticates it, so its octets are read to the last one."""
    odd = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>\x02\xff"
    for words, code in (({}, ""), ({"email": "eve@example.org"}, "undecryptable")):
        handled(smime(written(both(odd, *certified(**words))[1], owner())), of(owner()), "hugh@example.org")
        assert (told.not_decrypted[-1][1] if code else told.decrypted[-1][1]["signature"]) == (code or "pass")


def test_html_under_a_tag_stays_as_it_is(told: Told) -> None:
    found = handled(smime(written(HTML, owner(), style=GCM)), of(owner()), "hugh@example.org")
    assert found.raw.endswith(HTML.partition(b"\r\n\r\n")[2])
    assert len(told.decrypted) == 1


def test_several_recipients_get_it_if_the_keys_of_each_open_it(told: Told) -> None:
    one = smime(written(TEXT, owner(), owner("p256"), style=GCM))
    found = handled(one, of(owner(), owner("p256")), "hugh@example.org", "iris@example.org")
    assert found.raw.startswith(RESULTS)
    assert told.decrypted[0][0] == ["hugh@example.org", "iris@example.org"]


# --- not decrypted: octet for octet as it came -------------------------------------------------------------


def unchanged(one: Message, readers: tuple[Reader, ...], *to: str) -> None:
    found = handled(one, readers, *to)
    assert (found.raw, found.calls) == (raw_of(one), 0)


def test_mail_for_others_is_never_touched_whatever_it_says(told: Told) -> None:
    forged = message(OUTSIDE + RESULTS + b"body.format=smime\r\nX-Smilla: decrypted\r\n\r\nhello\r\n")
    for one in (smime(written(TEXT, owner())), forged):
        unchanged(one, of(owner()), "carol@example.org")
    assert told == Told()


def test_mail_that_is_not_encrypted_is_not_touched_and_not_spoken_of(told: Told) -> None:
    unchanged(message(OUTSIDE + b"\r\nhello\r\n"), of(owner()), "hugh@example.org")
    assert told == Told()


@pytest.mark.parametrize("others", [("carol@example.org",), ("carol@example.org", "iris@example.org")])
def test_with_a_recipient_without_a_rule_nobody_gets_the_plaintext(others: tuple[str, ...], told: Told) -> None:
    unchanged(smime(written(TEXT, owner(), owner("p256"))), of(owner(), owner("p256")), "hugh@example.org", *others)
    assert {code for _, code in told.not_decrypted} == {"other_recipients"}
    assert "carol@example.org" not in told.not_decrypted[0][0]


def test_copied_ciphertext_sent_to_its_reader_and_to_oneself_is_not_decrypted(told: Told) -> None:
    """iris has copied hugh's mail on its way; her own rule must not get her its text."""
    unchanged(smime(written(TEXT, owner())), of(owner(), owner("p256")), "hugh@example.org", "iris@example.org")
    unchanged(smime(written(TEXT, owner())), of(owner(), owner("p256")), "iris@example.org")
    assert [code for _, code in told.not_decrypted] == ["not_for_this_key"] * 2


def test_message_that_is_another_for_each_key_is_not_decrypted(told: Told) -> None:
    class Other(Engine):
        content = b"Content-Type: text/plain\r\n\r\nanother\r\n"

    readers = (Reader("hugh@example.org", (), Engine()), Reader("iris@example.org", (), Engine(Other.content)))
    unchanged(pgp_mime(armoured(encrypted_data())), readers, "hugh@example.org", "iris@example.org")
    assert [code for _, code in told.not_decrypted] == ["ambiguous"]


def test_message_above_the_limit_is_not_decrypted(told: Told) -> None:
    one = smime(written(b"Content-Type: text/plain\r\n\r\n" + b"a" * (1 << 20), owner()))
    found = handled(one, of(owner()), "hugh@example.org", options="[decrypt]\nmax_mib = 1")
    assert (found.raw, found.calls) == (raw_of(one), 0)
    assert [code for _, code in told.not_decrypted] == ["too_large"]


def test_message_with_a_bare_cr_in_its_header_is_not_decrypted(told: Told) -> None:
    one = smime(written(TEXT, owner()), OUTSIDE + b"X: a\r\rb\r\n")
    unchanged(one, of(owner()), "hugh@example.org")
    assert [code for _, code in told.not_decrypted] == ["bare_cr"]


def test_opaque_content_that_nothing_authenticates_is_not_decrypted(told: Told) -> None:
    inner = (
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\nMAA="
    )
    unchanged(smime(written(inner, owner())), of(owner()), "hugh@example.org")
    assert [code for _, code in told.not_decrypted] == ["opaque"]


def test_what_keeps_the_engine_from_answering_leaves_the_message_as_it_was(told: Told) -> None:
    class Down(Engine):
        def opened(self, raw: bytes) -> bytes:
            raise NotDecrypted("engine", "no agent", temporary=True)

    unchanged(pgp_mime(armoured(encrypted_data())), of(engine=Down()), "hugh@example.org")
    assert [code for _, code in told.not_decrypted] == ["engine"]


def test_while_observing_nothing_is_changed_and_the_log_says_so(told: Told) -> None:
    one = smime(written(TEXT, owner()), OUTSIDE + b"X-Smilla: decrypted\r\n")
    found = handled(one, of(owner()), "hugh@example.org", options="observe = true")
    assert (found.raw, found.calls) == (raw_of(one), 0)
    assert told.decrypted[0][2] is True


# --- what strangers claim ----------------------------------------------------------------------------------


def test_forged_claims_are_removed_and_nothing_else(told: Told) -> None:
    theirs = b"Authentication-Results: mx.test; dkim=pass header.d=s.test\r\n"
    theirs += b"Authentication-Results: other.test; x-decrypt=pass\r\n"
    theirs += b"X-Smilla: encrypted; format=smime\r\n"
    forged = b"authentication-results: (a) MX.test; x-decrypt = pass\r\n"
    forged += b"Authentication-Results: mx.test; smime=pass\r\nAuthentication-Results: mx.test; x-openpgp=pass\r\n"
    forged += b"X-Smilla: Decrypted; format=smime\r\n"
    for one, rest in (
        (message(OUTSIDE + forged + theirs + b"\r\nhello\r\n"), OUTSIDE + theirs + b"\r\nhello\r\n"),
        (smime(written(TEXT, owner("p256")), OUTSIDE + forged + theirs), b""),
    ):
        found = handled(one, of(owner()), "hugh@example.org")
        assert found.raw == (rest or raw_of(one).replace(forged.partition(b"X-Smilla")[0], b""))
        assert found.replaced == []
    assert told.decrypted == []


# --- faults ------------------------------------------------------------------------------------------------


def test_error_before_the_first_change_lets_the_ciphertext_pass_and_a_later_one_does_not(told: Told) -> None:
    one = smime(written(TEXT, owner()))
    fields = [(h.raw_name.decode(), h.raw_value) for h in one.headers]
    session = Session(Client(mta="mta.test"), "<sue@example.org>")
    session.take(one)
    handling = Decrypting(session, of(owner()), parse_config(""), BELIEVED)
    handling.recipient("<hugh@example.org>", alone=True)
    assert handling.may_pass
    with pytest.raises(MTALost):
        handling.end(MTA(fields, lost_after=2))
    assert not handling.may_pass
    handling.failed(MTALost("gone"))
    assert told.not_decrypted == [(["hugh@example.org"], "mta_lost")]
    assert told.decrypted == []


def test_unexpected_error_while_decrypting_lets_the_ciphertext_pass(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(decrypting, "decrypted", broken)
    session = Session(Client(mta="mta.test"), "<sue@example.org>")
    session.take(smime(written(TEXT, owner())))
    handling = Decrypting(session, of(owner()), parse_config(""), BELIEVED)
    handling.recipient("<hugh@example.org>", alone=True)
    with pytest.raises(RuntimeError):
        handling.end(MTA([]))
    assert handling.may_pass
    handling.failed(RuntimeError("a fault of ours"))
    assert told.not_decrypted == [(["hugh@example.org"], "internal")]


def test_log_has_a_line_for_each_recipient_and_no_word_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log_decrypt, "_event", lambda _level, event, _id="", **fields: lines.append((event, fields)))
    handled(smime(written(TEXT, owner())), of(owner()), "hugh@example.org", "hugh@EXAMPLE.org")
    handled(smime(written(TEXT, owner("p256"))), of(owner()), "hugh@example.org")
    log_decrypt.started("unix:/s", 1, 2, "1.0")
    assert [event for event, _ in lines] == ["decrypted", "decrypted", "not-decrypted", "decrypt-started"]
    assert lines[0][1] == {"rcpt": "hugh@example.org", **told_of("no"), "observe": ""}
    assert "canary" not in str(lines)


def test_header_field_that_the_milter_protocol_does_not_carry_leaves_the_message_as_it_was(told: Told) -> None:
    """What is in letters beyond ASCII grows by two thirds as it is written outside."""
    subject = b"\r\n ".join(["ü".encode() * 30] * 900)
    inner = b'Content-Type: text/plain; charset=utf-8; hp="cipher"\r\nSubject: ' + subject + b"\r\n\r\nhello\r\n"
    one = smime(written(inner, owner()))
    assert handled(one, of(owner()), "hugh@example.org").replaced == []
    assert told.not_decrypted == [(["hugh@example.org"], "no_entity")]
