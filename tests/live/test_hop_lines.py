"""smilla config check --postfix and the lines for secure-hop: with one missing, that one is named, and nothing is
sealed (tests/live/hops.py)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import wait_until
from tests.live.hops import RELAY, World, knows_tls_required, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live
REFUSES = "451 4.3.5 The recipients need different forms of this message, and "


@pytest.fixture(scope="module")
def checked(folder: Path) -> Iterator[World]:
    """Nothing is sealed until somebody has looked."""
    with world(folder, checks=True) as running:
        assert str(running.send(["frank@dane.test"])[0]).startswith(REFUSES)
        yield running


@dataclass(frozen=True)
class Change:
    """``pattern`` in a file of Postfix's becomes ``other``; ``told`` is what the error says, and ``mend`` its end."""

    file: str
    pattern: str
    other: str
    told: str
    mend: str


def without(line: str, told: str, mend: str = "", file: str = "master.cf") -> Change:
    """A line that is left out."""
    return Change(file, rf"(?m)^ *{re.escape(line)}.*\n", "", told, mend or line)


def of_listener(line: str, told: str) -> Change:
    """A line of the listener of secure_smtp that is left out; others have it too."""
    service = r"(127\.0\.0\.1:10027 inet(?: .*)\n(?:    .*\n)*?)"
    return Change("master.cf", rf"{service}    {re.escape(line)}.*\n", r"\1", told, line)


def of_main(line: str, told: str, mend: str) -> Change:
    """A line that is added to main.cf."""
    return Change("main.cf", r"\Z", f"{line}\n", told, mend)


LISTENER = "127.0.0.1:10027"
CHANGES = {
    "the listener": Change(
        "master.cf",
        r"(?m)^127\.0\.0\.1:10027 (.*\n)(    .*\n)*",
        "",
        f"nobody listens at {LISTENER} .\\[reinject\\] secure_smtp.",
        "the lines marked secure-hop",
    ),
    "content_filter": of_listener("-o content_filter=", f"{LISTENER}: content_filter = .empty. is no transport"),
    "smtpd_proxy_filter": Change(
        "master.cf",
        "-o smtpd_proxy_filter=",
        f"-o smtpd_proxy_filter={RELAY}:26",
        f"{LISTENER}: smtpd_proxy_filter = {RELAY}:26 gets",
        "-o smtpd_proxy_filter=",
    ),
    "overrides": of_listener("-o receive_override_options=", f"{LISTENER}: header_checks and body_checks may have"),
    "smtpd_milters": of_listener("-o smtpd_milters=", f"{LISTENER}: has the filter unix:smilla/smilla.sock"),
    **{
        stage: of_listener(f"-o smtpd_{stage}_restrictions=", f"{LISTENER}: smtpd_{stage}_restrictions = .* may have")
        for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
    },
    "the transport": Change(
        "master.cf",
        r"(?m)^smilla-secure (.*\n)(    .*\n)*",
        "",
        f"{LISTENER}: content_filter = smilla-secure: is no transport of smtp",
        "and smilla-secure unix - - n - - smtp",
    ),
    "smtp_tls_security_level": without(
        "-o smtp_tls_security_level=dane-only", "smilla-secure: smtp_tls_security_level is none"
    ),
    "smtp_dns_support_level": without(
        "-o smtp_dns_support_level=dnssec", "smilla-secure: smtp_dns_support_level is enabled"
    ),
    "smtp_tls_policy_maps": without("-o smtp_tls_policy_maps=", "smilla-secure: smtp_tls_policy_maps is .empty."),
    "smtp_tls_CAfile": without("-o smtp_tls_CAfile=", "smilla-secure: has no authorities"),
    "smtp_fallback_relay": Change(
        "master.cf",
        r"(smilla-secure (?:.*\n)(?:    .*\n)*?)    -o smtp_fallback_relay=\n",
        r"\1",
        rf"smilla-secure: smtp_fallback_relay is \[{RELAY}\]:25",
        "-o smtp_fallback_relay=",
    ),
    "smtp_host_lookup": without("-o smtp_host_lookup=dns", "smilla-secure: smtp_host_lookup is native"),
    "smtp_header_checks": without(
        "-o smtp_header_checks=regexp:", "smilla-secure: the field X-Smilla-Hop leaves with the copies"
    ),
    "a wrapper": Change(
        "master.cf", "smtp_tls_wrappermode=no", "smtp_tls_wrappermode=yes", "smtp_tls_wrappermode is yes", "=no"
    ),
    "chroot": Change(
        "master.cf",
        r"(smilla-secure +unix +- +- +)n",
        r"\1y",
        "smilla-secure: is chrooted and cannot read the authorities of the circles",
        "write n for chroot",
    ),
    "another host": Change(
        "master.cf",
        "=smilla-secure:",
        f"=smilla-secure:[{RELAY}]",
        "sends all copies to",
        "content_filter=smilla-secure:",
    ),
    "default_filter_nexthop": of_main(
        f"default_filter_nexthop = [{RELAY}]", "default_filter_nexthop = .*: all copies would go there", "nexthop ="
    ),
    "pickup's cleanup": Change(
        "master.cf",
        r"  -o \{ cleanup_service_name = smilla-requeue \}\n",
        "",
        "pickup: after postsuper -r, a copy that may leave over a verified hop only would leave by any",
        "for cleanup",
    ),
    "the table for a requeue": Change(
        "smilla_requeue",
        r"/\^X-Smilla-Hop.*\n",
        "",
        "pickup: after postsuper -r, a copy that may leave over a verified hop only would leave by any",
        "FILTER smilla:unix:smilla/stage.sock",
    ),
    "a table for our fields only": Change(
        "smilla_requeue",
        r"/\^X-Smilla-Hop.*\n",
        r"/^X-Smilla-Hop: [0-9a-f ]+$/ FILTER smilla:unix:smilla/stage.sock\n",
        "pickup: after postsuper -r, a copy that may leave over a verified hop only would leave by any",
        "FILTER smilla:unix:smilla/stage.sock",
    ),
    "the table that takes the field off": Change(
        "smilla_hop_out", "IGNORE", "WARN", "smilla-secure: the field X-Smilla-Hop leaves", "smilla_hop_out"
    ),
    "a body that leads away": of_main(
        f"body_checks = regexp:{{{{/canary/ FILTER smtp:[{RELAY}]}}}}",
        "pickup: body_checks = .* of smilla-requeue has FILTER, which leads past the verified hop",
        "-o body_checks=",
    ),
    "a header that leads away": Change(
        "master.cf",
        r"-o header_checks=(regexp:\S+smilla_requeue)",
        r"-o { header_checks = \1, regexp:{{/^Subject:/ REDIRECT x@none.test}} }",
        "pickup: header_checks = .* of smilla-requeue has REDIRECT, which leads past",
        "-o header_checks=",
    ),
    "a fallback of the stage": Change(
        "master.cf",
        "-o lmtp_fallback_relay=",
        f"-o lmtp_fallback_relay=[{RELAY}]",
        "smilla: lmtp_fallback_relay = .* gets in the clear",
        "-o lmtp_fallback_relay=",
    ),
}


@contextlib.contextmanager
def changed(running: World, change: Change) -> Iterator[None]:
    """Postfix's files with a change, which it has read."""
    is_table = "." not in change.file
    path = (running.place if is_table else running.postfix.folder / "etc") / change.file
    before = path.read_text()
    after, count = re.subn(change.pattern, change.other, before)
    assert count
    _put(path, after)
    try:
        running.postfix.reload()
        yield
    finally:
        _put(path, before)
        running.postfix.reload()


def _put(path: Path, text: str) -> None:
    """At once: after a reload, master reads its files by and by, and ends where one is cut off."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _settle(running: World) -> None:
    """Until nothing is amiss.  A process of Postfix's that may have begun before the last reload is ended, as the check
    says: it would live for another 100 seconds."""

    def is_well() -> bool:
        done = running.check()
        for pid in re.findall(r"or: kill (\d+)$", done.stderr, re.MULTILINE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        return (done.returncode, done.stderr) == (0, "")

    assert wait_until(is_well, 60, step_s=1), running.check().stderr


def test_lines_of_the_examples_are_in_order_and_mail_is_sealed(checked: World) -> None:
    _settle(checked)
    reply, _, mark = checked.send(["frank@dane.test"])
    assert reply.code == 250
    checked.delivered("dane.test", mark)
    checked.nothing_in_clear()


def refuses_without(checked: World, change: Change) -> None:
    with changed(checked, change):
        done = checked.check()
        assert done.returncode == 1, done.stdout
        errors = re.findall(r"(?m)^error: (?:postfix: )?(.*)", done.stderr)
        assert any(re.search(change.told, error) and change.mend in error for error in errors), done.stderr
        reply, _, mark = checked.send(["frank@dane.test"])
        assert str(reply).startswith(REFUSES)
        checked.postfix.wait_until_empty()
        assert not checked.everywhere(mark)
    checked.nothing_in_clear()


@pytest.mark.parametrize("name", CHANGES)
def test_line_that_is_missing_is_named_and_nothing_is_sealed(checked: World, name: str) -> None:
    refuses_without(checked, CHANGES[name])


def test_postfix_that_knows_tls_required_must_be_told_to_forget_it(checked: World) -> None:
    """Before Postfix 3.10 the field has no effect, and there is no such parameter."""
    if knows_tls_required(checked.postfix):
        refuses_without(checked, without("tls_required_enable = no", "TLS-Required: no would leave", file="main.cf"))
    else:
        assert not checked.postfix.run("postconf", "-H", "tls_required_enable")


def test_fallback_relay_that_would_get_what_smilla_defers_is_named(checked: World) -> None:
    line = r"(smilla-in (?:.*\n)(?:    .*\n)*?)    -o smtp_fallback_relay=\n"
    with changed(checked, Change("master.cf", line, r"\1", "", "")):
        told = "error: postfix: smilla-in: smtp_fallback_relay = [127.0.0.9]:25 gets in plaintext what smilla defers"
        assert told in checked.check("--probe").stderr
    assert "smtp_fallback_relay" not in checked.check("--probe").stderr


def test_once_all_is_mended_mail_is_sealed_again(checked: World) -> None:
    _settle(checked)
    marks: list[bytes] = []

    def is_taken() -> bool:  # a look that began before may still tell of what was amiss, until the next one
        reply, _, mark = checked.send(["frank@dane.test"])
        marks.append(mark)
        return reply.code == 250

    assert wait_until(is_taken, 90, step_s=1)
    checked.delivered("dane.test", marks[-1])
