"""The report: one file, nothing from elsewhere, and a stranger's text is only text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from smilla.hops.mx import State
from smilla.survey import report
from smilla.survey.found import Found, Result, Way
from tests.unit.survey.samples import FOUND, HOST

HOSTILE = "</pre></style><script src=//evil.example>alert(1)</script><img src=x onerror=alert(1)>'\" & {{ 7*7 }}"
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "strong", "div", "section", "pre", "a"),
    *("svg", "text", "rect", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "span", "wbr"),
}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def hostile() -> Found:
    bad = Result(State.OK, HOSTILE)
    host = replace(HOST, name=HOSTILE, address=bad, tlsa=(HOSTILE,), next_key=bad)
    return replace(FOUND, why=HOSTILE, mx=bad, spf=bad, dmarc=bad, dmarc_policy=HOSTILE, spf_all=HOSTILE, hosts=(host,))


def test_text_of_a_stranger_makes_no_element_and_no_attribute() -> None:
    parser = Tags()
    parser.feed(report.html([hostile(), replace(hostile(), asked=HOSTILE, domain=HOSTILE)]))
    assert parser.tags <= ALLOWED
    assert not {name for name in parser.attributes if name.startswith("on")} | parser.attributes & {"src", "style"}


def test_domains_are_listed_by_way_each_with_a_link_to_all_that_is_known() -> None:
    plain = replace(FOUND, asked="clear.example", domain="clear.example", way=Way.PLAIN)
    html = report.html([FOUND, plain])
    (listed,) = re.findall(r"<summary>plain: 1</summary>\s*<p>\s*(.*?)\s*</p>", html, re.DOTALL)
    mark = re.fullmatch(r'<a href="#(d\d+)">clear\.example</a>', listed)
    assert mark is not None
    assert f'<section class="domain" id="{mark[1]}">\n<h3>clear.example' in html
    assert "<summary>no mail" not in html


def test_policy_of_the_page_lets_in_its_own_style_and_nothing_else() -> None:
    html = report.html([FOUND])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].replace("&#39;", "'") == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_text_of_a_stranger_cannot_turn_the_lines_around() -> None:
    html = report.html([replace(FOUND, why="a\u202eb", mx=Result(State.OK, "c\u202ed\x9b"))])
    assert "\u202e" not in html
    assert "\x9b" not in html


def test_domains_stand_by_name_and_each_link_leads_somewhere() -> None:
    names = ["c.example", "a.example", "b.example"]
    html = report.html([replace(FOUND, asked=name, domain=name) for name in names])
    shown = html.replace("<wbr>", "")
    assert re.findall(r'<th scope="row"><a href="#\w+">(.*?)</a>', shown) == sorted(names)
    assert set(re.findall(r'href="#(\w+)"', html)) == set(re.findall(r' id="(\w+)"', html))


def test_report_of_nothing_is_a_page() -> None:
    assert "0 domains" in report.html([])
