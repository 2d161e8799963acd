"""The status page in a real browser, in states that no laboratory comes into at will: nothing is cut off or runs out of
the screen.  The figures are made up; the application, the server and the browser are real."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from waitress.server import create_server

from smilla.config.options import WebOptions
from smilla.metrics.snapshot import (
    TEN_S,
    TENS,
    Count,
    DomainCount,
    Journal,
    Reloads,
    Resolver,
    Snapshot,
    Stage,
    Workers,
)
from smilla.metrics.totals import Facts, Totals
from smilla.web.application import Application, Sources
from tests.lab.browser import PROGRAM, Browser
from tests.lab.processes import LOOPBACK
from tests.lab.programs import REPOSITORY
from tests.live.conftest import cannot
from tests.unit.web.snapshots import NOW, slots, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.live
PICTURES = REPOSITORY / ".cache" / "pictures"
TOKEN = "a token that is long enough"
_LONG = "/etc/postfix/main.cf lacks smtp_" + "x" * 90 + " = inet:127.0.0.1:10026, and master.cf has 2 services"
_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_CUT = """[...document.querySelectorAll('main *:not(svg):not(svg *)')].filter(each =>
    !each.closest('.wide') && each.checkVisibility()
    && each.getBoundingClientRect().right > document.documentElement.clientWidth).length"""
_NARROWEST = """Math.min(999,
    ...[...document.querySelectorAll('section > table td:not(.number)')].map(each => each.clientWidth))"""


def _trouble() -> Snapshot:
    counts = (
        Count("encrypted", "usable", 5),
        Count("refused", "malformed_content_type", 4),
        Count("deferred", "unreachable", 12),
    )
    return snapshot(
        workers=Workers(4, 2, 17),
        resolver=Resolver(2, 1),
        stage=Stage(used=True, problem=_LONG, keys=1, newest_key_at=NOW),
        journal=Journal(problem=_LONG),
        reloads=Reloads(3, 2, last_failed=True),
        tens=slots(TEN_S, TENS, dict.fromkeys(range(TENS), counts)),
        domains=(DomainCount("c" * 63 + "." + "d" * 63 + ".example", "plain", 4),),
    )


def _first_start() -> Snapshot:
    totals = Totals(lambda: float(NOW))
    totals.tell(Facts("1.0.0", NOW - 2.0, workers=Workers(4, 4)))
    return totals.snapshot()


STATES = {"trouble": _trouble(), "first": _first_start(), "observing": snapshot(observing=True)}
SCREENS = {"light": (1100, False), "dark": (700, True), "narrow": (320, False)}


class Page:
    """The page at some port; what it shows next is ``shown``."""

    def __init__(self) -> None:
        self.shown = STATES["first"]
        application = Application(Sources(lambda: self.shown, lambda _: [_LONG]), TOKEN, WebOptions(domains=True))
        listening = socket.create_server((LOOPBACK, 0))
        self.url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        server = create_server(application, sockets=[listening])
        threading.Thread(target=server.run, daemon=True).start()


@pytest.fixture(scope="module")
def page() -> Page:
    """The server, until the tests end."""
    if PROGRAM is None:
        cannot("chromium is not installed")
    return Page()


@pytest.fixture(scope="module")
def browser(page: Page) -> Iterator[Browser]:
    """A browser that has entered."""
    with Browser() as found:
        found.go(f"{page.url}/login")
        found.run(f"document.querySelector('#token').value = {TOKEN!r}")
        found.run("document.querySelector('form.ask button').click()")
        found.wait_for("document.querySelector('h1') && document.querySelector('h1').innerText === 'Status'")
        yield found


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_runs_out_of_the_screen(page: Page, browser: Browser, state: str, screen: str) -> None:
    page.shown = STATES[state]
    width, dark = SCREENS[screen]
    browser.look(width=width, dark=dark)
    browser.go(f"{page.url}/")
    browser.picture(PICTURES / f"layout-{state}-{screen}.png")
    for details in ("false", "true"):
        browser.run(f"document.querySelectorAll('details').forEach(each => {{ each.open = {details} }})")
        assert browser.run(_WIDE) == 0
        assert browser.run(_CUT) == 0
        assert browser.run(_NARROWEST) >= 80, "a column breaks its words into letters"


def test_long_story_of_a_look_up_stays_on_a_telephone(page: Page, browser: Browser) -> None:
    browser.look(width=320, dark=False)
    browser.go(f"{page.url}/lookup")
    browser.run("document.querySelector('#address').value = 'a'.repeat(60) + '@example.org'")
    browser.run("document.querySelector('form.ask button').click()")
    browser.wait_for("document.querySelector('.story')")
    assert browser.run(_WIDE) == 0
    assert browser.run(_CUT) == 0
