"""The site of the documents: each link leads somewhere, and nothing comes from another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = "1  A letter\n\n\x1b[32mlooked\x1b[0m  <it> is & was\n\nAll 1 claims hold.\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, made once."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    place = tmp_path_factory.mktemp("site")
    (place / "demo.txt").write_text(DEMO, "utf-8")
    command: list[str | Path] = [sys.executable, ROOT / "man" / "site", place / "made", "--demo", place / "demo.txt"]
    subprocess.run(command, check=True)
    return place / "made"


def test_every_manual_page_is_there_and_is_reached_from_another(site: Path) -> None:
    pages = {f"{page.name}.html" for page in (ROOT / "man").glob("*.[578]")}
    linked = {link for page in site.glob("*.html") for link in _links(page)}
    assert len(pages) > 15
    assert pages <= linked


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    for page in site.glob("*.html"):
        for link in _links(page):
            name, _, place = link.partition("#")
            target = site / name if name else page
            assert target.exists(), (page.name, link)
            assert not place or f'id="{place}"' in target.read_text("utf-8"), (page.name, link)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.iterdir():
        fetched = re.findall(r"(?:src=|url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text("utf-8"))
        assert fetched == [], path.name


def test_the_first_page_shows_the_demo(site: Path) -> None:
    assert '<img src="demo.svg"' in (site / "index.html").read_text("utf-8")
    picture = (site / "demo.svg").read_text("utf-8")
    assert "claims" in picture
    assert "&lt;it&gt;" in picture


def _links(page: Path) -> list[str]:
    return re.findall(r'href="([^":]+)"', page.read_text("utf-8"))
