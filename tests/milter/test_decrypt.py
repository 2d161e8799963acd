"""smilla decrypt as an MTA sees it: what comes back, what stays as it was, reload, death and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smilla.adapters import status
from smilla.errors import SmillaError
from smilla.metrics.snapshot import Decryption
from tests.lab.processes import Child, session_members, wait_until
from tests.lab.smilla import Smilla
from tests.milter.client import CHUNK, Mail, MilterClient
from tests.milter.material import CANARY, NOBODY, assert_without_canary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.keys import SMIMEKey
    from tests.milter.material import Keys

OUTSIDE = b"From: a@s.test\r\nTo: alice@r.test\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
INSIDE = b"Content-Type: text/plain\r\n\r\n" + CANARY + b"\r\n"
LARGE = (
    b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + (b"QUFB" * 19 + b"\r\n") * 40_000
)


def encrypted(key: SMIMEKey, inside: bytes = INSIDE, *options: str) -> Mail:
    """By openssl, for one recipient."""
    command = ["openssl", "cms", "-encrypt", "-binary", "-stream", "-outform", "SMIME", *options]
    command.append(str(key.certificate_file))
    done = subprocess.run(command, input=inside, capture_output=True, check=True)
    raw = done.stdout.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return Mail.of(OUTSIDE + raw.partition(b"MIME-Version: 1.0\r\n")[2])


def settings_of(keys: Keys, folder: Path) -> dict[str, object]:
    private = folder / "alice.pem"
    private.write_bytes(keys.alice.key_file.read_bytes() + keys.alice.certificate_file.read_bytes())
    private.chmod(0o600)
    return {
        "decrypt": {"authserv_id": "mx.test", "html": "text"},
        "decrypt_rule": [{"recipient": "alice@r.test", "key_files": [str(private)]}],
    }


@pytest.fixture
def smilla(folder: Path, keys: Keys) -> Iterator[Smilla]:
    place = Path(tempfile.mkdtemp(prefix="d-", dir=folder))
    made = Smilla(place, NOBODY, settings_of(keys, place), command="decrypt")  # type: ignore[arg-type]
    if made.user:
        import pwd

        account = pwd.getpwnam(made.user)
        os.chown(place / "alice.pem", account.pw_uid, account.pw_gid)
    try:
        yield made.start()
    finally:
        made.stop()
    assert_without_canary(made.log.encode())
    assert "Traceback" not in made.log
    assert [path.name for path in place.rglob("*") if CANARY in (path.read_bytes() if path.is_file() else b"")] == []


def sent(smilla: Smilla, mail: Mail, to: Sequence[str] = ("<alice@r.test>",), *, postfix: bool = True) -> Mail:
    with MilterClient(smilla.milter) as client:
        client.connect()
        client.helo()
        answer = client.send(mail, to)
        assert (answer.verdict, answer.reply) == ("accept", "")
        return answer.applied(mail, postfix=postfix)


def read(path: str, page: str) -> bytes:
    """What the status socket gives over HTTP."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % page.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def answers(path: str) -> bool:
    try:
        status.ask(path)
    except SmillaError:
        return False
    return True


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("postfix", [True, False], ids=["postfix", "sendmail"])
@pytest.mark.parametrize("inside", [INSIDE, LARGE], ids=["letter", "large"])
def test_encrypted_message_comes_back_as_it_was_before(
    smilla: Smilla, keys: Keys, inside: bytes, postfix: bool
) -> None:
    found = sent(smilla, encrypted(keys.alice, inside, "-aes256"), postfix=postfix)
    assert found.body == inside.partition(b"\r\n\r\n")[2]
    names = [each.name for each in found.fields]
    # Number 0 is the Received field of the MTA itself, which it does not show.
    assert names[:5] == [b"From", b"Authentication-Results", b"To", b"Subject", b"MIME-Version"]
    assert b"x-decrypt=pass body.format=smime body.authenticated=no" in found.fields[1].value
    assert (b"X-Smilla", b" decrypted; format=smime") in [(each.name, each.value) for each in found.fields]
    assert "decrypted rcpt=alice@r.test format=smime authenticated=no" in smilla.wait_for_log("4ABC decrypted")


@pytest.mark.parametrize("to", [["<bob@r.test>"], ["<alice@r.test>", "<bob@r.test>"]])
def test_message_for_somebody_without_a_rule_comes_back_octet_for_octet(
    smilla: Smilla, keys: Keys, to: list[str]
) -> None:
    mail = encrypted(keys.alice)
    assert sent(smilla, mail, to) == mail
    lines = [line for line in smilla.log.splitlines() if "4ABC" in line]
    assert [line.partition(" severity")[0] for line in lines if "bob" in line] == []
    assert all("not-decrypted rcpt=alice@r.test reason=other_recipients" in line for line in lines)


def test_message_for_another_key_comes_back_octet_for_octet_with_the_reason_in_the_log(
    smilla: Smilla, keys: Keys
) -> None:
    mail = encrypted(keys.erin)
    assert sent(smilla, mail) == mail
    assert "reason=not_for_this_key" in smilla.wait_for_log("4ABC not-decrypted")


def test_plain_and_damaged_mail_comes_back_octet_for_octet(smilla: Smilla, keys: Keys) -> None:
    mail = encrypted(keys.alice)
    cut = Mail(mail.fields, mail.body[: len(mail.body) // 2])
    plain = Mail.of(OUTSIDE + INSIDE)
    eight_bit = Mail.of(b"X: \xff\xfe\r\n" + OUTSIDE + b"\r\n\xff\xfe.\r\n")
    for one in (plain, cut, eight_bit):
        assert sent(smilla, one) == one


def test_field_that_no_filter_can_read_lets_the_ciphertext_pass(smilla: Smilla, keys: Keys) -> None:
    """A name that is not ASCII raises inside pymilter; the other filter would defer."""
    mail = encrypted(keys.alice)
    with MilterClient(smilla.milter) as client:
        client.connect()
        client.helo()
        client.envelope(["<alice@r.test>"])
        client.header(b"X-\xff", b" x")
        answer = client.content(mail)
    assert (answer.verdict, answer.edits) == ("accept", ())
    assert "reason=internal" in smilla.wait_for_log("4ABC not-decrypted")
    assert "internal-error" in smilla.log


def test_messages_on_one_connection_do_not_mix(smilla: Smilla, keys: Keys) -> None:
    mail = encrypted(keys.alice)
    with MilterClient(smilla.milter) as client:
        client.connect()
        client.helo()
        for to, is_ours in (("<bob@r.test>", False), ("<alice@r.test>", True), ("<bob@r.test>", False)):
            answer = client.send(mail, [to])
            assert (answer.applied(mail, postfix=True) != mail) == is_ours
        client.envelope(["<alice@r.test>"])
        client.abort()
        assert client.send(Mail.of(OUTSIDE + INSIDE), ["<alice@r.test>"]).edits == ()


def test_reload_takes_other_rules_and_keeps_the_old_ones_where_a_key_is_missing(smilla: Smilla, keys: Keys) -> None:
    mail = encrypted(keys.alice)
    before = dict(smilla.settings)
    [rule] = before["decrypt_rule"]  # type: ignore[misc]
    smilla.write_config({**before, "decrypt_rule": [{**rule, "recipient": "bob@r.test"}]})  # type: ignore[dict-item]
    smilla.reload()
    assert sent(smilla, mail) == mail
    assert sent(smilla, mail, ["<bob@r.test>"]) != mail
    smilla.write_config({**before, "decrypt_rule": [{**rule, "key_files": ["/nonexistent"]}]})  # type: ignore[dict-item]
    smilla.reload()
    assert "decrypt_rule 1: /nonexistent" in smilla.wait_for_log("reload-failed")
    assert sent(smilla, mail, ["<bob@r.test>"]) != mail


def test_reload_in_the_middle_of_a_message_changes_nothing_for_it(smilla: Smilla, keys: Keys) -> None:
    """Neither its rules nor what becomes of HTML."""
    html = b"Content-Type: text/html\r\n\r\n<p>" + CANARY + b"\r\n"
    mail, before = encrypted(keys.alice, html), dict(smilla.settings)
    [rule] = before["decrypt_rule"]  # type: ignore[misc]
    with MilterClient(smilla.milter) as client:
        client.connect()
        client.helo()
        client.envelope(["<alice@r.test>"])
        changed = {"decrypt": {"authserv_id": "other.test", "html": "keep"}}
        changed["decrypt_rule"] = [{**rule, "recipient": "bob@r.test"}]  # type: ignore[dict-item, assignment]
        smilla.write_config({**before, **changed})
        smilla.reload()
        smilla.wait_for_log(" reloaded")
        raw = client.content(mail).applied(mail, postfix=True)
        assert raw.body.endswith(CANARY + b"\r\n")
        told = {each.name: each.value for each in raw.fields}
        assert b"mx.test" in told[b"Authentication-Results"]
        assert b"text/plain" in told[b"Content-Type"]
        client.envelope(["<alice@r.test>"])
        assert client.content(mail).applied(mail, postfix=True) == mail


def test_what_was_decrypted_and_left_is_counted_and_nothing_names_anybody(smilla: Smilla, keys: Keys) -> None:
    path = str(smilla.socket.parent / "status.sock")
    for _ in range(2):
        sent(smilla, encrypted(keys.alice))
    sent(smilla, encrypted(keys.alice), ["<alice@r.test>", "<bob@r.test>"])
    sent(smilla, encrypted(keys.alice), ["<bob@r.test>"])
    smilla.reload()
    sent(smilla, encrypted(keys.alice))
    sent(smilla, Mail.of(OUTSIDE + INSIDE))
    expected = Decryption(3, (("other_recipients", 1),))
    assert wait_until(lambda: status.ask(path).decryption == expected, 20), status.ask(path)
    assert wait_until(lambda: status.ask(path).reloads.done == 1, 20)  # the parent tells it
    found = status.ask(path)
    assert (found.workers.running, found.workers.wanted, found.observing) == (1, 1, False)
    assert found.journal.problem == ""
    told = read(path, "/metrics").decode()
    assert 'smilla_decrypt_recipients_total{reason="other_recipients",result="left"} 1.0' in told
    assert "r.test" not in told + found.to_json()


def test_counts_of_signatures_have_the_result(smilla: Smilla, keys: Keys) -> None:
    command = [
        "openssl",
        "cms",
        "-sign",
        "-signer",
        str(keys.alice.certificate_file),
        "-inkey",
        str(keys.alice.key_file),
    ]
    signed = subprocess.run([*command, "-md", "sha256"], input=INSIDE, capture_output=True, check=True).stdout
    sent(smilla, encrypted(keys.alice, signed.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")))
    path = str(smilla.socket.parent / "status.sock")
    assert wait_until(lambda: status.ask(path).decryption.signatures == (("policy", 1),), 20), status.ask(path)


def test_mail_goes_on_while_what_adds_up_the_counts_is_dead(smilla: Smilla, keys: Keys) -> None:
    path = str(smilla.socket.parent / "status.sock")
    assert wait_until(lambda: answers(path), 20)
    reporter = [pid for pid in children(smilla.child.pid) if pid not in session_members(smilla.child.pid)]
    os.kill(reporter[0], signal.SIGKILL)
    mail = encrypted(keys.alice)
    assert sent(smilla, mail) != mail
    smilla.wait_for_log("reporter-died")
    assert wait_until(lambda: answers(path), 20)
    smilla.stop()
    assert not Path(path).exists()


def test_worker_that_dies_is_replaced(smilla: Smilla, keys: Keys) -> None:
    workers = set(session_members(smilla.child.pid)) - {smilla.child.pid}
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    smilla.wait_for_log("worker-died")
    assert wait_until(lambda: bool(set(session_members(smilla.child.pid)) - {smilla.child.pid} - workers), 30)
    mail = encrypted(keys.alice)
    assert sent(smilla, mail) != mail


def test_message_in_flight_may_finish_after_sigterm(smilla: Smilla, keys: Keys) -> None:
    mail = encrypted(keys.alice)
    with MilterClient(smilla.milter) as client:
        client.connect()
        client.helo()
        client.envelope(["<alice@r.test>"])
        smilla.child.signal(signal.SIGTERM)
        smilla.wait_for_log("stopping signal=SIGTERM")
        assert client.content(mail).applied(mail, postfix=True).body.endswith(CANARY + b"\r\n")
    assert wait_until(lambda: not smilla.child.running, 30)
    smilla.stop()
    assert smilla.child.returncode == 0
    assert not smilla.socket.exists()


def test_connection_that_breaks_in_the_middle_of_a_message_harms_nobody(smilla: Smilla, keys: Keys) -> None:
    mail = encrypted(keys.alice, LARGE)
    for chunks in ([], [mail.body[:CHUNK]]):
        client = MilterClient(smilla.milter)
        client.connect()
        client.helo()
        client.envelope(["<alice@r.test>"])
        for each in mail.fields:
            client.header(each.name, each.value)
        for chunk in chunks:
            client.body(chunk)
        client.close()
    assert sent(smilla, mail) != mail


def test_key_that_cannot_be_used_ends_the_start_and_leaves_no_socket(folder: Path, keys: Keys) -> None:
    place = Path(tempfile.mkdtemp(prefix="d-", dir=folder))
    settings = settings_of(keys, place)
    made = Smilla(place, NOBODY, settings, command="decrypt")  # type: ignore[arg-type]
    (place / "alice.pem").chmod(0o644)
    made.launch()
    assert wait_until(lambda: not made.running, 20)
    made.stop()
    assert made.child.returncode == 78
    assert "everybody on this machine may read it" in made.log
    assert not made.socket.exists()
    assert isinstance(made.child, Child)
