"""The demonstration: real mail through Postfix, smilla, nsd and unbound, on this machine, in a temporary folder.

    sender -> Postfix -> smilla -> Postfix -> the wire (an SMTP server that keeps what it gets), or a Maildir
                           |
                           +-> unbound (validates) -> nsd (signed zones of its own)

Nine letters are sent; the last two through a Postfix in a network of its own, where port 25 is free, to mail servers
there.  Each is opened by its recipient's own program, and what is inside is compared with what was
sent.  Ends by itself, leaves no process and no file, and exits with 1 if anything was not as it says.  Needs root,
for Postfix's master does; touches nothing outside its folder and the loopback interface.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.demo import hop
from tests.demo.terminal import Terminal
from tests.lab.chain import Chain
from tests.lab.client import SMTPClient
from tests.lab.dns import DNSLab, openpgpkey_owner, smimea_owner
from tests.lab.keys import (
    NotOpenedError,
    OpenPGPKey,
    SMIMEKey,
    encrypt_openpgp,
    make_openpgp_key,
    make_smime_key,
    shown,
)
from tests.lab.mail import added_by_mta, inside
from tests.lab.postfix import queue_id
from tests.lab.processes import ChildError, processes_in, wait_until
from tests.lab.programs import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tests.lab.client import Reply

SENDER = "sender@s.test"


@dataclass
class Stage:
    """All that the scenes share.  ``canary`` stands in every letter that must not be readable anywhere."""

    folder: Path
    terminal: Terminal
    canary: str
    dns: DNSLab
    chain: Chain
    alice: SMIMEKey
    bob: OpenPGPKey
    carol: SMIMEKey
    forger_smime: SMIMEKey
    forger_pgp: OpenPGPKey

    def send(self, recipient: str, letter: bytes, listener: str = "outbound") -> Reply:
        """Sends a letter over SMTP (several recipients: separated by commas); shows it and the last reply."""
        with SMTPClient(self.chain.port(listener)) as client:
            reply = client.send(SENDER, recipient.split(", "), letter)[-1]
        self.terminal.line("sent", f"to {recipient}, through Postfix's {listener} listener")
        self.terminal.octets(letter, most=16)
        self.terminal.line("reply", str(reply))
        return reply

    def over_the_wire(self, recipient: str, letter: bytes) -> Path:
        """Sends a letter and shows what came out at the other end; returns it as a file."""
        count = len(self.chain.sink.messages) + 1
        reply = self.send(recipient, letter)
        self.show_log(recipient, reply)
        mail = self.chain.sink.wait_for(count)[-1]
        self.terminal.line("the wire", f"what Postfix sent on to {', '.join(mail.rcpt_to)}")
        self.terminal.octets(mail.raw, most=17)
        return self.chain.sink.file(count)

    def show_log(self, recipient: str, reply: Reply, listener: str = "outbound") -> None:
        """smilla's own line about a recipient."""
        subject = re.escape(queue_id(reply.text) or "") or r"\S+"
        pattern = (
            rf"(?m)^{subject} (encrypted|unchanged|plain|deferred|refused|held) rcpt={re.escape(recipient)}( .*)?$"
        )
        self.terminal.line("smilla", self.chain.filters[listener].wait_for_log(pattern))

    def open_and_compare(self, key: SMIMEKey | OpenPGPKey, arrived: Path, letter: bytes) -> None:
        """Opens a file with the recipient's program and compares what is inside with what was sent."""
        unreadable = not self.holds_canary(arrived)
        self.terminal.check("searched", "the letter's words cannot be read there", holds=unreadable)
        try:
            opened = key.open(arrived)
        except NotOpenedError as error:
            self.terminal.check("opened", f"by its recipient ({error})", holds=False)
            return
        if isinstance(key, OpenPGPKey):
            self.terminal.line("opened", shown(key.command(arrived.with_suffix(".asc"))))
            self.terminal.more("(that file is the second part of the message)")
        else:
            self.terminal.line("opened", shown(key.command(arrived)))
        self.terminal.octets(opened, most=8)
        self.terminal.check(
            "control", "somebody else's key does not open it", holds=not self.stranger_opens(key, arrived)
        )
        claim = f"what is inside and what was sent are identical, octet by octet ({len(opened)} octets)"
        self.terminal.check("compared", claim, holds=opened == inside(letter))

    def stranger_opens(self, key: SMIMEKey | OpenPGPKey, arrived: Path) -> bool:
        """Whether the forger, with a key of the same kind, opens what was not meant for him."""
        try:
            (self.forger_pgp if isinstance(key, OpenPGPKey) else self.forger_smime).open(arrived)
        except NotOpenedError:
            return False
        return True

    def compare_untouched(self, arrived: Path, letter: bytes) -> None:
        """Whether a letter passed byte for byte, below the trace field that every MTA adds."""
        added = added_by_mta(arrived.read_bytes(), letter)
        only_trace = added is not None and re.fullmatch(rb"Received:[^\n]*\n([ \t][^\n]*\n)*", added) is not None
        claim = f"below Postfix's own Received, identical, octet by octet ({len(letter)} octets)"
        self.terminal.check("compared", claim, holds=only_trace)

    def holds_canary(self, path: Path) -> bool:
        """Whether a file has the canary, as it is or in base64, whatever the position and the line ends."""
        octets = path.read_bytes().replace(b"\r", b"").replace(b"\n", b"")
        return any(form in octets for form in _forms(self.canary.encode()))


def _forms(canary: bytes) -> list[bytes]:
    """The canary as it is, and the part of its base64 that does not depend on what stands around it."""
    forms = [canary]
    for shift, skipped in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(shift) + canary)
        forms.append(encoded[skipped : encoded.find(b"=") - 1 if encoded.endswith(b"=") else None])
    return forms


def write_letter(
    recipient: str, subject: str, body: str, content_type: str = "text/plain;\r\n\tcharset=utf-8"
) -> bytes:
    """A letter with 8-bit text and a folded Content-Type."""
    header = (
        f"From: Sender <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\nDate: {formatdate()}\r\n"
        f"Message-ID: {make_msgid(domain='s.test')}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (header + body).encode()


# --- the scenes ----------------------------------------------------------------------------------------------


def to_a_certificate(stage: Stage) -> None:
    address = stage.alice.address
    stage.terminal.scene("To Alice, whose certificate stands in the DNS")
    stage.terminal.line("in DNS", f"{smimea_owner(address)} SMIMEA 3 0 0, signed")
    letter = write_letter(
        address, "Lunch", f"Käse and crème at noon?  {stage.canary}\r\n.\r\n..two dots, two spaces  \r\n"
    )
    stage.open_and_compare(stage.alice, stage.over_the_wire(address, letter), letter)


def to_an_openpgp_key(stage: Stage) -> None:
    address = stage.bob.address
    stage.terminal.scene("To Bob, whose OpenPGP key stands in the DNS; a letter with an attachment")
    stage.terminal.line("in DNS", f"{openpgpkey_owner(address)} OPENPGPKEY, signed")
    attachment = base64.encodebytes(stage.canary.encode() + bytes(200)).replace(b"\n", b"\r\n").decode()
    parts = (
        f"--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe plans.  {stage.canary}\r\n"
        "--cut\r\nContent-Type: application/octet-stream; name=plans.bin\r\n"
        f"Content-Transfer-Encoding: base64\r\n\r\n{attachment}--cut--\r\n"
    )
    letter = write_letter(address, "The plans", parts, 'multipart/mixed;\r\n\tboundary="cut"')
    stage.open_and_compare(stage.bob, stage.over_the_wire(address, letter), letter)


def to_nobody_with_a_key(stage: Stage) -> None:
    stage.terminal.scene("To Frank, for whom the DNS proves that there is no key; the policy here is: plain")
    letter = write_letter("frank@r.test", "Nothing secret", "Frank has no key, so this travels as it is.\r\n")
    stage.compare_untouched(stage.over_the_wire("frank@r.test", letter), letter)


def to_a_forged_zone(stage: Stage) -> None:
    address = "dave@forged.test"
    stage.terminal.scene("To Dave, whose key in the DNS was replaced by somebody: its signature does not fit")
    stage.terminal.line("in DNS", f"{smimea_owner(address)} SMIMEA 3 0 0, another certificate than was signed")
    before = len(stage.chain.sink.messages)
    reply = stage.send(address, write_letter(address, "For Dave", f"Not for the forger.  {stage.canary}\r\n"))
    stage.show_log(address, reply)
    deferred = str(reply).startswith("451 4.7.5 ")
    stage.terminal.check("deferred", "the sender is told to try again later (451 4.7.5)", holds=deferred)
    time.sleep(0.5)
    nothing = len(stage.chain.sink.messages) == before and not stage.chain.postfix.queued()
    stage.terminal.check("the wire", "nothing was sent, and nothing waits in Postfix's queue", holds=nothing)


def encrypted_already(stage: Stage) -> None:
    address = stage.bob.address
    stage.terminal.scene("To Bob, from somebody who encrypted the letter already")
    armour = encrypt_openpgp(stage.bob, f"Content-Type: text/plain\r\n\r\n{stage.canary}\r\n".encode()).decode()
    parts = (
        "--cut\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--cut\r\n"
        "Content-Type: application/octet-stream\r\n\r\n" + armour.replace("\n", "\r\n") + "\r\n--cut--\r\n"
    )
    kind = 'Multipart/Encrypted; protocol="application/pgp-encrypted";\r\n boundary=cut'
    letter = write_letter(address, "Sealed", parts, kind)
    stage.compare_untouched(stage.over_the_wire(address, letter), letter)


def into_a_mailbox(stage: Stage) -> None:
    address = stage.carol.address
    stage.terminal.scene("From outside to Carol, whose mailbox is here: encrypted before it is stored")
    letter = write_letter(address, "Your results", f"Carol, all is well.  {stage.canary}\r\n")
    stage.show_log(address, stage.send(address, letter, "inbound"), "inbound")
    (stored,) = stage.chain.postfix.wait_for_mail("carol")
    stage.terminal.line("stored", str(stored))
    stage.terminal.octets(stored.read_bytes(), most=20)
    stage.open_and_compare(stage.carol, stored, letter)


def to_both(stage: Stage) -> None:
    alice, bob = stage.alice.address, stage.bob.address
    stage.terminal.scene("To Alice and Bob at once: one needs S/MIME, the other PGP/MIME")
    letter = write_letter(f"{alice}>, <{bob}", "To both of you", f"You two, listen.  {stage.canary}\r\n")
    before = len(stage.chain.sink.messages)
    reply = stage.send(f"{alice}, {bob}", letter)
    for address in (alice, bob):
        stage.show_log(address, reply)
    mails = stage.chain.sink.wait_for(before + 2)[before:]
    stage.chain.postfix.wait_until_empty()
    got = [mail.rcpt_to for mail in mails]
    once = sorted(got) == [(alice,), (bob,)] and len(stage.chain.sink.messages) == before + 2
    stage.terminal.check("the wire", "two messages, one to Alice, one to Bob, and no third", holds=once)
    for key in (stage.alice, stage.bob):
        if once:
            stage.open_and_compare(key, stage.chain.sink.file(before + 1 + got.index((key.address,))), letter)


def over_a_verified_hop(stage: Stage) -> None:
    def letter(name: str, recipient: str) -> bytes:
        return write_letter(recipient, "For you", f"{name}, this is not for the wire.  {stage.canary}\r\n")

    letters = {hop.GRACE: letter("Grace", hop.GRACE), hop.HEIDI: letter("Heidi", hop.HEIDI)}
    hop.play(stage.folder / "hop", stage.terminal, stage.canary, SENDER, letters)


def search_everything(stage: Stage) -> None:
    stage.terminal.heading("After the last letter")
    stage.chain.postfix.wait_until_empty()
    files = [path for path in stage.folder.rglob("*") if path.is_file()]
    found = [path for path in files if stage.holds_canary(path)]
    control = stage.folder / "control"
    words = f"Here it is: {stage.canary}.\r\n".encode()
    sees = []
    for raw in (words, base64.encodebytes(words), base64.encodebytes(b"." + words), base64.encodebytes(b".." + words)):
        control.write_bytes(raw)
        sees.append(stage.holds_canary(control))
    control.unlink()
    stage.terminal.check(
        "control", "the search finds the words in a file that has them, also in base64", holds=all(sees)
    )
    claim = f"the words of all letters but the third are in none of the {len(files)} files of this run"
    stage.terminal.check("searched", claim, holds=not found)
    stage.terminal.more("(Postfix's queue and log, smilla's folders and logs, the wire, the Maildir, DNS)")
    for path in found:
        stage.terminal.more(f"found in {path}")


SCENES = (
    to_a_certificate,
    to_an_openpgp_key,
    to_nobody_with_a_key,
    to_a_forged_zone,
    encrypted_already,
    into_a_mailbox,
    to_both,
    over_a_verified_hop,
    search_everything,
)


# --- beginning and end ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def stage_set(folder: Path, terminal: Terminal, canary: str) -> Iterator[Stage]:
    """Keys, zones, servers, and at the end none of them."""
    with contextlib.ExitStack() as stack:
        keys, forger = folder / "keys", folder / "forger"
        keys.mkdir()
        forger.mkdir()
        alice, carol = make_smime_key(keys, "alice@r.test"), make_smime_key(keys, "carol@home.test", algorithm="p256")
        bob = stack.enter_context(make_openpgp_key(keys, "bob@r.test"))
        dns = DNSLab(folder / "dns").add_usual_zones()
        dns.zone("r.test").add_smimea(alice.address, alice.raw_certificate).add_openpgpkey(bob.address, bob.raw)
        dns.zone("home.test").add_smimea(carol.address, carol.raw_certificate)
        forger_smime = make_smime_key(forger, "dave@forged.test")
        forger_pgp = stack.enter_context(make_openpgp_key(forger, "dave@forged.test"))
        dns.zone("forged.test").add_smimea(forger_smime.address, forger_smime.raw_certificate)
        stack.enter_context(dns)
        filters = {"outbound": {}, "inbound": {"mode": "inbound", "local_domains": ["home.test"]}}
        chain = stack.enter_context(Chain(folder / "mail", dns.resolver, filters))
        terminal.line("nsd", f"{dns.authority}  the signed zone test. and those below it")
        terminal.line("unbound", f"{dns.resolver}  validates, from the key of test.")
        for name, listener in chain.listeners.items():
            terminal.line("Postfix", f"127.0.0.1:{listener.port}  {name}, {' '.join(listener.milters) or 'no filter'}")
        yield Stage(folder, terminal, canary, dns, chain, alice, bob, carol, forger_smime, forger_pgp)


def play(stage: Stage) -> None:
    """Every scene; one that fails stops none of the others."""
    for scene in SCENES:
        try:
            scene(stage)
        except (OSError, EOFError, ValueError) as error:
            stage.terminal.check("failed", f"{type(error).__name__}: {error}", holds=False)


def keep_running(stage: Stage) -> None:
    """Says how to send mail, and waits for Ctrl-C."""
    chain, text = stage.chain, stage.terminal.text
    stage.terminal.heading("Still running, until Ctrl-C")
    print(f"D={stage.folder}")
    text("Send mail to alice@r.test, bob@r.test, frank@r.test or dave@forged.test (or to anybody):")
    text(
        f"  python3 -c \"import smtplib; smtplib.SMTP('127.0.0.1', {chain.port()})"
        ".sendmail('you@s.test', ['alice@r.test'], 'Subject: hello\\n\\nwords')\""
    )
    text(f"To Carol's mailbox: the same to carol@home.test at 127.0.0.1:{chain.port('inbound')}")
    text(f"What comes out:     {chain.sink.folder}/N.eml, {chain.postfix.maildir('carol')}")
    text(f"Open S/MIME:        {shown(stage.alice.command(f'{chain.sink.folder}/N.eml'))}")
    text(f"Open PGP/MIME:      {shown(stage.bob.command('encrypted.asc'))}, the second part of a message")
    text(f"Logs:               tail -f {chain.filters['outbound'].child.log} {stage.folder}/mail/postfix/maillog")
    settings = chain.filters["outbound"].config
    text(f"Which keys?         .venv/bin/smilla lookup --config {settings} alice@r.test")
    text("Why?                printf 'Subject: x\\n\\nhi\\n' | .venv/bin/smilla explain \\")
    text(f"                      --config {settings} --from you@s.test --to alice@r.test --to dave@forged.test")
    text(
        f"The resolver:       127.0.0.1@{stage.dns.port}; alice's record is {smimea_owner(stage.alice.address)} TYPE53"
    )
    while True:
        signal.pause()


def interrupted(_signal: int, _frame: FrameType | None) -> None:
    """The first Ctrl-C ends the run; while it cleans up, further ones are ignored."""
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """What cleans up is not to be disturbed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def remove_and_check(folder: Path, terminal: Terminal) -> None:
    """Removes the folder; says whether any process or file of the run is left."""
    wait_until(lambda: not processes_in(folder), 10)  # an agent of gpg ends a moment after it has said so
    left = processes_in(folder)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        left.append("a child of this process")
    shutil.rmtree(folder, ignore_errors=True)
    terminal.text()
    terminal.check(
        "ended", "no process of this run is left" + "".join(f" ({process})" for process in left), holds=not left
    )
    terminal.check("ended", "no file of this run is left", holds=not folder.exists())


def main() -> int:
    """Runs the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description="Real mail through Postfix and smilla, in a temporary folder.")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: Postfix's master needs root\nhint: run 'make demo', which uses sudo", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    canary = f"canary{secrets.token_hex(12)}"
    folder = Path(tempfile.mkdtemp(prefix="smilla-demo-"))
    folder.chmod(0o755)
    terminal = Terminal(folder, canary)
    print(f"smilla, shown with real mail.  All of it runs in D={folder} and on loopback ports.\n")
    started_at, done = time.monotonic(), False
    try:
        with stage_set(folder, terminal, canary) as stage:
            play(stage)
            done = True
            if arguments.keep:
                keep_running(stage)
            ignore_signals()
    except KeyboardInterrupt:
        terminal.text("\nInterrupted." if not done else "\nEnding.")
    except (ChildError, MissingProgramError, NotOpenedError, OSError, subprocess.SubprocessError) as error:
        terminal.check("failed", f"{type(error).__name__}: {error}", holds=False)
    finally:
        remove_and_check(folder, terminal)
    if done and not arguments.keep:
        terminal.line("took", f"{time.monotonic() - started_at:.1f} s")
    return terminal.verdict() if done or terminal.failures else 130


if __name__ == "__main__":
    sys.exit(main())
