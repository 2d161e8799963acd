"""Two scenes of the demonstration: to people who have no key, over a verified connection or not at all.

    sender -> Postfix -> smilla -> Postfix -> a transport without clear text -> mail servers on port 25, which a sniffer
                                                                                watches

All of it is in a network of its own, since the mail servers of the world listen on port 25.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.lab.client import SMTPClient
from tests.lab.network import network
from tests.lab.processes import wait_until
from tests.live.hops import begun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.demo.terminal import Terminal
    from tests.lab.client import Reply
    from tests.live.hops import World

GRACE, HEIDI = "grace@dane.test", "heidi@none.test"


def play(folder: Path, terminal: Terminal, canary: str, sender: str, letters: Mapping[str, bytes]) -> None:
    """Both scenes; ``letters`` by recipient, GRACE and HEIDI, each with the canary.  Where this machine allows no
    network of its own, it says so instead."""
    folder.mkdir()
    terminal.scene("To Grace, who has no key; the policy here is: over a verified connection or not at all")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(network())
        except PermissionError as error:
            terminal.line("left out", f"this machine allows no network of its own ({error})")
            return
        world = begun(stack, folder, domains=("dane.test", "none.test"))
        terminal.line("in DNS", "_25._tcp.mx.dane.test. TLSA 3 1 1, signed: the key of her mail server (DANE)")
        _to_grace(world, terminal, canary, _sent(terminal, sender, GRACE, letters[GRACE]), letters[GRACE])
        terminal.scene("To Heidi, who has no key, and whose mail server nobody can verify")
        _to_heidi(world, terminal, _sent(terminal, sender, HEIDI, letters[HEIDI]))


def _to_grace(world: World, terminal: Terminal, canary: str, reply: Reply, letter: bytes) -> None:
    terminal.line("smilla", world.smilla.wait_for_log(f" secure-hop rcpt={GRACE} "))
    world.postfix.wait_until_empty()
    verified = world.told("Verified TLS connection established to mx.dane.test").split(": ", 1)[1]
    terminal.line("Postfix", verified.partition(" key-exchange")[0])
    body = letter.partition(b"\r\n\r\n")[2]
    arrived = [mail.over_tls and mail.raw.endswith(body) for mail in world.receivers["dane.test"].messages]
    came = reply.code == 250 and arrived == [True]
    terminal.check("the server", "Grace's mail server has the letter, once, over TLS", holds=came)
    there = world.addresses["dane.test"]
    wait_until(lambda: b"STARTTLS" in world.sniffer.to(there), 30)  # it may read a moment later
    seen = world.sniffer.to(there)
    hidden = b"STARTTLS" in seen and canary.encode() not in seen
    terminal.check("the wire", f"the letter's words are not in the {len(seen)} octets that went there", holds=hidden)


def _to_heidi(world: World, terminal: Terminal, reply: Reply) -> None:
    terminal.line("smilla", world.smilla.wait_for_log(f" refused rcpt={HEIDI} "))
    refused = str(reply).startswith("550 5.7.5 ")
    terminal.check("refused", "the sender is told that it cannot be sent (550 5.7.5)", holds=refused)
    nothing = not world.receivers["none.test"].messages and not world.postfix.queued()
    terminal.check("the wire", "nothing was sent, and nothing waits in Postfix's queue", holds=nothing)


def _sent(terminal: Terminal, sender: str, recipient: str, letter: bytes) -> Reply:
    with SMTPClient(587) as client:
        reply = client.send(sender, [recipient], letter)[-1]
    terminal.line("sent", f"to {recipient}, through the Postfix of that network")
    terminal.octets(letter, most=16)
    terminal.line("reply", str(reply))
    return reply
