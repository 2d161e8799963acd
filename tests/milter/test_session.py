"""What the MTA tells arrives octet for octet, and what comes back is right under either way of counting fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.milter.client import (
    ADDHDRS,
    ALL_NR,
    CHGBODY,
    CHGHDRS,
    LEADING_SPACE,
    NO_DATA,
    NO_EOH,
    NO_HELO,
    NO_UNKNOWN,
    SKIP,
    Field,
    Mail,
    Offer,
    ProtocolError,
)
from tests.milter.material import CANARY, directory_settings, edits_of, plain_mail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.smilla import Smilla
    from tests.milter.client import Answer, Clients, MilterClient
    from tests.milter.conftest import Starter
    from tests.milter.material import Keys

    Opened = Callable[[Mail, Mail, str], None]
    MilterAddress = str

POSTFIX = Offer()
OLD_SENDMAIL = Offer(actions=0x3F, steps=0x7F, version=2)
OFFERS = [
    pytest.param(POSTFIX, id="all"),
    pytest.param(POSTFIX.without(LEADING_SPACE), id="no-leading-space"),
    pytest.param(POSTFIX.without(ALL_NR), id="answers-to-everything"),
    pytest.param(POSTFIX.without(SKIP | NO_HELO | NO_DATA | NO_EOH | NO_UNKNOWN), id="every-step-sent"),
    pytest.param(OLD_SENDMAIL, id="version-2"),
]
NAMES = ["alice", "erin", "bob"]

MIME = (
    b"Content-Type: text/plain;\r\n\tcharset=utf-8;\r\n  format=flowed",
    b"CONTENT-TRANSFER-ENCODING:8bit",
    b"Content-Language:   de",
)
HEADERS = {
    "none": (),
    "folded": (b"X-Long: one\r\n\ttwo\r\n   three", *MIME),
    "no-space-after-the-colon": (b"X-Tight:value", b"Content-Type:text/plain"),
    "several-spaces": (b"X-Wide:    value  ", b"Content-Type:   text/plain  "),
    "empty-value": (b"X-Empty:", b"X-Blank: ", b"Content-Description:", b"Content-Disposition: "),
    "eight-bit-value": (b"X-Raw: K\xe4se", b"X-UTF8: K\xc3\xa4se", b"Content-Description: na\xefve \xc3\xa4"),
    "folded-right-after-the-name": (b"Content-Type:\r\n text/plain", b"X-Fold:\r\n value"),
    "space-before-the-colon": (b"Content-Type : text/html", b"X-Odd : value"),
    "many-of-one-name": (*(b"Received: from %d" % n for n in range(40)), *MIME),
    "several-content-fields": (
        b"Content-Type: text/plain",
        b"X-Between: 1",
        b"content-type: text/html",
        b"X-Between: 2",
        b"CONTENT-TYPE: text/enriched",
        b"Content-Foo: a",
        b"Content-Foo: b",
    ),
    "mime-version": (b"mime-version: 1.0 (by hand)", *MIME),
    "percent-signs": (b"X-Percent: 100% %s %d %%", b"Content-Description: %n%n"),
    "a-value-of-40000-octets": (b"X-Huge: " + b"\r\n ".join([b"x" * 900] * 44), *MIME),
}
SPACED = (b"X-Long: one\r\n\ttwo\r\n   three", MIME[0], b"Content-Language: de", b"Content-ID: <x>\r\n ")
BODIES = {
    "empty": b"",
    "one-line-end": b"\r\n",
    "no-final-line-end": b"text" + CANARY,
    "eight-bit": b"K\xe4se K\xc3\xa4se " + CANARY + b"\r\n",
    "nul": b"a\0b\0\0" + CANARY + b"\r\n\0",
    "long-lines": (b"x" * 5000 + CANARY + b"\r\n") * 3,
    "dots": b".\r\n..\r\n." + CANARY + b"\r\n.\r\n",
    "bare-line-ends": b"a\rb\nc" + CANARY + b"\r\r\n\n",
    "a-header-like-body": b"Content-Type: text/html\r\n\r\n" + CANARY + b"\r\n",
    "trailing-empty-lines": CANARY + b"\r\n" * 9,
    "several-chunks": (CANARY + b" " + b"0123456789" * 7 + b"\r\n") * 3000,
}


def check(answer: Answer, mail: Mail, name: str, opened: Opened) -> None:
    """Encrypted, and right whichever way the MTA counts."""
    assert answer.verdict == "accept", answer.reply
    moved = [each for each in mail.fields if each.name.rstrip().lower().startswith(b"content-")]
    kept = [each for each in mail.fields if each not in moved and each.name.lower() != b"x-smilla"]
    expected = [b"MIME-Version"] * all(each.name.lower() != b"mime-version" for each in mail.fields)
    expected += [b"Content-Type", *[b"Content-Transfer-Encoding", b"Content-Disposition"] * (name != "bob")]
    for postfix in (True, False):
        result = answer.applied(mail, postfix=postfix)
        # What comes stands at the end, or where a field of its name was.
        added = [each for each in result.fields if each not in kept]
        assert [each for each in result.fields if each in kept] == kept
        assert sorted(each.name for each in added) == sorted([*expected, b"X-Smilla"])
        opened(result, mail, name)
    assert all(each.value.startswith(b" ") and not each.value.startswith(b"  ") for each in added)
    form = b"openpgp" if name == "bob" else b"smime"
    assert [each.value for each in added if each.name == b"X-Smilla"] == [b" encrypted; format=" + form]


@pytest.mark.parametrize("extra", HEADERS.values(), ids=HEADERS)
def test_header_fields_stay_or_move_inside_octet_for_octet(
    client: MilterClient, opened: Opened, extra: tuple[bytes, ...]
) -> None:
    mail = plain_mail(*extra)
    check(client.send(mail, ["<alice@r.test>"]), mail, "alice", opened)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_body_comes_out_of_the_ciphertext_as_it_went_in(
    client: MilterClient, opened: Opened, name: str, body: bytes
) -> None:
    mail = plain_mail(*MIME)
    mail = Mail(mail.fields, body)
    check(client.send(mail, [f"<{name}@r.test>"]), mail, name, opened)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("extra", [HEADERS["several-content-fields"], SPACED], ids=["several", "folded"])
def test_the_edits_are_right_for_every_kind_of_mta(
    shared: Smilla, clients: Clients, opened: Opened, offer: Offer, extra: tuple[bytes, ...]
) -> None:
    client = clients.open(shared.milter, offer)
    mail = plain_mail(b"X-Smilla: encrypted; format=smime", *extra, b"x-smilla:again", b"X-SMILLA: \r\n third")
    for name in NAMES:
        check(client.send(mail, [f"<{name}@r.test>"]), mail, name, opened)
    assert client.is_quiet(0.05)


@pytest.mark.parametrize("extra", [HEADERS["no-space-after-the-colon"], HEADERS["several-spaces"]])
def test_without_the_leading_space_what_moves_inside_gets_one_space(
    shared: Smilla, clients: Clients, opened: Opened, extra: tuple[bytes, ...]
) -> None:
    client = clients.open(shared.milter, POSTFIX.without(LEADING_SPACE))
    mail = plain_mail(*extra)
    answer = client.send(mail, ["<alice@r.test>"])
    result = answer.applied(mail, postfix=True)
    # The MTA has not told whether there was a space.
    spaced = [Field(each.name, b" " + each.value.removeprefix(b" ")) for each in mail.fields]
    opened(result, Mail(tuple(spaced), mail.body), "alice")


@pytest.mark.parametrize("sizes", [(1,), (1, 2), (3, 5, 1), (65535,), (7, 4096)])
def test_the_body_may_be_cut_anywhere(client: MilterClient, opened: Opened, sizes: tuple[int, ...]) -> None:
    mail = plain_mail(*MIME, body="Käse und Brötchen, 日本 🧀\r\n".encode() * 9 + CANARY)
    chunks, at, number = [], 0, 0
    while at < len(mail.body):
        size = sizes[number % len(sizes)]
        chunks.append(mail.body[at : at + size])
        at, number = at + size, number + 1
    check(client.send(mail, ["<bob@r.test>"], chunks=chunks), mail, "bob", opened)


def test_a_character_cut_by_the_chunk_boundary_stays_whole(client: MilterClient, opened: Opened) -> None:
    mail = plain_mail(*MIME, body=b"x" * 65534 + "ä€🧀".encode() * 30000 + CANARY)
    check(client.send(mail, ["<alice@r.test>"]), mail, "alice", opened)


def test_an_empty_body_packet_costs_the_connection_and_lets_nothing_pass(
    shared: Smilla, client: MilterClient, clients: Clients
) -> None:
    client.envelope(["<alice@r.test>"])
    with pytest.raises((ProtocolError, OSError)):
        client.content(plain_mail(), [CANARY, b"", CANARY])
    assert bytes(client.received).count(b"\0\0\0\1a") == 0
    assert clients.open(shared.milter).send(plain_mail(), ["<alice@r.test>"]).verdict == "accept"


@pytest.mark.parametrize(
    ("sender", "recipient", "parameters"),
    [
        ("<>", "<alice@r.test>", ()),
        ("<sender@s.test>", "<alice@r.test>", ("BODY=8BITMIME", "SIZE=1000", "ENVID=x", "RET=HDRS")),
        ("<k\u00e4se@s.test>", "<alice@r.test>", ("SMTPUTF8",)),
        ("<k\udce4se@s.test>", "<alice@r.test>", ()),
        ("<a%s@s.test>", "<alice@R.TEST>", ()),
        ("<@relay.test:a@s.test>", "<@relay.test,@other.test:alice@r.test>", ()),
        ("<sender@s.test>", '<"alice"@r.test>', ()),
        ("sender@s.test", "alice@r.test", ()),
        ("<MAILER-DAEMON>", "<Alice@r.test>", ()),
    ],
    ids=["null", "esmtp", "smtputf8", "latin-1", "upper-case-domain", "source-route", "quoted", "bare", "upper-case"],
)
def test_every_form_of_envelope_finds_the_key(
    client: MilterClient, opened: Opened, sender: str, recipient: str, parameters: tuple[str, ...]
) -> None:
    mail = plain_mail()
    assert client.mail(sender, *parameters).verdict == "continue"
    assert client.rcpt(recipient, "NOTIFY=NEVER", "ORCPT=rfc822;alice@r.test").verdict == "continue"
    client.data()
    check(client.content(mail), mail, "alice", opened)


@pytest.mark.parametrize("recipient", ["<k\udce4se@r.test>", "<nobody>", "<>", "<x@r-.test>"])
def test_a_recipient_that_is_no_address_is_unclear_and_never_plain(
    client: MilterClient, shared: Smilla, recipient: str
) -> None:
    answer = client.send(plain_mail(), [recipient], queue_id="NOADDR")
    assert (answer.verdict, answer.edits) == ("reject", ())
    assert "reason=not_an_address" in shared.log_lines_of("NOADDR")[-2]


@pytest.mark.parametrize("recipient", ["<a@b@r.test>", "<alice%r.test@relay.test>", "<r.test!alice>", '<"a@b"@x.test>'])
def test_a_recipient_that_the_mta_would_route_on_is_refused(
    client: MilterClient, shared: Smilla, recipient: str
) -> None:
    answer = client.send(plain_mail(), [recipient], queue_id="ROUTED")
    assert (answer.verdict, answer.edits) == ("reject", ())
    assert "reason=routed_address" in shared.log_lines_of("ROUTED")[-2]


@pytest.mark.parametrize("recipient", ["<x y@r.test>", "<(x)alice@r.test>", "<alice @r.test>", "<alice@[r.test]>"])
def test_a_recipient_that_the_mta_may_read_as_another_is_refused(
    client: MilterClient, shared: Smilla, recipient: str
) -> None:
    answer = client.send(plain_mail(), [recipient], queue_id="UNCLEAR")
    assert (answer.verdict, answer.edits) == ("reject", ())
    assert "reason=unclear_address" in shared.log_lines_of("UNCLEAR")[-2]


@pytest.mark.parametrize(
    "address", [b"localhost\0U", b"localhost\0L\0\0/run/x\0", b"[2001:db8::1]\x006\0\x19IPv6:::1\0"]
)
def test_a_client_of_any_address_family_is_served(
    shared: Smilla, clients: Clients, opened: Opened, address: bytes
) -> None:
    client = clients.open(shared.milter, greet=False)
    client.send_packet(b"C", address)
    check(client.send(plain_mail(), ["<alice@r.test>"]), plain_mail(), "alice", opened)


def test_recipients_who_see_each_other_share_one_ciphertext(client: MilterClient, opened: Opened) -> None:
    mail = plain_mail(to="alice@r.test, Erin <ERIN@r.test>")
    answer = client.send(mail, ["<alice@r.test>", "<erin@r.test>", "<alice@R.test>"])
    check(answer, mail, "alice", opened)
    check(answer, mail, "erin", opened)


UNCHANGED = {
    "pgp-mime": (
        b'Content-Type: Multipart/ENCRYPTED; PROTOCOL="application/PGP-encrypted"; boundary=b',
        b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n--b--\r\n",
    ),
    "inline": (b"Content-Type: text/plain", b"%s"),
}


@pytest.mark.parametrize(("kind", "frame"), UNCHANGED.values(), ids=UNCHANGED)
@pytest.mark.parametrize("offer", OFFERS)
def test_mail_that_is_encrypted_already_gets_no_edit_at_all(
    shared: Smilla, clients: Clients, offer: Offer, kind: bytes, frame: bytes
) -> None:
    client = clients.open(shared.milter, offer)
    armour = client.send(plain_mail(), ["<bob@r.test>"]).applied(plain_mail(), postfix=True).body
    armour = armour[armour.index(b"-----BEGIN") : armour.index(b"-----END")] + b"-----END PGP MESSAGE-----\r\n"
    mail = plain_mail(kind, body=frame % armour)
    answer = client.send(mail, ["<bob@r.test>", "<alice@r.test>", "<nobody@r.test>"])
    assert (answer.verdict, answer.edits) == ("accept", ())


def test_what_smilla_encrypted_is_not_encrypted_again_and_loses_only_its_mark(client: MilterClient) -> None:
    for recipient in ("<alice@r.test>", "<bob@r.test>"):
        once = client.send(plain_mail(*MIME), [recipient]).applied(plain_mail(*MIME), postfix=True)
        answer = client.send(once, [recipient])
        for postfix in (True, False):
            assert answer.applied(once, postfix=postfix).raw == Mail(once.fields[:-1], once.body).raw
        assert edits_of(answer) == "m"


def test_mail_without_a_key_gets_no_edit_but_loses_a_foreign_mark(client: MilterClient) -> None:
    mail = plain_mail(*HEADERS["several-content-fields"])
    assert client.send(mail, ["<nobody@r.test>"]).edits == ()
    marks = [b"X-Smilla: a", b"x-smilla: b", b"X-SMILLA : c"]
    marked = Mail.of(b"\r\n".join([marks[0], mail.raw.partition(b"\r\n\r\n")[0], *marks[1:]]) + b"\r\n\r\n" + mail.body)
    answer = client.send(marked, ["<nobody@r.test>"])
    for postfix in (True, False):
        assert answer.applied(marked, postfix=postfix).raw == mail.raw


@pytest.mark.parametrize("action", [CHGBODY, CHGHDRS, ADDHDRS], ids=["body", "change", "add"])
def test_an_mta_that_cannot_take_the_edits_is_told_to_keep_the_mail(
    start: Starter, clients: Clients, action: int
) -> None:
    smilla = start()
    client = clients.open(smilla.milter, POSTFIX.without(actions=action))
    answer = client.send(plain_mail(*MIME), ["<alice@r.test>"])
    assert answer.verdict == "tempfail"
    assert answer.reply.startswith("451 4.3.0 ")
    assert "deferred rcpt=alice@r.test" in smilla.log
    # Where nothing has to be changed, such an MTA is served.
    assert client.send(plain_mail(*MIME), ["<nobody@r.test>"]).verdict == "accept"


@pytest.mark.parametrize("offer", OFFERS)
def test_a_header_name_that_is_not_ascii_defers_and_leaves_the_connection_usable(
    start: Starter, clients: Clients, opened: Opened, offer: Offer
) -> None:
    smilla = start()
    client = clients.open(smilla.milter, offer, timeout_s=5)
    for name in (b"X-\xe4", b"Content-\xff", b"\xc3\xa4"):
        answer = client.send(plain_mail(name + b": y"), ["<alice@r.test>"], queue_id="EIGHT")
        assert answer.reply.startswith("451 4.3.0 ")
        assert edits_of(answer) == ""
        assert client.is_quiet(0.05)
        check(client.send(plain_mail(), ["<alice@r.test>"]), plain_mail(), "alice", opened)
    assert smilla.log_lines_of("EIGHT") == ["EIGHT deferred rcpt=alice@r.test reason=internal"] * 3
    assert "UnicodeDecodeError" in smilla.wait_for_log("internal-error")


def test_a_client_name_that_is_not_ascii_defers_since_the_direction_is_unknown(
    start: Starter, clients: Clients, keys: Keys
) -> None:
    settings = directory_settings(keys, mode="auto", local_domains=["here.test"])
    client = clients.open(start(settings).milter, greet=False)
    client.connect("127.0.0.1", hostname="\udce4.test")
    for _ in range(2):
        assert client.send(plain_mail(), ["<alice@r.test>"]).reply.startswith("451 4.3.0 ")


def test_a_user_name_that_is_not_utf8_counts_as_authenticated(start: Starter, clients: Clients, keys: Keys) -> None:
    client = clients.open(start(directory_settings(keys, mode="auto", local_domains=["here.test"])).milter)
    client.mail("<a@s.test>", macros={"{auth_authen}": "j\udcfcrgen"})
    client.rcpt("<alice@r.test>")
    assert "b" in edits_of(client.content(plain_mail()))


@pytest.mark.parametrize(
    "told",
    [
        ("192.0.2.7", {}, "inbound"),
        ("192.0.2.7", {"{auth_authen}": "user"}, "outbound"),
        ("192.0.2.7", {"{daemon_name}": "ORIGINATING"}, "outbound"),
        ("127.0.0.1", {}, "outbound"),
        ("IPv6:::1", {}, "outbound"),
        ("2001:db8::1", {}, "inbound"),
    ],
)
def test_mode_auto_takes_the_direction_from_what_the_mta_tells(
    start: Starter, clients: Clients, keys: Keys, told: tuple[str, dict[str, str], str]
) -> None:
    ip, macros, direction = told
    smilla = start(directory_settings(keys, mode="auto", local_domains=["here.test"]))
    client = clients.open(smilla.milter, greet=False)
    client.connect(ip, macros=macros)
    client.helo()
    client.mail("<a@s.test>", macros=macros)
    client.rcpt("<alice@r.test>")
    assert "b" in edits_of(client.content(plain_mail()))  # whoever sends it, it leaves
    assert f"direction={direction}" in smilla.log
    assert (" relayed " in smilla.log) is (direction == "inbound")


def test_the_login_of_one_message_does_not_count_for_the_next(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, mode="auto", local_domains=["here.test"]))
    client = clients.open(smilla.milter)
    client.mail("<a@s.test>", macros={"{auth_authen}": "user"})
    client.abort()
    client.mail("<a@s.test>", macros={"{auth_authen}": ""})
    client.rcpt("<alice@r.test>")
    client.content(plain_mail())
    assert "direction=inbound" in smilla.log


def test_mail_to_the_name_of_the_mta_is_at_rest_in_mode_auto(start: Starter, clients: Clients, keys: Keys) -> None:
    smilla = start(directory_settings(keys, mode="auto", local_domains=["r.test"]))
    client = clients.open(smilla.milter, greet=False)
    client.connect("192.0.2.7", macros={"j": "mta.r.test"})
    client.helo()
    client.mail("<a@s.test>")
    client.rcpt("<alice@mta.r.test>")
    assert "b" in edits_of(client.content(plain_mail()))
    assert "relayed" not in smilla.log


@pytest.fixture(scope="module")
def hiding(start_once: Starter, keys: Keys) -> MilterAddress:
    """A filter that hides the Subject."""
    return start_once(directory_settings(keys, headers={"protect": "hide"})).milter


@pytest.mark.parametrize("offer", OFFERS)
def test_hidden_fields_are_taken_out_and_put_in_under_either_way_of_counting(
    hiding: MilterAddress, clients: Clients, keys: Keys, tmp_path: Path, offer: Offer
) -> None:
    mail = plain_mail(b"Comments: one", b"X-A: b", b"comments:two", b"SUBJECT: secret\r\n too", b"X-C:  d", *MIME)
    answer = clients.open(hiding, offer).send(mail, ["<alice@r.test>"])
    for result in (answer.applied(mail, postfix=True), answer.applied(mail, postfix=False)):
        authored = [field for field in result.fields if not field.name.lower().startswith((b"content-", b"x-smilla"))]
        assert [(field.name, field.value.strip()) for field in authored] == [
            (b"From", b"sender@s.test"),
            (b"To", b"alice@r.test"),
            (b"Subject", b"[...]"),
            (b"X-A", b"b"),
            (b"SUBJECT", b"[...]"),
            (b"X-C", b"d"),
            (b"MIME-Version", b"1.0"),
        ]
        assert all(field.value.startswith(b" ") for field in authored)
        file = tmp_path / "message.eml"
        file.write_bytes(result.raw)
        opened = keys.alice.open(file)
        assert b"\r\nSUBJECT: secret\r\n too\r\n" in opened
        assert opened.endswith(b"\r\n\r\n" + mail.body)
