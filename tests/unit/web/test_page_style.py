"""The colours of the page can be told apart, in light and in dark (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import smilla.web

STYLE = (Path(smilla.web.__file__).parent / "style.css").read_text("utf-8")
TEXT, SHAPE = 4.5, 3.0  # the contrast that each needs
STACK = 1.5  # of parts of a bar: no rule of WCAG's, but who sees no red or green must tell them apart by their light
PAIRS = [
    *((text, back, TEXT) for text in ("text", "quiet", "link") for back in ("back", "card")),
    *((text, "card", TEXT) for text in ("good", "bad")),
    ("text", "alarm-back", TEXT),
    ("text", "observe-back", TEXT),
    ("card", "link", TEXT),  # a button
    *((shape, "card", SHAPE) for shape in ("protected", "bound", "plain", "failed")),
    *((shape, "back", SHAPE) for shape in ("protected", "bound", "plain", "failed")),  # the legend
    ("protected", "plain", STACK),
    ("protected", "failed", STACK),
    ("bad", "alarm-back", SHAPE),  # its edge
]


def _schemes() -> dict[str, dict[str, str]]:
    light, dark = (
        dict(re.findall(r"--([\w-]+): #(\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", STYLE, re.S)
    )
    return {"light": light, "dark": dark}


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_what_is_to_be_read_or_told_apart_has_enough_contrast(scheme: str, front: str, back: str, least: float) -> None:
    colours = _schemes()[scheme]
    assert _contrast(colours[front], colours[back]) >= least


def test_both_schemes_have_the_same_colours() -> None:
    light, dark = _schemes().values()
    assert light.keys() == dark.keys()


def test_no_rule_has_a_colour_of_its_own() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb|hsl", rules)
