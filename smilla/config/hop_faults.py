"""Faults of what the configuration says about hops, seen together.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smilla.config.options import HOP_FAILURES, SECURE_HOP, Circle, Config

_INBOUND = "is for outbound mail: nothing leaves over a hop here"
_NARROW = f'{_INBOUND}; in mode auto write it in a [[rule]] with direction = "outbound"'


def of_policy(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong with secure-hop in [policy]: the option, and the problem."""
    for name in HOP_FAILURES:
        if getattr(config.policy, name) == SECURE_HOP:
            for fault in (*_general(config), *([_NARROW] if config.mode == "auto" else [])):
                yield name, f'is "secure-hop", which {fault}'


def of_rules(config: Config) -> Iterator[tuple[int, str]]:
    """The same for rules: the number of the rule, and the problem."""
    for number, rule in enumerate(config.rule, 1):
        for name in HOP_FAILURES:
            if getattr(rule, name) == SECURE_HOP:
                narrow = [_NARROW] if config.mode == "auto" and rule.direction != "outbound" else []
                for fault in (*_general(config), *narrow):
                    yield number, f'has {name} = "secure-hop", which {fault}'


def _general(config: Config) -> Iterator[str]:
    if config.policy.mixed not in ("", "stage"):
        yield f'needs mixed = "stage", not "{config.policy.mixed}"'
    if config.milter.mta == "sendmail":
        yield "needs Postfix: nothing here can hold Sendmail to a verified hop"
    if config.mode == "inbound":
        yield f'{_INBOUND} (mode = "inbound")'


def path_problem(path: str) -> str:
    """Why Postfix would not read this file of authorities, whose name stands in smilla's answer; "" if it would."""
    if re.search(r"[^!-~]|[,{}]", path):
        return "a name that Postfix does not take: write it in ASCII, without blanks, commas and braces"
    return ""


def of_circles(circles: tuple[Circle, ...]) -> Iterator[tuple[int, str]]:
    """Two circles of one name: the number of the second, and the problem."""
    names = [circle.name for circle in circles]
    for number, name in enumerate(names, 1):
        if name in names[: number - 1]:
            yield number, f'has name = "{name}", as another one has'
