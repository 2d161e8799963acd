"""A milter before smilla quarantines, so that smilla never sees the end of the message: with the lines of
contrib/postfix it does not leave, whatever somebody does with it, and a requeue brings it to the filter.

client -> smtpd, which adds a secret field -> scanner: quarantine -> hold -> postsuper -H -> queue -> smtp: stays
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.client import SMTPClient
from tests.lab.postfix import queue_id
from tests.lab.processes import wait_until
from tests.live.examples import EXAMPLES, MIXED, SECRET, Site, site, unseen
from tests.live.mta import CANARY, letter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.dns import DNSLab

pytestmark = pytest.mark.live

ALICE, N1, N2 = ["alice@r.test"], ["n1@r.test"], ["n2@r.test"]
QUARANTINE, SUSPICIOUS = b"X-Scan: quarantine", b"X-Scan: suspicious"
_ACCESS = {
    "redirect": "REDIRECT boss@there.test",
    "filter": "FILTER relay:[127.0.0.1]:{sink}",
    "lmtp": "FILTER lmtp:[127.0.0.1]:{sink}",
    "held": "HOLD",
}
_AWAY = {action: {"smtpd_milters": f"{{unix:/nowhere,default_action={action}}}"} for action in ("accept", "quarantine")}
_MILTERS = {"guarded": "scanner smilla", "bare": "scanner smilla", "scanned last": "smilla scanner", "in": ""}


@pytest.fixture(scope="module")
def mta(folder: Path, lab: DNSLab) -> Iterator[Site]:
    milters = {**_MILTERS, **dict.fromkeys(_ACCESS, "scanner smilla"), **dict.fromkeys(_AWAY, "")}
    options: dict[str, dict[str, str]] = {
        name: {"smtpd_sender_restrictions": f"check_sender_access static:{{{action}}}"}
        for name, action in _ACCESS.items()
    }
    options |= _AWAY
    for name in ("guarded", "scanned last", *_ACCESS, *_AWAY):
        options[name] = {**options.get(name, {}), "smtpd_data_restrictions": unseen()["smtpd_data_restrictions"]}
    checks = {"milter_header_checks": "regexp:{{/^X-Suspicious: / HOLD}}, regexp:{place}/smilla_stage"}
    with site(folder, lab, milters, options, checks) as running:
        running.sink.answer = lambda line: b"250 sink.test" if line.startswith(b"LHLO") else None
        yield running
        assert not any(CANARY in raw for raw in running.sink.cut_off)


def quarantined(mta: Site, listener: str = "guarded", sender: str = "sender@s.test") -> tuple[str, bytes]:
    """A message that the scanner has quarantined and somebody has released: its queue ID and its mark."""
    code, name, mark = mta.send(listener, ALICE, letter(QUARANTINE), sender)
    assert code == 250
    assert wait_until((mta.postfix.queue / "hold" / name).exists, 60)
    mta.postfix.release(name)
    return name, mark


def stays(mta: Site, name: str, mark: bytes) -> None:
    pattern = rf" {name}: to=.*status=deferred \(local data error"
    assert wait_until(lambda: re.search(pattern, mta.postfix.log) is not None, 60)
    assert f"{name}: smtp header checks lookup error" in mta.postfix.log
    assert not mta.got(mark)


def test_without_the_lines_the_plaintext_leaves(mta: Site) -> None:
    _, mark = quarantined(mta, "bare")
    (mail,) = mta.delivered(mark)
    assert CANARY in mail.raw


@pytest.mark.parametrize("listener", ["guarded", "redirect", "filter", "lmtp", "held"])
def test_released_message_stays_and_a_requeue_brings_it_to_the_filter(mta: Site, listener: str) -> None:
    name, mark = quarantined(mta, listener)
    stays(mta, name, mark)
    mta.postfix.postsuper("-r", name)
    (mail,) = mta.delivered(mark)
    assert mail.rcpt_to == ("alice@r.test",)
    assert CANARY not in mail.raw
    assert b"\r\nX-Smilla: encrypted; format=smime\r\n" in mail.raw


@pytest.mark.parametrize("sender", ["", "sender", '"a b"@s.test'])
def test_it_stays_whoever_sends_it(mta: Site, sender: str) -> None:
    name, mark = quarantined(mta, sender=sender)
    stays(mta, name, mark)
    mta.postfix.postsuper("-d", name)


def test_it_stays_however_it_is_sent(mta: Site) -> None:
    """By BDAT, in two chunks, as the second message of a session."""
    mark, raw = mta.marked(letter(QUARANTINE))
    with SMTPClient(mta.listeners["guarded"].port) as client:
        client.send("sender@s.test", N1, b"no field\r\n")
        client.command("MAIL FROM:<sender@s.test>")
        client.command("RCPT TO:<alice@r.test>")
        assert client.command(b"BDAT %d\r\n" % len(mark) + mark[:-2]).code == 250
        rest = raw[len(mark) :]
        reply = client.command(b"BDAT %d LAST\r\n" % len(rest) + rest[:-2])
    name = queue_id(reply.text)
    assert name
    assert wait_until((mta.postfix.queue / "hold" / name).exists, 60)
    mta.postfix.release(name)
    stays(mta, name, mark)
    mta.postfix.postsuper("-d", name)


def test_all_that_is_requeued_at_once_comes_to_the_filter(mta: Site) -> None:
    """Out of the hold queue, together with a sealed message that the scanner has quarantined afterwards."""
    marks = []
    for to in (ALICE, N1, MIXED):
        _, _, mark = mta.send("guarded", to, letter(QUARANTINE, to=", ".join(to).encode()))
        marks.append(mark)
    _, _, sealed = mta.send("scanned last", MIXED, letter(QUARANTINE))
    mta.postfix.postsuper("-r", "ALL")
    alice, n1, mixed = marks
    assert [CANARY in mail.raw for mail in mta.delivered(alice)] == [False]
    assert [CANARY in mail.raw for mail in mta.delivered(n1)] == [True]
    mta.has_split(mixed)
    mta.has_split(sealed)


@pytest.mark.parametrize("action", _AWAY)
def test_what_passes_while_the_filter_is_away_stays(mta: Site, action: str) -> None:
    """Nobody should have such a default_action; where somebody does, it is harmless here."""
    _, name, mark = mta.send(action, ALICE, letter())
    if action == "quarantine":
        mta.postfix.release(name)
    stays(mta, name, mark)
    mta.postfix.postsuper("-r", name)
    (mail,) = mta.delivered(mark)
    assert CANARY not in mail.raw


def test_bounce_with_such_a_message_does_not_leave(mta: Site) -> None:
    _, name, mark = mta.send("guarded", ALICE, letter(QUARANTINE))
    mta.postfix.postsuper("-e", name)
    mta.postfix.release(name)
    pattern = rf"{name}: sender non-delivery notification: (\w+)"
    assert wait_until(lambda: re.search(pattern, mta.postfix.log) is not None, 60)
    bounce = re.search(pattern, mta.postfix.log)
    assert bounce
    stays(mta, bounce[1], mark)
    mta.postfix.postsuper("-d", bounce[1])


# --- all other mail


def test_mail_that_the_filter_saw_leaves_without_the_field(mta: Site) -> None:
    for listener, field in (("guarded", b"X-Scan: no"), ("scanned last", QUARANTINE)):
        for to in (ALICE, N1):
            _, name, mark = mta.send(listener, to, letter(field, to=to[0].encode()))
            if field == QUARANTINE:
                mta.postfix.release(name)
            (mail,) = mta.delivered(mark)
            assert (CANARY in mail.raw) == (to == N1)
            assert SECRET.encode() not in mail.raw
    _, _, mark = mta.send("guarded", MIXED, letter())
    mta.has_split(mark)


def test_what_smilla_itself_holds_leaves_when_it_is_released(mta: Site) -> None:
    _, name, mark = mta.send("guarded", N2, letter(to=N2[0].encode()))
    mta.smilla.wait_for_log(f"{name} held rcpt=n2@r.test")
    mta.postfix.release(name)
    (mail,) = mta.delivered(mark)
    assert CANARY in mail.raw


@pytest.mark.parametrize("listener", ["in", "guarded", "scanned last"])
@pytest.mark.parametrize("value", [b"pending", b"pending 0123456789", b"encrypted; format=smime"])
def test_forged_field_holds_up_no_mail(mta: Site, listener: str, value: bytes) -> None:
    forged = b"X-Smilla: " + value
    code, _, mark = mta.send(listener, N1, forged + b"\r\n" + letter(forged))
    assert code == 250
    (mail,) = mta.delivered(mark)
    assert mail.raw.count(forged) == (2 if listener == "in" else 0)


def test_forged_field_does_not_take_the_place_of_the_true_one(mta: Site) -> None:
    _, name, mark = mta.send("guarded", ALICE, b"X-Smilla: pending\r\n" + letter(QUARANTINE))
    mta.postfix.release(name)
    stays(mta, name, mark)
    mta.postfix.postsuper("-d", name)


def test_the_look_at_header_fields_changes_no_octet(mta: Site) -> None:
    """Long lines and fields, attached messages in attached messages, octets that are no text, broken MIME."""
    inner = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + bytes(range(128, 256)) + b"\r\n--b--\r\n"
    for _ in range(5):
        inner = b"X-A:  b\r\n\tc \r\nContent-Type: message/rfc822\r\n\r\n" + inner
    body = inner + b"--x\r\n" + b"a" * 990 + b"\r\n--b\r\nno field here\r\n:\r\n.dot\r\n \r\n"
    folded = b"X-Long: " + b"\r\n ".join([b"word " * 20] * 30)
    head = b"Subject: \xe4 x\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n" + folded + b"\r\n\r\n"
    _, _, mark = mta.send("guarded", N1, head + body)
    (mail,) = mta.delivered(mark)
    assert mail.raw.endswith(mark + head + body)


def test_what_a_milter_marks_instead_of_quarantining_is_held_as_the_filter_made_it(mta: Site) -> None:
    assert "#   /^X-Suspicious: / HOLD\n" in (EXAMPLES / "main.cf.example").read_text()
    for listener in ("bare", "guarded"):
        _, name, mark = mta.send(listener, ALICE, letter(SUSPICIOUS))
        held = mta.postfix.queue / "hold" / name
        assert wait_until(held.exists, 60)
        assert CANARY not in held.read_bytes()
        mta.postfix.release(name)
        assert [CANARY in mail.raw for mail in mta.delivered(mark)] == [False]


# --- what config check says


def test_the_probe_names_each_listener_where_something_is_amiss(mta: Site) -> None:
    done = mta.check()

    def listeners(pattern: str) -> set[str]:
        ports = {str(listener.port): name for name, listener in mta.listeners.items()}
        return {ports[port] for port in re.findall(rf"(?m)^{pattern}", done.stderr)}

    scanner = f"unix:{mta.postfix.folder.parent}/scanner.sock"
    assert listeners(rf"warning: postfix: \S+:(\d+): smilla never sees what {scanner} quarantines") == {"bare"}
    assert listeners(r"error: postfix: \S+:(\d+): smilla takes the field of unseen mail off nothing") == set(_AWAY)
    assert done.stderr.count("postfix: ") == 3
