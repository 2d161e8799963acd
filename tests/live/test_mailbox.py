"""smilla mailbox over IMAP, against Dovecot: nothing is lost, whoever is killed at which step, nor what a message has
besides its octets.

imapclient puts messages in -> Dovecot <- smilla mailbox encrypt, killed and started again; a client in IDLE looks on
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from smilla.adapters.imap import IMAPMailbox
from smilla.adapters.moves import MoveJournal
from smilla.cli import mailbox_run
from smilla.errors import MailboxError
from smilla.mailbox.change import Change, Fate
from smilla.mailbox.work import Work
from smilla.model.mailbox import Wanted
from tests.certificates import make_certificate, to_pem
from tests.lab.dovecot import PASSWORD, Dovecot
from tests.lab.keys import OpenPGPKey
from tests.lab.processes import session_members
from tests.lab.programs import require_servers
from tests.live.mailbox_user import (
    FIRST,
    LETTERS,
    SECOND,
    User,
    changed,
    check_done,
    check_whole,
    original,
    run_killed,
    wait_until_alone,
    without,
)
from tests.live.mta import CANARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.keys import SMIMEKey
    from tests.live.conftest import Keys

pytestmark = pytest.mark.live

YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def dovecot(folder: Path) -> Iterator[Dovecot]:
    require_servers("dovecot")
    place = Path(tempfile.mkdtemp(prefix="mailbox-", dir=folder))
    place.chmod(0o755)
    with Dovecot(place / "dovecot") as running:
        yield running


@pytest.fixture
def user(dovecot: Dovecot, tmp_path: Path) -> User:
    found = User(dovecot, tmp_path)
    found.put(*LETTERS)
    return found


@pytest.mark.parametrize("keep", ["", "Before"])
def test_flags_keywords_and_dates_stay_and_nothing_else_is_touched(user: User, keep: str) -> None:
    user.work(keep)
    check_done(user, keep)
    again = user.work(keep)
    assert (again.tallies[0].before, again.tallies[0].fates) == (3, {})
    user.journal.unlink()
    user.work(keep)
    check_done(user, keep)


# --- other clients


class Meddled:
    """A folder in which somebody else does something, once, right before one of our steps."""

    def __init__(self, inner: Any, before: str, deed: Callable[[], None]) -> None:
        self._inner, self._before, self._deed = inner, before, deed

    def __getattr__(self, name: str) -> Any:
        if name == self._before:
            self._before = ""
            self._deed()
        return getattr(self._inner, name)


def meddled(user: User, before: str, deed: Callable[[], None], keep: str = "") -> Work:
    return user.work(keep, lambda it: it if isinstance(it, MoveJournal) else Meddled(it, before, deed))


@contextlib.contextmanager
def idling(user: User) -> Iterator[IMAPClient]:
    """Another client, which has the folder open and waits for news."""
    with user.client() as client:
        client.select_folder("INBOX")
        client.idle()
        yield client
        client.idle_done()


@pytest.mark.parametrize("keep", ["", "Before"])
@pytest.mark.parametrize("before", ["write", "marks", "change_flags", "remove", "restore"])
def test_flags_that_a_client_in_idle_changes_meanwhile_come_along(user: User, keep: str, before: str) -> None:
    with idling(user) as other:

        def deed() -> None:
            other.idle_done()
            first = min(other.search("ALL"))
            other.add_flags([first], [b"\\Answered", b"New"])
            other.remove_flags([first], [b"\\Seen", b"Work"])
            other.idle()

        if before in ("change_flags", "restore"):  # each only comes where something has changed before
            meddled(user, "write", deed, keep)
        else:
            meddled(user, before, deed, keep)
        assert other.idle_check(timeout=30)
        other.idle_done()
        assert len(other.search("ALL")) == 3
        other.idle()
    flags = {message.came_at: message.flags for message in user.messages()}
    assert flags[LETTERS[0][2]] == {b"\\Answered", b"New", b"$Label1"}
    assert flags[LETTERS[1][2]] == set()
    assert flags[LETTERS[2][2]] == set(LETTERS[2][1])


def test_flag_that_changes_right_before_our_mark_comes_along(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the mark: what the server says to the mark tells of it."""
    add_flags = IMAPClient.add_flags
    other = user.client()
    other.select_folder("INBOX")

    def meddled_with(self: IMAPClient, messages: list[int], flags: list[str], silent: bool = False) -> Any:
        if 1 in messages and "\\Deleted" in flags and self is not other:
            add_flags(other, [1], ["\\Answered"])
        return add_flags(self, messages, flags, silent)

    monkeypatch.setattr(IMAPClient, "add_flags", meddled_with)
    user.work()
    other.logout()
    flags = {message.came_at: message.flags for message in user.messages()}
    assert flags[LETTERS[0][2]] == {b"\\Answered", *LETTERS[0][1]}
    assert len(flags) == 3


def test_message_that_another_client_expunges_leaves_the_new_one(user: User) -> None:
    with user.client() as other:
        other.select_folder("INBOX")

        def deed() -> None:
            other.delete_messages([1])
            other.uid_expunge([1])

        meddled(user, "marks", deed)
    check_done(user)


def test_old_message_stays_where_another_client_expunges_the_new_one(user: User) -> None:
    with user.client() as other:
        other.select_folder("INBOX")

        def deed() -> None:
            other.noop()  # to hear of it
            other.delete_messages([4])
            other.uid_expunge([4])

        work = meddled(user, "marks", deed)
    assert work.tallies[0].reasons(Fate.LATER) == {"new_one_gone": 1}
    check_whole(user)
    assert user.messages()[0].raw == FIRST


@pytest.mark.parametrize("is_new_gone", [False, True])
def test_our_mark_never_passes_for_a_flag_after_a_kill_between_mark_and_expunge(user: User, is_new_gone: bool) -> None:
    """Neither on the new message nor, where somebody has expunged that, on the old one."""
    for at in itertools.count(40):
        run_killed(user, at, "")
        wait_until_alone(user)
        with user.client() as other:
            other.select_folder("INBOX")
            if b"\\Deleted" in other.get_flags([1]).get(1, ()):
                break
        user.journal.unlink()
        user = User(user.dovecot, user.folder)
        user.put(*LETTERS)
    with user.client() as other:
        other.select_folder("INBOX")
        assert other.search("UID 4:*") == [4, 5, 6]
        if is_new_gone:
            other.delete_messages([4])
            other.uid_expunge([4])
    user.work()
    check_done(user)


def test_numbers_that_are_made_anew_void_the_journal_and_stop_the_run_once(user: User) -> None:
    def made_anew() -> None:
        with user.client() as client:
            if client.folder_exists("Box"):
                client.delete_folder("Box")
            client.create_folder("Box")
        user.put(*LETTERS, folder="Box")

    made_anew()
    user.work(folder="Box")
    check_done(user, folder="Box")
    made_anew()
    with pytest.raises(MailboxError, match="UIDVALIDITY"):
        user.work(folder="Box")
    assert all(message.raw in (FIRST, SECOND) for message in user.messages("Box"))
    user.work(folder="Box")
    check_done(user, folder="Box")


# --- a server that cannot, or not any more


class Place:
    """Of mailbox_run."""

    folder_names = ("INBOX",)

    def __init__(self, mailbox: IMAPMailbox) -> None:
        self.mailbox = mailbox

    def folder(self, name: str) -> Any:
        return self.mailbox.folder(name)


def run_on(user: User, change: Callable[..., Change], monkeypatch: pytest.MonkeyPatch) -> int:
    """A run that makes its connection anew, without waiting."""
    monkeypatch.setattr(mailbox_run, "_WAITS_S", (0.0,) * 4)
    options = argparse.Namespace(action="encrypt", dry_run=False, keep_original="", json=True, quiet=True)
    with IMAPMailbox(user.server()) as mailbox, MoveJournal(user.journal, "test") as journal:
        return mailbox_run.run(options, change, journal, Wanted(), Place(mailbox))  # type: ignore[arg-type]


def test_connection_that_is_lost_is_made_anew(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = 0

    def breaking(raw: bytes, *, dry: bool) -> Change:
        """The server ends our session, twice."""
        nonlocal lost
        lost += 1
        if lost in (1, 4):
            for pid in session_members(os.getsid(user.dovecot._child.pid)):  # type: ignore[union-attr]
                with contextlib.suppress(OSError):  # it may have ended
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"dovecot/imap\0"):
                        os.kill(pid, signal.SIGKILL)
        return changed(raw)

    assert run_on(user, breaking, monkeypatch) == 0
    check_done(user)
    assert lost == 9


def test_message_with_which_the_connection_is_lost_each_time_is_left_out(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = IMAPClient.fetch

    def breaking(self: IMAPClient, uids: list[int], items: list[str]) -> Any:
        if 2 in uids and "BODY.PEEK[]" in items:
            self.socket().shutdown(socket.SHUT_RDWR)
        return fetch(self, uids, items)

    monkeypatch.setattr(IMAPClient, "fetch", breaking)
    assert run_on(user, changed, monkeypatch) == 75
    monkeypatch.undo()
    (told,) = json.loads(capsys.readouterr().out)["folders"]
    assert (told["changed"], told["deferred"]) == (2, {"not_readable": 1})
    check_whole(user)
    user.work()
    check_done(user)


@pytest.mark.parametrize(("missing", "keep"), [("UIDPLUS", ""), ("MOVE", "Before")])
def test_server_that_cannot_remove_one_message_alone_is_refused(
    user: User, monkeypatch: pytest.MonkeyPatch, missing: str, keep: str
) -> None:
    without(monkeypatch, missing)
    with pytest.raises(MailboxError, match=missing):
        user.work(keep)
    assert sorted(message.raw for message in user.messages()) == sorted(raw for raw, *_ in LETTERS)


def test_server_that_does_not_tell_the_new_number_is_asked_for_it(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    append = IMAPClient.append
    monkeypatch.setattr(IMAPClient, "append", lambda *given: append(*given)[:0] + b"Append completed.")
    without(monkeypatch, "MULTIAPPEND")
    user.work()
    check_done(user)


@pytest.mark.parametrize("told", [b"Append completed.", b"[APPENDUID %d 4] Done.", b"[APPENDUID %d 6,5:4] Done."])
def test_server_that_does_not_tell_every_new_number_is_asked_for_them(
    user: User, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    multiappend = IMAPClient.multiappend

    def telling(self: IMAPClient, *given: Any) -> Any:
        answer, _ = multiappend(self, *given)
        validity = self.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"]
        return answer, [told.replace(b"%d", b"%d" % validity)]

    monkeypatch.setattr(IMAPClient, "multiappend", telling)
    user.work()
    check_done(user)


@pytest.mark.parametrize("fault", [IMAPClientError("BAD"), IMAPClientAbortError("NO in place of +"), "NO"])
def test_messages_that_the_server_does_not_take_together_go_alone(
    user: User, monkeypatch: pytest.MonkeyPatch, fault: Exception | str
) -> None:
    tried = []

    def failing(*_: object) -> Any:
        tried.append(True)
        if isinstance(fault, Exception):
            raise fault
        return fault, [b"not together"]

    monkeypatch.setattr(IMAPClient, "multiappend", failing)
    assert run_on(user, changed, monkeypatch) == 0
    check_done(user)
    assert tried == [True]


@pytest.mark.parametrize("lost", ["flags", "date"])
@pytest.mark.parametrize("missing", ["", "MULTIAPPEND"])
def test_server_that_does_not_keep_flags_or_dates_is_told_from_the_first_message_on(
    user: User, monkeypatch: pytest.MonkeyPatch, lost: str, missing: str
) -> None:
    append, multiappend = IMAPClient.append, IMAPClient.multiappend

    def forgetful(self: IMAPClient, folder: str, raw: bytes, flags: Any, came_at: Any) -> Any:
        return append(self, folder, raw, () if lost == "flags" else flags, None if lost == "date" else came_at)

    def forgetful_of_several(self: IMAPClient, folder: str, messages: Any) -> Any:
        return multiappend(self, folder, [{word: it[word] for word in it if word != lost} for it in messages])

    with user.client() as client:  # the others are put in before
        before = client.folder_status("INBOX", ["MESSAGES"])
    without(monkeypatch, missing)
    monkeypatch.setattr(IMAPClient, "append", forgetful)
    monkeypatch.setattr(IMAPClient, "multiappend", forgetful_of_several)
    with pytest.raises(MailboxError, match="does not keep"):
        user.work()
    monkeypatch.undo()
    with user.client() as client:
        assert client.folder_status("INBOX", ["MESSAGES"]) == before
    assert sorted(message.raw for message in user.messages()) == sorted(raw for raw, *_ in LETTERS)
    user.work()
    check_done(user)


def test_folder_from_which_nobody_may_remove_is_refused_before_anything_is_written(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = IMAPClient.select_folder
    monkeypatch.setattr(
        IMAPClient, "select_folder", lambda *given, **more: select(*given, **more) | {b"PERMANENTFLAGS": (b"\\Seen",)}
    )
    with pytest.raises(MailboxError, match="may not remove"):
        user.work()
    monkeypatch.undo()
    assert sorted(message.raw for message in user.messages()) == sorted(raw for raw, *_ in LETTERS)


def test_full_mailbox_keeps_the_old_messages(folder: Path, tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="quota-", dir=folder))
    place.chmod(0o755)
    with Dovecot(place / "dovecot", quota_kib=16) as running:
        user = User(running, tmp_path)
        came_at = datetime(2020, 1, 1, tzinfo=UTC)
        small = b"Subject: small\r\n\r\n" + b"a line\r\n" * 20
        large = b"Subject: large\r\n\r\n" + b"a line\r\n" * 1000
        user.put((large, (), came_at), (small, (), came_at))
        told = []
        with IMAPMailbox(user.server()) as mailbox, MoveJournal(user.journal, "test") as journal:
            work = Work(changed, journal, Wanted(), "", lambda *what: told.append(what[2]), lambda *_: None)
            work.run(mailbox.folder("INBOX"))
        assert work.tallies[0].reasons(Fate.LATER) == {"no_room": 1}
        assert work.tallies[0].count(Fate.CHANGED) == 1
        assert "quota" in told[0].text.lower()
        assert sorted(original(message.raw) for message in user.messages()) == sorted([large, small])
        assert large in [message.raw for message in user.messages()]


# --- the command


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[tuple[Dovecot, Path]]:
    """One with TLS, and the authority for it."""
    require_servers("dovecot")
    place = Path(tempfile.mkdtemp(prefix="mailbox-tls-", dir=folder))
    place.chmod(0o755)
    key, der = make_certificate(
        "p256", common_name="localhost", other_names=[x509.DNSName("localhost")], not_after=datetime.now(UTC) + YEAR
    )
    files = place / "certificate.pem", place / "key.pem"
    files[0].write_bytes(to_pem(der))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].chmod(0o644)  # Dovecot begins as nobody here
    with Dovecot(place / "dovecot", certificate=files) as running:
        yield running, files[0]


def command(
    user: User, key: SMIMEKey | OpenPGPKey, *more: str, action: str = "encrypt"
) -> subprocess.CompletedProcess[str]:
    """``smilla mailbox encrypt`` for alice@home.test, whose key this is; or decrypt, with its private half."""
    directory = user.folder / "keys"
    directory.mkdir(exist_ok=True)
    name, raw = ("asc", key.raw) if isinstance(key, OpenPGPKey) else ("crt", key.certificate_file.read_bytes())
    (directory / f"alice@home.test.{name}").write_bytes(raw)
    (user.folder / "password").write_text(PASSWORD + "\n")
    (user.folder / "password").chmod(0o600)
    (user.folder / "smilla.toml").write_text(
        f"mode = 'inbound'\nlocal_domains = ['home.test']\n[keys]\nsources = ['directory']\ndirectory = '{directory}'\n"
    )
    words = ["mailbox", action, "--user", user.name, "--password-file", user.folder / "password"]
    if action == "encrypt":
        words += ["--config", user.folder / "smilla.toml", "--address", "alice@home.test"]
    elif isinstance(key, OpenPGPKey):
        words += ["--gpg", "--gpg-home", key.home]
    else:
        pair = user.folder / "pair.pem"
        pair.write_bytes(key.key_file.read_bytes() + key.certificate_file.read_bytes())
        words += ["--key", pair]
    words += ["--journal", user.folder / f"{user.name}-{action}.sqlite", *more]
    return subprocess.run(
        [sys.executable, "-m", "smilla", *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("name", ["alice", "erin", "bob"])
@pytest.mark.parametrize("tls", ["implicit", "starttls", "none"])
def test_what_the_command_writes_opens_to_what_was_there(
    secure: tuple[Dovecot, Path], keys: Keys, tmp_path: Path, name: str, tls: str
) -> None:
    running, authority = secure
    user = User(running, tmp_path)
    signed = SIGNED.replace(b"\n", b"\r\n")
    user.put((signed, (b"\\Seen", b"Work"), LETTERS[0][2]), (signed, (), LETTERS[1][2]))
    port = running.tls_port if tls == "implicit" else running.port
    key = keys.people[name]
    where = ("--imap", f"localhost:{port}", "--tls", tls, "--ca-file", str(authority))
    dry = command(user, key, *where, "--dry-run", "--search", "SEEN")
    assert (dry.returncode, dry.stdout) == (0, "INBOX: 1 would be encrypted\n"), dry.stderr
    done = command(user, key, *where, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folders"][0]["changed"] == 2
    for message, letter in zip(user.messages(), (LETTERS[0], LETTERS[1]), strict=True):
        assert message.came_at == letter[2]
        assert CANARY not in message.raw
        (tmp_path / "message").write_bytes(message.raw)
        inside = re.sub(rb"\r\nContent-Smilla-Proof: [0-9a-f]{32}\r\n", b"\r\n", key.open(tmp_path / "message"))
        assert inside == signed[signed.index(b"Content-Type: multipart/signed") :]
    assert [message.flags for message in user.messages()] == [{b"\\Seen", b"Work"}, set()]
    again = command(user, key, *where)
    assert (again.returncode, again.stdout) == (0, "INBOX: 0 encrypted; 2 known to be\n")


SIGNED = (
    b'Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/signed; protocol="application/pgp-signature"; boundary=b\n'
    b"\n--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n  "
    + CANARY
    + b" \xc3\xa4 \n\n--b\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\n--b--\n"
)


def test_server_without_a_valid_certificate_and_a_wrong_password_are_refused(
    secure: tuple[Dovecot, Path], keys: Keys, tmp_path: Path
) -> None:
    running, authority = secure
    user = User(running, tmp_path)
    user.put(*LETTERS)
    where = ("--imap", f"localhost:{running.tls_port}")
    bare = command(user, keys.alice, *where)
    assert bare.returncode == 75
    assert "certificate verify failed" in bare.stderr
    fresh = ("--journal", str(tmp_path / "other"))
    other = command(user, keys.alice, "--imap", f"127.0.0.1:{running.tls_port}", "--ca-file", str(authority), *fresh)
    assert other.returncode == 75
    assert "certificate" in other.stderr
    (tmp_path / "wrong").write_text("wrong\n")
    wrong = command(user, keys.alice, *where, "--ca-file", str(authority), "--password-file", str(tmp_path / "wrong"))
    assert wrong.returncode == 75
    assert "the login failed" in wrong.stderr
    assert "Traceback" not in bare.stderr + other.stderr + wrong.stderr
    assert not any(message.raw.startswith(b"MIME") for message in user.messages())


def test_every_folder_that_holds_messages_is_done_whatever_its_name(user: User, keys: Keys) -> None:
    with user.client() as client:
        for name in ("Entwürfe & mehr", "Archive.2020", "Left out"):
            client.create_folder(name)
    for name in ("Entwürfe & mehr", "Archive.2020", "Left out"):
        user.put(LETTERS[0], folder=name)
    where = ("--imap", f"127.0.0.1:{user.dovecot.port}", "--tls", "none")
    done = command(user, keys.alice, *where, "--all-folders", "--except", "Left out", "--keep-original", "Alt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "INBOX: 3 encrypted\nArchive.2020: 1 encrypted\nEntwürfe & mehr: 1 encrypted\n"
    assert user.messages("Left out")[0].raw == FIRST
    assert len(user.messages("Alt")) == 5
    assert user.messages("Entwürfe & mehr")[0].flags == set(LETTERS[0][1])
