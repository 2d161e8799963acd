"""Lines of Postfix that lead a bound copy past its verified hop: each is tried, and ``config check --postfix`` has an
error for each, so that smilla seals nothing meanwhile (tests/live/hops.py).

    smtpd 10027 --(a proxy, a restriction class, a milter's field)--+
    postsuper -r -> pickup -> cleanup --(its own tables)-------------+--> relayhost, in the clear
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lab.meddler import Meddler
from tests.lab.processes import wait_until
from tests.live.hops import OPEN, RELAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.live.hops import World

pytestmark = pytest.mark.live
BOUND = "127.0.0.1:10027/inet"
PAST = f"FILTER smtp:[{RELAY}]:25"


@pytest.fixture
def hops(hop_world: World) -> Iterator[World]:
    """What is sent here may travel in the clear."""
    yield hop_world
    hop_world.drop_all()


@contextlib.contextmanager
def changed(hops: World, main: Sequence[str] = (), services: Sequence[str] = ()) -> Iterator[None]:
    """Lines for ``postconf -e`` and ``postconf -P``, in force meanwhile."""
    etc = hops.postfix.folder / "etc"
    for name in ("main.cf", "master.cf"):
        shutil.copy2(etc / name, etc / f"{name}.before")
    try:
        for option, lines in (("-e", main), ("-P", services)):
            for line in lines:
                hops.postfix.run("postconf", option, line)
        _reloaded(hops)
        yield
    finally:
        for name in ("main.cf", "master.cf"):
            (etc / f"{name}.before").rename(etc / name)
        _reloaded(hops)


def _reloaded(hops: World) -> None:
    etc = hops.postfix.folder / "etc"
    for path in etc.iterdir():
        os.utime(path, (0, path.stat().st_mtime - 60))
    hops.postfix.reload()


def arrives_in_clear(hops: World, mark: bytes) -> bool:
    """Has the relayhost got it, and not over TLS?"""
    return wait_until(lambda: any(not mail.over_tls for mail in hops.at_relay(mark)), 60)


def told(hops: World, what: str) -> bool:
    """Does the check have an error with these words, and fail?"""
    done = hops.check()
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode != 0) == bool(lines), done
    return any(what in line for line in lines)


SENT = {
    "proxy": ([], [f"{BOUND}/smtpd_proxy_filter=127.0.0.1:10025"], "smtpd_proxy_filter = 127.0.0.1:10025 gets"),
    "class": (
        ["smtpd_restriction_classes=astray", f"astray=check_client_access,static:{{{PAST}}}"],
        [f"{BOUND}/smtpd_client_restrictions=astray,permit"],
        "smtpd_client_restrictions = astray,permit may have FILTER or REDIRECT",
    ),
}
REQUEUED = {
    "body_checks": (["smilla-requeue/unix/body_checks=regexp:PLACE/astray"], "astray of smilla-requeue has FILTER"),
    "header_checks": (
        ["smilla-requeue/unix/header_checks=regexp:PLACE/smilla_requeue,regexp:PLACE/astray"],
        "header_checks = regexp:PLACE/astray of smilla-requeue has FILTER",
    ),
    "no_header_body_checks": (
        ["pickup/unix/receive_override_options=no_header_body_checks", "pickup/unix/content_filter="],
        "no_header_body_checks: after postsuper -r",
    ),
}


def test_lines_as_they_should_be_have_no_error(hops: World) -> None:
    assert wait_until(lambda: not told(hops, ""), 60)


@pytest.mark.parametrize("name", SENT)
def test_line_of_the_listener_that_leads_past_is_an_error(hops: World, name: str) -> None:
    main, services, what = SENT[name]
    with changed(hops, main, services):
        assert told(hops, what)
        _, _, mark = hops.send(["frank@dane.test"], body=OPEN)
        assert arrives_in_clear(hops, mark)


def test_milter_of_the_listener_whose_field_leads_past_is_an_error(hops: World) -> None:
    (hops.place / "astray").write_text(f"/^X-Spam: yes/ {PAST}\n")
    tables = [f"milter_header_checks=regexp:{hops.place}/astray,regexp:{hops.place}/smilla_stage"]
    with Meddler(hops.place / "meddler") as meddler:
        milters = [f"{BOUND}/smtpd_milters={meddler.milter}"]
        with changed(hops, [], milters):
            assert wait_until(lambda: not told(hops, ""), 60)
        with changed(hops, tables, []):
            assert wait_until(lambda: not told(hops, ""), 60)
        with changed(hops, tables, milters):
            assert told(hops, f"regexp:{hops.place}/astray of cleanup has FILTER")
            _, _, mark = hops.send(["frank@dane.test"], b"X-Meddle: field X-Spam yes", body=OPEN)
            assert arrives_in_clear(hops, mark)


@pytest.mark.parametrize("name", REQUEUED)
def test_line_that_leads_a_requeued_copy_past_is_an_error(hops: World, name: str) -> None:
    services, what = REQUEUED[name]
    (hops.place / "astray").write_text(f"/may|^Subject:/ {PAST}\n")
    with hops.busy("dane.test"):
        _, _, mark = hops.send(["frank@dane.test"], body=OPEN)
        found = hops.waits("dane.test", "later")
        with changed(hops, [], [line.replace("PLACE", str(hops.place)) for line in services]):
            assert told(hops, what.replace("PLACE", str(hops.place)))
            hops.postfix.postsuper("-r", found)
            assert arrives_in_clear(hops, mark)


@pytest.mark.parametrize(
    ("services", "what"),
    [
        (["qmgr/unix/default_filter_nexthop=[127.0.0.9]"], "qmgr: default_filter_nexthop = [127.0.0.9]"),
        (["smilla-secure/unix/smtp_tls_mandatory_ciphers=null"], "TLS that encrypts nothing"),
    ],
)
def test_other_lines_that_bind_to_nothing_are_errors(hops: World, services: list[str], what: str) -> None:
    with changed(hops, [], services):
        assert told(hops, what)


def test_whom_aliases_would_add_to_a_bound_copy_is_told(hops: World) -> None:
    with changed(hops, [], [f"{BOUND}/receive_override_options=no_header_body_checks"]):
        assert "get it over a verified hop, or never" in hops.check().stderr


def test_listener_that_cannot_keep_the_text_out_of_a_bounce_gets_no_bound_copy(hops: World) -> None:
    with changed(hops, [], [f"{BOUND}/smtpd_discard_ehlo_keywords=dsn"]), hops.busy("dane.test", b"550 5.0.0 no"):
        _, _, mark = hops.send(["frank@dane.test"], body=OPEN)
        assert told(hops, "smtpd_discard_ehlo_keywords has dsn")
        hops.told(r"postfix/smilla/lmtp\[\d+\]: \w+: to=<frank@dane.test>.*status=deferred")
        hops.smilla.wait_for_log("the listener does not offer DSN")
        assert not hops.everywhere(mark)
