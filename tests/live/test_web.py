"""The status page in a real browser, behind Postfix: it says what the log says, and lets nobody else in."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.browser import PROGRAM, Browser
from tests.lab.chain import Chain
from tests.lab.processes import LOOPBACK, free_port, port_answers, wait_until
from tests.lab.programs import REPOSITORY
from tests.live.conftest import cannot
from tests.live.mta import CANARY, Mta, letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dns import DNSLab
    from tests.lab.smilla import Smilla

pytestmark = pytest.mark.live
PICTURES = REPOSITORY / ".cache" / "pictures"
_ENTERED = "document.querySelector('h1') && document.querySelector('h1').innerText === 'Status'"


class Page:
    """A smilla with a status page, and the way to it."""

    def __init__(self, chain: Chain, port: int) -> None:
        self.mta, self.port = Mta(chain), port
        self.smilla: Smilla = chain.filters["outbound"]

    @property
    def token(self) -> str:
        """What the filter has written."""
        return (self.smilla.folder / "spool" / "web.token").read_text().strip()

    def url(self, path: str = "/") -> str:
        """A page's address."""
        return f"http://{LOOPBACK}:{self.port}{path}"

    def enter(self, browser: Browser, token: str | None = None) -> None:
        """Types the token and presses the button."""
        browser.go(self.url("/login"))
        browser.run(f"document.querySelector('#token').value = {token or self.token!r}")
        browser.run("document.querySelector('form.ask button').click()")


@pytest.fixture(scope="module")
def page(folder: Path, lab: DNSLab) -> Iterator[Page]:
    """Postfix, smilla with the page, and mail of several fates."""
    if PROGRAM is None:
        cannot("chromium is not installed")
    place = Path(tempfile.mkdtemp(prefix="web-", dir=folder))
    place.chmod(0o755)
    port = free_port()
    settings = {"web": {"listen": f"{LOOPBACK}:{port}"}, "policy": {"no_key": "plain"}}
    try:
        with Chain(place, lab.resolver, {"outbound": settings}) as chain:
            found = Page(chain, port)
            wait_until(lambda: port_answers(port), 30)
            for name in ("alice", "bob", "n1", "expired", "alice", "n2"):
                found.mta.send(letter(to=f"{name}@r.test".encode()), [f"{name}@r.test"])
            yield found
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all."""
    with Browser() as found:
        yield found


def test_figures_are_those_of_the_log(page: Page, browser: Browser) -> None:
    lines = re.findall(r"^\S+ (encrypted|plain|refused) rcpt=", page.smilla.log, re.MULTILINE)
    assert sorted(lines) == ["encrypted"] * 3 + ["plain"] * 2 + ["refused"]
    page.enter(browser)
    browser.wait_for(_ENTERED)

    def shows_all() -> bool:
        browser.go(page.url())
        return "60 %" in browser.text() and "not delivered, last day\n1 " in browser.text()

    wait_until(shows_all, 30)
    text = browser.text()
    assert "expired" in text
    assert "r.test" not in text
    assert CANARY.decode() not in text


def test_pictures_light_dark_and_on_a_telephone(page: Page, browser: Browser) -> None:
    page.enter(browser)
    browser.wait_for(_ENTERED)
    for name, width, dark in (("light", 1100, False), ("dark", 1100, True), ("telephone", 375, False)):
        browser.look(width=width, dark=dark)
        browser.go(page.url())
        assert browser.run("document.documentElement.scrollWidth") <= width
        browser.picture(PICTURES / f"status-{name}.png")
        assert (PICTURES / f"status-{name}.png").stat().st_size > 10_000


def test_browser_has_nothing_to_complain_about(page: Page, browser: Browser) -> None:
    """No script, style or picture was kept out by the page's own policy, and none was missing."""
    page.enter(browser)
    browser.wait_for(_ENTERED)
    browser.go(page.url("/lookup"))
    assert [text for text in browser.complaints if "username fields" not in text] == []


def test_look_up_shows_the_story_of_an_address(page: Page, browser: Browser) -> None:
    page.enter(browser)
    browser.wait_for(_ENTERED)
    browser.go(page.url("/lookup"))
    browser.run("document.querySelector('#address').value = 'alice@r.test'")
    browser.run("document.querySelector('form.ask button').click()")
    browser.wait_for("document.querySelector('.story')")
    text = browser.text()
    assert "alice@r.test: a usable key" in text
    assert "DNSSEC secure" in text
    browser.look(width=1100)
    browser.picture(PICTURES / "status-lookup.png")


def test_script_in_an_address_does_not_run(page: Page, browser: Browser) -> None:
    page.enter(browser)
    browser.wait_for(_ENTERED)
    browser.go(page.url("/lookup"))
    browser.run("""document.querySelector('#address').value = '"><img src=x onerror="document.title=1">@r.test'""")
    browser.run("document.querySelector('form.ask button').click()")
    browser.wait_for("document.querySelector('.alarm, .story')")
    assert "look up a key" in browser.run("document.title")
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_wrong_token_lets_nobody_in(page: Page, browser: Browser) -> None:
    browser.go(page.url("/login"))
    browser.run("document.cookie = 'smilla=; Max-Age=0; path=/'")
    page.enter(browser, "not the token")
    browser.wait_for("document.querySelector('.alarm')")
    assert "That is not the token." in browser.text()


def test_form_of_another_site_does_nothing(page: Page, browser: Browser) -> None:
    """The browser sends no cookie with it, and the page does not take it either."""
    page.enter(browser)
    browser.wait_for(_ENTERED)
    form = f"<form method=post action={page.url('/lookup')}><input name=address value=alice@r.test></form>"
    browser.go(f"data:text/html,{form}")
    browser.run("document.forms[0].submit()")
    browser.wait_for(f"location.href.startsWith({page.url()!r}) && document.readyState === 'complete'")
    assert "usable key" not in browser.text()


def test_slow_and_large_requests_hold_up_nobody(page: Page) -> None:
    slow = [socket.create_connection((LOOPBACK, page.port)) for _ in range(20)]
    try:
        for each in slow:
            each.sendall(b"GET / HTTP/1.1\r\nHost: local")
        large = socket.create_connection((LOOPBACK, page.port), timeout=30)
        large.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        answer = large.recv(4096)
        assert answer.startswith(b"HTTP/1.0 431") or answer == b""
        large.close()
        connection = http.client.HTTPConnection(LOOPBACK, page.port, timeout=30)
        connection.request("GET", "/login")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        for each in slow:
            each.close()


def test_token_is_for_smilla_alone_and_in_no_log(page: Page) -> None:
    path = page.smilla.folder / "spool" / "web.token"
    assert path.stat().st_mode & 0o077 == 0
    assert page.token not in page.smilla.log
