"""What is wrong with one [[rule]]: it names no condition, a key that says nothing, or a file that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smilla.config import paths
from smilla.config.options import CONDITIONS, FAILURES, KEY_FAILURES, STYLE, Rule


def of_rule(rule: Rule, table: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a rule as a whole."""
    if not any(getattr(rule, name) or table.get(name) for name in CONDITIONS):
        yield f"names no condition ({', '.join(CONDITIONS)})"
    for name in ("domain", "client", "also_to"):
        if table.get(name) == []:
            yield f"has {name} = [], which says nothing: leave it out"
    if rule.encrypt == "require":
        for name in FAILURES:
            if getattr(rule, name) == "plain":
                yield f'has encrypt = "require", but {name} = "plain"'
    if rule.key and (problem := paths.no_file(rule.key)):
        yield f'has key = "{rule.key}", {problem}'
    yield from _idle_keys(rule)


def _idle_keys(rule: Rule) -> Iterator[str]:
    """The keys that another key makes meaningless."""
    idle: dict[str, tuple[str, ...]] = {}
    if rule.formats == ("openpgp",):
        idle['formats = ["openpgp"]'] = STYLE
    if rule.encrypt == "never":
        idle['encrypt = "never"'] = (
            "key",
            "formats",
            "trust",
            "also_to",
            *STYLE,
            "hidden_recipients",
            "at_rcpt",
            *KEY_FAILURES,
        )
    elif rule.key:
        # No source is asked, and a file is there or cannot be read.
        idle["key"] = ("trust", "no_key", "insecure", "bogus")
    for cause, names in idle.items():
        for name in names:
            if getattr(rule, name):
                yield f"has {cause}, so {name} would say nothing: leave it out"
